"""The table that an ablation is to make."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unimo_paddle.config import parse_training
from unimo_paddle.errors import UserError
from unimo_paddle.settings import read_tree

_DIGITS = 16  # of a checksum


@dataclass(frozen=True)
class AblationConfig:
    """A table to be made."""

    base: str  # run file that every row begins with
    rows: dict[str, str]  # name of a row: options of train.py that it changes, as on a command line
    splits: tuple[str, ...]  # what the finished runs are measured on
    metrics: tuple[str, ...]  # columns: split/metric, as evaluate.py names it
    prepare: tuple[str, ...] = ()  # lines for prepare_data.py, first; done ones take seconds
    seeds: tuple[int, ...] = (0, 1, 2)  # a run of every row for each
    output_dir: str = "runs/ablation"  # folder of all runs and of the table

    def __post_init__(self) -> None:
        for name in ("rows", "splits", "metrics", "seeds"):
            if not getattr(self, name):
                raise UserError(f"{name} is empty; name at least one")
        for metric in self.metrics:
            split, _, name = metric.partition("/")
            if split not in self.splits or not name:
                raise UserError(
                    f"metrics holds {metric!r}; write split/metric with a split of "
                    f"{', '.join(self.splits)}"
                )
        for seed in self.seeds:
            if self.seeds.count(seed) > 1:
                raise UserError(f"seeds holds {seed} twice; it would be one run, not two")
        folders: dict[Path, str] = {}
        for row in self.rows:
            folder = self.folder(row, self.seeds[0])
            if folder in folders:
                raise UserError(
                    f"rows {folders[folder]!r} and {row!r} would share {folder}; name them "
                    "apart by letters and digits"
                )
            folders[folder] = row
        for line in self.prepare:
            _split(f"prepare, line {line!r}", line)
        for row, seed in self.runs():
            try:
                parse_training(self.arguments(row, seed))
            except UserError as error:
                raise UserError(f"row {row!r}: {error}") from error

    def runs(self) -> Iterator[tuple[str, int]]:
        """Every row with every seed; all rows of a seed before the next seed."""
        return ((row, seed) for seed in self.seeds for row in self.rows)

    def folder(self, row: str, seed: int) -> Path:
        """Of a run."""
        name = "".join(c if c.isalnum() else "_" for c in row)
        return Path(self.output_dir) / f"{name}-{seed}"

    def arguments(self, row: str, seed: int) -> list[str]:
        """Of ``train.py`` for a run."""
        folder = str(self.folder(row, seed))
        begin = ["--config", self.base, "--output_dir", folder, "--seed", str(seed)]
        return [*begin, *_split(f"row {row!r}", self.rows[row]), "--resume_if_any"]

    def checksum(self) -> str:
        """Of what the base says: runs of another base are another table's."""
        values = json.dumps(read_tree(Path(self.base)).values, sort_keys=True, default=str)
        return hashlib.sha256(values.encode()).hexdigest()[:_DIGITS]


def choose_rows(config: AblationConfig, names: Sequence[str]) -> AblationConfig:
    """The table with some of its rows."""
    unknown = [name for name in names if name not in config.rows]
    if unknown:
        raise UserError(f"--rows {unknown[0]!r} is no row; choose of {', '.join(config.rows)}")
    return replace(config, rows={name: config.rows[name] for name in names})


def _split(where: str, line: str) -> list[str]:
    """The words of a command line."""
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UserError(f"{where}: {error} in {line!r}; write it as on a command line") from None
