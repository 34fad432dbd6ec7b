"""Benchmark B2: the memory of forward and backward against the number of rows."""

from __future__ import annotations

from dataclasses import dataclass

from tqdm import tqdm

from unimo_paddle.benchmarks.cases import Case
from unimo_paddle.benchmarks.peers import Peer, stored_bytes
from unimo_paddle.benchmarks.resident import ENVIRONMENT, available_bytes
from unimo_paddle.benchmarks.workers import running

_USABLE_SHARE = 0.7  # of the free memory; the rest is for the estimate's error and everyone else


@dataclass(frozen=True)
class MemoryRow:
    """One peer at one number of rows, in bytes.

    Attributes:
        grown: the peak of the resident set beyond what it was with the inputs in place.
        how: what the system was asked for.
    """

    peer: str
    case: Case
    threads: int
    grown: int
    how: str

    @property
    def inputs(self) -> int:
        """Rows, columns and temperature, float32."""
        return 4 * (2 * self.case.count * self.case.size + 1)

    @property
    def minimum(self) -> int:
        """Inputs and their gradients."""
        return 2 * self.inputs

    @property
    def total(self) -> int:
        """Inputs, gradients and everything else at the peak."""
        return self.inputs + self.grown

    @property
    def extra(self) -> int:
        """What is beyond inputs and gradients."""
        return self.total - self.minimum


def work(cases: list[Case], peers: list[Peer], *, threads: int) -> float:
    """How long all takes, in the unit of ``speed.work``."""
    return sum(case.operations / threads for case in cases) * len(peers)


def measure(
    cases: list[Case], peers: list[Peer], *, threads: int, progress: tqdm
) -> tuple[list[MemoryRow], dict[str, str], dict[str, str]]:
    """Measure every peer at every case, each in a fresh process.

    Returns:
        The rows; the versions of what was measured; which peers were not measured at which
        sizes, and why.
    """
    rows: list[MemoryRow] = []
    versions: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for peer in peers:
        last: MemoryRow | None = None
        for case in sorted(cases, key=lambda case: case.count):
            progress.set_description_str(f"memory at {case.count} x {case.size}, {peer.name}")
            if peer.name not in left_out:
                try:
                    last, found = _measure_case(peer, case, threads=threads, last=last)
                except _LeftOut as reason:
                    left_out[peer.name] = str(reason)
                else:
                    rows.append(last)
                    versions.update(found)
            progress.update(case.operations / threads)
    return rows, versions, left_out


class _LeftOut(Exception):
    """Why a peer is not measured at a size, nor at larger ones."""


def _measure_case(
    peer: Peer, case: Case, *, threads: int, last: MemoryRow | None
) -> tuple[MemoryRow, dict[str, str]]:
    """Return the row of a fresh process, and its versions."""
    available = available_bytes()
    expected = _expected_bytes(peer, case, last)
    if expected > _USABLE_SHARE * available:
        raise _LeftOut(
            f"not measured from N = M = {case.count} on: it would take about "
            f"{expected / 1e9:.1f} GB where {available / 1e9:.1f} GB are free"
        )
    with running([peer], threads=threads, environment=ENVIRONMENT) as (worker,):
        if worker.absence:
            raise _LeftOut(worker.absence)
        return MemoryRow(peer.name, case, threads, *worker.growth(case)), worker.versions


def _expected_bytes(peer: Peer, case: Case, last: MemoryRow | None) -> float:
    """What a peer that stores the scores will take, from what it took at a smaller size.

    Of the others nothing is expected: what they take is a few copies of their inputs.
    """
    if not peer.stores_scores:
        return 0
    if last is None:
        return stored_bytes(case.count)
    return last.grown * (case.count / last.case.count) ** 2
