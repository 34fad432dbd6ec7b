"""The reference checker: the recordings of the original pass, and what is wrong is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from unimo_paddle.errors import UserError
from unimo_paddle.reference import Row, check_folder, format_rows
from unimo_paddle.reference.checking import FAILED, PASSED, UNKNOWN
from unimo_paddle.reference.decoding import check_decoding
from unimo_paddle.reference.recordings import Comparison, Recording, Recordings

pytestmark = pytest.mark.usefixtures("static_graph")

NUM_RECORDINGS = 31


@pytest.fixture(scope="module")
def official(shared_dir: Path) -> Path:
    return shared_dir / "reference" / "official"


@pytest.fixture(scope="module")
def rows(official: Path) -> list[Row]:
    return list(check_folder(official))


def test_every_recording_of_the_original_is_reproduced(rows: list[Row]) -> None:
    assert [format_rows([row]) for row in rows if row.verdict != PASSED] == []
    assert sum(row.verdict == PASSED for row in rows) >= NUM_RECORDINGS


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("ids", lambda texts: texts[0][0].__setitem__(1, 5), "sample 0, text 0: ids differs"),
        ("scores", lambda texts: texts[1][0].__setitem__(1, -9.0), "sample 1, text 0: scores"),
        ("text", lambda texts: texts.__setitem__(2, "nothing"), "sample 2: text differs"),
    ],
)
def test_a_text_that_was_written_otherwise_is_noticed(
    official: Path, tmp_path: Path, key: str, change, message: str
) -> None:
    for path in official.iterdir():
        if path.is_file() and path.name != "decode_img2txt.json":
            (tmp_path / path.name).symlink_to(path)
    case = json.loads((official / "decode_img2txt.json").read_text())[2]
    change(case[key])
    (tmp_path / "decode_img2txt.json").write_text(json.dumps([case]))
    vocabulary = official.parents[1] / "vocab" / "roberta"
    recording = Recording(Recordings(tmp_path, vocabulary), "decode_img2txt.json")
    check_decoding(recording)
    (failure,) = recording.comparison.failures
    assert message in failure


@pytest.fixture
def copied(official: Path, tmp_path: Path):
    """A folder with some of the recordings, whose arrays may be changed: (name, changes)."""
    companions = ("tiny_config.json", "tiny_params.npz", "recordings.json")
    for name in companions:
        shutil.copy(official / name, tmp_path / name)

    def copy(name: str, **changes: np.ndarray) -> Path:
        with np.load(official / name) as file:
            arrays = {key: file[key] for key in file.files}
        for key, value in changes.items():
            arrays[key.replace("__", "/")] = value
        np.savez(tmp_path / name, **arrays)
        return tmp_path

    return copy


CHANGES = {
    "an output": ("cls2.npz", {"out__loss": np.array([0.7236], np.float32)}, "loss differs"),
    "a gradient": (
        "cls2.npz",
        {"grad__cls_out_2_b": np.zeros(2, np.float32)},
        "gradient of cls_out_2_b differs",
    ),
    "a perturbation": (
        "ve_train_adv2.npz",
        {"out__step1__delta_text": np.ones((4, 9, 64), np.float32)},
        "step 1 text perturbation differs",
    ),
    "an output that is not known": (
        "ve_eval.npz",
        {"out__attention": np.zeros(3, np.float32)},
        "attention has no counterpart",
    ),
    "weights": ("reg1.npz", {"out__pooled_text": np.zeros((4, 64), np.float32)}, "pooled_text"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_differs_is_named(copied, change: str) -> None:
    name, changes, message = CHANGES[change]
    (row,) = check_folder(copied(name, **changes))
    assert row.verdict == FAILED
    assert message in row.message


def test_a_broken_file_does_not_hide_the_others(copied) -> None:
    folder = copied("retrieval_dev_s1.npz")
    (folder / "cls9.npz").write_bytes(b"PK\x03\x04 no archive")
    (folder / "something_else.npz").write_bytes(b"")
    verdicts = {row.name: row.verdict for row in check_folder(folder)}
    assert verdicts == {
        "cls9.npz": FAILED,
        "retrieval_dev_s1.npz": PASSED,
        "something_else.npz": UNKNOWN,
    }


def test_the_tool_prints_a_row_a_file_and_fails_with_one(copied, run_tool) -> None:
    folder = copied("cls2.npz", out__loss=np.array([1.0], np.float32))
    done = run_tool("check_reference", "--dir", folder)
    assert done.returncode == 1
    assert "cls2.npz" in done.stdout and "1 FAILED" in done.stdout


def test_the_tool_succeeds_where_nothing_fails(copied, run_tool) -> None:
    done = run_tool("check_reference", "--dir", copied("reg1.npz"))
    assert done.returncode == 0, done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.parametrize(("make", "message"), [(False, "is no folder"), (True, "no recordings")])
def test_a_folder_without_recordings_is_told_in_one_line(
    tmp_path: Path, make: bool, message: str
) -> None:
    folder = tmp_path / "recordings"
    if make:
        folder.mkdir()
    with pytest.raises(UserError, match=message):
        list(check_folder(folder))


def test_readers_need_a_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"special": {}, "cases": []}))
    (row,) = check_folder(tmp_path)
    assert row.verdict == FAILED and "--vocab" in row.message


@pytest.mark.parametrize(
    ("ours", "recorded", "fails"),
    [(1.0, 1.0 + 5e-6, False), (1.0, 1.0 + 5e-5, True), (np.nan, 1.0, True), ([1.0], [], True)],
)
def test_comparison_tells_close_numbers_from_others(ours, recorded, fails: bool) -> None:
    comparison = Comparison()
    comparison.close("x", ours, recorded)
    assert bool(comparison.failures) == fails


@pytest.mark.parametrize(
    ("ours", "recorded", "fails"),
    [
        ("a", "a", False),
        ("a", "b", True),
        (np.array([1, 2]), np.array([1, 2]), False),
        (np.array([1, 2]), np.array([1, 3]), True),
        (np.array([1, 2]), np.array([1, 2, 3]), True),
    ],
)
def test_comparison_tells_equal_values_from_others(ours, recorded, fails: bool) -> None:
    comparison = Comparison()
    comparison.equal("x", ours, recorded)
    assert bool(comparison.failures) == fails


def test_many_failures_are_counted_not_listed() -> None:
    comparison = Comparison()
    for number in range(10):
        comparison.equal(f"value {number}", 0, 1)
    assert comparison.message.endswith("and 7 more")
