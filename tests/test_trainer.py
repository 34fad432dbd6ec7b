"""The loop: exact resume however a run was stopped, what a run keeps, and what it refuses."""

from __future__ import annotations

import functools
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unimo_paddle import settings
from unimo_paddle.checkpoint import checkpoints, latest_checkpoint, load_checkpoint
from unimo_paddle.config import RunConfig, build_trainer
from unimo_paddle.data.fields import Batch
from unimo_paddle.data.loader import Loader
from unimo_paddle.errors import UserError
from unimo_paddle.loss_scale import FIRST_SCALE, SCALE_NAME
from unimo_paddle.program import Execution
from unimo_paddle.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
NUM_STEPS = 20
STOP = 10
KILL_SEED = 7
LONGEST_DELAY = 0.3  # seconds from a checkpoint to the kill, a part of what is left to do
LONGEST_WAIT = 300.0  # seconds for the first checkpoint of a process; far beyond what it needs
# Every form of an update, with dropout.
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulating": {"train.gradient_accumulation": 2},
    "in_chunks": {"train.gradient_accumulation": 2, "task.contrastive_chunk_size": 2},
}

pytestmark = pytest.mark.usefixtures("static_graph")


def build(run_file: Path, folder: Path, *, resume: bool = False) -> Trainer:
    config = settings.load(RunConfig, run_file)
    return build_trainer(replace(config, output_dir=str(folder)), resume=resume)


@pytest.fixture(scope="module")
def write_short_run(write_run_file, tmp_path_factory: pytest.TempPathFactory):
    """Write a run file of ``NUM_STEPS`` updates that measures nothing: ({dotted key: value})."""

    def write(changes: dict[str, Any] | None = None) -> Path:
        short = {
            "train.max_steps": NUM_STEPS,
            "train.num_workers": 0,
            "evaluation.splits": [],
            "evaluation.max_loss_batches": 0,
        }
        path = tmp_path_factory.mktemp("short") / "run.yaml"
        return write_run_file(path, short | (changes or {}))

    return write


def final_arrays(folder: Path) -> dict[str, np.ndarray]:
    return load_checkpoint(latest_checkpoint(folder / "checkpoints")).arrays


