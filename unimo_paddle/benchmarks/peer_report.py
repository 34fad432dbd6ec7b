"""A report of peers that took turns: a row a case and peer, targets, and how they came about."""

from __future__ import annotations

import datetime
import os
import platform
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from unimo_paddle.benchmarks.hardware import Processor, processor
from unimo_paddle.benchmarks.peers import (
    LIMITS,
    OURS,
    READ,
    READ_LIMIT,
    Limit,
    Peer,
    split_by_presence,
)
from unimo_paddle.benchmarks.rounds import Spread, take_turns
from unimo_paddle.benchmarks.tables import Table, as_markdown, as_text, without_repeats
from unimo_paddle.benchmarks.targets import Target
from unimo_paddle.benchmarks.workers import running

_WIDTH = 100  # of notes on the terminal


@dataclass(frozen=True)
class PeerRow:
    """One peer at one case.

    Attributes:
        case: what tells the case from others, column by column.
        of_ours: its time over ours in the same round.
        of_limit: the rate at which it must have done what it needs, over what the machine could
            do in the same round; None where it is not known what it needs.
    """

    case: dict[str, int]
    peer: str
    milliseconds: float
    of_ours: Spread
    of_limit: Spread | None
    seconds: list[float]


@dataclass(frozen=True)
class Origin:
    """What figures belong to.

    Attributes:
        load: of the machine, before the run.
        read_rate: bytes a second, the median of all rounds.
    """

    title: str
    command: str
    threads: int
    num_rounds: int
    processor: Processor
    load: float
    date: str
    versions: dict[str, str]
    read_rate: float = 0.0

    @staticmethod
    def of(title: str, *, command: str, num_rounds: int) -> Origin:
        """Of a run that begins now."""
        return Origin(
            title=title,
            command=command,
            threads=int(os.environ["OMP_NUM_THREADS"]),
            num_rounds=num_rounds,
            processor=processor(),
            load=os.getloadavg()[0],
            date=datetime.date.today().isoformat(),
            versions={"python": platform.python_version(), "numpy": np.__version__},
        )

    def measured(self, versions: dict[str, str], read_rate: float) -> Origin:
        """The same after the run."""
        return replace(self, versions=self.versions | versions, read_rate=read_rate)

    @property
    def shown_read_rate(self) -> str:
        """In words."""
        return f"the rate at which memory was read: {self.read_rate / 1e9:.1f} GB/s in the median"

    def as_json(self) -> dict[str, Any]:
        """For the file."""
        return asdict(self)

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"{self.processor.model}, {self.threads} threads, load before the run "
            f"{self.load:.1f}; {versions}"
        )


class Report(Protocol):
    """What is printed: tables and what they are held to."""

    origin: Origin

    @property
    def targets(self) -> list[Target]:
        """What is judged."""

    @property
    def note(self) -> str:
        """How to read the tables, without the full stop."""

    def tables(self) -> dict[str, Table]:
        """By title."""


@dataclass(frozen=True)
class PeerReport:
    """Everything that one run measured.

    Attributes:
        further: tables of what else was looked at, by title.
    """

    origin: Origin
    peers: list[Peer]
    absent: dict[str, str]
    rows: list[PeerRow]
    targets: list[Target] = field(default_factory=list)
    limit: Limit = READ_LIMIT
    further: dict[str, Table] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """How to read the table."""
        rate = f" ({self.origin.shown_read_rate})" if self.origin.read_rate else ""
        return (
            "In brackets: 10-90 % of the rounds. over ours: the peer's time over ours in the same "
            f"round. {self.limit.heading}: {self.limit.note}{rate}"
        )

    def as_json(self) -> dict[str, Any]:
        """Everything, for the file."""
        return self.origin.as_json() | {
            "peers": {peer.name: peer.about for peer in self.peers},
            "absent": self.absent,
            "rows": [asdict(row) for row in self.rows],
            "targets": [asdict(target) | {"is_met": target.is_met} for target in self.targets],
            "further": {title: asdict(table) for title, table in self.further.items()},
        }

    def tables(self) -> dict[str, Table]:
        """By title."""
        names = list(self.rows[0].case)
        rows = [
            [
                *map(str, row.case.values()),
                row.peer,
                f"{row.milliseconds:.3g}" if row.milliseconds < 100 else f"{row.milliseconds:.0f}",
                "" if row.peer == OURS else row.of_ours.show("{:.2f}"),
                "" if row.of_limit is None else row.of_limit.show("{:.0%}"),
            ]
            for row in self.rows
        ]
        headings = [*names, "peer", "ms", "over ours", self.limit.heading]
        width = len(names)
        return {
            "Time": Table(headings, without_repeats(rows, columns=width), text_columns=(width,)),
            **self.further,
        }


