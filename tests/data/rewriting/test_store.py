"""The file of rewritten captions: what is written is read, whatever the blocks; others refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.data.rewriting.cases import make_records
from unimo_paddle.data.rewriting.store import (
    VERSION,
    Rewrite,
    RewrittenCaptions,
    Row,
    join_blocks,
    save_block,
)
from unimo_paddle.errors import UserError

RECORDS = make_records(
    ["a caf\u00e9 \U0001f415 dog", "the dog"], ["a man"], ["two cats", "cats", "some cats"]
)
ROWS = [
    [
        Row("object", 0, 9, 12, "\u732b"),
        Row("sentence", 2),
        Row("paraphrase", 0, 0, 12, "hunde"),
        Row("caption", 1),
    ],
    [],
    [Row("object", 2, 2, 5, "woman")],
    [Row("attribute", 3, 0, 3, "five"), Row("caption", 4)],
    [Row("sentence", 0)],
    [],
]


def write(folder: Path, sizes: Sequence[int]) -> Path:
    """Write the rows in blocks of so many captions."""
    blocks, first = [], 0
    for number, size in enumerate(sizes):
        blocks.append(folder / f"{number}.block")
        save_block(blocks[-1], ROWS[first : first + size])
        first += size
    join_blocks(folder / "file", blocks, RECORDS, {"plan": {"seed": 0}})
    return folder / "file"


@pytest.fixture
def rewritten(tmp_path: Path) -> RewrittenCaptions:
    return RewrittenCaptions(write(tmp_path, [3, 3]), RECORDS)


def test_negatives_come_with_their_kind_and_what_was_put_in(rewritten: RewrittenCaptions) -> None:
    assert rewritten.negatives(0, 0) == [
        Rewrite("a caf\u00e9 \U0001f415 \u732b", "object", 9, 10),
        Rewrite("a man", "sentence", 0, 5),
    ]
    assert rewritten.negatives(2, 0) == [Rewrite("five cats", "attribute", 0, 4)]
    assert rewritten.negatives(2, 1) == [Rewrite("a caf\u00e9 \U0001f415 dog", "sentence", 0, 12)]


def test_positives_are_paraphrases_or_captions(rewritten: RewrittenCaptions) -> None:
    assert [item.text for item in rewritten.positives(0, 0)] == ["hunde", "the dog"]
    assert [item.kind for item in rewritten.positives(0, 0)] == ["paraphrase", "caption"]


def test_a_caption_without_rewrites_has_none(rewritten: RewrittenCaptions) -> None:
    assert rewritten.rewrites(0, 1) == [] and rewritten.rewrites(2, 2) == []


def test_records_and_captions_are_counted(rewritten: RewrittenCaptions) -> None:
    assert len(rewritten) == 3
    assert [rewritten.num_captions(record) for record in range(3)] == [2, 1, 3]
    assert rewritten.caption(2, 2) == "some cats"


@pytest.mark.parametrize("place", [(3, 0), (-1, 0), (1, 1), (0, -1)])
def test_places_outside_are_refused(rewritten: RewrittenCaptions, place: tuple[int, int]) -> None:
    with pytest.raises(IndexError):
        rewritten.rewrites(*place)


@pytest.mark.parametrize("sizes", [[6], [1, 5], [1, 1, 1, 1, 1, 1], [0, 6]])
def test_blocks_leave_no_trace(tmp_path: Path, sizes: list[int]) -> None:
    (tmp_path / "other").mkdir()
    one, other = write(tmp_path, [3, 3]), write(tmp_path / "other", sizes)
    assert one.read_bytes() == other.read_bytes()


def test_other_captions_than_those_of_the_file_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, [6])
    changed = make_records(["a dog", "the dog"], ["a man"], ["two cats", "cats", "some cats"])
    with pytest.raises(UserError, match=r"made from other captions.*make it again"):
        RewrittenCaptions(path, changed)


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, [6])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="is cut off"):
        RewrittenCaptions(path)


@pytest.mark.parametrize("content", [b"", b"text", b"\x02\0\0\0\0\0\0\0{}", b"\xff" * 20])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match="no file of rewritten captions"):
        RewrittenCaptions(tmp_path / "file")


def with_header(path: Path, change: Callable[[dict], None]) -> bytes:
    """A whole file whose header says something else."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["__metadata__"].update(rewriting="[1]"),
        lambda header: header["__metadata__"].update(rewriting=f'{{"version": {VERSION}}}'),
        lambda header: header.update(bases=[0, 4]),
        lambda header: header["bases"].pop("data_offsets"),
        lambda header: header["bases"].update(data_offsets=[0]),
        lambda header: header["bases"].update(data_offsets=[-4, 0]),
        lambda header: header["bases"].update(data_offsets=["0", "4"]),
        lambda header: header["bases"].update(shape=[10**9]),
        lambda header: header["bases"].update(shape=[2, 2]),
        lambda header: header["bases"].update(dtype="F64"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(
    tmp_path: Path, change: Callable[[dict], None]
) -> None:
    path = write(tmp_path, [6])
    path.write_bytes(with_header(path, change))
    with pytest.raises(UserError, match="no file of rewritten captions"):
        RewrittenCaptions(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        RewrittenCaptions(tmp_path / "none")


def test_the_file_is_a_safetensors_file(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    assert load_file(write(tmp_path, [6]))["kinds"].tolist() == [0, 4, 5, 6, 0, 1, 6, 4]
