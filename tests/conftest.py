"""Fixtures that every test may use."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from unimo_paddle.data.scenes import SceneConfig, ensure_scenes

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tools"
SCENES = SceneConfig(
    image_size=32, num_train=24, num_test=6, num_novel=3, num_texts=20, num_images_only=6
)

LIMIT = 60  # seconds that a job of a small script may take

Tool = Callable[..., subprocess.CompletedProcess]
Launch = Callable[..., subprocess.Popen]
WriteRunFile = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put whole runs first: of several processes none must be left with the longest file."""
    folders = [ROOT / "tests", ROOT / "tests/tasks"]
    places = {folder: place for place, folder in enumerate(folders)}
    items.sort(key=lambda item: places.get(item.path.parent, len(folders)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Escape names that are no Unicode in what was printed: pytest's processes cannot send them."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode())
        for title, text in report.sections
    ]
    return report


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of recordings and real data beside the repository; absent, the test is skipped."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the folder ../shared with recordings and real data is not here")
    return folder


@pytest.fixture(scope="module", autouse=True)
def graph_of_before() -> Iterator[None]:
    """Modules that leave the static graph on would fail whichever comes next in their process."""
    yield
    paddle = sys.modules.get("paddle")
    if paddle is not None and not paddle.in_dynamic_mode():
        paddle.disable_static()
        pytest.fail("the static graph was left on; use the fixture static_graph")


@pytest.fixture(scope="module")
def static_graph() -> Iterator[None]:
    """Static graph for one module, dynamic graph again after it."""
    import paddle

    from unimo_paddle import distributed

    distributed.start()
    yield
    paddle.disable_static()


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """The handlers and levels of before, after a test that runs a tool in this process."""
    root, ours = logging.getLogger(), logging.getLogger("unimo_paddle")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    logging.captureWarnings(False)


