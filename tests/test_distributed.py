"""Two processes learn what one does: the same training, started by Paddle's launcher."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unimo_paddle.checkpoint import latest_checkpoint, load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
NUM_PAIRS = 10
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


@pytest.mark.parametrize("chunk_size", [0, 2])
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
