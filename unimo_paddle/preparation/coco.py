"""Import COCO's caption files: captions_train2014.json and the like.

Writes a line an image with all its captions; for the splits that captions are compared on, see
karpathy. Images are looked for as the archives lay them (train2014/NAME) and by the name alone.
Those that lie outside the output folder get a hard link in it. docs/formats.md lists all sets.

examples:
    python tools/prepare_data.py coco --train annotations/captions_train2014.json \\
        --dev annotations/captions_val2014.json --images coco_images
"""

from __future__ import annotations

import argparse
from pathlib import Path

from unimo_paddle.data.formats.coco import read_coco
from unimo_paddle.preparation.importing import (
    ImportPlan,
    add_import_arguments,
    image_folder,
    run_import,
)
from unimo_paddle.preparation.karpathy import CAPTION
from unimo_paddle.preparation.splits import add_split_arguments, given_files, names_of, parts_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_split_arguments(parser, train="JSON file to train on", dev="JSON file to measure on")
    add_import_arguments(parser, output=Path("data/coco_captions"), with_images=True)


def run(arguments: argparse.Namespace) -> None:
    """Import the files that are given."""
    run_import(_plan, arguments)


def _plan(arguments: argparse.Namespace) -> ImportPlan:
    files, images = given_files(arguments, "train", "dev"), image_folder(arguments)
    return ImportPlan(
        title="COCO captions",
        sources=list(files.values()),
        parts=parts_of(files, read_coco, images=images),
        texts=[CAPTION],
        images=images,
        options={"command": "coco", "splits": names_of(files)},
    )
