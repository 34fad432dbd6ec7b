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
import functools
from pathlib import Path

from unimo_paddle.data.formats.coco import read_coco
from unimo_paddle.errors import UserError
from unimo_paddle.preparation.importing import (
    ImportPlan,
    Part,
    add_import_arguments,
    image_folder,
    run_import,
)
from unimo_paddle.preparation.karpathy import CAPTION


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--train", type=Path, help="JSON file to train on")
    parser.add_argument("--dev", type=Path, help="JSON file to measure on")
    add_import_arguments(parser, output="data/coco_captions", with_images=True)


def run(arguments: argparse.Namespace) -> None:
    """Import the files that are given."""
    files = {split: getattr(arguments, split) for split in ("train", "dev")}
    files = {split: path for split, path in files.items() if path is not None}
    if not files:
        raise UserError("nothing to import: give --train, --dev or both")
    images = image_folder(arguments)
    plan = ImportPlan(
        title="COCO captions",
        sources=list(files.values()),
        parts=[
            Part(f"{split}.jsonl", path, functools.partial(read_coco, path, images))
            for split, path in files.items()
        ],
        texts=[CAPTION],
        images=images,
        options={"command": "coco", "splits": {k: path.name for k, path in files.items()}},
    )
    run_import(plan, arguments)
