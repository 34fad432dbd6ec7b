"""Imports beside others, after kills, over what is there, and of what is damaged."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.data.shard_files import picture_bytes, write_shard
from tests.preparation.conftest import COLA, manifest_of, write_json, write_lines, write_pictures
from unimo_paddle.data.formats.image_folder import MissingImage
from unimo_paddle.data.publish import sole_writer
from unimo_paddle.data.records import Tally
from unimo_paddle.errors import UserError
from unimo_paddle.preparation import (
    flickr,
    glue,
    importing,
    measures,
    shards,
    squad,
    summaries,
)

GLUE = (glue, "--set", "cola", "--input", "CoLA")


# ---- one at a time


def test_a_second_import_into_a_folder_is_refused_before_it_reads(
    run_import, cola: Path, tmp_path: Path
) -> None:
    output = tmp_path / "data/cola"
    begun = write_lines(output / ".import_unfinished/train.tsv", "of the first one")
    with sole_writer(output / ".import_lock", output):
        with pytest.raises(UserError, match=r"another process is making data/cola now"):
            run_import(glue, "--set", "cola", "--input", "nowhere")
        assert begun.read_text() == "of the first one\n"
    assert {path.name for path in run_import(*GLUE).iterdir()} == {
        *("train.tsv", "dev.tsv", "manifest.json", "report.html")
    }


def test_a_killed_import_does_not_block_the_next_one(
    run_import, cola: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
            monkeypatch.setattr(importing, "_write", kill)
            run_import(*GLUE)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert (tmp_path / "data/cola/.import_lock").exists()
    assert {path.name for path in run_import(*GLUE).iterdir()} == {
        *("train.tsv", "dev.tsv", "manifest.json", "report.html")
    }


def test_what_nobody_can_write_to_may_be_up_to_date(
    run_import, cola: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run_import(*GLUE)
    monkeypatch.setattr(importing.os, "access", lambda path, mode: False)
    monkeypatch.setattr(importing, "sole_writer", None)
    capsys.readouterr()
    run_import(*GLUE)
    assert capsys.readouterr().out == "up to date: data/cola\n"


def test_an_output_that_is_a_file_is_one_line(run_import, cola: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(UserError, match=r"mine cannot be written to: .*; choose another output"):
        run_import(*GLUE, "--output", "mine")


# ---- over what is there


def test_a_kill_before_earlier_files_are_gone_is_mended(
    run_import, cola: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = run_import(*GLUE)
    (cola / "dev.tsv").unlink()
    unlink = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.name == "dev.tsv":
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        run_import(*GLUE, "--replace")
    monkeypatch.undo()
    monkeypatch.chdir(cola.parent)
    run_import(*GLUE)
    assert not (output / "dev.tsv").exists() and (output / "train.tsv").exists()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"format": "unimo_paddle regions", "files": {}}',
        '{"format": "unimo_paddle import", "inputs": 3, "outputs": {"train.tsv": 1}}',
    ],
)
def test_a_manifest_of_something_else_is_not_overwritten(
    run_import, cola: Path, tmp_path: Path, text: str
) -> None:
    path = write_lines(tmp_path / "data/cola/manifest.json", text)
    with pytest.raises(UserError, match=r"manifest\.json is there and was not imported"):
        run_import(*GLUE)
    assert path.read_text() == f"{text}\n"


def test_a_manifest_has_no_power_over_files_elsewhere(
    run_import, cola: Path, tmp_path: Path
) -> None:
    output = run_import(*GLUE)
    kept = write_lines(tmp_path / "kept.txt", "mine")
    manifest = manifest_of(output)
    manifest["outputs"]["../../kept.txt"] = manifest["outputs"]["train.tsv"]
    write_json(output / "manifest.json", manifest)
    write_lines(cola / "train.tsv", *COLA, COLA[0])
    run_import(*GLUE, "--replace")
    assert kept.read_text() == "mine\n"


def test_sources_of_one_name_all_count(run_import, tmp_path: Path) -> None:
    def write(folder: str, question: str) -> str:
        answer = {"text": "north", "answer_start": 0}
        asked = {"question": question, "answers": [answer]}
        article = {"title": folder, "paragraphs": [{"context": "north", "qas": [asked]}]}
        write_json(tmp_path / folder / "v1/squad.json", {"data": [article]})
        return f"{folder}/v1/squad.json"

    options = (squad, "--train", write("one", "Where?"), "--dev", write("two", "Where to?"))
    run_import(*options)
    write("one", "Where from?")
    with pytest.raises(UserError, match=r"holds an import already \(other sources\)"):
        run_import(*options)


# ---- images


def test_a_folder_that_holds_a_link_to_itself_is_read_once(
    run_import, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_pictures(tmp_path / "Images", "a/1.jpg")
    write_lines(tmp_path / "captions.txt", "image,caption", "a/1.jpg,A boat .")
    options = (flickr, "--captions", "captions.txt", "--images", "Images")
    run_import(*options)
    (tmp_path / "Images/a/again").symlink_to(tmp_path / "Images")
    capsys.readouterr()
    run_import(*options)  # no image has been added
    assert capsys.readouterr().out == "up to date: data/flickr8k\n"


def test_what_lies_beside_shards_is_not_looked_at(
    run_import, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ("a/deep/train.tar", "b/dev.tar"):
        write_shard(tmp_path / name, {"0.png": picture_bytes(0), "0.txt": name.encode()})
    options = (shards, "--train", "a/deep/train.tar", "--dev", "b/dev.tar")
    output = run_import(*options)
    first = json.loads((output / "dev.jsonl").read_text())
    assert first == {"image": "images/b/dev.tar/0.png", "captions": ["b/dev.tar"]}
    write_pictures(tmp_path / "other", "new.jpg")
    capsys.readouterr()
    run_import(*options)
    assert capsys.readouterr().out == "up to date: data/shards\n"


def test_missing_images_are_counted_and_only_the_first_are_kept(monkeypatch) -> None:
    monkeypatch.setattr(measures, "NUM_LISTED", 2)
    tally = Tally(Path("rows.tsv"), bad_record_limit=0.01)
    found = measures.PartMeasures([], None, tally, may_lack_images=True)
    for number in range(5):
        found.reject("rows.tsv:1", MissingImage(f"{number}.jpg", Path("images")))
    assert (found.num_missing, found.missing) == (5, ["0.jpg", "1.jpg"])
    assert not tally.rejected


# ---- what is damaged


def test_records_that_are_no_unicode_are_left_out_and_told(run_import, tmp_path: Path) -> None:
    """Names of files may be any bytes, and JSON may escape half of a surrogate pair."""
    texts = {"0.txt": b"a boat", "1.json": b'{"caption": "a bus", "tags": ["\\ud800"]}'}
    texts["\udcff.txt"] = b"a cat"
    images = ("0.png", "1.png", "\udcff.png", "\udcfe.png")
    write_shard(tmp_path / "0.tar", {name: picture_bytes(0) for name in images} | texts)
    output = run_import(shards, "--train", "0.tar")
    assert len((output / "train.jsonl").read_text().splitlines()) == 1
    bad = manifest_of(output)["parts"]["train.jsonl"]["bad"]
    assert [x["where"] for x in bad] == ["0.tar: 1.png", "0.tar: \udcff.png", "0.tar: \udcfe.png"]
    assert [x["reason"][:26] for x in bad] == [
        *["record is not valid Unicod"] * 2,
        "nothing is said of it: the",
    ]


def test_folders_of_stories_may_hold_names_that_are_no_unicode(run_import, tmp_path: Path) -> None:
    (tmp_path / "cnn").mkdir()
    with open(os.fsencode(tmp_path / "cnn") + b"/\xff.story", "w") as file:
        file.write("Ships sailed .\n@highlight\nShips\n")
    write_lines(tmp_path / "lists/all_val.txt", "http://example.org/gone")
    options = ("--set", "cnndm", "--stories", "cnn", "--url_lists", "lists")
    with pytest.raises(UserError, match="there is no story"):
        run_import(summaries, *options)


@pytest.mark.parametrize(
    "options",
    [
        (flickr, "--captions", "captions.txt", "--images", "images", "--train", "list.txt"),
        (squad, "--train", "squad.json", "--titles", "test=list.txt"),
    ],
    ids=["images", "titles"],
)
def test_a_line_of_a_list_is_not_lost_without_a_word(run_import, tmp_path: Path, options) -> None:
    write_pictures(tmp_path / "images", "a.jpg")
    write_lines(tmp_path / "captions.txt", "image,caption", "a.jpg,A boat .")
    write_json(tmp_path / "squad.json", {"data": [{"title": "a.jpg", "paragraphs": []}]})
    (tmp_path / "list.txt").write_bytes(b"a.jpg\nNi\xf1o\n")
    with pytest.raises(UserError, match=r"list\.txt:2: line is not UTF-8 text; give one name"):
        run_import(*options)


TWO_QUESTIONS = [{"question": "Why?"}, {"question": "How?"}]


@pytest.mark.parametrize(
    ("article", "count"),
    [
        ({"title": 7, "paragraphs": [{"context": "A", "qas": TWO_QUESTIONS}] * 2}, 4),
        ({"title": "a", "paragraphs": [{"context": 3, "qas": TWO_QUESTIONS}] * 3}, 6),
        ({"title": "a", "paragraphs": [{"context": "A"}, 5]}, 2),
        ({"title": "a"}, 1),
    ],
)
def test_every_question_of_a_damaged_part_counts_as_bad(
    run_import, tmp_path: Path, article: dict, count: int
) -> None:
    other = {"title": "b", "paragraphs": []}
    write_json(tmp_path / "squad.json", {"data": [article, other]})
    write_lines(tmp_path / "test.txt", "b")
    with pytest.raises(UserError, match=f"squad.json: {count} of {count} records cannot be used"):
        run_import(squad, "--train", "squad.json", "--titles", "test=test.txt")


def test_two_lists_for_a_split_are_refused(run_import, tmp_path: Path) -> None:
    write_json(tmp_path / "squad.json", {"data": [{"title": "a", "paragraphs": []}]})
    options = ("--train", "squad.json", "--titles", "dev=a.txt", "dev=b.txt")
    with pytest.raises(UserError, match="--titles has two lists for dev; put them into one"):
        run_import(squad, *options)
