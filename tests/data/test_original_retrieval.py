"""The original's files of retrieval: what they hold, and every way in which a line is wrong."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import pytest

from unimo_paddle.data.original_retrieval import (
    CaptionLine,
    read_captions,
    read_image_ids,
    read_region_lines,
)
from unimo_paddle.errors import BadSample, UserError

BOXES = [[0, 0, 4, 2], [1, 1, 8, 4]]
FEATURES = [[1, 2, 3], [4, 5, 6]]
CAPTION = "0 7 8 2;0 0 0 0;2 3 4 5;a;50"


def encoded(values) -> str:
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode()


def region_line(name: str = "a", **changes: str) -> str:
    columns = {
        "name": name,
        "first": "8",
        "second": "4",
        "count": "2",
        "boxes": encoded(BOXES),
        "features": encoded(FEATURES),
        "probabilities": encoded([[0.5, 0.5]] * 2),
    }
    assert set(changes) <= set(columns)
    return "\t".join({**columns, **changes}.values())


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines), "utf-8")
    return path


def find(path: Path, **options) -> dict:
    return read_region_lines(path, feature_size=3, **options)


@pytest.mark.parametrize(
    ("columns", "size"), [(("width", "height"), (8, 4)), (("height", "width"), (4, 8))]
)
def test_the_regions_of_a_line_are_read(tmp_path: Path, columns, size):
    path = write(tmp_path / "part-0", region_line("b"), region_line("a"))
    regions = find(path, size_columns=columns)["a"].load()
    assert regions.features.tolist() == FEATURES
    assert regions.boxes.tolist() == BOXES
    assert (regions.width, regions.height) == size


def test_all_files_of_a_folder_are_one_source(tmp_path: Path):
    (tmp_path / "below").mkdir()
    write(tmp_path / "part-1", region_line("b"))
    write(tmp_path / "below" / "part-0", region_line("a"), region_line("c"))
    write(tmp_path / ".hidden", "no line")
    found = find(tmp_path)
    assert list(found) == ["a", "c", "b"]
    assert found["c"].where == f"{tmp_path / 'below' / 'part-0'}:2"
    assert found["c"].load().features.tolist() == FEATURES


def test_only_the_listed_images_are_kept(tmp_path: Path):
    path = write(tmp_path / "part-0", region_line("a"), region_line("b"))
    assert list(find(path, only={"b", "z"})) == ["b"]


def test_a_list_without_any_of_the_images_is_refused(tmp_path: Path):
    path = write(tmp_path / "part-0", region_line("a"))
    with pytest.raises(UserError, match="holds none of the images"):
        find(path, only={"z"})


BAD_REGIONS = {
    "too few columns": ("a\t8\t4\t2", "4 columns, expected 7"),
    "no name": (region_line(" "), "the image has no name"),
    "a size that is no number": (region_line(first="8.5"), "image size is '8.5'"),
    "a size of zero": (region_line(second="0"), "image size is 8 and 0"),
    "a count that is no number": (region_line(count="two"), "number of boxes is 'two'"),
    "a count of zero": (region_line(count="0"), "number of boxes is 0"),
    "a count that does not fit": (region_line(count="3"), "boxes of 32 bytes do not fill 3 rows"),
    "boxes cut short": (region_line(boxes=encoded(BOXES)[:-4]), "boxes of 30 bytes do not fill"),
    "boxes that are no base64": (region_line(boxes="abc"), "boxes are not base64: 3 characters"),
    "features of another size": (
        region_line(features=encoded([[1.0], [2.0]])),
        "features of 8 bytes do not fill 2 rows of 3 float32",
    ),
    "no features": (region_line(features=""), "features are not base64: 0 characters"),
    "probabilities cut short": (
        region_line(probabilities=encoded([0.5])),
        "class probabilities of 4 bytes do not fill 2 rows",
    ),
    "an image for the second time": (region_line("good"), "image 'good' occurred before, in .*:1"),
}


@pytest.mark.parametrize("case", BAD_REGIONS)
def test_a_damaged_feature_line_is_named_and_left_out(tmp_path: Path, caplog, case: str):
    line, message = BAD_REGIONS[case]
    path = write(tmp_path / "part-0", region_line("good"), line)
    assert list(find(path)) == ["good"]
    assert caplog.messages[0].startswith(f"skipped {path}:2: ")
    assert re.search(message, caplog.messages[0])


def test_more_damaged_feature_lines_than_the_cap_end_the_reading(tmp_path: Path):
    path = write(tmp_path / "part-0", region_line("good"), *["a"] * 11)
    with pytest.raises(UserError, match=r"11 of 12 records cannot be used, first .*part-0:2: 1 c"):
        find(path)


def test_a_feature_line_that_is_not_text_is_named(tmp_path: Path, caplog):
    path = tmp_path / "part-0"
    path.write_bytes(region_line("good").encode() + b"\n\xff\xfe\n")
    assert list(find(path)) == ["good"]
    assert f"skipped {path}:2: line is not UTF-8 text" in caplog.messages


def test_what_only_decoding_can_tell_is_told_when_the_image_is_needed(tmp_path: Path):
    damaged = "*" + encoded(FEATURES)[1:]
    path = write(tmp_path / "part-0", region_line("a", features=damaged))
    with pytest.raises(BadSample, match="part-0:1: features are not base64"):
        find(path)["a"].load()


def test_a_feature_file_that_is_gone_is_a_bad_sample(tmp_path: Path):
    path = write(tmp_path / "part-0", region_line("a"))
    line = find(path)["a"]
    path.unlink()
    with pytest.raises(BadSample, match="part-0:1: cannot be read"):
        line.load()


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_features_that_are_not_there_are_told(tmp_path: Path, name: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=f"{name} is no file and no folder with files"):
        find(tmp_path / name)


def captions_of(path: Path, **options) -> list:
    options = {"images": {"a", "b"}, "vocab_size": 10, "first_position": 2} | options
    return list(read_captions(path, **options))


def test_captions_are_read(tmp_path: Path):
    path = write(tmp_path / "caps.ids", CAPTION, "0 9 2;0 0 0;2 3 4;b;7")
    assert captions_of(path) == [CaptionLine((0, 7, 8, 2), "a", 50), CaptionLine((0, 9, 2), "b", 7)]


BAD_CAPTIONS = {
    "an empty line": ("", "1 fields, expected 5"),
    "too many fields": (CAPTION + ";1", "6 fields, expected 5"),
    "ids that are no numbers": ("0 x 2;0 0 0;2 3 4;a;51", "ids is 'x', which is no whole number"),
    "no ids": (";;;a;51", "ids '' do not begin with 0 and end with 2"),
    "no [CLS]": ("5 2;0 0;2 3;a;51", "ids '5 2' do not begin with 0"),
    "no [SEP]": ("0 5;0 0;2 3;a;51", "ids '0 5' do not begin with 0 and end with 2"),
    "an id outside the vocabulary": ("0 10 2;0 0 0;2 3 4;a;51", "id 10 is not below"),
    "too few sentence ids": ("0 5 2;0 0;2 3 4;a;51", "2 sentence ids for 3 ids"),
    "too few positions": ("0 5 2;0 0 0;2 3;a;51", "positions '2 3' do not count 3 ids from 2"),
    "other positions": ("0 5 2;0 0 0;0 1 2;a;51", "positions '0 1 2' do not count"),
    "an image without features": ("0 5 2;0 0 0;2 3 4;z;51", "image 'z' is not among the features"),
    "a number that is none": ("0 5 2;0 0 0;2 3 4;a;x", "caption id is 'x'"),
    "a number for the second time": ("0 5 2;0 0 0;2 3 4;a;50", "caption id 50 occurred before"),
}


@pytest.mark.parametrize("case", BAD_CAPTIONS)
def test_a_damaged_caption_is_named_and_left_out(tmp_path: Path, caplog, case: str):
    line, message = BAD_CAPTIONS[case]
    path = write(tmp_path / "caps.ids", CAPTION, line)
    assert [caption.caption_id for caption in captions_of(path)] == [50]
    assert caplog.messages[0].startswith(f"skipped {path}:2: ")
    assert message in caplog.messages[0]


def test_more_damaged_captions_than_the_cap_end_the_reading(tmp_path: Path):
    path = write(tmp_path / "caps.ids", CAPTION, *["0 5 2"] * 11)
    with pytest.raises(
        UserError, match=r"11 of 12 records cannot be used, first .*caps.ids:2: 1 f"
    ):
        captions_of(path)


def test_image_ids_are_read(tmp_path: Path):
    path = write(tmp_path / "ids.txt", "a\t3", "b\t0")
    assert read_image_ids(path) == {"a": 3, "b": 0}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b", "line is not name<tab>id: 'b'"),
        ("\t4", "line is not name<tab>id"),
        ("b\tx", "image id is 'x'"),
        ("a\t4", "image 'a' or its id 4 occurred before"),
        ("b\t3", "image 'b' or its id 3 occurred before"),
    ],
)
def test_a_damaged_line_of_image_ids_is_named_and_left_out(tmp_path, caplog, line, message):
    path = write(tmp_path / "ids.txt", "a\t3", line)
    assert read_image_ids(path) == {"a": 3}
    assert f"skipped {path}:2: " in caplog.messages[0]
    assert message in caplog.messages[0]
