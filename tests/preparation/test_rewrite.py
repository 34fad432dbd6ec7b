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
from unimo_paddle.data.rewriting import RewrittenCaptions
from unimo_paddle.data.sources import read_pairs
from unimo_paddle.preparation import rewrite

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 60  # seconds
CAPTIONS = [[f"{text} {number}", "A dog ."] for number in range(60) for text in OTHERS]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path, *CAPTIONS[:30])


@pytest.fixture
def run(run_tool: Callable, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Rewrite to the file ``out`` of the test's folder."""

    def run(pairs: Path, *options: object) -> subprocess.CompletedProcess:
        output = tmp_path / "out"
        return run_tool("prepare_data", "rewrite", "--pairs", pairs, "--output", output, *options)

    return run


def error_of(done: subprocess.CompletedProcess) -> str:
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2 and len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    return lines[0]


def test_the_file_is_written_and_the_folder_of_blocks_goes(run, pairs: Path) -> None:
    done = run(pairs)
    assert done.returncode == 0, done.stderr
    assert "60 captions: " in done.stdout and "rewriting: 100%" in done.stderr
    rewritten = RewrittenCaptions(pairs.with_name("out"), read_pairs(pairs).records)
    assert len(rewritten) == 30 and len(rewritten.negatives(3, 0)) > 20
    assert not pairs.with_name("out.partial").exists()


def test_a_finished_file_is_not_made_again(run, pairs: Path) -> None:
    run(pairs)
    before = pairs.with_name("out").stat().st_mtime_ns
    done = run(pairs)
    assert done.returncode == 0 and "is there already" in done.stdout
    assert pairs.with_name("out").stat().st_mtime_ns == before


def test_other_settings_than_those_of_the_file_are_refused(run, pairs: Path) -> None:
    run(pairs)
    line = error_of(run(pairs, "--seed", 1))
    assert "made in another way (seed 0 instead of 1)" in line and "delete it" in line


def test_blocks_of_other_settings_are_refused(run, pairs: Path) -> None:
    folder = pairs.with_name("out.partial")
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps({"seed": 3}), "utf-8")
    assert "seed 3 instead of 0" in error_of(run(pairs))


def test_paraphrases_are_used(run, pairs: Path, tmp_path: Path) -> None:
    path = tmp_path / "paraphrases.jsonl"
    line = {"caption": CAPTIONS[0][0], "paraphrases": ["A horse and a cat ."]}
    path.write_text(json.dumps(line) + "\n", "utf-8")
    done = run(pairs, "--paraphrases", path)
    assert "1 of 60 captions have paraphrases of their own" in done.stdout
    rewritten = RewrittenCaptions(tmp_path / "out")
    assert [item.text for item in rewritten.positives(0, 0)] == ["A horse and a cat ."]


def test_given_names_alone_are_put_in(run, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "objects.txt").write_text("zebra\nyolk\n", "utf-8")
    assert run(pairs, "--objects", tmp_path / "objects.txt").returncode == 0
    texts = [r.text for r in RewrittenCaptions(tmp_path / "out").negatives(0, 0)]
    assert any("zebra" in text for text in texts)
    kinds = {r.kind for r in RewrittenCaptions(tmp_path / "out").negatives(0, 0)}
    assert "phrase" not in kinds  # no phrase of the corpus has a zebra


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--num_negatives", "-1"], ["--num_negatives is -1", "whole number"]),
        (["--paraphrases", "none.jsonl"], ["none.jsonl cannot be read"]),
        (["--objects", "none.txt"], ["none.txt cannot be read"]),
    ],
    ids=lambda value: value[0],
)
def test_mistakes_are_one_line(run, pairs: Path, options: list[str], parts: list[str]) -> None:
    line = error_of(run(pairs, *options))
    assert [part for part in parts if part not in line] == []


def start(pairs: Path, output: Path) -> subprocess.Popen:
    command = [sys.executable, "tools/prepare_data.py", "rewrite", "--num_negatives", "20"]
    command += ["--pairs", str(pairs), "--output", str(output)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def kill_when(process: subprocess.Popen, is_due: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not is_due():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_kills_change_no_byte(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, *CAPTIONS)
    assert len(CAPTIONS) > rewrite.BLOCK_SIZE
    assert start(pairs, tmp_path / "whole").wait() == 0
    folder = tmp_path / "out.partial"
    for name in ("plan.json", "corpus.json", "000000.block"):
        process = start(pairs, tmp_path / "out")
        kill_when(process, (folder / name).exists)
        assert not (tmp_path / "out").exists()
    assert start(pairs, tmp_path / "out").wait() == 0
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()
    assert not folder.exists()


def test_the_inspector_writes_its_page_and_table(run, run_tool, pairs: Path) -> None:
    run(pairs)
    page, table = pairs.with_name("page.html"), pairs.with_name("table.tsv")
    options = ("--rewritten", pairs.with_name("out"), "--output", page, "--table", table)
    done = run_tool("prepare_data", "inspect", "--pairs", pairs, *options, "--table_size", 10)
    assert done.returncode == 0, done.stderr
    assert "<mark>" in page.read_text("utf-8")
    assert len(table.read_text("utf-8").splitlines()) == 11
