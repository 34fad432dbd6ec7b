"""The summary of a run before it is begun; nothing is written."""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path

from unimo_paddle import distributed
from unimo_paddle.checkpoint import latest_checkpoint
from unimo_paddle.config import RunConfig
from unimo_paddle.dry_run.cost import (
    SHARE,
    Cost,
    Lengths,
    accelerator_rate,
    assumed_lengths,
    cost_of,
    fills_accelerator,
    measured_lengths,
    product_rate,
)
from unimo_paddle.dry_run.needs import Need, needs_of
from unimo_paddle.errors import UserError
from unimo_paddle.tasks.base import Task
from unimo_paddle.tasks.pretraining import PretrainingConfig
from unimo_paddle.trainer import CHECKPOINT_DIR, Trainer

NUM_TIMED = 3  # updates that are run, after one more
MOST_SECONDS = 5.0  # counted for an update that is run
WIDTH = 12  # of the names of the lines


@dataclass(frozen=True)
class Summary:
    """What is told, and how much is missing."""

    text: str
    num_missing: int


@dataclass(frozen=True)
class _Trial:
    """What a few updates of the real run took."""

    seconds: float  # an update
    peak_bytes: int  # of this process


def summarise(config: RunConfig) -> Summary:
    """Say what a run would do, what it lacks, and what it takes."""
    distributed.start()
    needs = needs_of(config)
    num_missing = sum(need.is_missing for need in needs)
    lines = [*_lines("task", [_task(config)]), *_lines("files", _files(needs))]
    lines += _lines("output", [_output(Path(config.output_dir))])
    lines += _estimate(config, needs)
    if num_missing:
        lines.append(f"missing: {num_missing} of {len(needs)} files; nothing was trained")
    else:
        lines.append("everything is here; nothing was trained")
    return Summary("\n".join(lines), num_missing)


def _lines(name: str, texts: list[str]) -> list[str]:
    return [f"{name if not i else '':{WIDTH}}{text}" for i, text in enumerate(texts)]


def _task(config: RunConfig) -> str:
    adversarial = getattr(config.task, "adversarial", None)
    names = [config.task.get_choice_name(type(config.task))]
    if adversarial and adversarial.steps:
        names.append(f"{adversarial.steps} adversarial steps an update")
    return ", ".join(names)


def _files(needs: list[Need]) -> list[str]:
    lines = []
    for need, following in zip_longest(needs, needs[1:]):
        if need.is_there:
            size = f", {_bytes(need.path.stat().st_size)}" if need.path.is_file() else ""
            lines.append(f"found    {need.path} ({need.setting}{size})")
        elif need.is_made:
            lines.append(f"made     {need.path} on first use, or by: {need.remedy}")
        else:
            what = "missing" if need.is_needed else "absent "
            use = "" if need.is_needed else "; training does not read it"
            lines.append(f"{what}  {need.path} ({need.setting}{use})")
            if following is None or following.is_there or following.remedy != need.remedy:
                lines.append(f"  to make it: {need.remedy}")
    return lines


def _output(folder: Path) -> str:
    newest = latest_checkpoint(folder / CHECKPOINT_DIR)
    if newest is None:
        return f"{folder}, a new run"
    return f"{folder} holds {newest.name}; add --resume to go on, or give another --output_dir"


# ---- size, memory, time


def _estimate(config: RunConfig, needs: list[Need]) -> list[str]:
    is_complete = all(need.is_there for need in needs if need.is_needed)
    with tempfile.TemporaryDirectory() as folder:
        task = config.task.build(config.model, Path(folder))
        lengths = longest = _assumed(config)
        num_records = getattr(config.task.data, "num_records", None)
        is_counted = is_complete and not isinstance(config.task, PretrainingConfig)
        if is_counted:
            task.prepare(config.seed)
            (stream,) = task.training_streams(config.train.batch_size)
            lengths = measured_lengths(stream)
            longest = measured_lengths(stream, longest=True)
            num_records = stream.epoch_size
        try:
            cost, largest = cost_of(config, lengths), cost_of(config, longest)
        except UserError as error:
            return _lines("estimate", [f"none: {error}"])
        rate = SHARE * product_rate(config.model.hidden_size, cost.work.positions)
        trial = None
        if is_counted and cost.operations / rate < MOST_SECONDS:
            trial = _try(config, task, Path(folder))
    steps = _num_steps(config, num_records)
    return [
        *_lines("model", [_model(config, cost)]),
        *_lines("updates", _updates(config, cost, lengths, steps, num_records)),
        *_lines("memory", _memory(largest, trial)),
        *_lines("time", _time(cost, rate, trial, steps)),
    ]


