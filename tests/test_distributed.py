"""Several processes learn what one does, started by Paddle's launcher and by ours."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.conftest import merge, read_metrics
from unimo_paddle import distributed, settings
from unimo_paddle.checkpoint import latest_checkpoint, load_checkpoint
from unimo_paddle.config import RunConfig
from unimo_paddle.optimizer import build_optimizer
from unimo_paddle.updates import build_update

ROOT = Path(__file__).resolve().parents[1]
NUM_PAIRS = 10
LEARNING_RATE = 1e-3  # of the tiny run
CHUNK_SIZE = "task.contrastive_chunk_size"
# Sums over ranks are in another order; moments are compared with their largest entry.
TOLERANCE = 1e-5
ONE_UPDATE = {
    "train.max_steps": 1,
    "optimizer.warmup_steps": 0,
    "evaluation.splits": [],
    "evaluation.max_loss_batches": 0,
    "model.hidden_dropout": 0.0,  # it differs between ranks
    "model.attention_dropout": 0.0,
}
CONTRASTIVE_ONLY = {
    f"task.weights.{name}": 0.0
    for name in (
        "masked_language",
        "seq2seq_language",
        "region_regression",
        "region_classification",
    )
}

Learn = Callable[..., dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def learn(write_run_file, tmp_path_factory: pytest.TempPathFactory) -> Learn:
    """Make one update in processes of their own; return the first moments: the gradient."""

    def learn(changes: Mapping[str, Any], *, num_ranks: int) -> dict[str, np.ndarray]:
        folder = tmp_path_factory.mktemp("ranks")
        run_file = write_run_file(folder / "run.yaml", ONE_UPDATE | changes)
        command = [sys.executable, "-m", "paddle.distributed.launch"]
        command += ["--nproc_per_node", str(num_ranks), "--log_dir", str(folder / "ranks")]
        command += [
            "tools/train.py",
            "--config",
            str(run_file),
            "--output_dir",
            str(folder / "run"),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        logs = "\n".join(path.read_text() for path in (folder / "ranks").glob("workerlog.*"))
        assert done.returncode == 0, done.stderr + logs
        arrays = load_checkpoint(latest_checkpoint(folder / "run" / "checkpoints")).arrays
        return {name: array for name, array in arrays.items() if name.endswith("_moment1_0")}

    return learn


def assert_same(actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    assert set(actual) == set(expected) and expected
    largest = max(np.abs(value).max() for value in expected.values())
    for name, value in expected.items():
        # No score depends on the bias of the keys: its gradient is zero, and rounding.
        scale = largest if "key_fc.b_0" in name else np.abs(value).max()
        np.testing.assert_allclose(
            actual[name], value, rtol=0, atol=TOLERANCE * scale, err_msg=name
        )


@pytest.fixture(scope="module")
def by_one_process(learn: Learn) -> dict[str, np.ndarray]:
    return learn(CONTRASTIVE_ONLY | {"train.batch_size": NUM_PAIRS}, num_ranks=1)


@pytest.mark.parametrize("chunk_size", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_pairs_of_two_processes_are_contrasted_as_those_of_one(
    learn: Learn, by_one_process, chunk_size: int
) -> None:
    changes = CONTRASTIVE_ONLY | {"train.batch_size": NUM_PAIRS // 2, CHUNK_SIZE: chunk_size}
    assert_same(learn(changes, num_ranks=2), by_one_process)


@pytest.mark.slow
def test_two_processes_learn_in_chunks_what_they_learn_from_whole_batches(learn: Learn) -> None:
    whole = learn({}, num_ranks=2)
    chunked = learn({CHUNK_SIZE: 2, "train.gradient_accumulation": 1}, num_ranks=2)
    assert_same(chunked, whole)


# ---- collectives

BATCH = 14
FEW = 12  # numbers: the terms of the loss, the votes, and what is counted


def collectives_of(block: Any) -> dict[str, list[tuple[int, ...]]]:
    """The shapes that every kind of collective is given, in the blocks within, too."""
    found: dict[str, list[tuple[int, ...]]] = {}
    for operation in block.ops:
        name = operation.name().removeprefix("pd_op.")
        if name.startswith(("all_", "reduce_scatter", "broadcast", "c_")):
            found.setdefault(name, []).append(tuple(operation.operands_source()[0].shape))
        for inner in operation.blocks():
            for key, shapes in collectives_of(inner).items():
                found.setdefault(key, []).extend(shapes)
    return found


@pytest.mark.usefixtures("static_graph")
@pytest.mark.parametrize(
    "changes",
    [{}, {"train.gradient_accumulation": 2}, {CHUNK_SIZE: 2}],
    ids=["at once", "accumulated", "in chunks"],
)
def test_an_update_reduces_all_gradients_by_one_collective(
    write_run_file, tmp_path, monkeypatch, changes: Mapping[str, Any]
) -> None:
    config = settings.load(RunConfig, write_run_file(tmp_path / "run.yaml", changes))
    task = config.task.build(config.model, tmp_path / "assets")
    task.prepare(config.seed)
    fields = [x for stream in task.training_streams(BATCH) for x in stream.fields]
    monkeypatch.setattr(distributed, "num_ranks", lambda: 2)  # enough to build, not to run
    update = build_update(
        task,
        BATCH,
        fields,
        build_optimizer(config.optimizer, 10),
        seed=0,
        num_passes=config.train.gradient_accumulation,
    )
    passes = update._pass.programs  # of chunks, more than what a checkpoint keeps
    programs = {id(program): program for program in (*passes, *update.programs)}.values()
    found = [collectives_of(program.main.global_block()) for program in programs]
    reduced = [shape for each in found for shape in each.get("all_reduce", ())]
    num_numbers = sum(math.prod(shape) for shape in update.programs[-1].trained.values())
    (large,) = [shape for shape in reduced if math.prod(shape) >= num_numbers]
    assert math.prod(large) <= num_numbers + FEW  # votes, and losses where there is one pass
    reduced.remove(large)
    # The two gathers of features give their gradients back; all else are losses and counts.
    features = (-1, config.task.projection_size)
    assert [shape for shape in reduced if shape == features] == [features] * 2
    assert all(math.prod(shape) <= FEW for shape in reduced if shape != features)
    assert {name for each in found for name in each} == {"all_reduce", "all_gather"}
    gathered = [shape for each in found for shape in each.get("all_gather", ())]
    assert sorted(gathered) == [(-1,), (-1, 1), features, features]


# ---- whole runs

STEPS = 20
GLOBAL_BATCH = 28  # pairs, texts and images divide it as they divide a quarter
TOGETHER = {
    "train.max_steps": STEPS,
    "train.log_interval": 1,
    "optimizer.epsilon": 1e-6,
    "evaluation.splits": [],
    "evaluation.max_loss_batches": 0,
    "model.hidden_dropout": 0.0,
    "model.attention_dropout": 0.0,
}
MOMENT = "_moment2_0"
CAPTIONS = {
    "task.type": "captioning",
    "task.language": {"max_target_length": 48},
    "task.data.with_tags": False,
}
Run = tuple[dict[str, np.ndarray], dict[str, tuple[np.ndarray, np.ndarray]]]


@pytest.fixture(scope="module")
def train_together(
    tiny_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, int], Run]:
    """Train with tools/launch.py: (task, number of ranks) -> arrays and what was logged."""

    def train(task: str, num_ranks: int) -> Run:
        folder = tmp_path_factory.mktemp(task)
        settings = merge(tiny_settings, TOGETHER | {"train.batch_size": GLOBAL_BATCH // num_ranks})
        if task == "captioning":
            data = {
                key: settings["task"]["data"][key]
                for key in ("scenes_dir", "scenes", "tokenizer", "image", "max_text_length")
            }
            settings["task"] = {"data": data | {"source": "scenes"}}
            settings = merge(settings, CAPTIONS)
        run_file = folder / "run.yaml"
        run_file.write_text(yaml.safe_dump(settings), "utf-8")
        command = [sys.executable, "tools/launch.py", "--num_processes", str(num_ranks)]
        command += ["--log_dir", str(folder / "log"), "--num_restarts", "0", "tools/train.py"]
        command += ["--config", str(run_file), "--output_dir", str(folder / "run")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        arrays = load_checkpoint(latest_checkpoint(folder / "run" / "checkpoints")).arrays
        return arrays, read_metrics(folder / "run" / "log" / "metrics.jsonl")

    return functools.cache(train)


@pytest.mark.parametrize("num_ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "task", ["pretraining", pytest.param("captioning", marks=pytest.mark.slow)]
)
def test_ranks_learn_what_one_process_learns_from_the_whole_batch(
    train_together, task: str, num_ranks: int
) -> None:
    arrays, logged = train_together(task, num_ranks)
    expected, expected_logged = train_together(task, 1)
    assert arrays.keys() == expected.keys()
    parameters = [name.removesuffix(MOMENT) for name in expected if name.endswith(MOMENT)]
    assert len(parameters) > 20
    for name in parameters:
        # Keys' biases have no true gradient, so each step takes them where rounding says.
        tolerance = LEARNING_RATE * STEPS if "key_fc.b_0" in name else 1e-6
        np.testing.assert_allclose(
            arrays[name], expected[name], rtol=0, atol=tolerance, err_msg=name
        )
        assert np.abs(arrays[name + MOMENT]).max() > 0, f"{name} has no gradient"
    for name, (_, values) in expected_logged.items():
        if name.startswith("train/") and "samples" not in name:
            # The norm is a sum over all gradients, those of keys' biases among them.
            tolerance = 1e-5 if name == "train/gradient_norm" else 1e-6
            np.testing.assert_allclose(
                logged[name][1], values, rtol=tolerance, atol=tolerance, err_msg=name
            )
