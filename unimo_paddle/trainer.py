"""The loop: batches in, updates out, progress told, checkpoints kept, exactly resumable.

A batch is a pure function of the seed and of where the data stand, and what an update draws is one
of seed and step. So a checkpoint holds weights and moments, the step, where the data stand, and how
many bad updates came in a row.
"""

from __future__ import annotations

import functools
import logging
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from unimo_paddle import distributed
from unimo_paddle.checkpoint import (
    CHECKPOINT_DIR,
    Checkpoint,
    describe_mismatch,
    load_checkpoint,
)
from unimo_paddle.checkpoint_writer import CheckpointWriter
from unimo_paddle.data.loader import Loader
from unimo_paddle.errors import UserError
from unimo_paddle.evaluation import (
    EvaluationConfig,
    EvaluationStopped,
    Evaluator,
    format_table,
)
from unimo_paddle.logger import RunLogger
from unimo_paddle.loss_scale import SCALE_NAME, STATE_NAMES
from unimo_paddle.ops.products import PRECISIONS
from unimo_paddle.optimizer import OptimizerConfig, build_optimizer
from unimo_paddle.process import report_progress, stop_requests
from unimo_paddle.program import Execution, Runner
from unimo_paddle.start import begin
from unimo_paddle.tasks.base import Task
from unimo_paddle.updates import build_update

logger = logging.getLogger(__name__)

LOG_DIR = "log"
ASSETS_DIR = "assets"
CONFIG_NAME = "config.yaml"


