"""JSON files read an element at a time, cells, and values of the right kind."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from unimo_paddle.data.formats import items
from unimo_paddle.data.formats.items import (
    one_line,
    one_lines,
    read_list,
    read_text,
    read_value,
    value_of,
)
from unimo_paddle.data.records import Fault
from unimo_paddle.errors import UserError


def test_elements_come_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"info": {"data": [9]}, "data": [{"a": 1.5}, [2], "x"], "more": 1}')
    assert list(read_list(path, "data")) == [
        (f"{path}: data[0]", {"a": 1.5}),
        (f"{path}: data[1]", [2]),
        (f"{path}: data[2]", "x"),
    ]


def test_a_file_is_never_held_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"data": [{"text": "x" * 1000} for _ in range(5000)]}))
    tracemalloc.start()
    count = sum(1 for _ in read_list(path, "data"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 5000 and peak < path.stat().st_size / 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"data": [1, 2', "damaged or cut off after data[1]"),
        ('{"data": [1, x]}', "damaged or cut off after data[0]"),
        ("", "damaged or cut off before any record of 'data'"),
        ('{"other": [1]}', "holds no list 'data' with records"),
        ('{"data": []}', "holds no list 'data' with records"),
        ("[1]", "holds no list 'data' with records"),
    ],
)
def test_damage_names_the_element_before(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        list(read_list(path, "data"))
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.json cannot be read: No such file"):
        list(read_list(tmp_path / "a.json", "data"))


@pytest.mark.parametrize("read", [read_text, lambda path: read_list(path, "data")])
def test_a_bar_knows_how_much_of_a_file_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read
) -> None:
    path, bars = tmp_path / "a.json", []
    lines = [json.dumps({"text": "\u00e4" * 99}, ensure_ascii=False) for _ in range(5000)]
    path.write_text('{"data": [' + ",\r\n".join(lines) + "]}\n", "utf-8")
    bar = items.tqdm
    monkeypatch.setattr(items, "tqdm", lambda **more: bars.append(bar(**more)) or bars[-1])
    reading = read(path)
    next(reading)
    (shown,) = bars
    size = path.stat().st_size
    assert shown.total == size and 0 < shown.n < size
    for _ in reading:
        pass
    assert shown.n == size


def test_single_values(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"kind": "train2014", "data": [1]}')
    assert read_value(path, "kind") == "train2014" and read_value(path, "none") is None
    path.write_text('{"data": [1')
    with pytest.raises(UserError, match="damaged or cut off before 'kind'"):
        read_value(path, "kind")


def test_white_space_of_any_kind_becomes_single_spaces() -> None:
    assert one_line(" a\tb\r\n c\u2028d\x0be ", "text") == "a b c d e"
    assert one_lines([" a", "b\n"], "texts") == ["a", "b"]


@pytest.mark.parametrize("text", ["", " \n", None, 3, "\ud800", "x" * (10**6 + 1)])
def test_what_is_no_text_is_a_fault(text: object) -> None:
    with pytest.raises(Fault, match="'text'"):
        one_line(text, "text")


@pytest.mark.parametrize("texts", [[], "a", None, ["a", 3]])
def test_what_is_no_list_of_texts_is_a_fault(texts: object) -> None:
    with pytest.raises(Fault, match="'texts"):
        one_lines(texts, "texts")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([1], r"record is no JSON object but '\[1\]'"),
        ({"b": 1}, "key 'a' is missing; found b"),
        ({"a": "1"}, "'a' is '1', of the wrong kind"),
        ({"a": True}, "'a' is 'True', of the wrong kind"),
    ],
)
def test_values_of_the_wrong_kind_are_faults(record: object, message: str) -> None:
    with pytest.raises(Fault, match=message):
        value_of(record, "a", int)
