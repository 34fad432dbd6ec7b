"""What a new run begins with: a checkpoint's weights, what is made from the data, random numbers.

Only gradients are averaged over the ranks: had they begun apart, they would stay apart. Machines
draw, solve and read otherwise, so all ranks begin with the parameters of the first one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from unimo_paddle import distributed
from unimo_paddle.checkpoint import (
    CHECKPOINT_DIR,
    MANIFEST_NAME,
    describe_mismatch,
    is_step,
    latest_checkpoint,
    load_checkpoint,
)
from unimo_paddle.data.loader import Stream
from unimo_paddle.errors import UserError
from unimo_paddle.program import Runner
from unimo_paddle.tasks.base import Arrays, Task
from unimo_paddle.updates import Update

logger = logging.getLogger(__name__)


def begin(
    task: Task,
    update: Update,
    runner: Runner,
    serve: Callable[[str, Stream], Arrays],
    *,
    start_from: str | None,
) -> None:
    """Set the parameters of a runner whose programs are started.

    Args:
        serve: as for ``Task.initial_values``.
        start_from: a checkpoint, or the folder of a run, whose weights come first.
    """
    given = [] if start_from is None else _take_weights(update, runner, Path(start_from))
    _share(update, runner)
    program = update.programs[0]
    for values in task.initial_values(serve, tuple(given)):
        absent = {name: value for name, value in values.items() if name not in given}
        runner.restore(program, absent)
        given += absent
    # Nothing would ever teach it.
    if set(update.kept_names) - set(given):
        raise UserError(
            "model.patch_dictionary is found by pre-training alone; name a pre-trained run in "
            "train.start_from, or set it to 0"
        )


def _take_weights(update: Update, runner: Runner, path: Path) -> list[str]:
    """Take the weights, not the moments, that a checkpoint shares with this network by name."""
    arrays = load_checkpoint(_checkpoint_of(path)).arrays
    program = update.programs[0]
    names = [*update.parameter_names, *update.kept_names]
    shared = [name for name in names if name in arrays]
    absent = [name for name in names if name not in arrays]
    if not shared:
        raise UserError(
            f"train.start_from {path} holds no parameter of this network, which has "
            f"{absent[0]} and others; name a checkpoint of the same kind of model"
        )
    shapes = runner.shapes(program)
    mismatch = describe_mismatch({name: shapes[name] for name in shared}, arrays)
    if mismatch:
        raise UserError(f"train.start_from: {mismatch}")
    runner.restore(program, {name: arrays[name] for name in shared})
    logger.info("%d parameters start from %s", len(shared), path)
    if absent:
        logger.info("%d start anew, for it lacks them: %s", len(absent), ", ".join(absent))
    return shared


def _checkpoint_of(path: Path) -> Path:
    """The checkpoint that ``train.start_from`` means: itself, or the newest of a run."""
    newest = latest_checkpoint(path / CHECKPOINT_DIR)
    if newest is not None:
        return newest
    inside = latest_checkpoint(path)
    if inside is not None:
        raise UserError(
            f"train.start_from {path} holds checkpoints and is none; give one of them, such as "
            f"{inside}"
        )
    if not (is_step(path) or (path / MANIFEST_NAME).is_file()):
        raise UserError(
            f"train.start_from {path} is no checkpoint and no run that has one; check the path, or "
            "train that run first"
        )
    return path


def _share(update: Update, runner: Runner) -> None:
    """Give all ranks the parameters of the first."""
    if distributed.num_ranks() == 1:
        return
    values: dict = {}
    for name in (*update.parameter_names, *update.kept_names):
        # One at a time: on its way it is copied several times.
        values |= distributed.made_by_first(lambda name=name: {name: runner.value(name)})
    runner.restore(update.programs[0], values)