def _assumed(config: RunConfig) -> Lengths:
    if isinstance(config.task, PretrainingConfig):
        return Lengths(0, source="as tools/scaling.py counts")
    return assumed_lengths(config.task)


def _num_steps(config: RunConfig, num_records: int | None) -> int | None:
    """Updates of the run; None where an epoch is of unknown size."""
    if config.train.num_epochs is None:
        return config.train.max_steps
    if num_records is None:
        return None
    samples = config.train.batch_size * config.train.gradient_accumulation
    return config.train.num_steps(num_records, samples * distributed.num_ranks())


def _try(config: RunConfig, task: Task, folder: Path) -> _Trial:
    """Run a few updates of the real program on real batches."""
    # The weights would change neither the time nor the memory.
    settings = replace(config.train, start_from=None, num_workers=0)
    trainer = Trainer(
        task,
        settings,
        config.optimizer,
        replace(config.evaluation, splits=()),
        output_dir=folder,
        seed=config.seed,
        settings=asdict(config),
    )
    passes = config.train.gradient_accumulation
    batches = trainer.loader.batches(0, (1 + NUM_TIMED) * passes)
    trainer.update.run(trainer.runner, batches, 0)
    start = time.perf_counter()
    for step in range(1, 1 + NUM_TIMED):
        trainer.update.run(trainer.runner, batches, step)
    seconds = (time.perf_counter() - start) / NUM_TIMED
    return _Trial(seconds, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _model(config: RunConfig, cost: Cost) -> str:
    model = config.model
    return (
        f"{model.num_layers} layers of width {model.hidden_size}, {model.num_heads} heads, "
        f"vocabulary {model.vocab_size:,}: {cost.work.num_parameters:,} parameters"
    )


def _updates(
    config: RunConfig, cost: Cost, lengths: Lengths, steps: int | None, num_records: int | None
) -> list[str]:
    train = config.train
    count = f"{steps:,}" if steps is not None else "a number unknown without the data"
    if train.num_epochs is not None:
        known = f" over {num_records:,} records" if num_records is not None else ""
        epochs = "epoch" if train.num_epochs == 1 else "epochs"
        count += f" ({train.num_epochs:g} {epochs}{known})"
    passes = f" in {train.gradient_accumulation} passes" if train.gradient_accumulation > 1 else ""
    samples = train.batch_size * train.gradient_accumulation
    sequences = sum(number for number, _ in cost.work.sequences)
    positions = cost.work.positions / max(1, sequences)
    return [
        f"{count}, each of {samples} samples{passes} and process",
        f"a pass encodes {sequences} sequences of {positions:.0f} positions ({lengths.source})",
    ]


def _memory(cost: Cost, trial: _Trial | None) -> list[str]:
    lines = [
        f"estimate: {_bytes(cost.memory_bytes)}, of which {_bytes(cost.state_bytes)} weights, "
        f"gradients and moments, {_bytes(cost.activation_bytes)} activations"
    ]
    if trial:
        lines.append(f"measured: {_bytes(trial.peak_bytes)} at the peak of {1 + NUM_TIMED} updates")
    return lines


def _time(cost: Cost, rate: float, trial: _Trial | None, steps: int | None) -> list[str]:
    here, there = cost.operations / rate, cost.operations / accelerator_rate()
    lines = [
        f"estimate: {cost.operations:.2g} operations an update",
        f"here {_span(here)} an update{_whole(here, steps)}, at {rate / 1e9:.0f} GFLOP/s: "
        f"{SHARE:.0%} of a product timed now",
    ]
    if fills_accelerator(cost):
        lines.append(
            f"one H100 {_span(there)} an update{_whole(there, steps)}, at "
            f"{accelerator_rate() / 1e12:.0f} TFLOP/s in float32, assumed; not run there"
        )
    if trial:
        lines.append(
            f"measured here: {_span(trial.seconds)} an update{_whole(trial.seconds, steps)}, "
            f"by {NUM_TIMED} updates"
        )
    return lines


def _whole(seconds: float, steps: int | None) -> str:
    return "" if steps is None else f", {_span(seconds * steps)} in all"


def _span(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "s")):
        if seconds >= 2 * size or (name == "s" and seconds >= 1):
            return f"{seconds / size:.1f} {name}"
    return f"{1e3 * seconds:.1f} ms"


def _bytes(count: float) -> str:
    for size, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {name}"
    return f"{count:.0f} bytes"
