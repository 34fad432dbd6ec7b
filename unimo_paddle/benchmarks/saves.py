"""What checkpoints cost a run that goes on while they are written.

The same updates take turns with and without a save that begins before the first of them; whatever
of it is left when the last is done is waited for. The difference, shared among the updates between
two saves at the default interval, is what a run pays.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from unimo_paddle.benchmarks.cases import BenchmarkError
from unimo_paddle.benchmarks.peer_report import Origin
from unimo_paddle.benchmarks.peers import Peer
from unimo_paddle.benchmarks.ranks import RanksCase
from unimo_paddle.benchmarks.rounds import Spread, take_turns
from unimo_paddle.benchmarks.tables import Table
from unimo_paddle.benchmarks.targets import Target
from unimo_paddle.benchmarks.workers import running
from unimo_paddle.trainer import TrainerConfig

SAVING, WITHOUT = "with a save", "without"
# In this order: a run does not begin where there are checkpoints.
PEERS = (
    Peer(WITHOUT, "unimo_paddle.benchmarks.ranks_paddle:Training", ""),
    Peer(SAVING, "unimo_paddle.benchmarks.ranks_paddle:SavingTraining", ""),
)

_MOST = 0.03  # of the time of the updates between two saves


@dataclass(frozen=True)
class SavesRow:
    """One model.

    Attributes:
        num_bytes: of a checkpoint's arrays.
        milliseconds: an update without a save.
        added: seconds that a save adds, round by round.
        share: of the time of the updates between two saves.
    """

    case: dict[str, str | int]
    num_bytes: int
    milliseconds: float
    added: Spread
    share: Spread


@dataclass(frozen=True)
class SavesReport:
    """Everything that one run measured."""

    origin: Origin
    rows: list[SavesRow]
    interval: int

    @property
    def targets(self) -> list[Target]:
        """What is judged."""
        return [
            Target(
                f"share of time that saves take ({row.case['model']})",
                row.share.median,
                _MOST,
                is_minimum=False,
            )
            for row in self.rows
        ]

    @property
    def note(self) -> str:
        """How to read the tables."""
        return (
            "added: the time of some updates with a save begun before them and waited for after "
            f"them, less their time without; share: of {self.interval} updates, the default of "
            "train.checkpoint_interval. Negative where the noise is larger than the cost"
        )

    def tables(self) -> dict[str, Table]:
        """By title."""
        rows = [
            [
                *map(str, row.case.values()),
                f"{row.num_bytes / 1e6:.0f}",
                f"{row.milliseconds:.0f}",
                row.added.show("{:.2f}"),
                row.share.show("{:.2%}"),
            ]
            for row in self.rows
        ]
        headings = ["model", "batch", "MB", "ms an update", "added, s", "share"]
        return {"Saves beside updates": Table(headings, rows, (0,))}

    def as_json(self) -> dict[str, Any]:
        """Everything, for the file."""
        return self.origin.as_json() | {
            "interval": self.interval,
            "rows": [asdict(row) for row in self.rows],
            "targets": [asdict(target) | {"is_met": target.is_met} for target in self.targets],
        }


def run(num_rounds: int, *, command: str, measured: Sequence[RanksCase]) -> SavesReport:
    """Measure all cases, each by one process that saves and one that does not."""
    origin = Origin.of("Saves", command=command, num_rounds=num_rounds)
    interval = TrainerConfig().checkpoint_interval
    rows = []
    form = "{desc}: {percentage:3.0f}% |{bar:20}| {elapsed} gone, {remaining} left"
    with tqdm(total=2 * len(measured) * (num_rounds + 2), bar_format=form) as progress:
        for case in measured:
            progress.set_description_str(case.model)
            with (
                tempfile.TemporaryDirectory() as folder,
                running(PEERS, threads=origin.threads) as workers,
            ):
                rounds = take_turns(
                    replace(case, folder=folder),
                    workers,
                    num_rounds=num_rounds,
                    check=_check,
                    progress=progress,
                )
                _, num_bytes = workers[1].measure()
                versions = workers[0].versions
            plain = rounds.seconds[WITHOUT]
            added = rounds.seconds[SAVING] - plain
            update = float(np.median(plain)) / case.num_updates
            share = Spread.of(added / (interval * update))
            rows.append(
                SavesRow(case.columns, int(num_bytes), 1e3 * update, Spread.of(added), share)
            )
    return SavesReport(origin.measured(versions, read_rate=0.0), rows, interval)


def _check(name: str, found: float, expected: float) -> None:
    """Raise unless both learn the same."""
    if found != expected:
        raise BenchmarkError(f"the first loss of '{name}' is {found:.8g}, not {expected:.8g}")
