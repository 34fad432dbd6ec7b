"""Report on a store of regions: what it holds, how it compares with what the model expects.

A page with counts, histograms and samples with their boxes. The command regions writes one into the
store; this one is for later, with other records, images or settings.

examples:
    python tools/prepare_data.py region_report mine/regions --output report.html \\
        --pairs mine/train.jsonl mine/dev.jsonl --images mine/images
    python tools/prepare_data.py region_report mine/regions --output report.html \\
        --feature_size 1024 --max_regions 36 --verify
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import fields
from pathlib import Path

from unimo_paddle.data.regions.coverage import measure_coverage
from unimo_paddle.data.regions.layout import MANIFEST_NAME
from unimo_paddle.data.regions.store import RegionStore
from unimo_paddle.errors import UserError
from unimo_paddle.preparation.region_findings import Expected, findings
from unimo_paddle.preparation.region_page import NUM_SAMPLES, write_report

REPORT_NAME = "report.html"  # in the folder of a store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("store", type=Path, help="folder of the store")
    parser.add_argument("--output", type=Path, required=True, help="HTML page to write")
    parser.add_argument("--verify", action="store_true", help="compare checksums of all files")
    add_report_arguments(parser)


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what is compared and shown."""
    parser.add_argument(
        "--pairs", type=Path, nargs="+", default=[], help="records whose images should be there"
    )
    parser.add_argument("--images", type=Path, help="folder of the images, to draw boxes over")
    parser.add_argument(
        "--samples", type=int, default=NUM_SAMPLES, help=f"images drawn ({NUM_SAMPLES})"
    )
    for item in fields(Expected):
        parser.add_argument(
            f"--{item.name}", type=int, default=item.default, help=f"of the model ({item.default})"
        )


def check_report_arguments(arguments: argparse.Namespace) -> None:
    """Refuse what would fail after a long import only."""
    if arguments.images and not arguments.images.is_dir():
        raise UserError(f"--images {arguments.images} is no folder; check the path")
    for path in arguments.pairs:
        if not path.is_file():
            raise UserError(f"--pairs {path} does not exist; check the path")
    for name in ("samples", *(item.name for item in fields(Expected))):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name} is {getattr(arguments, name)}; give at least 1")


def report(store: RegionStore, path: Path, arguments: argparse.Namespace) -> None:
    """Write the page, note the coverage in the manifest, and print what is to be minded."""
    names = [item.name for item in fields(Expected)]
    expected = Expected(**{name: getattr(arguments, name) for name in names})
    coverage = measure_coverage(store, arguments.pairs) if arguments.pairs else None
    if coverage is not None:
        _note(store, {"coverage": coverage.as_json()})
    write_report(
        path,
        store,
        expected=expected,
        coverage=coverage,
        images=arguments.images,
        num_samples=arguments.samples,
    )
    for finding in findings(store, expected, coverage):
        if not finding.is_fine:
            print(f"mind: {finding.text}")
    print(f"written: {path}")


def _note(store: RegionStore, more: dict) -> None:
    """Add to the manifest of a store."""
    path = store.path / MANIFEST_NAME
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps(store.manifest | more, indent=1) + "\n", "utf-8")
    os.replace(unfinished, path)


def run(arguments: argparse.Namespace) -> None:
    """Report on a store that is there."""
    check_report_arguments(arguments)
    store = RegionStore(arguments.store)
    if arguments.verify:
        store.verify()
        print(f"{arguments.store}: all {len(store.manifest['files'])} files are as written")
    report(store, arguments.output, arguments)
