"""A run that is told to stop saves what it has learnt, and goes on as if nothing had been."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unimo_paddle import settings
from unimo_paddle.checkpoint import checkpoints, load_checkpoint
from unimo_paddle.config import RunConfig, build_trainer
from unimo_paddle.tasks.pretraining import PretrainingTask
from unimo_paddle.trainer import RunStopped, Trainer

STEPS = 4
pytestmark = pytest.mark.usefixtures("static_graph")


def build(run_file: Path, folder: Path, *, resume: bool = False) -> Trainer:
    config = settings.load(RunConfig, run_file)
    return build_trainer(replace(config, output_dir=str(folder)), resume=resume)


@pytest.fixture(scope="module")
def run_file(write_run_file, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run that measures after every second update and saves after the last."""
    changes: dict[str, Any] = {
        "train.max_steps": STEPS,
        "train.checkpoint_interval": STEPS,
        "train.evaluation_interval": 2,
        "evaluation.splits": ["test"],
        "evaluation.batch_size": 4,
        "evaluation.max_loss_batches": 2,
    }
    return write_run_file(tmp_path_factory.mktemp("stops") / "run.yaml", changes)


@pytest.fixture(scope="module")
def undisturbed(run_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    build(run_file, folder).train()
    return folder


@pytest.mark.parametrize(
    ("evaluation", "step"), [(1, 2), pytest.param(2, STEPS, marks=pytest.mark.slow)]
)
def test_an_evaluation_ends_at_once_and_is_made_up_for(
    run_file: Path, undisturbed: Path, tmp_path: Path, monkeypatch, evaluation: int, step: int
) -> None:
    trainer = build(run_file, tmp_path / "run")
    calls: list[str] = []
    with monkeypatch.context() as patch:
        score = PretrainingTask.score

        def stop_and_score(self: PretrainingTask, *arguments: Any) -> dict[str, float]:
            calls.append("score")
            if calls.count("score") == evaluation:
                os.kill(os.getpid(), signal.SIGTERM)
            found = score(self, *arguments)
            calls.append("scored")
            return found

        patch.setattr(PretrainingTask, "score", stop_and_score)
        with pytest.raises(RunStopped, match=f"stopped after step {step}"):
            trainer.train()
    assert calls[-1] == "score"  # the last one was not finished
    saved = checkpoints(tmp_path / "run" / "checkpoints")
    assert [path.name for path in saved] == [f"step-{step}"]
    metrics = build(run_file, tmp_path / "run", resume=True).train()
    assert metrics["test"]
    actual, expected = (
        load_checkpoint(folder / "checkpoints" / f"step-{STEPS}").arrays
        for folder in (tmp_path / "run", undisturbed)
    )
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)
