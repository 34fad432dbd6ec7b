"""Benchmark B1: forward and backward of every peer in interleaved rounds, beside the peak rate."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from unimo_paddle.benchmarks.cases import BenchmarkError, Case, check_results
from unimo_paddle.benchmarks.peers import OURS, PEAK, PEAK_RATE, Peer, stored_bytes
from unimo_paddle.benchmarks.resident import available_bytes
from unimo_paddle.benchmarks.rounds import PAUSE_SECONDS, Spread
from unimo_paddle.benchmarks.workers import Worker, running


@dataclass(frozen=True)
class SpeedRow:
    """One peer at one case.

    Attributes:
        of_ours: its time over ours in the same round.
        of_limit: the share of the peak rate, measured in the same round, at which the operations
            of this form were done.
        seconds, peak_gflops: of each round.
    """

    threads: int
    case: Case
    peer: str
    milliseconds: float
    of_ours: Spread
    of_limit: Spread
    seconds: list[float]
    peak_gflops: list[float]


def summarise(
    threads: int,
    case: Case,
    peers: Sequence[Peer],
    seconds: dict[str, list[float]],
    peak_gflops: list[float],
) -> list[SpeedRow]:
    """Return a row a peer from the seconds of each round and the peak measured beside them."""
    ours, peak = np.array(seconds[OURS]), np.array(peak_gflops)
    rows = []
    for peer in peers:
        times = np.array(seconds[peer.name])
        rows.append(
            SpeedRow(
                threads=threads,
                case=case,
                peer=peer.name,
                milliseconds=1e3 * float(np.median(times)),
                of_ours=Spread.of(times / ours),
                of_limit=Spread.of(peer.operations(case) / times / (1e9 * peak)),
                seconds=times.tolist(),
                peak_gflops=peak.tolist(),
            )
        )
    return rows


def work(case: Case, peers: list[Peer], *, threads: int, num_rounds: int) -> float:
    """How long a case takes, in a unit of its own: what the progress bar counts."""
    return _step_work(case, threads) * len(_taking(case, peers)) * (num_rounds + 2)


def require_memory(cases: list[Case], peers: list[Peer]) -> None:
    """Refuse sizes whose score matrices, kept by several peers at once, do not fit."""
    count = max(case.count for case in cases)
    num_stored = sum(peer.stores_scores for peer in peers)
    needed = num_stored * stored_bytes(count)
    available = available_bytes()
    if needed > available:
        raise BenchmarkError(
            f"{num_stored} peers that store the scores of {count} rows need "
            f"{needed / 1e9:.1f} GB, {available / 1e9:.1f} GB are free; give smaller --sizes"
        )


def measure(
    cases: list[Case], peers: list[Peer], *, threads: int, num_rounds: int, progress: tqdm
) -> tuple[list[SpeedRow], dict[str, str], dict[str, str]]:
    """Measure every case with one set of workers.

    Returns:
        The rows; the versions of what was measured; why peers could not take part.
    """
    rows, versions, absent = [], {}, {}
    with running([peers[0], PEAK_RATE, *peers[1:]], threads=threads) as workers:
        for worker in workers:
            versions.update(worker.versions)
            if worker.absence:
                absent[worker.peer.name] = worker.absence
        for case in cases:
            progress.set_description_str(f"{case.count} x {case.size}, threads {threads}")
            able = [
                w for w in workers if not w.absence and (w.peer.takes_sets or not case.has_sets)
            ]
            rows += _measure_case(
                case, able, threads=threads, num_rounds=num_rounds, progress=progress
            )
    return rows, versions, absent


def _measure_case(
    case: Case, workers: list[Worker], *, threads: int, num_rounds: int, progress: tqdm
) -> list[SpeedRow]:
    expected = None
    for worker in workers:
        worker.prepare(case)
        progress.update(2 * _step_work(case, threads))
        if worker.peer.name == PEAK:
            continue
        found = worker.results()
        expected = expected or found  # ours is the first
        check_results(worker.peer.name, case, found=found, expected=expected)
    seconds: dict[str, list[float]] = {worker.peer.name: [] for worker in workers}
    peak_gflops = []
    for _ in range(num_rounds):
        for worker in workers:
            if threads > 1:
                time.sleep(PAUSE_SECONDS)
            taken, value = worker.measure()
            seconds[worker.peer.name].append(taken)
            if worker.peer.name == PEAK:
                peak_gflops.append(value)
            progress.update(_step_work(case, threads))
    peers = [worker.peer for worker in workers if worker.peer.name != PEAK]
    return summarise(threads, case, peers, seconds, peak_gflops)


def _taking(case: Case, peers: list[Peer]) -> list[Peer]:
    """Those that can express the case, and the peak."""
    return [PEAK_RATE, *(peer for peer in peers if peer.takes_sets or not case.has_sets)]


def _step_work(case: Case, threads: int) -> float:
    return case.operations / threads
