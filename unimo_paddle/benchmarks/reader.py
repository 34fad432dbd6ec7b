"""Benchmark B6: whether updates ever wait for the reader, what images and regions cost it.

Batches made by one thread and updates from batches that were made before take turns. On a machine
whose processors compute the updates too, a reader takes their time even where it is not waited
for, so the ratio is also the share of an update that reading adds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
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
MEMORY, LINES = "a copy in memory", "base64 lines"

_FORMS = "unimo_paddle.benchmarks.reader_forms"
_REGION_FORMS = "unimo_paddle.benchmarks.region_forms"
_OF_UPDATES = 3.0  # rate of reading over that of updates
_OF_PILLOW = 1.0
_OF_MEMORY = 0.6  # rate of a store over that of a copy in memory
_OF_LINES = 20.0
_COMMON = (
    *("--train.max_steps", "1000000"),
    *("--task.data.splits", "{}"),
    *("--evaluation.splits", "[]"),
    *("--task.correlated_start", "0"),  # minutes, and no part of an update
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
class RegionCase:
    """Regions of a detector.

    Attributes:
        folder: of the files that hold them.
    """

    count: int = 256
    num_regions: int = 101
    feature_size: int = 2048
    folder: str = ""

    def make_inputs(self) -> RegionCase:
        """The forms read the files."""
        return self


@dataclass(frozen=True)
class ReaderRow:
    """One way at one case.

    Attributes:
        what: the case.
        milliseconds: a batch or an update; an image; the regions of one.
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
    regions: list[ReaderRow] = field(default_factory=list)

    @property
    def targets(self) -> list[Target]:
        """What is judged."""
        found = [
            Target(f"rate of reading over updates ({row.what})", row.ratio.median, _OF_UPDATES)
            for row in self.batches
            if row.ratio is not None
        ]
        wanted = {PILLOW: _OF_PILLOW, MEMORY: _OF_MEMORY, LINES: _OF_LINES}
        return found + [
            Target(f"time of '{row.way}' over ours ({row.what})", row.ratio.median, wanted[row.way])
            for row in (*self.images, *self.regions)
            if row.ratio is not None and row.way in wanted
        ]

    @property
    def note(self) -> str:
        """How to read the tables."""
        return (
            f"{READING}: all streams of a batch, from files to arrays, with what is drawn and "
            f"hidden. {UPDATING}: forward, backward and new weights, from batches made before. An "
            f"image: a JPEG of 500 x 375 decoded, cropped at random and resized to {IMAGE_SIZE} x "
            f"{IMAGE_SIZE}, in one thread. {OPENCV} checks nothing. {PILLOW}: RandomResizedCrop's "
            "crop, bilinear. Regions of an image: their features from a store on disk, which the "
            "system keeps in memory, into a batch, in one thread; from memory, the same bytes"
        )

    def tables(self) -> dict[str, Table]:
        """By title."""
        tables = {}
        for title, rows, unit, ratio in (
            ("Batches beside updates", self.batches, "ms a batch", "reading over updates"),
            ("JPEG files", self.images, "ms an image", "time over ours"),
            ("Regions of a detector", self.regions, "ms an image", "time over ours"),
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
            "regions": [asdict(row) for row in self.regions],
            "targets": [asdict(target) | {"is_met": target.is_met} for target in self.targets],
        }


def run(
    num_rounds: int,
    *,
    command: str,
    configs: Sequence[str],
    images: ImageCase = ImageCase(),
    regions: RegionCase = RegionCase(),
) -> ReaderReport:
    """Measure run files, then the reading of images and of regions."""
    origin = Origin.of("Reading", command=command, num_rounds=num_rounds)
    form = "{desc}: {percentage:3.0f}% |{bar:20}| {elapsed} gone, {remaining} left"
    batches: list[ReaderRow] = []
    total = (2 * len(configs) + 6) * (num_rounds + 2)
    versions: dict[str, str] = {}
    with tqdm(total=total, bar_format=form) as progress:
        for config in configs:
            progress.set_description_str(config)
            with tempfile.TemporaryDirectory() as folder:
                case = ReaderCase(config, folder=folder)
                peers = [
                    (Peer(UPDATING, f"{_FORMS}:Updates", ""), origin.threads),
                    (Peer(READING, f"{_FORMS}:Batches", ""), 1),
                ]
                seconds, found = _measure(case, peers, num_rounds, progress)
            versions |= found
            of_updates = Spread.of(seconds[UPDATING] / seconds[READING])
            for way, ratio in ((READING, of_updates), (UPDATING, None)):
                batches.append(_row(config, way, seconds[way] / case.num_batches, ratio))
        progress.set_description_str("JPEG files")
        rows, found = _measure_images(images, num_rounds, progress)
        versions |= found
        progress.set_description_str("regions")
        region_rows, found = _measure_regions(regions, num_rounds, progress)
        versions |= found
    return ReaderReport(origin.measured(versions, read_rate=0.0), batches, rows, region_rows)


def _measure_images(
    case: ImageCase, num_rounds: int, progress: tqdm
) -> tuple[list[ReaderRow], dict[str, str]]:
    """All ways to read a file, ours first, and versions."""
    ways = {OURS: "Ours", OPENCV: "OpenCv", PILLOW: "Pillow"}
    peers = [(Peer(way, f"{_FORMS}:{name}", ""), 1) for way, name in ways.items()]
    seconds, versions = _measure(case, peers, num_rounds, progress)
    what = f"{case.width} x {case.height} to {IMAGE_SIZE} x {IMAGE_SIZE}"
    return _rows_beside_ours(what, seconds, case.count), versions


def _measure_regions(
    case: RegionCase, num_rounds: int, progress: tqdm
) -> tuple[list[ReaderRow], dict[str, str]]:
    """All ways to read regions, a store first, and versions."""
    from unimo_paddle.benchmarks.region_forms import write_regions

    ways = {OURS: "Store", MEMORY: "Memory", LINES: "Lines"}
    peers = [(Peer(way, f"{_REGION_FORMS}:{name}", ""), 1) for way, name in ways.items()]
    with tempfile.TemporaryDirectory() as folder:
        write_regions(Path(folder), case)
        case = replace(case, folder=folder)
        seconds, versions = _measure(case, peers, num_rounds, progress)
    what = f"{case.num_regions} x {case.feature_size} in half precision"
    return _rows_beside_ours(what, seconds, case.count), versions


def _rows_beside_ours(what: str, seconds: dict[str, np.ndarray], count: int) -> list[ReaderRow]:
    """A row for each way, with its time over ours in the same round."""
    rows = []
    for way, taken in seconds.items():
        of_ours = None if way == OURS else Spread.of(taken / seconds[OURS])
        rows.append(_row(what, way, taken / count, of_ours))
    return rows


def _row(what: str, way: str, seconds: np.ndarray, ratio: Spread | None) -> ReaderRow:
    return ReaderRow(what, way, 1e3 * float(np.median(seconds)), ratio, seconds.tolist())


def _measure(
    case: ReaderCase | ImageCase | RegionCase,
    peers: Sequence[tuple[Peer, int]],
    num_rounds: int,
    progress: tqdm,
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
