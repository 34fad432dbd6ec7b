"""Records from files, and what happens to the bad ones."""

from __future__ import annotations

import base64
import json
import os

import numpy as np
import pytest

from unimo_paddle.data.sources import read_images, read_pairs, read_statements, read_texts
from unimo_paddle.errors import UserError

GOOD = {"image": "images/a.png", "captions": ["a dog .", "the dog runs ."]}


@pytest.fixture
def folder(tmp_path):
    """A data folder with two image files; their content is not looked at here."""
    (tmp_path / "data" / "images").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (tmp_path / "data" / "images" / name).write_bytes(b"x")
    (tmp_path / "outside.png").write_bytes(b"x")
    return tmp_path / "data"


def write(folder, *records):
    path = folder / "pairs.jsonl"
    lines = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in records]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_pairs_are_read_in_order(folder):
    other = {"image": "images/b.png", "captions": ["  a cat  "], "tags": ["cat"], "other": 1}
    first, second = read_pairs(write(folder, GOOD, other))
    assert first.image == folder / "images" / "a.png"
    assert first.captions == ("a dog .", "the dog runs .")
    assert (first.regions, first.tags, first.graph) == (None, None, None)
    assert (second.captions, second.tags) == (("a cat",), ("cat",))


def test_records_of_one_image_share_a_group(folder):
    other = GOOD | {"image": "images/b.png"}
    again = GOOD | {"image": "./images/a.png"}
    assert [record.group for record in read_pairs(write(folder, GOOD, other, again))] == [0, 1, 0]


def test_a_graph_is_kept_as_it_stands(folder):
    graph = {"objects": [{"shape": "circle"}], "relations": []}
    assert read_pairs(write(folder, GOOD | {"graph": graph}))[0].graph == graph


def test_labelled_objects_are_read(folder):
    objects = [{"box": [0, 0, 1, 1], "names": ["sand"]}, {"box": [0.25, 0, 0.5, 1], "names": ["a"]}]
    found = read_pairs(write(folder, GOOD | {"objects": objects}))[0].objects
    assert [item.box for item in found] == [(0, 0, 1, 1), (0.25, 0, 0.5, 1)]
    assert [item.names for item in found] == [("sand",), ("a",)]
    assert read_pairs(write(folder, GOOD))[0].objects == ()