@dataclass(frozen=True)
class TrainerConfig:
    """How long, how large, how often."""

    start_from: str | None = (
        None  # a checkpoint, or a run's newest, whose weights a run starts with
    )
    max_steps: int = 1000  # updates of the whole run
    num_epochs: float | None = None  # passes over the first stream; given, it decides max_steps
    batch_size: int = 112  # samples of one pass of a process, all streams together
    gradient_accumulation: int = 1  # passes whose gradients are averaged for one update
    num_workers: int = 1  # threads that prepare batches ahead
    log_interval: int = 20  # updates between progress lines
    checkpoint_interval: int = 200  # updates between checkpoints
    keep_checkpoints: int = 2  # newest checkpoints kept
    precision: str = "float32"  # of matrix products; on GPUs also bfloat16, or float16
    recompute: bool = False  # compute layers again for their gradients: less memory, more time
    bad_update_limit: int = 10  # updates in a row without a finite loss and gradient, left out
    evaluation_interval: int = 500  # updates between evaluations and pictures; 0 = at the end

    def __post_init__(self) -> None:
        for name, low in _LOWER_BOUNDS.items():
            value = getattr(self, name)
            if value < low:
                raise UserError(f"train.{name} is {value}; give at least {low}")
        if self.precision not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise UserError(f"train.precision is {self.precision!r}; choose one of {known}")
        if self.num_epochs is not None and not 0.0 < self.num_epochs < math.inf:
            raise UserError(
                f"train.num_epochs is {self.num_epochs}; give a number above 0, or null"
            )

    def num_steps(self, num_records: int, samples_per_update: int) -> int:
        """The updates of a run.

        Args:
            num_records: of the first stream.
            samples_per_update: how many of them an update of all processes takes.
        """
        if self.num_epochs is None:
            return self.max_steps
        return max(1, int(num_records * self.num_epochs // samples_per_update))


_LOWER_BOUNDS = {
    "max_steps": 1,
    "batch_size": 1,
    "gradient_accumulation": 1,
    "num_workers": 0,
    "log_interval": 1,
    "checkpoint_interval": 1,
    "keep_checkpoints": 1,
    "bad_update_limit": 1,
    "evaluation_interval": 0,
}


class RunStopped(Exception):
    """The run was told to stop, and can be resumed."""

    def __init__(self, step: int, folder: Path) -> None:
        super().__init__(
            f"stopped after step {step}; its checkpoint is saved in {folder}: --resume"
        )


class Trainer:
    """Owns the programs and weights of a run.

    Args:
        settings: all settings of the run as a nested tree, shown beside its curves.
    """

    def __init__(
        self,
        task: Task,
        config: TrainerConfig,
        optimizer: OptimizerConfig,
        evaluation: EvaluationConfig,
        *,
        output_dir: Path,
        seed: int,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.task = task
        execution = Execution(config.precision, config.recompute)
        execution.check_device()
        self.config = config
        self.output_dir = output_dir
        self.seed = seed
        self.settings = settings or {}
        for split in evaluation.splits:
            task.evaluation_stream(split, evaluation.batch_size)  # a wrong one is told at once
        streams = task.training_streams(config.batch_size)
        self.loader = Loader(
            streams,
            seed=seed,
            num_workers=config.num_workers,
            rank=distributed.rank(),
            num_ranks=distributed.num_ranks(),
        )
        fields = [item for stream in streams for item in stream.fields]
        self.num_samples = sum(stream.batch_size for stream in streams)
        first, num_passes = streams[0], config.gradient_accumulation
        self.samples_per_update = first.batch_size * distributed.num_ranks() * num_passes
        self.max_steps = config.num_steps(first.epoch_size, self.samples_per_update)
        self.optimizer = build_optimizer(optimizer, self.max_steps)
        self.update = build_update(
            task,
            config.batch_size,
            fields,
            self.optimizer,
            seed=seed,
            num_passes=num_passes,
            execution=execution,
        )
        self.runner = Runner()
        self.writer = CheckpointWriter()
        self.update.start(self.runner)
        self.evaluator = Evaluator(task, self.runner, evaluation, seed=seed)
        self.splits = evaluation.splits
        self.step = 0
        self._saved_step = 0  # of the newest checkpoint of this process
        self.num_bad = 0  # updates that were left out
        self.num_bad_in_row = 0

    # ---- checkpoints

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint of the run's folder."""
        self.restore(load_checkpoint(path))
        logger.info("resumed from %s", path)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take weights, moments and position from a checkpoint of the same model."""
        for program in self.update.programs:
            shapes = self.runner.shapes(program)
            optional = {name for name in STATE_NAMES if name not in checkpoint.arrays}
            shapes = {name: shape for name, shape in shapes.items() if name not in optional}
            mismatch = describe_mismatch(shapes, checkpoint.arrays)
            if mismatch:
                raise UserError(mismatch)
            self.runner.restore(program, checkpoint.arrays)
        self.step = self._saved_step = checkpoint.step
        self.num_bad_in_row = checkpoint.state.get("num_bad_in_row", 0)
        self.optimizer.schedule.step(self.step)
        self._go_on_with_data(checkpoint.state)

    def _go_on_with_data(self, state: Mapping[str, Any]) -> None:
        """Take up the data where the checkpoint's run left them, whatever took how many of them."""
        before = state.get("samples_per_update", self.samples_per_update)
        if before != self.samples_per_update:
            change = f"{before} samples an update, {self.samples_per_update} from here on"
            if self.config.num_epochs is not None:
                raise UserError(
                    f"train.num_epochs counts updates of one size, but the checkpoint's run took "
                    f"{change}; change train.batch_size with the number of processes, or give "
                    "train.max_steps"
                )
            logger.info("%s; the data go on where they were", change)
        if "position" in state:
            first_pass = self.step * self.config.gradient_accumulation
            self.loader.go_on(first_pass, state["position"])

    def save(self) -> None:
        """Begin to publish a checkpoint of this step; rank 0 writes, beside the updates."""
        self._saved_step = self.step
        if distributed.rank() == 0:
            self.writer.wait()  # before the copies are made: one set of them at a time
            next_pass = self.step * self.config.gradient_accumulation
            self.writer.save(
                self.output_dir / CHECKPOINT_DIR,
                self.step,
                self.runner.state(self.update.programs),
                {
                    "seed": self.seed,
                    "parameters": list(self.update.parameter_names),
                    "samples_per_update": self.samples_per_update,
                    "num_bad_in_row": self.num_bad_in_row,
                    "position": self.loader.position(next_pass),
                },
                keep=self.config.keep_checkpoints,
            )

    def initialise(self) -> None:
        """Begin a new run: from a checkpoint where named, the rest from the data where wanted."""
        begin(
            self.task,
            self.update,
            self.runner,
            # No progress yet: with the first one a launcher begins to look for a hang.
            functools.partial(self.evaluator.serve, is_watched=False),
            start_from=self.config.start_from,
        )

    # ---- the loop

    def train(self) -> dict[str, dict[str, float]]:
        """Run to the last step; return the metrics of each split.

        Raises:
            RunStopped: a process of the run was told to stop (SIGTERM, SIGINT). All have ended
                after the same update, and a checkpoint of it is saved.
        """
        config, start = self.config, self.step
        passes = config.gradient_accumulation
        folder = self.output_dir / LOG_DIR if distributed.rank() == 0 else None
        metrics: dict[str, dict[str, float]] = {}
        batches = self.loader.batches(start * passes, self.max_steps * passes)
        with (
            stop_requests() as request,  # first: a late one must not break what is closed last
            RunLogger(folder, max_steps=self.max_steps, start_step=start) as log,
            self.writer,
        ):
            log.hyper_parameters(self.settings, ["train/loss"])
            self.evaluator.wants_stop = lambda: request.is_made
            distributed.meet()  # data and programs may be ready at very different times
            while self.step < self.max_steps:
                learning_rate = self.optimizer.schedule.get_lr()
                values, stops = self._advance(batches, wants_stop=request.is_made)
                if self._is_due(config.log_interval):
                    self._report(log, values, learning_rate)
                self._check_finite(values)
                stops = stops and self.step < self.max_steps
                if stops or self._is_due(config.checkpoint_interval):
                    self.save()
                    distributed.meet()  # the first rank may have waited for a slow disk
                self.writer.check()
                if stops:
                    self._stop()
                if config.evaluation_interval and self._is_due(config.evaluation_interval):
                    metrics = self._evaluate(log)
            if not metrics:
                metrics = self._evaluate(log)
        skipped = self.loader.skipped
        logger.info("%d of %d samples skipped", skipped["num_skipped"], skipped["num_seen"])
        if self.num_bad:
            logger.info("%d of %d updates left out", self.num_bad, self.step - start)
        return metrics

    def _advance(self, batches: Any, *, wants_stop: bool) -> tuple[dict[str, np.ndarray], bool]:
        """One update: what is logged, and whether any rank wants an end."""
        values = self.update.run(self.runner, batches, self.step, wants_stop=wants_stop)
        self.step += 1
        self.optimizer.schedule.step(self.step)
        report_progress()
        return values, bool(values.pop(distributed.STOP_VOTE) > 0)

    def _is_due(self, interval: int) -> bool:
        return self.step % interval == 0 or self.step == self.max_steps

    def _report(self, log: RunLogger, values: dict[str, np.ndarray], learning_rate: float) -> None:
        losses = {name: float(np.mean(value)) for name, value in values.items()}
        num_samples = self.num_samples * distributed.num_ranks()
        log.progress(
            self.step,
            losses,
            learning_rate=learning_rate,
            num_samples=num_samples * self.config.gradient_accumulation,
        )

    def _check_finite(self, values: dict[str, np.ndarray]) -> None:
        """Tell of an update that was left out, as all ranks do; stop after too many in a row."""
        means = {name: float(np.mean(values[name])) for name in ("loss", "gradient_norm")}
        bad = [f"{name.replace('_', ' ')} is {x}" for name, x in means.items() if not isfinite(x)]
        if not bad:
            self.num_bad_in_row = 0
            return
        self.num_bad += 1
        self.num_bad_in_row += 1
        limit = self.config.bad_update_limit
        if self.num_bad_in_row >= limit:
            raise UserError(
                f"the {bad[0]} at step {self.step}, as in all of the last {limit} updates; "
                f"{self._remedy(values)}"
            )
        logger.warning(
            "the %s at step %d: this update is left out; records of its batch on rank %d: %s",
            bad[0],
            self.step,
            distributed.rank(),
            self._records_of(self.step - 1),
        )

    def _remedy(self, values: Mapping[str, np.ndarray]) -> str:
        if SCALE_NAME in values and float(np.mean(values[SCALE_NAME])) > 1.0:
            return (
                f"the loss scale was still falling, from {float(np.mean(values[SCALE_NAME])):g}: "
                "raise train.bad_update_limit, or use train.precision bfloat16"
            )
        return "lower optimizer.learning_rate, or resume from the last checkpoint with another seed"

    def _records_of(self, step: int) -> str:
        """The records of an update, by stream."""
        passes = self.config.gradient_accumulation
        found: dict[str, list[int]] = defaultdict(list)
        for index in range(step * passes, (step + 1) * passes):
            for name, records in self.loader.records(index).items():
                found[name] += records
        return "; ".join(f"{name} {' '.join(map(str, x))}" for name, x in found.items())

    def _evaluate(self, log: RunLogger) -> dict[str, dict[str, float]]:
        """Measure every split; log what it scores, its pictures, and how weights are spread."""
        for name in self.update.parameter_names:
            log.histogram(self.step, f"weights/{name}", self.runner.value(name))
        results = {}
        try:
            for split in self.splits:
                metrics = self.evaluator.measure(split)
                scalars = {f"{split}/{name}": value for name, value in metrics.items()}
                log.scalars(self.step, scalars)
                for name, picture in self.evaluator.pictures(split).items():
                    log.image(self.step, f"{split}/{name}", picture)
                logger.info("step %d, %s", self.step, format_table(split, metrics))
                results[split] = metrics
        except EvaluationStopped:
            self._stop()
        return results

    def _stop(self) -> NoReturn:
        """End the run after this update, with a checkpoint of it."""
        if self._saved_step != self.step:
            self.save()
        self.writer.wait()
        raise RunStopped(self.step, self.output_dir)
