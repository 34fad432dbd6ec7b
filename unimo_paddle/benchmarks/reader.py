"""Benchmark B6: whether updates ever wait for the reader, and what an image costs it.

Batches made by one thread and updates from batches that were made before take turns. On a machine
whose processors compute the updates too, a reader takes their time even where it is not waited
for, so the ratio is also the share of an update that reading adds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from unimo_paddle.benchmarks.cases import BenchmarkError
from unimo_paddle.benchmarks.peer_report import Origin
from unimo_paddle.benchmarks.peers import OURS, Peer
from unimo_paddle.benchmarks.rounds import Spread, take_turns
from unimo_paddle.benchmarks.tables import Table, without_repeats
from unimo_paddle.benchmarks.targets import Target
from unimo_paddle.benchmarks.workers import Worker

READING, UPDATING = "batches, one thread", "updates, all threads"
IMAGE_SIZE = 224  # side that photographs are read at
OPENCV, PILLOW = "OpenCV alone", "Pillow, as torchvision reads"

_FORMS = "unimo_paddle.benchmarks.reader_forms"
_OF_UPDATES = 3.0  # rate of reading over that of updates
_OF_PILLOW = 1.0
_COMMON = (
    *("--train.max_steps", "1000000"),
    *("--task.data.splits", "{}"),
    *("--evaluation.splits", "[]"),
)


@dataclass(frozen=True)
class ReaderCase:
    """A run file of pre-training.

    Attributes:
        config: path of the run file.
        folder: of what the run makes before its first batch.
    """

    config: str
    num_batches: int = 2
    folder: str = ""

    def make_inputs(self) -> ReaderCase:
        """The forms read their own data."""
        return self

    def command_line(self) -> list[str]:
        """For ``config.parse_training``."""
        return ["--config", self.config, *_COMMON, "--output_dir", f"{self.folder}/run"]


@dataclass(frozen=True)
class ImageCase:
    """Photographs of a common size, made up, as JPEG files in memory."""

    count: int = 32
    width: int = 500
    height: int = 375

    def make_inputs(self) -> ImageCase:
        """The forms make the same files from the same seed."""
        return self


@dataclass(frozen=True)
class ReaderRow:
    """One way at one case.

    Attributes:
        what: the case.
        milliseconds: a batch or an update; an image.
        ratio: of times in the same round: updates over batches, another's over ours.
    """

    what: str
    way: str
    milliseconds: float
    ratio: Spread | None
    seconds: list[float]


@dataclass(frozen=True)
class ReaderReport:
    """Everything that one run measured."""

    origin: Origin
    batches: list[ReaderRow]
    images: list[ReaderRow]

    @property
    def targets(self) -> list[Target]:
        """What is judged."""
        found = [
            Target(f"rate of reading over updates ({row.what})", row.ratio.median, _OF_UPDATES)
            for row in self.batches
            if row.ratio is not None
        ]
        return found + [
            Target(f"time of '{row.way}' over ours ({row.what})", row.ratio.median, _OF_PILLOW)
            for row in self.images
            if row.ratio is not None and row.way == PILLOW
        ]

    @property
    def note(self) -> str:
        """How to read the tables."""
        return (
            f"{READING}: all streams of a batch, from files to arrays, with what is drawn and "
            f"hidden. {UPDATING}: forward, backward and new weights, from batches made before. An "
            f"image: a JPEG of 500 x 375 decoded, cropped at random and resized to {IMAGE_SIZE} x "
            f"{IMAGE_SIZE}, in one thread. {OPENCV} checks nothing. {PILLOW}: RandomResizedCrop's "
            "crop, bilinear"
        )

    def tables(self) -> dict[str, Table]:
        """By title."""
        tables = {}
        for title, rows, unit, ratio in (
            ("Batches beside updates", self.batches, "ms a batch", "reading over updates"),
            ("JPEG files", self.images, "ms an image", "time over ours"),
        ):
            cells = [
                [
                    row.what,
                    row.way,
                    f"{row.milliseconds:.3g}",
                    "" if row.ratio is None else row.ratio.show("{:.2f}"),
                ]
                for row in rows
            ]
            tables[title] = Table(
                ["", "way", unit, ratio], without_repeats(cells, columns=1), (0, 1)
            )
        return tables

    def as_json(self) -> dict[str, Any]:
        """Everything, for the file."""
        return self.origin.as_json() | {
            "batches": [asdict(row) for row in self.batches],
            "images": [asdict(row) for row in self.images],
            "targets": [asdict(target) | {"is_met": target.is_met} for target in self.targets],
        }


def run(
    num_rounds: int, *, command: str, configs: Sequence[str], images: ImageCase = ImageCase()
) -> ReaderReport:
    """Measure run files, then the reading of images."""
    origin = Origin.of("Reading", command=command, num_rounds=num_rounds)
    form = "{desc}: {percentage:3.0f}% |{bar:20}| {elapsed} gone, {remaining} left"
    batches: list[ReaderRow] = []
    total = (2 * len(configs) + 3) * (num_rounds + 2)
    with tqdm(total=total, bar_format=form) as progress:
        for config in configs:
            progress.set_description_str(config)
            with tempfile.TemporaryDirectory() as folder:
                case = ReaderCase(config, folder=folder)
                peers = [
                    (Peer(UPDATING, f"{_FORMS}:Updates", ""), origin.threads),
                    (Peer(READING, f"{_FORMS}:Batches", ""), 1),
                ]
                seconds, versions = _measure(case, peers, num_rounds, progress)
            of_updates = Spread.of(seconds[UPDATING] / seconds[READING])
            for way, ratio in ((READING, of_updates), (UPDATING, None)):
                batches.append(_row(config, way, seconds[way] / case.num_batches, ratio))
        progress.set_description_str("JPEG files")
        rows, more = _measure_images(images, num_rounds, progress)
    return ReaderReport(origin.measured(versions | more, read_rate=0.0), batches, rows)


def _measure_images(
    case: ImageCase, num_rounds: int, progress: tqdm
) -> tuple[list[ReaderRow], dict[str, str]]:
    """All ways to read a file, ours first, and versions."""
    ways = {OURS: "Ours", OPENCV: "OpenCv", PILLOW: "Pillow"}
    peers = [(Peer(way, f"{_FORMS}:{name}", ""), 1) for way, name in ways.items()]
    seconds, versions = _measure(case, peers, num_rounds, progress)
    what = f"{case.width} x {case.height} to {IMAGE_SIZE} x {IMAGE_SIZE}"
    rows = []
    for way, taken in seconds.items():
        of_ours = None if way == OURS else Spread.of(taken / seconds[OURS])
        rows.append(_row(what, way, taken / case.count, of_ours))
    return rows, versions


def _row(what: str, way: str, seconds: np.ndarray, ratio: Spread | None) -> ReaderRow:
    return ReaderRow(what, way, 1e3 * float(np.median(seconds)), ratio, seconds.tolist())


def _measure(
    case: ReaderCase | ImageCase, peers: Sequence[tuple[Peer, int]], num_rounds: int, progress: tqdm
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Seconds [rounds] by way, and versions; the peers with the threads of each."""
    with ExitStack() as stack:
        workers = []
        for peer, threads in peers:
            workers.append(Worker(peer, threads=threads))
            stack.callback(workers[-1].close)
        for worker in workers:
            worker.wait_until_ready()
        rounds = take_turns(
            case, workers, num_rounds=num_rounds, check=check_results, progress=progress
        )
        versions = {name: x for worker in workers for name, x in worker.versions.items()}
    return rounds.seconds, versions


def check_results(name: str, found: float, expected: float) -> None:
    """Raise unless both have read the same: the first batch, or sizes of all images."""
    if found != expected:
        raise BenchmarkError(f"'{name}' has read {found:.8g}, not {expected:.8g}")