def measure(
    title: str,
    cases: Sequence[Any],
    peers: Sequence[Peer],
    *,
    num_rounds: int,
    command: str,
    check: Callable[[str, Any, Any], None],
    targets: Callable[[Sequence[PeerRow]], list[Target]],
    limit: Limit = READ_LIMIT,
) -> PeerReport:
    """Measure every case with one process a peer, with a progress bar that tells the time left.

    Args:
        cases: each has ``columns``, a dict for the table, ``make_inputs()``, and
            ``needs(peer)``: what a peer must do of what is limited, None where that is not known.
        peers: ours first.
        check: see ``take_turns``.
        targets: those that rows are held to.
        limit: what the machine can do at most.
    """
    origin = Origin.of(title, command=command, num_rounds=num_rounds)
    present, absent = split_by_presence(list(peers), is_amd=origin.processor.is_amd)
    versions: dict[str, str] = {}
    rows: list[PeerRow] = []
    rates: list[float] = []
    with running([present[0], limit.peer, *present[1:]], threads=origin.threads) as workers:
        for worker in workers:
            versions |= worker.versions
            if worker.absence:
                absent[worker.peer.name] = worker.absence
        workers = [worker for worker in workers if not worker.absence]
        total = len(cases) * len(workers) * (num_rounds + 2)
        form = "{desc}: {percentage:3.0f}% |{bar:20}| {elapsed} gone, {remaining} left"
        with tqdm(total=total, bar_format=form) as progress:
            for case in cases:
                progress.set_description_str(_named(case.columns))
                rounds = take_turns(
                    case, workers, num_rounds=num_rounds, check=check, progress=progress
                )
                possible = rounds.limits[limit.peer.name]
                rates += possible.tolist()
                for name, seconds in rounds.seconds.items():
                    needed = case.needs(name)
                    rate = None if needed is None else needed / seconds / possible
                    rows.append(
                        PeerRow(
                            case=case.columns,
                            peer=name,
                            milliseconds=1e3 * float(np.median(seconds)),
                            of_ours=Spread.of(seconds / rounds.seconds[OURS]),
                            of_limit=None if rate is None else Spread.of(rate),
                            seconds=seconds.tolist(),
                        )
                    )
    read_rate = float(np.median(rates)) if limit.peer.name == READ else 0.0
    return PeerReport(
        origin=origin.measured(versions, read_rate),
        peers=[peer for peer in peers if peer.name not in absent and peer.name not in LIMITS],
        absent=absent,
        rows=rows,
        targets=targets(rows),
        limit=limit,
    )


def ratio_targets(
    rows: Sequence[PeerRow],
    over_ours: dict[str, float],
    of_limit: Callable[[PeerRow], float | None],
    *,
    share: str = "share of the rate at which memory is read",
) -> list[Target]:
    """Bounds on the time of peers over ours, and on the share of the limit that ours reaches.

    Args:
        over_ours: the least ratio by name of the peer.
        of_limit: the least share for a row of ours; None: it is held to none.
        share: what it is called.
    """
    targets = []
    for row in rows:
        where = _named(row.case)
        least = of_limit(row) if row.peer == OURS else None
        if least is not None and row.of_limit is not None:
            targets.append(Target(f"{share} ({where})", row.of_limit.median, least))
        if row.peer in over_ours:
            text = f"time of {row.peer} over ours ({where})"
            targets.append(Target(text, row.of_ours.median, over_ours[row.peer]))
    return targets


def as_terminal_text(report: Report) -> str:
    """Everything for the terminal; what was missed comes last."""
    blocks = [textwrap.fill(str(report.origin), _WIDTH)]
    for title, table in report.tables().items():
        blocks += [title, as_text(table)]
    blocks.append(textwrap.fill(_note(report), _WIDTH))
    if isinstance(report, PeerReport):
        blocks.append("\n".join(_peer_lines(report)))
    return "\n\n".join([*blocks, "\n".join(_target_lines(report))])


def as_markdown_page(report: Report) -> str:
    """The page for ``docs/results``."""
    origin = report.origin
    blocks = [
        f"# {origin.title}, measured",
        f"{origin}. {origin.date}.",
        f"```\n{origin.command}\n```",
    ]
    for title, table in report.tables().items():
        blocks += [f"## {title}", as_markdown(table)]
    blocks.append(_note(report))
    if isinstance(report, PeerReport):
        blocks += ["## Peers", "\n".join(f"- {line}" for line in _peer_lines(report))]
    blocks += ["## Targets", "\n".join(f"- {line}" for line in _target_lines(report))]
    return "\n\n".join(blocks) + "\n"


def _note(report: Report) -> str:
    return f"Medians of {report.origin.num_rounds} interleaved rounds. {report.note}."


def _peer_lines(report: PeerReport) -> list[str]:
    lines = [f"{peer.name}: {peer.about}" for peer in report.peers]
    return lines + [f"left out, {name}: {reason}" for name, reason in report.absent.items()]


def _target_lines(report: Report) -> list[str]:
    ordered = sorted(report.targets, key=lambda target: not target.is_met)
    return [
        f"{sum(t.is_met for t in ordered)} of {len(ordered)} targets met",
        *(
            f"{'met' if t.is_met else 'MISSED'}: {t.text} is {t.value:.3g}, target {t.condition}"
            for t in ordered
        ),
    ]


def _named(columns: dict[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in columns.items())