def assert_equal_to_the_bit(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(actual) == set(expected)
    bits = {name: (value.dtype, value.shape, value.tobytes()) for name, value in expected.items()}
    different = [
        name
        for name, value in actual.items()
        if (value.dtype, value.shape, value.tobytes()) != bits[name]
    ]
    assert different == []


# ---- resume


@pytest.fixture(scope="module")
def ran_through(write_short_run, tmp_path_factory: pytest.TempPathFactory):
    """The final arrays of a run that never stopped, by form of its updates; run once."""

    @functools.cache
    def run(form: str) -> dict[str, np.ndarray]:
        run_file = write_short_run(FORMS[form] | {"train.checkpoint_interval": NUM_STEPS})
        folder = tmp_path_factory.mktemp("through")
        build(run_file, folder).train()
        return final_arrays(folder)

    return run


@pytest.mark.parametrize(
    ("form", "num_workers"),
    [
        ("plain", 0),
        pytest.param("in_chunks", 0, marks=pytest.mark.slow),
        pytest.param("accumulating", 0, marks=pytest.mark.slow),
        pytest.param("plain", 1, marks=pytest.mark.slow),
        pytest.param("plain", 4, marks=pytest.mark.slow),
        *(pytest.param(form, 2, marks=pytest.mark.slow) for form in FORMS),
    ],
)
def test_stopped_and_resumed_run_equals_the_one_that_ran_through(
    write_short_run, ran_through, tmp_path: Path, num_workers: int, form: str
) -> None:
    run_file = write_short_run(FORMS[form] | {"train.num_workers": num_workers})
    stopped = build(run_file, tmp_path)
    stopped.max_steps = STOP  # the schedule stays that of the run
    stopped.train()
    resumed = build(run_file, tmp_path, resume=True)
    assert resumed.step == STOP
    resumed.train()
    assert_equal_to_the_bit(final_arrays(tmp_path), ran_through(form))


@pytest.mark.slow
def test_run_of_whole_batches_goes_on_in_chunks(write_short_run, tmp_path: Path) -> None:
    build(write_short_run({"train.max_steps": 2}), tmp_path).train()
    changes = FORMS["in_chunks"] | {"train.max_steps": 3}
    build(write_short_run(changes), tmp_path, resume=True).train()
    assert latest_checkpoint(tmp_path / "checkpoints").name == "step-3"


def test_what_is_compared_holds_moments_and_dropout(ran_through, write_short_run) -> None:
    moments = {"word_embedding_moment1_0", "word_embedding_moment2_0"}
    assert {"word_embedding", *moments} <= set(ran_through("plain"))
    assert settings.load(RunConfig, write_short_run()).model.hidden_dropout > 0


@pytest.mark.parametrize("num_kills", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_killed_process_resumes_to_the_weights_of_the_one_that_ran_through(
    trained_run: Path, run_tool, tmp_path: Path, num_kills: int
) -> None:
    folder = tmp_path / "killed"
    options = ["--config", trained_run / "config.yaml", "--output_dir", folder]
    rng = np.random.default_rng(KILL_SEED)
    for _ in range(num_kills):
        kill_after_a_checkpoint(options, folder, delay=rng.uniform(0.0, LONGEST_DELAY))
    done = run_tool("train", *options, "--resume")
    assert done.returncode == 0, done.stderr
    assert_equal_to_the_bit(final_arrays(folder), final_arrays(trained_run))


def kill_after_a_checkpoint(options: list, folder: Path, *, delay: float) -> None:
    """Run ``tools/train.py`` and send it SIGKILL ``delay`` seconds after its next checkpoint."""
    command = [sys.executable, "tools/train.py", *map(str, options), "--resume_if_any"]
    before = latest_checkpoint(folder / "checkpoints")
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + LONGEST_WAIT
        while latest_checkpoint(folder / "checkpoints") == before:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(delay)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL, "the run had ended before"


def test_resumed_run_logs_every_step_once(write_short_run, tmp_path: Path) -> None:
    run_file = write_short_run({"train.checkpoint_interval": STOP})
    folder = tmp_path / "run"
    build(run_file, folder).train()
    shutil.rmtree(folder / "checkpoints" / f"step-{NUM_STEPS}")  # as if killed before the last
    build(run_file, folder, resume=True).train()
    lines = (folder / "log" / "metrics.jsonl").read_text("utf-8").splitlines()
    steps = [record["step"] for record in map(json.loads, lines) if "train/loss" in record]
    assert steps == list(range(1, NUM_STEPS + 1))


def test_resume_of_a_finished_run_changes_nothing(
    trained_run: Path, tmp_path: Path, caplog
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained_run, folder)
    build(trained_run / "config.yaml", folder, resume=True).train()
    (told,) = [line for line in caplog.messages if "in the run that is resumed" in line]
    assert told == f"output_dir was {trained_run} in the run that is resumed, and is {folder} now"
    assert_equal_to_the_bit(final_arrays(folder), final_arrays(trained_run))


# ---- what a run keeps


@pytest.mark.parametrize("keep", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_only_the_newest_checkpoints_are_kept(write_short_run, tmp_path: Path, keep: int) -> None:
    run_file = write_short_run(
        {"train.max_steps": 8, "train.checkpoint_interval": 2, "train.keep_checkpoints": keep}
    )
    build(run_file, tmp_path / "run").train()
    kept = [path.name for path in checkpoints(tmp_path / "run" / "checkpoints")]
    assert kept == [f"step-{step}" for step in (2, 4, 6, 8)][-keep:]


def test_saved_settings_are_those_of_the_run(write_short_run, tmp_path: Path) -> None:
    run_file = write_short_run()
    build(run_file, tmp_path / "run")
    resolved = replace(settings.load(RunConfig, run_file), output_dir=str(tmp_path / "run"))
    assert settings.load(RunConfig, tmp_path / "run" / "config.yaml") == resolved


def test_last_step_is_always_saved_and_measured(write_short_run, tmp_path: Path) -> None:
    run_file = write_short_run(
        {
            "train.max_steps": 3,
            "train.checkpoint_interval": 100,
            "train.evaluation_interval": 100,
            "evaluation.splits": ["test"],
        }
    )
    metrics = build(run_file, tmp_path / "run").train()
    assert latest_checkpoint(tmp_path / "run" / "checkpoints").name == "step-3"
    assert "image_retrieval_recall@1" in metrics["test"]


# ---- accumulation


class Repeated:
    """A loader that gives every batch of another twice."""

    def __init__(self, loader: Loader) -> None:
        self.skipped = loader.skipped
        self.position = loader.position
        self._loader = loader

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        return (self._loader.batch(index // 2) for index in range(start, stop))


def test_update_of_two_equal_passes_equals_that_of_one(write_short_run, tmp_path: Path) -> None:
    finals = []
    for accumulation in (1, 2):
        folder = tmp_path / str(accumulation)
        changes = {
            "train.max_steps": 3,
            "train.gradient_accumulation": accumulation,
            "model.hidden_dropout": 0.0,  # it differs between the passes
            "model.attention_dropout": 0.0,
        }
        trainer = build(write_short_run(changes), folder)
        if accumulation == 2:
            trainer.loader = Repeated(trainer.loader)
        trainer.train()
        arrays = final_arrays(folder)
        finals.append({name: arrays[name] for name in trainer.update.parameter_names})
    # Halves and their sums are exact, so the mean of two equal gradients is that gradient.
    assert_equal_to_the_bit(finals[1], finals[0])


# ---- what a run refuses


def test_run_does_not_write_over_checkpoints(trained_run: Path) -> None:
    with pytest.raises(UserError, match="already holds checkpoints; add --resume"):
        build(trained_run / "config.yaml", trained_run)


def test_nothing_to_resume_is_told(write_short_run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing to resume in .*run without --resume"):
        build(write_short_run(), tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


EXPLOSION = {"optimizer.learning_rate": 1e30, "optimizer.warmup_steps": 0}


def test_loss_that_is_no_number_ends_the_run(write_short_run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is (nan|inf) at step \d+, .*lower optimizer") as raised:
        build(write_short_run(EXPLOSION), tmp_path / "run").train()
    assert "\n" not in str(raised.value)


def test_bad_updates_in_a_row_are_counted_through_a_resume(write_short_run, tmp_path: Path) -> None:
    changes = EXPLOSION | {"train.checkpoint_interval": 1, "train.bad_update_limit": 4}
    run_file = write_short_run(changes)
    stopped = build(run_file, tmp_path)
    stopped.max_steps = 3  # the schedule stays that of the run
    stopped.train()
    assert stopped.num_bad_in_row
    resumed = build(run_file, tmp_path, resume=True)
    last = 3 + 4 - stopped.num_bad_in_row
    with pytest.raises(UserError, match=f"at step {last}, as in all of the last 4 updates"):
        resumed.train()


def test_a_run_takes_up_a_loss_scale_and_tells_where_it_does_not_help(
    write_short_run, tmp_path: Path, monkeypatch
) -> None:
    often = {"train.checkpoint_interval": 1, "train.max_steps": 1}
    build(write_short_run(often), tmp_path / "run").train()
    monkeypatch.setattr(Execution, "scales_loss", True)  # as of float16, which no CPU computes
    changes = often | {"train.max_steps": 2, "train.bad_update_limit": 1}
    trainer = build(write_short_run(changes), tmp_path / "run", resume=True)
    assert trainer.runner.value(SCALE_NAME) == FIRST_SCALE
    name = trainer.update.parameter_names[0]
    weights = trainer.runner.value(name)
    trainer.runner.restore(trainer.update.programs[0], {name: np.full_like(weights, np.inf)})
    with pytest.raises(UserError, match=r"raise train\.bad_update_limit, or use .* bfloat16"):
        trainer.train()


def test_no_checkpoint_holds_what_is_no_number(write_short_run, tmp_path: Path) -> None:
    often = {"train.checkpoint_interval": 1, "train.log_interval": 100}
    with pytest.raises(UserError):
        build(write_short_run(EXPLOSION | often), tmp_path / "run").train()
    saved = final_arrays(tmp_path / "run")
    assert [name for name, value in saved.items() if not np.isfinite(value).all()] == []


@pytest.mark.parametrize(
    ("form", "optimizer"), [*((form, "adamw") for form in FORMS), ("plain", "original")]
)
def test_an_update_that_is_no_number_changes_nothing(
    write_short_run, tmp_path: Path, monkeypatch, caplog, form: str, optimizer: str
) -> None:
    changes = {"train.max_steps": 4, "train.checkpoint_interval": 1, "train.keep_checkpoints": 4}
    changes |= FORMS[form] | {"optimizer.form": optimizer}
    trainer = build(write_short_run(changes), tmp_path)
    make, passes = trainer.loader.batches, trainer.config.gradient_accumulation

    def poisoned(start: int, stop: int) -> Iterator[Batch]:
        """The batches, the first of the third update without a number in its images."""
        for step, batch in enumerate(make(start, stop), start):
            if step == 2 * passes:
                batch = batch | {"region_features": np.full_like(batch["region_features"], np.nan)}
            yield batch

    monkeypatch.setattr(trainer.loader, "batches", poisoned)
    with caplog.at_level("WARNING"):
        trainer.train()
    second, third, fourth = (
        load_checkpoint(tmp_path / "checkpoints" / f"step-{step}").arrays for step in (2, 3, 4)
    )
    for arrays in (second, third, fourth):
        arrays.pop("learning_rate_0", None)  # moves on with the step
    assert_equal_to_the_bit(third, second)
    changed = [name for name in fourth if not np.array_equal(fourth[name], third[name])]
    assert set(trainer.update.parameter_names) <= set(changed)
    assert trainer.num_bad == 1 and trainer.num_bad_in_row == 0
    assert re.search(r"at step 3: this update is left out; .* rank 0: pairs \d+ ", caplog.text)


def test_refused_resume_leaves_the_settings_of_the_run(
    trained_run: Path, write_run_file, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained_run, folder)
    other = write_run_file(tmp_path / "other.yaml", {"model.hidden_size": 32})
    with pytest.raises(UserError, match="the checkpoint is of another model"):
        build(other, folder, resume=True)
    assert (folder / "config.yaml").read_bytes() == (trained_run / "config.yaml").read_bytes()


# ---- the start of a new run


def newest(run: Path) -> Path:
    return latest_checkpoint(run / "checkpoints")


def test_new_run_takes_the_weights_of_a_checkpoint(
    trained_run: Path, write_short_run, tmp_path: Path
) -> None:
    changes = {"train.start_from": str(newest(trained_run)), "seed": 9}
    trainer = build(write_short_run(changes), tmp_path / "run")
    expected = final_arrays(trained_run)
    assert trainer.step == 0
    for name in trainer.update.parameter_names:
        np.testing.assert_array_equal(trainer.runner.value(name), expected[name])
    moments = [name for name in trainer.runner.state(trainer.update.programs) if "moment1" in name]
    assert moments and not any(trainer.runner.value(name).any() for name in moments)


def test_parameters_that_a_checkpoint_lacks_start_anew_and_are_named(
    trained_run: Path, write_short_run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {
        "train.start_from": str(newest(trained_run)),
        "model.num_layers": 2,
        "model.location_frequencies": 0,
    }
    with caplog.at_level("INFO", "unimo_paddle"):
        trainer = build(write_short_run(changes), tmp_path / "run")
    assert "encoder_layer_1_ffn_fc_0.w_0" in caplog.text
    assert trainer.runner.value("encoder_layer_1_ffn_fc_0.w_0").any()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model.hidden_size": 8}, "train.start_from: the checkpoint is of another model"),
        ({"train.start_from": "nowhere"}, "nowhere is no checkpoint and no run that has one"),
        ({"train.start_from": "nowhere/step-1"}, "no checkpoint nowhere/step-1; none is beside it"),
    ],
)
def test_checkpoint_that_does_not_fit_is_told(
    trained_run: Path, write_short_run, tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    start = {"train.start_from": str(newest(trained_run))}
    with pytest.raises(UserError, match=expected) as raised:
        build(write_short_run(start | changes), tmp_path / "run")
    assert "\n" not in str(raised.value)