def test_a_byte_order_mark_is_no_fault(folder):
    path = write(folder, b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert len(read_pairs(path)) == 1


def coded(values) -> str:
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode()


FEATURES, BOXES = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [[0, 0, 4, 4], [1, 1, 8, 6]]


@pytest.mark.parametrize("form", [list, coded])
def test_regions_are_read_from_lists_and_base64(folder, form):
    regions = {"features": form(FEATURES), "boxes": form(BOXES), "width": 8, "height": 6}
    regions["class_probabilities"] = form([[0.5, 0.5], [0.1, 0.9]])
    found = read_pairs(write(folder, GOOD | {"regions": regions}))[0].regions
    assert found.features.tolist() == FEATURES
    assert found.boxes.tolist() == BOXES
    assert (found.width, found.height) == (8, 6)
    np.testing.assert_allclose(found.class_probabilities, [[0.5, 0.5], [0.1, 0.9]])


REGIONS = {"features": FEATURES, "boxes": BOXES, "width": 8, "height": 6}
FAULTS = {
    "an empty line": (b"", "line is empty"),
    "no JSON": (b"{'image': 1}", "line is not JSON"),
    "deep nesting": (b"[" * 100_000, "line is not JSON"),
    "a list": ([1, 2], "not a JSON object"),
    "no UTF-8": (b'{"image": "\xff"}', "not UTF-8"),
    "a misspelt image key": ({"img": "a", "captions": ["b"]}, "'image' is missing; found capt"),
    "a misspelt caption key": ({"image": "images/a.png", "caption": "b"}, "'captions' is missing"),
    "no captions": (GOOD | {"captions": []}, "'captions' is empty"),
    "an empty caption": (GOOD | {"captions": ["a", " "]}, r"'captions\[1\]' is empty"),
    "a caption that is no list": (GOOD | {"captions": "a dog"}, "must be a list of texts"),
    "a caption that is a number": (GOOD | {"captions": [3]}, r"'captions\[0\]' must be text"),
    "half a surrogate pair": (
        rb'{"image": "images/a.png", "captions": ["\ud800"]}',
        "not valid Unicode",
    ),
    "a caption over 1 MB": (GOOD | {"captions": ["a" * 1_000_001]}, "1000001 bytes exceeds"),
    "a missing image": (GOOD | {"image": "images/none.png"}, "'images/none.png' does not exist"),
    "a name no file can have": (GOOD | {"image": "a" * 300}, "File name too long"),
    "a folder as image": (GOOD | {"image": "images"}, "does not exist"),
    "a path upwards": (GOOD | {"image": "../outside.png"}, "stay inside"),
    "a path upwards and back": (GOOD | {"image": "images/../../data/images/a.png"}, "stay inside"),
    "an absolute path": (GOOD | {"image": "/etc/passwd"}, "must be relative"),
    "a zero byte in the path": (GOOD | {"image": "images/a.png\0"}, "must be relative"),
    "a graph that is text": (GOOD | {"graph": "dog"}, "'graph' must be an object"),
    "objects as text": (GOOD | {"objects": "dog"}, "'objects' must be a list"),
    "an object without a box": (
        GOOD | {"objects": [{"names": ["dog"]}]},
        r"'objects\[0\]' must be an object with a box",
    ),
    "a box of three numbers": (
        GOOD | {"objects": [{"box": [0, 0, 1], "names": ["dog"]}]},
        r"'objects\[0\].box' must be four numbers",
    ),
    "a box in pixels": (
        GOOD | {"objects": [{"box": [0, 0, 40, 30], "names": ["dog"]}]},
        "shares of width and height",
    ),
    "a box that is not a number": (
        GOOD | {"objects": [{"box": [0, 0, float("nan"), 1], "names": ["dog"]}]},
        "shares of width and height",
    ),
    "an object whose name is empty": (
        GOOD | {"objects": [{"box": [0, 0, 1, 1], "names": ["dog", ""]}]},
        r"'names\[1\]' is empty",
    ),
    "regions as a list": (GOOD | {"regions": [1]}, "'regions' must be an object"),
    "regions without boxes": (GOOD | {"regions": {"features": [[1]]}}, "lacks boxes, height, wid"),
    "a width that is text": (GOOD | {"regions": REGIONS | {"width": "8"}}, "width' must be a num"),
    "ragged features": (GOOD | {"regions": REGIONS | {"features": [[1], [1, 2]]}}, "not a table"),
    "short features": (GOOD | {"regions": REGIONS | {"features": coded([1, 2, 3])}}, "not fill 2"),
    "broken base64": (GOOD | {"regions": REGIONS | {"boxes": "a*b"}}, "boxes' is not base64"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_bad_record_is_left_out_and_named(case, folder, caplog):
    bad, message = FAULTS[case]
    path = write(folder, GOOD, bad, GOOD)
    source = read_pairs(path)
    assert len(source) == 2
    assert [rejected.where for rejected in source.rejected] == [f"{path}:2"]
    assert source.rejected[0].reason.find(message.replace("\\", "")) >= 0
    assert f"{path}:2" in caplog.text


@pytest.mark.parametrize("case", FAULTS)
def test_a_file_of_one_bad_record_is_one_clear_line(case, folder):
    bad, message = FAULTS[case]
    path = write(folder, bad)
    with pytest.raises(UserError, match=message) as caught:
        read_pairs(path)
    assert str(caught.value).startswith(f"{path}: 1 of 1 records cannot be used, first {path}:1: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_link_out_of_the_folder_is_refused(folder):
    os.symlink(folder.parent / "outside.png", folder / "images" / "link.png")
    source = read_pairs(write(folder, GOOD, GOOD | {"image": "images/link.png"}))
    assert "leads out of the folder" in source.rejected[0].reason


def test_a_linked_folder_outside_is_refused(folder):
    (folder.parent / "elsewhere").mkdir()
    (folder.parent / "elsewhere" / "c.png").write_bytes(b"x")
    os.symlink(folder.parent / "elsewhere", folder / "more")
    source = read_pairs(write(folder, GOOD, GOOD | {"image": "more/c.png"}))
    assert "leads out of the folder" in source.rejected[0].reason


def test_a_link_inside_the_folder_is_followed(folder):
    os.symlink(folder / "images" / "a.png", folder / "images" / "link.png")
    first, second = read_pairs(write(folder, GOOD, GOOD | {"image": "images/link.png"}))
    assert second.image == first.image
    assert second.group == first.group


def test_a_data_folder_behind_a_link_is_allowed(folder):
    os.symlink(folder, folder.parent / "alias")
    write(folder, GOOD)
    assert len(read_pairs(folder.parent / "alias" / "pairs.jsonl")) == 1


@pytest.mark.parametrize(
    ("num_bad", "total", "fits"),
    [(10, 100, True), (11, 100, False), (20, 2000, True), (21, 2000, False)],
)
def test_the_cap_on_bad_records_is_a_share_of_at_least_ten(folder, num_bad, total, fits):
    path = write(folder, *[GOOD] * (total - num_bad), *[b"{}"] * num_bad)
    if fits:
        assert len(read_pairs(path).rejected) == num_bad
    else:
        with pytest.raises(UserError, match=f"{num_bad} of {total} records cannot be used"):
            read_pairs(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.jsonl cannot be read: No such file"):
        read_pairs(tmp_path / "none.jsonl")


def test_an_empty_file_is_refused(folder):
    (folder / "pairs.jsonl").touch()
    with pytest.raises(UserError, match="holds no records"):
        read_pairs(folder / "pairs.jsonl")


def test_lines_are_texts(tmp_path):
    (tmp_path / "a.txt").write_text(" first line\n\n = Heading = \nthe third line\r\n", "utf-8")
    (tmp_path / "b.txt").write_text("another file", "utf-8")
    assert list(read_texts([tmp_path / "a.txt", tmp_path / "b.txt"])) == [
        "first line", "= Heading =", "the third line", "another file",
    ]  # fmt: skip


def test_paragraphs_join_their_lines(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n\n\nthree\n", "utf-8")
    assert list(read_texts(tmp_path / "a.txt", unit="paragraph")) == ["one two", "three"]


def test_short_texts_are_passed_over(tmp_path):
    (tmp_path / "a.txt").write_text("= Title =\none two three four\n", "utf-8")
    source = read_texts(tmp_path / "a.txt", min_words=4)
    assert (list(source), source.rejected) == (["one two three four"], ())


def test_a_line_that_is_not_utf8_is_left_out_and_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"good\n\xff\xfe\nalso good\n")
    source = read_texts(tmp_path / "a.txt")
    assert list(source) == ["good", "also good"]
    assert source.rejected[0].where.endswith("a.txt:2")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", {}, "holds no records"),
        (b"a b\n", {"min_words": 3}, "holds no line of at least 3 words"),
        (b"a b\n", {"unit": "page"}, "unit 'page'"),
        (b"\xff\n", {}, "1 of 1 records cannot be used"),
    ],
)
def test_a_text_source_without_use_is_refused(tmp_path, content, options, message):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_texts(tmp_path / "a.txt", **options)


def test_images_are_listed_in_order_of_their_names(folder):
    (folder / "images" / "more").mkdir()
    for name in ("more/c.JPG", "notes.txt", "0.webp", ".12.b.png", "more/._c.JPG"):
        (folder / "images" / name).write_bytes(b"x")
    names = [path.name for path in read_images(folder / "images")]
    assert names == ["0.webp", "a.png", "b.png", "c.JPG"]


def test_an_image_folder_that_is_missing_or_empty_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_images(tmp_path / "none")
    with pytest.raises(UserError, match=r"holds no \.jpg"):
        read_images(tmp_path)


def test_the_real_photographs_are_all_usable(shared_dir):
    source = read_pairs(shared_dir / "data" / "flickr8k" / "train.jsonl")
    assert (len(source), source.rejected) == (6091, ())
    assert {len(record.captions) for record in source} == {5}


# ---- statements


def test_statements_of_an_image_become_one_record(folder):
    questions = write(
        folder,
        {"image": "images/a.png", "question": "what is it?", "answer": "a dog"},
        {
            "image": "images/b.png",
            "question": "how many?",
            "answers": ["", "2", "", "two", "", "2"],
        },
        {"image": "images/a.png", "question": "where?", "answer": "left", "kind": "place"},
    )
    sentences = folder / "sentences.jsonl"
    line = {"image": "images/a.png", "hypothesis": "it sleeps", "label": "neutral"}
    sentences.write_text(json.dumps(line) + "\n", "utf-8")
    first, second = read_statements([questions, sentences])
    assert (first.image.name, second.image.name) == ("a.png", "b.png")
    assert first.captions == ("what is it? a dog", "where? left", "it sleeps neutral")
    assert second.captions == ("how many? 2",)
    assert first.group != second.group
    assert read_statements([]) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"image": "images/a.png", "question": "where?"}, "'answer' is missing"),
        ({"image": "images/a.png", "answer": "left"}, "'question' is missing"),
        ({"image": "images/a.png", "question": "a", "answers": []}, "'answers' is empty"),
        ({"image": "images/a.png", "question": "a", "answers": [""]}, "all 'answers' are empty"),
        ({"image": "images/a.png", "hypothesis": "a"}, "'label' is missing"),
        ({"image": "images/none.png", "question": "a", "answer": "b"}, "does not exist"),
    ],
)
def test_a_statement_that_cannot_be_used_is_named(folder, line, message):
    with pytest.raises(UserError, match=message):
        read_statements([write(folder, line)])
