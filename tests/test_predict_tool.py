"""tools/predict.py: its items, its two ways, and that no option is passed over in silence."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import TOOLS
from unimo_paddle import predictor

PATH = TOOLS / "predict.py"
WRITES, READS, SEARCHES, RERANKS = (
    ("predict", "generate", "seed"),
    ("predict",),
    ("embed_images", "embed_texts"),
    ("embed_images", "embed_texts", "score_pairs"),
)
IMAGES = ["--images", *(f"{number}.png" for number in range(7)), "--texts", "a star"]


class Recorder:
    """Stands for a predictor; knows what it was asked for."""

    def __init__(self, services: tuple[str, ...]) -> None:
        self.services = services
        self.asked: list[tuple[str, Any]] = []

    def serves(self, name: str) -> bool:
        return name in self.services

    @property
    def draws(self) -> bool:
        return "seed" in self.services

    def predict(self, items: list, *, first: int) -> list[dict]:
        self.asked.append(("predict", items))
        return [{"label": "1"}] * len(items)

    def generate(self, items: list, **options: Any) -> list[dict]:
        self.asked.append(("generate", options))
        return [{"text": "a"}] * len(items)

    def embed_images(self, images: list) -> np.ndarray:
        return np.zeros((len(images), 2))

    def find_images(self, text: str, images: list, *, features: np.ndarray, first: int) -> list:
        self.asked.append(("find", first))
        return [(number, 0.5) for number in range(len(images))][:first]


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list]:
    """Run the tool with a bundle of such services: -> what was asked of the predictor."""

    def predict(services: tuple[str, ...], *arguments: object) -> list:
        recorder = Recorder(services)
        monkeypatch.setattr(predictor, "Predictor", lambda bundle: recorder)
        monkeypatch.setattr(sys, "argv", [str(PATH), "--bundle", "b", *map(str, arguments)])
        runpy.run_path(str(PATH))["main"]()
        return recorder.asked

    return predict


IDLE = [
    (READS, ["--items", "f", "--item", "a=1"], "--item does nothing beside --items; leave it out"),
    (READS, ["--item", "a=1", "--images", "b"], "--images does nothing beside --items or --item"),
    (READS, ["--item", "a=1", "--top", "5"], "--top does nothing beside --items or --item"),
    (READS, ["--item", "a=1", "--rerank", "0"], "--rerank does nothing beside --items or --item"),
    (READS, ["--item", "a=1", "--item", "a=2"], "--item a= is given twice; leave one out"),
    (READS, ["--item", "a=1", "--prefix", ""], "--prefix does nothing with a bundle that writes"),
    (READS, ["--item", "a=1", "--seed", "0"], "--seed does nothing with a bundle that writes no"),
    (READS, ["--item", "a=1", "--likelihood"], "--likelihood does nothing with a bundle that"),
    (WRITES, ["--item", "a=1", "--likelihood", "--seed", "0"], "--seed does nothing beside --like"),
    (WRITES[:2], ["--item", "a=1", "--seed", "0"], "--seed does nothing with a bundle whose texts"),
    (RERANKS, [*IMAGES, "--seed", "0"], "--seed does nothing beside --texts"),
    (RERANKS, [*IMAGES, "--likelihood"], "--likelihood does nothing beside --texts"),
    (SEARCHES, [*IMAGES, "--rerank", "9"], "--rerank does nothing with a bundle that has no joint"),
    (RERANKS, [*IMAGES, "--rerank", "4"], "--rerank is 4, but 5 images are shown; give at least"),
    (RERANKS, [*IMAGES, "--rerank", "-1"], "--rerank is -1, but 5 images are shown; give at least"),
    (RERANKS, [*IMAGES, "--top", "0"], "--top is 0; give at least 1"),
]


@pytest.mark.parametrize(("services", "arguments", "message"), IDLE)
def test_an_option_that_would_do_nothing_is_refused(
    predict, capsys, services, arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        predict(services, *arguments)
    told = capsys.readouterr()
    assert ended.value.code == 2 and told.err.startswith(f"error: {message}")
    assert len(told.err.splitlines()) == 1 and not told.out


@pytest.mark.parametrize(
    ("options", "first", "shown"),
    [
        ([], 50, 5),
        (["--top", "60"], 60, 7),
        (["--rerank", "0"], 7, 5),
        (["--rerank", "6", "--top", "2"], 6, 2),
        (["--rerank", "7", "--top", "9"], 7, 7),
    ],
)
def test_so_many_images_are_read_and_shown(predict, capsys, options, first, shown) -> None:
    assert predict(RERANKS, *IMAGES, *options) == [("find", first)]
    assert capsys.readouterr().out.count(".png") == shown


def test_texts_begin_and_are_drawn_as_asked(predict) -> None:
    asked = predict(WRITES, "--item", "src=a", "--prefix", "two", "--seed", 3)
    assert asked == [("generate", {"prefix": "two", "seed": 3, "first": 0})]
    assert predict(WRITES, "--item", "src=a", "--likelihood") == [("predict", [{"src": "a"}])]


def test_lines_end_where_lines_of_json_end(predict, tmp_path: Path) -> None:
    items = [{"text_a": f"one{mark}two"} for mark in "\u2028\u2029\x85\x0b\x0c\x1c"]
    lines = [json.dumps(item, ensure_ascii=False) for item in items]
    # JSON escapes the marks of ASCII, whoever writes it; those beyond stand as they are.
    (tmp_path / "items.jsonl").write_text("\r\n".join([*lines, "", " ", ""]), "utf-8", newline="")
    assert predict(READS, "--items", tmp_path / "items.jsonl") == [("predict", items)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": "1"}\n{\n', ":2 is not JSON: '{'; mend it"),
        (b"[" * 100_000, ":1 is not JSON: '[[["),
        (b'{"a": "\xff"}\n', ":1: line is not UTF-8 text; mend it"),
        (None, "cannot be read: No such file or directory; check the path"),
    ],
    ids=["not JSON", "too deep", "not UTF-8", "missing"],
)
def test_items_that_cannot_be_read_are_named(
    predict, capsys, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "items.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit):
        predict(READS, "--items", path)
    told = capsys.readouterr().err
    assert told.startswith("error: ") and str(path) in told and message in told
    assert len(told.splitlines()) == 1
