"""Files of lines with base64: read back exactly to half precision, damage named by its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.regions.checking import check_same, import_from, import_named
from tests.data.regions.samples import (
    CLASS_NAMES,
    bottom_up_line,
    caption_line,
    detect,
    entailment_line,
    lxmert_line,
    retrieval_line,
    write_lines,
)
from unimo_paddle.data.original_pairs import read_hypotheses
from unimo_paddle.errors import UserError

FOUND = [detect("391895", 1), detect("42", 2), detect("7", 3)]


@pytest.mark.parametrize(
    ("name", "write"),
    [("tsv", bottom_up_line), ("tsv", lxmert_line), ("original", retrieval_line)],
    ids=["bottom-up", "lxmert", "original"],
)
def test_a_file_is_read_back(tmp_path: Path, name: str, write) -> None:
    path = write_lines(tmp_path / "features.tsv", [write(found) for found in FOUND])
    store = import_from(name, path)
    assert store.image_ids() == ["391895", "42", "7"]
    for found in FOUND:
        check_same(store, found)


def test_lxmerts_objects_are_kept_with_their_confidences(tmp_path: Path) -> None:
    store = import_named(tmp_path, FOUND, ["tree,shrub", *CLASS_NAMES[1:]])
    classes, confidences = store.classes(1)
    np.testing.assert_array_equal(classes, FOUND[1].objects)
    np.testing.assert_array_equal(confidences, FOUND[1].confidences.astype(np.float16))
    surest = CLASS_NAMES[FOUND[1].objects[FOUND[1].confidences.argmax()]]
    assert store.tags(1)[0] == surest


def test_the_originals_distributions_are_kept(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "features.tsv", [retrieval_line(found) for found in FOUND])
    store = import_from("original", path)
    expected = FOUND[2].probabilities.astype(np.float16)
    np.testing.assert_array_equal(store["7"].class_probabilities, expected)


@pytest.mark.parametrize("write", [entailment_line, caption_line])
def test_an_image_with_several_sentences_is_kept_once(tmp_path: Path, write) -> None:
    lines = [write(found, number) for number, found in enumerate([*FOUND, *FOUND])]
    store = import_from("original", write_lines(tmp_path / "pairs.txt", lines))
    assert (len(store), store.manifest["repeated"]) == (3, 3)
    for found in FOUND:
        check_same(store, found)


def test_a_pair_that_is_no_text_is_named_by_both_readers(tmp_path: Path) -> None:
    first, second = (entailment_line(found, n).encode() for n, found in enumerate(FOUND[:2]))
    path = tmp_path / "pairs.txt"
    path.write_bytes(first + b"\n" + b"\xff" + second + b"\n")
    read = read_hypotheses(path, lambda item: item.id, root=None, bad_record_limit=0.01)
    assert list(read) == ["0"]
    assert [(x.where, x.reason) for x in read.rejected] == [(f"{path}:2", "line is not UTF-8 text")]
    (bad,) = import_from("original", path).manifest["first_rejected"]
    assert bad == [f"{path}:2", "line is not UTF-8 text"]


def _damage(line: str, column: int, value: str) -> str:
    columns = line.split("\t")
    columns[column] = value
    return "\t".join(columns)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, "", "name of the image is ''"),
        (1, "wide", "image_w is 'wide', which is no whole number"),
        (2, "0", "image size"),
        (3, "99", "do not fill 99 rows"),
        (4, "AAAA", "boxes of 3 bytes do not fill"),
        (5, "?", "features are not base64"),
        (5, "", "features of 0 bytes"),
        (0, "42", "image '42' occurred before"),
    ],
)
def test_damage_is_named_with_its_line(
    tmp_path: Path, column: int, value: str, message: str
) -> None:
    bad = _damage(bottom_up_line(FOUND[0]), column, value)
    path = write_lines(tmp_path / "features.tsv", [bottom_up_line(FOUND[1]), bad])
    store = import_from("tsv", path)
    ((where, reason),) = store.manifest["first_rejected"]
    assert where == f"{path}:2" and message in reason
    assert store.image_ids() == ["42"]


def test_numbers_that_are_none_or_too_large_are_refused(tmp_path: Path) -> None:
    lines = [bottom_up_line(FOUND[0])]
    for value in (np.nan, 1e5):
        found = detect(f"{value}", 4)
        found.features[1, 2] = value
        lines.append(bottom_up_line(found))
    store = import_from("tsv", write_lines(tmp_path / "features.tsv", lines))
    reasons = [reason for _, reason in store.manifest["first_rejected"]]
    assert "not a finite number" in reasons[0]
    assert "100000, which is beyond half precision" in reasons[1]


def test_another_format_is_recognised_by_its_columns(tmp_path: Path) -> None:
    lines = [retrieval_line(detect(str(n), n)) for n in range(12)]
    path = write_lines(tmp_path / "features.tsv", lines)
    with pytest.raises(UserError, match=r"features.tsv:1: 7 columns.*--format original reads such"):
        import_from("tsv", path)


def test_an_image_with_features_of_another_size_is_left_out(tmp_path: Path) -> None:
    lines = [bottom_up_line(FOUND[0]), bottom_up_line(FOUND[1])]
    columns = lines[1].split("\t")
    columns[5] = columns[5][: len(columns[5]) // 2 // 16 * 16]
    path = write_lines(tmp_path / "features.tsv", [lines[0], "\t".join(columns)])
    (bad,) = import_from("tsv", path).manifest["first_rejected"]
    assert bad[0].endswith(":2") and "feature" in bad[1]


def test_more_bad_records_than_the_limit_are_refused(tmp_path: Path) -> None:
    lines = [bottom_up_line(FOUND[0]), *["nonsense"] * 11]
    path = write_lines(tmp_path / "features.tsv", lines)
    with pytest.raises(UserError, match=r"11 of 12 records cannot be used, first .*:2: 1 columns"):
        import_from("tsv", path)
