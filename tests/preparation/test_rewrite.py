"""tools/prepare_data.py rewrite: resumed after kills to the same bytes, mistakes in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.rewriting.cases import OTHERS, write_pairs
from unimo_paddle.data.publish import sole_writer
from unimo_paddle.data.rewriting import RewrittenCaptions
from unimo_paddle.data.sources import read_pairs
from unimo_paddle.errors import ToolParser, UserError
from unimo_paddle.preparation import inspect_rewrites, rewrite

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 120  # seconds
CAPTIONS = [[f"{text} {number}", "A dog ."] for number in range(60) for text in OTHERS]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path, *CAPTIONS[:30])


@pytest.fixture
def run(tmp_path: Path, capsys) -> Callable[..., str]:
    """Rewrite to the file ``out`` of the test's folder, in this process; returns what is said."""

    def run(pairs: Path, *options: object) -> str:
        parser = ToolParser()
        rewrite.add_arguments(parser)
        given = ["--pairs", pairs, "--output", tmp_path / "out", *options]
        rewrite.run(parser.parse_args(list(map(str, given))))
        return capsys.readouterr().out

    return run


def test_the_file_is_written_and_the_folder_of_blocks_goes(run, pairs: Path) -> None:
    assert "60 captions: " in run(pairs)
    rewritten = RewrittenCaptions(pairs.with_name("out"), read_pairs(pairs).records)
    assert len(rewritten) == 30 and len(rewritten.negatives(3, 0)) > 20
    assert not pairs.with_name("out.partial").exists()


def test_a_finished_file_is_not_made_again(run, pairs: Path) -> None:
    run(pairs)
    before = pairs.with_name("out").stat().st_mtime_ns
    assert "is there already" in run(pairs)
    assert pairs.with_name("out").stat().st_mtime_ns == before


def test_other_settings_than_those_of_the_file_are_refused(run, pairs: Path) -> None:
    run(pairs)
    with pytest.raises(UserError, match=r"another way \(seed 0 instead of 1\); delete it"):
        run(pairs, "--seed", 1)


def test_blocks_of_other_settings_are_refused(run, pairs: Path) -> None:
    folder = pairs.with_name("out.partial")
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps({"seed": 3}), "utf-8")
    with pytest.raises(UserError, match="seed 3 instead of 0"):
        run(pairs)


def test_paraphrases_are_used(run, pairs: Path, tmp_path: Path) -> None:
    path = tmp_path / "paraphrases.jsonl"
    line = {"caption": CAPTIONS[0][0], "paraphrases": ["A horse and a cat ."]}
    path.write_text(json.dumps(line) + "\n", "utf-8")
    said = run(pairs, "--paraphrases", path)
    assert "1 of 60 captions have paraphrases of their own" in said
    rewritten = RewrittenCaptions(tmp_path / "out")
    assert [item.text for item in rewritten.positives(0, 0)] == ["A horse and a cat ."]


def test_given_names_alone_are_put_in(run, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "objects.txt").write_text("zebra\nyolk\n", "utf-8")
    run(pairs, "--objects", tmp_path / "objects.txt")
    negatives = RewrittenCaptions(tmp_path / "out").negatives(0, 0)
    assert any("zebra" in item.text for item in negatives)
    assert not any(item.kind == "phrase" for item in negatives)  # the corpus has no zebra


def test_two_do_not_write_one_file(run, pairs: Path, tmp_path: Path) -> None:
    with (
        sole_writer(tmp_path / ".out.lock", tmp_path / "out"),
        pytest.raises(UserError, match="another process is making"),
    ):
        run(pairs)
    run(pairs)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--num_negatives", "-1"], "--num_negatives is -1; give a whole number"),
        (["--paraphrases", "none.jsonl"], "none.jsonl cannot be read"),
        (["--objects", "none.txt"], "none.txt cannot be read"),
        (["--pool_size", "many"], "invalid int value"),
        (["--output", "."], "--output is '.'; give the path of a file"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_mistakes_are_named(run, pairs: Path, options: list[str], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        run(pairs, *options)


def kill_when(process: subprocess.Popen, is_due: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not is_due():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_kill_changes_no_byte(run, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, *CAPTIONS)
    assert len(CAPTIONS) > rewrite.BLOCK_SIZE
    options = ("--num_negatives", "20")
    run(pairs, *options)
    whole = (tmp_path / "out").rename(tmp_path / "whole")
    command = [sys.executable, "tools/prepare_data.py", "rewrite", "--pairs", str(pairs)]
    command += ["--output", str(tmp_path / "out"), *options]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    folder = tmp_path / "out.partial"
    kill_when(process, (folder / "000000.block").exists)
    assert folder.exists() and not (tmp_path / "out").exists()
    run(pairs, *options)
    assert (tmp_path / "out").read_bytes() == whole.read_bytes()
    assert not folder.exists()


def test_the_inspector_writes_its_page_and_table(run, pairs: Path) -> None:
    run(pairs)
    page, table = pairs.with_name("page.html"), pairs.with_name("table.tsv")
    parser = ToolParser()
    inspect_rewrites.add_arguments(parser)
    given = ["--pairs", pairs, "--rewritten", pairs.with_name("out"), "--output", page]
    given += ["--table", table, "--table_size", 10]
    inspect_rewrites.run(parser.parse_args(list(map(str, given))))
    assert "<mark>" in page.read_text("utf-8")
    assert len(table.read_text("utf-8").splitlines()) == 11
    with pytest.raises(UserError, match="--seed is -1; give a whole number"):
        inspect_rewrites.run(parser.parse_args([*map(str, given), "--seed", "-1"]))


def test_blocks_that_a_kill_left_beside_a_finished_file_go(run, pairs: Path) -> None:
    run(pairs)
    folder = pairs.with_name("out.partial")
    folder.mkdir()
    assert "is there already" in run(pairs)
    assert not folder.exists()
