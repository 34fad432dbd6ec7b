"""Benchmarks B1 (speed) and B2 (memory) of the contrastive operator: what `contrastive` runs."""

from __future__ import annotations

import datetime
import importlib.util
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from unimo_paddle.benchmarks import memory, speed
from unimo_paddle.benchmarks.cases import BenchmarkError, Case
from unimo_paddle.benchmarks.hardware import Processor, compiler_of, processor
from unimo_paddle.benchmarks.memory import MemoryRow
from unimo_paddle.benchmarks.peers import Peer, all_peers, split_by_presence
from unimo_paddle.benchmarks.speed import SpeedRow
from unimo_paddle.benchmarks.targets import Target, memory_targets, speed_target

PARTS = ("speed", "memory")
_SET_POSITIVES, _SET_NEGATIVES = 4, 8  # a row of the case with several positives
_QUICK = {"sizes": (256, 512), "features": (256,), "memory_sizes": (512, 1024), "rounds": 3}


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        rounds: measured rounds of each case.
        threads: thread counts of the speed part, each with rows of its own.
        sizes: N = M of the speed part.
        features: D of the speed part; the memory part takes the first.
        memory_sizes: N = M of the memory part.
        parts: of ``PARTS``.
    """

    rounds: int = 10
    threads: tuple[int, ...] = (1, 2)
    sizes: tuple[int, ...] = (1024, 4096, 8192)
    features: tuple[int, ...] = (256, 768)
    memory_sizes: tuple[int, ...] = (1024, 2048, 4096, 8192, 16384, 32768)
    parts: tuple[str, ...] = PARTS

    @property
    def speed_cases(self) -> list[Case]:
        """Every size with every D, and the middle size once with several positives a row."""
        if "speed" not in self.parts:
            return []
        cases = [Case(count, size) for size in self.features for count in self.sizes]
        middle = sorted(self.sizes)[len(self.sizes) // 2]
        return [*cases, Case(middle, self.features[0], _SET_POSITIVES, _SET_NEGATIVES)]

    @property
    def memory_cases(self) -> list[Case]:
        """Every size of the memory part."""
        sizes = self.memory_sizes if "memory" in self.parts else ()
        return [Case(count, self.features[0]) for count in sizes]

    @property
    def command(self) -> str:
        """The command line that asks for the same."""
        lists = {
            "threads": self.threads,
            "sizes": self.sizes,
            "features": self.features,
            "memory_sizes": self.memory_sizes,
            "parts": self.parts,
        }
        texts = [f"--{name} {' '.join(map(str, values))}" for name, values in lists.items()]
        return f"python tools/benchmark.py contrastive --rounds {self.rounds} {' '.join(texts)}"


@dataclass(frozen=True)
class Report:
    """What was measured, on what, and whether it is enough.

    Attributes:
        load: processes that wanted a processor in the minute before, the system's load average.
        absent: who could not take part, or not everywhere, and why.
    """

    options: Options
    processor: Processor
    date: str
    load: float
    versions: dict[str, str]
    peers: list[Peer]
    absent: dict[str, str]
    speed_rows: list[SpeedRow] = field(default_factory=list)
    memory_rows: list[MemoryRow] = field(default_factory=list)

    @property
    def targets(self) -> list[Target]:
        """Every target that the rows allow to judge."""
        speeds = (speed_target(row, self.processor) for row in self.speed_rows)
        return [*(target for target in speeds if target), *memory_targets(self.memory_rows)]

    @property
    def missed(self) -> list[Target]:
        """The targets that were missed."""
        return [target for target in self.targets if not target.is_met]

    def as_json(self) -> dict[str, Any]:
        """Everything, for the file."""
        derived = ("total", "minimum", "extra")
        return {
            "benchmark": "contrastive",
            "date": self.date,
            "load_before": self.load,
            "command": self.options.command,
            "processor": asdict(self.processor),
            "versions": self.versions,
            "peers": {peer.name: peer.about for peer in self.peers},
            "absent": self.absent,
            "speed": [asdict(row) for row in self.speed_rows],
            "memory": [
                asdict(row) | {name: getattr(row, name) for name in derived}
                for row in self.memory_rows
            ],
            "targets": [asdict(target) | {"is_met": target.is_met} for target in self.targets],
        }


def make_options(given: dict[str, Any], *, is_quick: bool) -> Options:
    """Return the defaults, or those of a run of a minute that judges no target, and what is given.

    Args:
        given: names and values of ``Options``.
    """
    return Options(**((_QUICK if is_quick else {}) | given))


def run(options: Options) -> Report:
    """Measure, with a progress bar that tells the time left."""
    _check(options)
    load = os.getloadavg()[0]
    chip = processor()
    everyone = all_peers(is_amd=chip.is_amd)
    peers, absent = split_by_presence(everyone, is_amd=chip.is_amd)
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "compiler of the operators": _compiler(),
    }
    speed_rows: list[SpeedRow] = []
    if options.speed_cases:
        speed.require_memory(options.speed_cases, peers)
    with _progress(options, peers) as progress:
        for threads in options.threads if options.speed_cases else ():
            rows, found, reasons = speed.measure(
                options.speed_cases,
                peers,
                threads=threads,
                num_rounds=options.rounds,
                progress=progress,
            )
            speed_rows += rows
            versions |= found
            absent |= reasons
        memory_rows, found, left_out = memory.measure(
            options.memory_cases, peers, threads=max(options.threads), progress=progress
        )
        versions |= found
    return Report(
        options=options,
        processor=chip,
        date=datetime.date.today().isoformat(),
        load=load,
        versions=versions,
        peers=[peer for peer in everyone if peer.name not in absent],
        absent=absent | left_out,
        speed_rows=speed_rows,
        memory_rows=memory_rows,
    )


def _check(options: Options) -> None:
    """Refuse what cannot be measured."""
    processors = len(os.sched_getaffinity(0))
    if max(options.threads) > processors:
        raise BenchmarkError(
            f"--threads {max(options.threads)} exceeds the {processors} processors that this "
            "process may use; give fewer"
        )


def _progress(options: Options, peers: list[Peer]) -> tqdm:
    """A bar over operations, not over steps: the last case takes hundreds of times the first."""
    total = sum(
        speed.work(case, peers, threads=threads, num_rounds=options.rounds)
        for threads in options.threads
        for case in options.speed_cases
    )
    total += memory.work(options.memory_cases, peers, threads=max(options.threads))
    form = "{desc}: {percentage:3.0f}% |{bar:20}| {elapsed} gone, {remaining} left"
    return tqdm(total=total, bar_format=form, smoothing=0)


def _compiler() -> str:
    """Found without importing Paddle, which the parent has no need of."""
    package = importlib.util.find_spec("unimo_paddle")
    library = Path(package.origin).parent / "ops" / "_operators.so"
    return compiler_of(library) if library.is_file() else "unknown"
