"""Processes measure, go on with and leave out what one process would."""

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


@pytest.mark.slow
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


@pytest.mark.slow
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


# ---- one that comes late

LATE = """
import time
import numpy as np
from unimo_paddle import distributed

distributed.start()
if distributed.rank() == 1:
    time.sleep(33)  # gloo waits for 30 seconds
found = distributed.gather_arrays({"rank": np.array(distributed.rank())})
print([int(arrays["rank"]) for arrays in found])
"""


@pytest.mark.slow
def test_ranks_wait_for_one_that_comes_later_than_gloo_would(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(LATE)
    command = [sys.executable, "tools/launch.py", "--num_processes", "2", "--num_restarts", "0"]
    command += ["--log_dir", str(tmp_path), str(tmp_path / "late.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "[0, 1]" in done.stdout, done.stdout + done.stderr


ELSEWHERE = """
import os, runpy, sys

if os.environ["PADDLE_TRAINER_ID"] == "1":
    sys.argv[-1] += "_of_its_own"
sys.path.insert(0, "tools")
runpy.run_path("tools/train.py", run_name="__main__")
"""


def test_a_folder_that_only_one_of_them_sees_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text(ELSEWHERE)
    copy = shutil.copytree(folder, tmp_path / "copy")
    command = [sys.executable, "tools/launch.py", "--num_processes", "2", "--log_dir"]
    command += [str(tmp_path / "ranks"), str(tmp_path / "elsewhere.py"), "--resume_if_any"]
    command += ["--config", str(copy / "config.yaml"), "--output_dir", str(copy)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "newest checkpoint is step-6 for process 0 and none for process 1" in done.stdout
    assert not (tmp_path / "copy_of_its_own").exists()


# ---- where they begin

APART = """
import hashlib, sys
import paddle
from unimo_paddle import distributed
from unimo_paddle.config import build_trainer, parse_training
from unimo_paddle.tasks import pretraining_start

distributed.start()
if distributed.rank() == 1:  # a machine that draws otherwise, and on which nothing is solved
    seed = paddle.seed
    paddle.seed = lambda number: seed(number + 1)
    for name in ("fit_dictionary", "latent_words", "correlated_projections"):
        delattr(pretraining_start, name)
trainer = build_trainer(parse_training(sys.argv[1:])[0])
digest = hashlib.sha256()
for name in (*trainer.update.parameter_names, *trainer.update.kept_names):
    digest.update(trainer.runner.value(name).tobytes())
print("begins with", digest.hexdigest())
"""


@pytest.mark.slow
def test_unlike_machines_begin_with_the_same_parameters(write_run_file, tmp_path: Path) -> None:
    (tmp_path / "apart.py").write_text(APART)
    changes = {"model.patch_grid": 4, "model.patch_edge_size": 2, "model.patch_dictionary": 16}
    changes |= {"task.pooling": "mean", "task.correlated_start": 24}
    run_file = write_run_file(tmp_path / "run.yaml", SETTINGS | changes)
    run(2, tmp_path / "apart.py", "--config", run_file, "--output_dir", tmp_path / "run")
    logs = [(tmp_path / "run" / "ranks" / f"rank-{rank}.log").read_text() for rank in range(2)]
    first, second = (re.search(r"begins with \w+", log) for log in logs)
    assert first and second and first[0] == second[0]


# ---- what is no number on one of them

POISONED = """
import runpy, sys
import numpy as np
from unimo_paddle import distributed
from unimo_paddle.data.loader import Loader

make = Loader.batches

def batches(self, start, stop):
    for step, batch in enumerate(make(self, start, stop), start):
        if distributed.rank() == 1 and {condition}:
            features = batch["region_features"]
            batch = batch | {{"region_features": np.full_like(features, np.nan)}}
        yield batch

Loader.batches = batches
sys.path.insert(0, "tools")
runpy.run_path("tools/train.py", run_name="__main__")
"""


def train_poisoned(write_run_file, folder: Path, condition: str) -> subprocess.CompletedProcess:
    """Train by two processes, the second of which reads batches without a number."""
    (folder / "poisoned.py").write_text(POISONED.format(condition=condition))
    changes = {
        "train.max_steps": 4,
        "train.checkpoint_interval": 1,
        "train.keep_checkpoints": 9,
        "train.bad_update_limit": 3,
        "evaluation.splits": [],
        "evaluation.max_loss_batches": 0,
    }
    run_file = write_run_file(folder / "run.yaml", changes)
    command = [sys.executable, "tools/launch.py", "--num_processes", "2", "--log_dir"]
    command += [str(folder / "ranks"), str(folder / "poisoned.py"), "--config", str(run_file)]
    command += ["--output_dir", str(folder / "run")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_an_update_that_is_no_number_on_one_process_is_left_out_by_all(
    write_run_file, tmp_path: Path
) -> None:
    done = train_poisoned(write_run_file, tmp_path, "step == 2")
    assert done.returncode == 0, done.stdout + done.stderr
    for rank in range(2):
        log = (tmp_path / "ranks" / f"rank-{rank}.log").read_text()
        told = rf"at step 3: this update is left out; .* rank {rank}: pairs \d+ "
        assert len(re.findall(told, log)) == 1 and "1 of 4 updates left out" in log
    before, left_out, after = (
        load_checkpoint(tmp_path / "run" / "checkpoints" / f"step-{step}") for step in (2, 3, 4)
    )
    for name in before.state["parameters"]:
        np.testing.assert_array_equal(left_out.arrays[name], before.arrays[name], err_msg=name)
        assert np.isfinite(after.arrays[name]).all()
    assert any(
        (after.arrays[name] != before.arrays[name]).any() for name in before.state["parameters"]
    )


@pytest.mark.slow
def test_too_many_of_them_end_all_processes(write_run_file, tmp_path: Path) -> None:
    done = train_poisoned(write_run_file, tmp_path, "step >= 1")
    assert done.returncode == 2, done.stdout + done.stderr
    for rank in range(2):
        log = (tmp_path / "ranks" / f"rank-{rank}.log").read_text()
        assert "at step 4, as in all of the last 3 updates" in log
    newest = load_checkpoint(latest_checkpoint(tmp_path / "run" / "checkpoints"))
    assert all(np.isfinite(value).all() for value in newest.arrays.values())
