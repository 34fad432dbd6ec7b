"""A checkpoint of the original: a folder with one file a parameter, named as the parameter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from unimo_paddle.convert.parameter_files import read_header, read_parameter, write_parameter
from unimo_paddle.convert.parameters import check_names, find_group
from unimo_paddle.convert.sources import Source, leave_out, to_float32
from unimo_paddle.errors import UserError

FIRST_POSITION = 2  # of a text; padding has the one before
POSITIONS = "pos_embedding"
# What the original's optimizer keeps beside the parameters: Adam's moments and powers, the
# schedule's step and rate, and the state of the loss scaling.
_OF_A_PARAMETER = re.compile(r"(.+)_(?:moment1|moment2|beta1_pow_acc|beta2_pow_acc)_[0-9]+")
_OF_THE_SCHEDULE = re.compile(
    r"@[A-Z_]+@|(?:scheduled_)?learning_rate(?:_[0-9]+)?|(?:loss_scaling|good_steps|bad_steps)_[0-9]+"
)


def open_original(path: Path, *, skip: Sequence[str] = ()) -> Source:
    """Open the folder ``path``: every file is a parameter or something of the optimizer's."""
    if not path.is_dir():
        raise UserError(
            f"{path} is no folder; give the folder that holds the original's parameter files"
        )
    try:
        entries = sorted(path.iterdir())
        # A link to a device or a pipe is no parameter: reading it would never end.
        files = [entry.name for entry in entries if entry.is_file()]
        others = [entry.name for entry in entries if not entry.is_file()]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; check the path") from error
    kept, notes = leave_out([*files, *others], skip, path)
    optimizer = [name for name in kept if _is_of_the_optimizer(name)]
    names = [name for name in kept if name not in set(optimizer)]
    unknown = [name for name in names if name in others or find_group(name) is None]
    check_names(path, unknown=unknown)
    if not names:
        raise UserError(
            f"{path} holds no parameter; give the folder with word_embedding and others"
        )
    if optimizer:
        notes += (f"left out, for the optimizer alone needs them: {len(optimizer)} files",)
    return Source(
        path,
        {name: read_header(path / name).shape for name in names},
        lambda name: to_float32(read_parameter(path / name), f"parameter file {path / name}"),
        settings={"first_position": FIRST_POSITION},
        notes=notes,
    )


def _is_of_the_optimizer(name: str) -> bool:
    moment = _OF_A_PARAMETER.fullmatch(name)
    if moment:
        return find_group(moment[1]) is not None
    return _OF_THE_SCHEDULE.fullmatch(name) is not None


def at_its_positions(positions: np.ndarray, first: int) -> np.ndarray:
    """The rows [P, D] of positions that are counted from ``first``, where the original looks.

    Rows below its first position are those of padding, which nothing sees: zeros, where there are
    none.
    """
    if first == FIRST_POSITION:
        return positions
    padding = np.zeros((FIRST_POSITION, positions.shape[1]), positions.dtype)
    return np.concatenate([padding, positions[first:]])


def write_original(folder: Path, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write each array into a file of its own in ``folder``, which exists and is empty."""
    for name, values in arrays:
        write_parameter(folder / name, values)
