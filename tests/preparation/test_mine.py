"""tools/prepare_data.py mine, as a user meets it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import ROOT, Tool
from unimo_paddle.data.mining import Mined
from unimo_paddle.data.sources import read_pairs
from unimo_paddle.errors import ToolParser, UserError
from unimo_paddle.preparation import mine

# Mines the scenes and kills itself when so many results have been published.
KILLED = """
    import os, signal, sys
    from pathlib import Path
    from unimo_paddle.data import chunks
    from unimo_paddle.data.mining import MiningOptions, mine

    scenes, output, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    publish, calls = chunks.publish, []

    def publish_or_die(path, write):
        calls.append(path)

        def write_and_die(unfinished):
            write(unfinished)
            os.kill(os.getpid(), signal.SIGKILL)

        publish(path, write_and_die if len(calls) == last else write)

    chunks.publish = publish_or_die
    mine(
        MiningOptions(
            pairs=scenes / "train.jsonl",
            output=output,
            images=scenes / "images_only",
            texts=(scenes / "texts.txt",),
            splits=(scenes / "test.jsonl",),
            num_neighbours=4,
            by="looks",
        )
    )
"""


def arguments(scenes: Path, output: Path, *more: object) -> Sequence[object]:
    return [
        *("mine", "--pairs", scenes / "train.jsonl", "--images", scenes / "images_only"),
        *("--texts", scenes / "texts.txt", "--splits", scenes / "test.jsonl"),
        *("--output", output, "--neighbours", 4, *more),
    ]


@pytest.fixture(scope="module")
def mined_scenes(
    run_tool: Tool, scenes_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess]:
    """The scenes mined by their objects, with a page; and what the tool said."""
    folder = tmp_path_factory.mktemp("mined")
    done = run_tool(
        "prepare_data",
        *arguments(scenes_dir, folder / "mined.safetensors", "--page", folder / "page.html"),
    )
    assert done.returncode == 0, done.stderr
    return folder, done


def test_scenes_are_mined_by_the_objects_that_they_know(mined_scenes) -> None:
    _, done = mined_scenes
    assert "24 records" in done.stdout and "4 images each" in done.stdout
    assert "images are compared by objects" in done.stderr


def test_progress_is_told_with_rate_and_time_left(mined_scenes) -> None:
    _, done = mined_scenes
    assert "nearest sentences: 100%" in done.stderr and "record/s" in done.stderr


def test_every_record_has_images_with_objects_of_its_own(mined_scenes, scenes_dir: Path) -> None:
    folder, _ = mined_scenes
    mined = Mined(folder / "mined.safetensors", scenes_dir / "train.jsonl")
    assert len(mined) == len(read_pairs(scenes_dir / "train.jsonl"))
    assert all(mined.images(number)[0].score > 0 for number in range(len(mined)))


def test_the_page_needs_no_other_file(mined_scenes) -> None:
    text = (mined_scenes[0] / "page.html").read_text()
    assert text.count("<section>") == 24 and "data:image/jpeg;base64," in text
    assert 'src="data:' in text and "http" not in text


def test_no_unfinished_work_is_left(mined_scenes) -> None:
    names = sorted(path.name for path in mined_scenes[0].iterdir())
    assert names == ["mined.safetensors", "page.html"]


@pytest.fixture(scope="module")
def unkilled(scenes_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    output = tmp_path_factory.mktemp("whole") / "mined.safetensors"
    assert mine_and_die(scenes_dir, output, 0).returncode == 0
    return output.read_bytes()


def mine_and_die(scenes: Path, output: Path, last: int) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(scenes), str(output), str(last)]
    return subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)


@pytest.mark.parametrize(
    "last", [pytest.param(2, marks=pytest.mark.slow), 6, pytest.param(10, marks=pytest.mark.slow)]
)
def test_killed_work_goes_on_to_equal_bytes(
    scenes_dir: Path, tmp_path: Path, unkilled: bytes, last: int
) -> None:
    output = tmp_path / "mined.safetensors"
    assert mine_and_die(scenes_dir, output, last).returncode == -signal.SIGKILL
    assert not output.exists()
    done = mine_and_die(scenes_dir, output, 0)
    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == unkilled


@pytest.mark.slow
def test_a_bundle_mines_by_its_features(
    run_tool: Tool, scenes_dir: Path, bundle: Path, tmp_path: Path
) -> None:
    output = tmp_path / "mined.safetensors"
    done = run_tool("prepare_data", *arguments(scenes_dir, output, "--bundle", bundle))
    assert done.returncode == 0, done.stderr
    mined = Mined(output, scenes_dir / "train.jsonl")
    assert mined.metadata["images_by"] == mined.metadata["texts_by"] == "model"
    assert len(mined.images(0)) == len(mined.texts(0)) == 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "nothing to mine from: give --images, --texts or both"),
        (["--images", "no"], "image folder no does not exist"),
        (["--images", ".", "--by", "shape"], "invalid choice: 'shape'"),
        (["--texts", "no.txt"], "no.txt cannot be read"),
        (["--texts", "README.md", "--neighbours", "0"], "--neighbours is 0; give at least 1"),
        (["--texts", "README.md", "--bundle", "b", "--by", "looks"], "exclude each other"),
    ],
)
def test_a_mistake_is_one_line(
    scenes_dir: Path, tmp_path: Path, given: list[str], message: str
) -> None:
    parser = ToolParser()
    mine.add_arguments(parser)
    files = ["--pairs", str(scenes_dir / "train.jsonl"), "--output", str(tmp_path / "mined")]
    with pytest.raises(UserError, match=message):
        mine.run(parser.parse_args([*files, *given]))
