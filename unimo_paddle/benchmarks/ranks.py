"""Benchmark B8: what training by two ranks costs beyond the same work on one process.

Three ways to make the same update take turns: two ranks of one thread with half of the batch each;
one process of two threads with all of it; and two processes of one thread with half of it each that
know nothing of each other. The last is the compute alone: both halves meet the same caches and the
same memory, and nobody waits for anybody. So the ranks over it is what communication and waiting
cost, and the ranks over the one process is what a user pays for a second process.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from unimo_paddle.benchmarks.cases import BenchmarkError
from unimo_paddle.benchmarks.peer_report import Origin
from unimo_paddle.benchmarks.peers import Peer
from unimo_paddle.benchmarks.rounds import PAUSE_SECONDS, Spread
from unimo_paddle.benchmarks.tables import Table, without_repeats
from unimo_paddle.benchmarks.targets import Target
from unimo_paddle.benchmarks.workers import Worker
from unimo_paddle.rank import free_ports, rank_environment

NUM_RANKS = 2
RANKS = "2 ranks"
WHOLE = "1 process, 2 threads"
APART = "2 processes apart"

_FACTORY = "unimo_paddle.benchmarks.ranks_paddle:Training"
_OVERHEAD = 1.15
_TOLERANCE = 1e-4  # of a loss: sums over ranks are in another order
# Few scenes, drawn in a moment; the batches of a measurement are made before it.
_COMMON = (
    *("--task.correlated_start", "0"),
    *("--task.data.scenes.num_train", "200"),
    *("--task.data.scenes.num_test", "8"),
    *("--task.data.scenes.num_novel", "4"),
    *("--task.data.scenes.num_texts", "100"),
    *("--task.data.scenes.num_images_only", "60"),
    *("--train.max_steps", "1000000"),
    *("--evaluation.splits", "[]"),
)


@dataclass(frozen=True)
class RanksCase:
    """A run, and which share of its batches a process takes.

    Attributes:
        arguments: as for tools/train.py.
        batch: samples of an update, of all processes.
        num_updates: of a measurement, each with a batch of its own.
        folder: of the data and the run.
        rank, num_ranks: the share of the batches.
    """

    model: str
    arguments: tuple[str, ...]
    batch: int
    num_updates: int
    folder: str = ""
    rank: int = 0
    num_ranks: int = 1

    def __post_init__(self) -> None:
        assert self.batch % self.num_ranks == 0, "ranks have equal shares"

    @property
    def columns(self) -> dict[str, str | int]:
        """For the table."""
        return {"model": self.model, "batch": self.batch}

    def make_inputs(self) -> RanksCase:
        """The form reads its own data."""
        return self

    def command_line(self) -> list[str]:
        """For ``config.parse_training``."""
        return [
            *self.arguments,
            *_COMMON,
            *("--task.data.scenes_dir", f"{self.folder}/scenes"),
            *("--output_dir", f"{self.folder}/run"),
            *("--train.batch_size", str(self.batch // self.num_ranks)),
        ]


def cases(config: str) -> list[RanksCase]:
    """The model of a run file, and a larger one of some 11 M parameters on the same data.

    A batch of 56 is 40 pairs, 8 texts and 8 images, and its half is half of each.
    """
    larger = ("--model.hidden_size", "384", "--model.num_layers", "6")
    return [
        RanksCase("of the run file", ("--config", config), 56, num_updates=4),
        RanksCase("384 x 6", ("--config", config, *larger), 56, num_updates=2),
    ]


@dataclass(frozen=True)
class RanksRow:
    """One way at one case.

    Attributes:
        of_it: the time of the two ranks over its time in the same round.
        seconds: an update, round by round.
    """

    case: dict[str, str | int]
    way: str
    milliseconds: float
    of_it: Spread
    seconds: list[float]


@dataclass(frozen=True)
class RanksReport:
    """Everything that one run measured."""

    origin: Origin
    rows: list[RanksRow]

    @property
    def targets(self) -> list[Target]:
        """What is judged."""
        return [
            Target(
                f"time of {RANKS} over {row.way} ({row.case['model']})",
                row.of_it.median,
                _OVERHEAD,
                is_minimum=False,
            )
            for row in self.rows
            if row.way != RANKS
        ]

    @property
    def note(self) -> str:
        """How to read the tables."""
        return (
            f"{RANKS}: tools/launch.py's environment, one thread and half of the batch each. "
            f"{WHOLE}: the whole batch. {APART}: one thread and half of the batch each, side by "
            "side, without a word between them; the mean of both. Pre-training with all "
            "objectives; an update is forward, backward, collectives and new weights, from "
            "batches made before"
        )

    def tables(self) -> dict[str, Table]:
        """By title."""
        rows = [
            [
                *map(str, row.case.values()),
                row.way,
                f"{row.milliseconds:.0f}",
                "" if row.way == RANKS else row.of_it.show("{:.3f}"),
            ]
            for row in self.rows
        ]
        headings = ["model", "batch", "way", "ms an update", f"{RANKS} over it"]
        return {"Time of an update": Table(headings, without_repeats(rows, columns=2), (0, 2))}

    def as_json(self) -> dict[str, Any]:
        """Everything, for the file."""
        return self.origin.as_json() | {
            "rows": [asdict(row) for row in self.rows],
            "targets": [asdict(target) | {"is_met": target.is_met} for target in self.targets],
        }


def run(num_rounds: int, *, command: str, measured: Sequence[RanksCase]) -> RanksReport:
    """Measure all cases, each with five processes of its own."""
    origin = Origin.of("Training by two ranks", command=command, num_rounds=num_rounds)
    rows: list[RanksRow] = []
    versions: dict[str, str] = {}
    form = "{desc}: {percentage:3.0f}% |{bar:20}| {elapsed} gone, {remaining} left"
    with tqdm(total=3 * len(measured) * (num_rounds + 2), bar_format=form) as progress:
        for case in measured:
            progress.set_description_str(case.model)
            with tempfile.TemporaryDirectory() as folder:
                seconds, versions = _measure(replace(case, folder=folder), num_rounds, progress)
            rows += [
                RanksRow(
                    case=case.columns,
                    way=way,
                    milliseconds=1e3 * float(np.median(taken)),
                    of_it=Spread.of(seconds[RANKS] / taken),
                    seconds=taken.tolist(),
                )
                for way, taken in seconds.items()
            ]
    return RanksReport(origin.measured(versions, read_rate=0.0), rows)


def _measure(
    case: RanksCase, num_rounds: int, progress: tqdm
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Seconds of an update [rounds] by way, and versions."""
    halves = [replace(case, rank=rank, num_ranks=NUM_RANKS) for rank in range(NUM_RANKS)]
    with contextlib.ExitStack() as stack:

        def start(way: str, threads: int, variables: dict[str, str]) -> Worker:
            peer = Peer(way, _FACTORY, "", environment=dict(variables))
            worker = Worker(peer, threads=threads)
            stack.callback(worker.close)
            return worker

        endpoints = [f"127.0.0.1:{port}" for port in free_ports(NUM_RANKS)]
        groups = {
            RANKS: [
                start(RANKS, 1, rank_environment(rank, endpoints, num_local=NUM_RANKS))
                for rank in range(NUM_RANKS)
            ],
            WHOLE: [start(WHOLE, NUM_RANKS, {})],
            APART: [start(APART, 1, {}) for _ in halves],
        }
        for group in groups.values():
            for worker in group:
                worker.wait_until_ready()
        # The whole first: it makes the data that all others read.
        for way in (WHOLE, RANKS, APART):
            _together(groups[way], "prepare", [case] if way == WHOLE else halves)
            progress.update(2)
        _check(groups)
        taken: dict[str, list[float]] = {way: [] for way in groups}
        for _ in range(num_rounds):
            for way, group in groups.items():
                time.sleep(PAUSE_SECONDS)
                seconds = [found for found, _ in _together(group, "measure")]
                # Ranks wait for each other in every update. Those apart do not, and the mean of
                # them is their work without the waiting for whoever has more of it.
                taken[way].append(float(np.mean(seconds)) / case.num_updates)
                progress.update()
        versions = groups[WHOLE][0].versions
    return {way: np.array(values) for way, values in taken.items()}, versions


def _together(group: Sequence[Worker], command: str, cases: Sequence[RanksCase] = ()) -> list[Any]:
    """Give all workers of a group a command at once, and wait for all."""
    for index, worker in enumerate(group):
        worker.ask(command, *cases[index : index + 1])
    return [worker.answer() for worker in group]


def _check(groups: dict[str, list[Worker]]) -> None:
    """Raise unless the ranks' first update is that of the whole batch: it is the same work."""
    (expected,) = _together(groups[WHOLE], "results")
    for found in _together(groups[RANKS], "results"):
        if abs(found - expected) > _TOLERANCE * abs(expected):
            raise BenchmarkError(
                f"the contrastive loss of {RANKS} is {found:.6g} and that of {WHOLE} "
                f"{expected:.6g}; times of different work mean nothing"
            )
