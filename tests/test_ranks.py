"""What was begun by some processes is measured, and gone on with, by another number of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unimo_paddle.checkpoint import latest_checkpoint, load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
STEPS, STOP = 6, 3
GLOBAL_BATCH = 28  # pairs, texts and images divide it as they divide a quarter
LEARNING_RATE = 1e-3  # of the tiny run
SETTINGS: dict[str, Any] = {
    "train.max_steps": STEPS,
    "train.checkpoint_interval": STOP,
    "optimizer.epsilon": 1e-6,
    "evaluation.splits": ["test"],
    "evaluation.batch_size": 5,  # not a divisor of what is measured
    "evaluation.max_loss_batches": 3,
    "model.hidden_dropout": 0.0,
    "model.attention_dropout": 0.0,
}


def run(num_ranks: int, *command: object) -> str:
    """Run a tool in so many processes; return what the first one printed."""
    launch = ["tools/launch.py", "--num_processes", num_ranks, "--num_restarts", "0"]
    launch += ["--log_dir", Path(str(command[-1])) / "ranks"]
    parts = [sys.executable, *launch, *command]
    done = subprocess.run([str(part) for part in parts], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(write_run_file, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes."""
    path = tmp_path_factory.mktemp("two")
    run_file = write_run_file(path / "run.yaml", SETTINGS | {"train.batch_size": GLOBAL_BATCH // 2})
    run(2, "tools/train.py", "--config", run_file, "--output_dir", path / "run")
    return path / "run"


def stopped(folder: Path, copy: Path) -> Path:
    """The run as it was in the middle."""
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "checkpoints" / f"step-{STEPS}")
    return copy


def metrics_of(folder: Path) -> dict[str, float]:
    return json.loads((folder / "evaluation-test.json").read_text())


def test_one_process_measures_what_two_measured_together(folder: Path, run_tool, tmp_path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "evaluation-test.json").unlink()
    done = run_tool("evaluate", "--run", copy, "--split", "test")
    assert done.returncode == 0, done.stderr
    together, alone = metrics_of(folder), metrics_of(copy)
    assert together.keys() == alone.keys() and "loss/contrastive" in alone
    for name, value in alone.items():
        # The same batches, so the same numbers; only their sum is in another order.
        assert together[name] == pytest.approx(value, rel=1e-12), name


def test_processes_measure_a_finished_run_together(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "evaluation-test.json").unlink()
    run(2, "tools/evaluate.py", "--split", "test", "--run", copy)
    assert metrics_of(copy) == metrics_of(folder)


@pytest.mark.parametrize("num_ranks", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_run_goes_on_with_another_number_of_processes(
    folder: Path, tmp_path: Path, num_ranks: int
) -> None:
    copy = stopped(folder, tmp_path / "copy")
    options = ["--train.batch_size", GLOBAL_BATCH // num_ranks, "--resume"]
    config = ["--config", copy / "config.yaml"]
    run(num_ranks, "tools/train.py", *config, *options, "--output_dir", copy)
    expected, actual = (
        load_checkpoint(latest_checkpoint(path / "checkpoints")) for path in (folder, copy)
    )
    assert actual.step == STEPS
    assert actual.state["position"] == expected.state["position"]
    for name in expected.state["parameters"]:
        # Keys' biases have no true gradient, so each step takes them where rounding says.
        tolerance = LEARNING_RATE * STEPS if "key_fc.b_0" in name else 1e-6
        np.testing.assert_allclose(
            actual.arrays[name], expected.arrays[name], rtol=0, atol=tolerance, err_msg=name
        )


def test_fewer_processes_with_the_same_batches_take_up_the_data_where_they_were(
    folder: Path, tmp_path: Path
) -> None:
    copy = stopped(folder, tmp_path / "copy")
    config = ["--config", copy / "config.yaml", "--resume"]
    printed = run(1, "tools/train.py", *config, "--output_dir", copy)
    before, after = (
        load_checkpoint(copy / "checkpoints" / f"step-{step}").state for step in (STOP, STEPS)
    )
    assert after["samples_per_update"] * 2 == before["samples_per_update"]
    for name, place in before["position"].items():
        taken = after["position"][name]["position"] - place["position"]
        assert taken * 2 == place["position"]  # half as many an update
        assert after["position"][name]["bucket_size"] == place["bucket_size"]
    samples = before["samples_per_update"]
    assert f"{samples} samples an update, {samples // 2} from here on" in printed


def test_epochs_of_another_size_are_refused(folder: Path, tmp_path: Path, run_tool) -> None:
    copy = stopped(folder, tmp_path / "copy")
    options = ["--config", copy / "config.yaml", "--output_dir", copy, "--resume"]
    done = run_tool("train", *options, "--train.num_epochs", 3)
    assert done.returncode == 2
    assert re.search(
        r"train.num_epochs counts updates of one size.* give train.max_steps", done.stderr
    )