@pytest.fixture(scope="session")
def scenes_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few built-in scenes; read only."""
    return ensure_scenes(tmp_path_factory.mktemp("data") / "scenes", SCENES)


@pytest.fixture(scope="session")
def tiny_settings(scenes_dir: Path) -> dict[str, Any]:
    """The settings of a run of seconds on ``scenes_dir``, dropout on."""
    return {
        "seed": 3,
        "model": {
            "vocab_size": 300,
            "hidden_size": 16,
            "num_layers": 1,
            "num_heads": 2,
            "max_positions": 66,
            "region_feature_size": 192,
        },
        "task": {
            "type": "pretraining",
            "data": {
                "scenes_dir": str(scenes_dir),
                "scenes": asdict(SCENES),
                "tokenizer": {"vocab_size": 300},
                "image": {"image_size": 32, "patch_size": 8},
                "max_text_length": 64,
                "num_visual_words": 8,
            },
            "projection_size": 8,
        },
        "optimizer": {"learning_rate": 1e-3, "warmup_ratio": 0.1},
        "train": {
            "max_steps": 60,
            "batch_size": 7,
            "log_interval": 1,
            "checkpoint_interval": 5,
            "evaluation_interval": 0,
        },
        "evaluation": {"splits": ["test"], "batch_size": 4},
    }


def read_metrics(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read a ``metrics.jsonl``: for each name its steps [n] int64 and values [n] float64."""
    points: dict[str, list[tuple[int, float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        step = record.pop("step")
        for name, value in record.items():
            points.setdefault(name, []).append((step, math.nan if value is None else value))
    return {
        name: (np.array([step for step, _ in pairs]), np.array([value for _, value in pairs]))
        for name, pairs in points.items()
    }


def merge(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The settings with dotted keys set."""
    merged = copy.deepcopy(settings)
    for key, value in changes.items():
        *sections, name = key.split(".")
        inner = merged
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    return merged


@pytest.fixture(scope="session")
def write_run_file(tiny_settings: dict[str, Any]) -> WriteRunFile:
    """Write the run file of a tiny run: (path, {dotted key: value}) -> path."""

    def write(path: Path, changes: dict[str, Any] | None = None) -> Path:
        path.write_text(yaml.safe_dump(merge(tiny_settings, changes or {})), "utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def run_tool() -> Tool:
    """Run a file of ``tools`` as a user does: (name, *arguments) -> the completed process."""

    def run(name: str, *arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess:
        command = [sys.executable, str(TOOLS / f"{name}.py"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ)

    return run


@pytest.fixture(scope="session")
def train_run(run_tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict], Path]:
    """Train with ``tools/train.py``: settings -> the folder of the finished run; read only."""

    def train(settings: dict[str, Any]) -> Path:
        folder = tmp_path_factory.mktemp("trained")
        (folder / "run.yaml").write_text(yaml.safe_dump(settings), "utf-8")
        done = run_tool("train", "--config", folder / "run.yaml", "--output_dir", folder / "run")
        assert done.returncode == 0, done.stderr
        return folder / "run"

    return train


@pytest.fixture(scope="session")
def export_run(run_tool: Tool) -> Callable[[Path], Path]:
    """Export with ``tools/export.py``: the folder of a run -> its bundle; read only."""

    def export(run: Path) -> Path:
        bundle = run.with_name("bundle")
        done = run_tool("export", "--run", run, "--bundle", bundle)
        assert done.returncode == 0, done.stderr
        return bundle

    return export


@pytest.fixture(scope="session")
def trained_run(train_run: Callable[[dict], Path], tiny_settings: dict[str, Any]) -> Path:
    """The folder of a finished tiny run of pre-training; read only."""
    return train_run(tiny_settings)


@pytest.fixture(scope="session")
def bundle(export_run: Callable[[Path], Path], trained_run: Path) -> Path:
    """The bundle of ``trained_run``; read only."""
    return export_run(trained_run)


# ---- pictures


def draw_picture(seed: int, *, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    """A picture [H, W, 3] uint8 like no other: soft spots of colour with edges in between."""
    rng = np.random.default_rng(seed)
    soft = cv2.resize(rng.integers(0, 256, (5, 6, 3)).astype(np.uint8), size[::-1])
    hard = cv2.resize(
        rng.integers(0, 256, (9, 12, 3)).astype(np.uint8),
        size[::-1],
        interpolation=cv2.INTER_NEAREST,
    )
    return cv2.addWeighted(soft, 0.6, hard, 0.4, 0)


def write_picture_file(path: Path, pixels: np.ndarray, *, quality: int = 90) -> Path:
    """Write pixels [H, W, 3] as a JPEG file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR)
    assert cv2.imwrite(str(path), bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return path


# ---- what is prepared from the pairs


@pytest.fixture(scope="session")
def candidates(run_tool: Tool, scenes_dir: Path, tmp_path_factory) -> dict[str, Path]:
    """Files of ``rewrites`` and ``mined`` for the pairs of ``scenes_dir``, ``test`` for a split."""
    folder = tmp_path_factory.mktemp("candidates")
    files = {name: folder / name for name in ("rewrites", "mined", "test")}
    pairs = ["--pairs", scenes_dir / "train.jsonl"]
    mined = ["--images", scenes_dir / "images_only", "--texts", scenes_dir / "texts.txt"]
    for command in (
        ["rewrite", *pairs, "--output", files["rewrites"]],
        ["mine", *pairs, *mined, "--output", files["mined"]],
        ["rewrite", "--pairs", scenes_dir / "test.jsonl", "--output", files["test"]],
    ):
        done = run_tool("prepare_data", *command)
        assert done.returncode == 0, done.stderr
    return files


# ---- jobs of several processes


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start tools/launch.py: (*arguments, **options) -> its process, ended after the test."""
    started = []

    def start(*command: object, **options: object) -> subprocess.Popen:
        options = {"log_dir": tmp_path / "log"} | options
        parts = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        process = subprocess.Popen(
            [sys.executable, "tools/launch.py", *parts, *map(str, command)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    """A file that knows its ``rank``, its ``progress`` file and whether it ``resumes``."""
    header = """
        import os, pathlib, signal, sys, time
        rank = int(os.environ["PADDLE_TRAINER_ID"])
        progress = pathlib.Path(os.environ["UNIMO_PROGRESS_FILE"])
        resumes = os.environ["UNIMO_RESTARTS"] != "0"
        here = pathlib.Path(__file__).parent
    """

    def write(body: str) -> Path:
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(header) + textwrap.dedent(body))
        return path

    return write


def wait_for(path: Path, limit: float = LIMIT) -> None:
    end = time.monotonic() + limit
    while not path.exists():
        assert time.monotonic() < end, f"{path} was never made"
        time.sleep(0.02)
