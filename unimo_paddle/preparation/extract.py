"""Run a detector of your own over a folder of images, into a store of regions.

Any detector that is exported for Paddle Inference serves; --settings names a YAML file that says
what its outputs are and how images are brought in (docs/regions.md lists the keys). A run that was
killed goes on when the same command is typed again. The store is named as its images are, without
folder and suffix.

examples:
    python tools/prepare_data.py extract --detector exported/model --settings detector.yaml \\
        --images mine/images --output mine/regions
    python tools/prepare_data.py extract --detector exported/model --settings detector.yaml \\
        --images mine/images --output mine/regions --pairs mine/train.jsonl --batch_size 4 \\
        --names objects.txt
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from unimo_paddle.data.image_files import read_image
from unimo_paddle.data.records import Fault
from unimo_paddle.data.regions.formats import SourceOptions
from unimo_paddle.data.regions.formats.options import IDS
from unimo_paddle.data.regions.importing import Item, RegionSource, import_regions, read_names
from unimo_paddle.data.regions.layout import ImageRegions
from unimo_paddle.data.sources import read_images
from unimo_paddle.errors import BadSample, UserError
from unimo_paddle.preparation.detector_settings import DetectorConfig
from unimo_paddle.preparation.region_report import (
    REPORT_NAME,
    add_report_arguments,
    check_report_arguments,
    report,
)
from unimo_paddle.preparation.regions import summary
from unimo_paddle.settings import dump, load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command; the folder of images serves the report, too."""
    parser.add_argument(
        "--detector", type=Path, required=True, help="exported files, without their suffix"
    )
    parser.add_argument("--settings", type=Path, help="YAML file on its inputs and outputs")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--batch_size", type=int, default=1, help="images of one run (1)")
    parser.add_argument(
        "--ids", choices=IDS, default="stem", help="names of the images in the store (stem)"
    )
    parser.add_argument("--names", type=Path, help="what the classes are called, one a line")
    parser.add_argument("--report", type=Path, help=f"page to write (OUTPUT/{REPORT_NAME})")
    parser.add_argument(
        "--bad_record_limit", type=float, default=0.01, help="images that may fail, a share (0.01)"
    )
    add_report_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Extract, and say what came out."""
    check_report_arguments(arguments)
    if arguments.images is None:
        raise UserError("extract needs --images, the folder of images to run the detector on")
    if arguments.batch_size < 1:
        raise UserError(f"--batch_size is {arguments.batch_size}; give at least 1")
    config = load(DetectorConfig, arguments.settings) if arguments.settings else DetectorConfig()
    # Paddle takes seconds to import, and nothing before needs it.
    from unimo_paddle.preparation.detector import Detector

    detector = Detector(arguments.detector, config)
    options = SourceOptions(ids=arguments.ids)
    images = list(read_images(arguments.images))
    names = read_names(arguments.names) if arguments.names else ()
    source = RegionSource(
        [*detector.files, *images],
        partial(
            _items, detector, arguments.images.resolve(), images, arguments.batch_size, options
        ),
        len(images),
        "image",
        has_background=config.has_background,
        names=names,
    )
    store = import_regions(
        source,
        arguments.output,
        options={
            "format": "detector",
            "ids": arguments.ids,
            "batch_size": arguments.batch_size,
            "settings": dump(config),
        },
        bad_record_limit=arguments.bad_record_limit,
    )
    print(f"written: {arguments.output} ({summary(store)})")
    report(store, arguments.report or arguments.output / REPORT_NAME, arguments)


class _Batch:
    """Images that the detector sees together, when the first of them is asked for."""

    def __init__(self, detector, paths: Sequence[Path]) -> None:
        self._detector = detector
        self._paths = paths

    @cached_property
    def _found(self) -> list[ImageRegions | Fault]:
        prepared, faults = {}, {}
        for path in self._paths:
            try:
                prepared[path] = self._detector.prepare(read_image(path))
            except BadSample as bad:
                faults[path] = Fault(bad.reason)
        detected = self._detector.detect(list(prepared.values())) if prepared else []
        regions = dict(zip(prepared, detected, strict=True))
        found = []
        for path in self._paths:
            try:
                if path in faults:
                    raise faults[path]
                found.append(self._detector.regions("", prepared[path], regions[path]))
            except Fault as fault:
                found.append(fault)
        return found

    def load(self, place: int, image_id: str) -> ImageRegions:
        """The regions of one of the images."""
        found = self._found[place]
        if isinstance(found, Fault):
            raise found
        return replace(found, image_id=image_id)


def _items(
    detector, folder: Path, images: Sequence[Path], batch_size: int, options: SourceOptions
) -> Iterator[Item]:
    for start in range(0, len(images), batch_size):
        paths = images[start : start + batch_size]
        batch = _Batch(detector, paths)
        for place, path in enumerate(paths):
            image_id = options.name(str(path.relative_to(folder)))
            yield Item(str(path), partial(batch.load, place, image_id))
