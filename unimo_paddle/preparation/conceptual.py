"""Import Conceptual Captions: a table of captions and addresses, with the images that you have.

Many addresses are dead; rows without an image are left out and counted, which is no fault here.
--image_name says how your images are named, by the row from 0 and the address: {row}, {md5} and
{crc32}. Writes lines with an image and one caption, to pre-train on. Images that lie outside the
output folder get a hard link in it. docs/formats.md lists all sets.

examples:
    python tools/prepare_data.py conceptual --train Train_GCC-training.tsv --images cc_images \\
        --image_name "{row:09d}.jpg"
    python tools/prepare_data.py conceptual --train Train_GCC-training.tsv --images cc_images \\
        --image_name "training/{row}_{crc32}"
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from unimo_paddle.data.formats.conceptual import read_conceptual
from unimo_paddle.errors import UserError
from unimo_paddle.preparation.importing import (
    ImportPlan,
    Part,
    add_import_arguments,
    image_folder,
    run_import,
)
from unimo_paddle.preparation.measures import TextColumn

TEXTS = (TextColumn("captions", 128, "task.data.max_text_length"),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--train", type=Path, help="table to train on")
    parser.add_argument("--dev", type=Path, help="table to measure on")
    parser.add_argument("--image_name", required=True, help="pattern of the images' names")
    add_import_arguments(parser, output="data/conceptual", with_images=True)


def run(arguments: argparse.Namespace) -> None:
    """Import the rows with images."""
    files = {split: getattr(arguments, split) for split in ("train", "dev")}
    files = {split: path for split, path in files.items() if path is not None}
    if not files:
        raise UserError("nothing to import: give --train, --dev or both")
    images = image_folder(arguments)
    pattern = arguments.image_name
    plan = ImportPlan(
        title="Conceptual Captions",
        sources=list(files.values()),
        parts=[
            Part(f"{split}.jsonl", path, functools.partial(read_conceptual, path, images, pattern))
            for split, path in files.items()
        ],
        texts=TEXTS,
        images=images,
        options={
            "command": "conceptual",
            "image_name": pattern,
            "splits": {split: path.name for split, path in files.items()},
        },
        may_lack_images=True,
    )
    run_import(plan, arguments)
