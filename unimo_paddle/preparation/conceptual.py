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
from pathlib import Path

from unimo_paddle.data.formats.conceptual import read_conceptual
from unimo_paddle.preparation.importing import (
    ImportPlan,
    add_import_arguments,
    image_folder,
    run_import,
)
from unimo_paddle.preparation.measures import TextColumn
from unimo_paddle.preparation.splits import add_split_arguments, given_files, names_of, parts_of

TEXTS = (TextColumn("captions", 128, "task.data.max_text_length"),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_split_arguments(parser, train="table to train on", dev="table to measure on")
    parser.add_argument("--image_name", required=True, help="pattern of the images' names")
    add_import_arguments(parser, output=Path("data/conceptual"), with_images=True)


def run(arguments: argparse.Namespace) -> None:
    """Import the rows with images."""
    run_import(_plan, arguments)


def _plan(arguments: argparse.Namespace) -> ImportPlan:
    files, images = given_files(arguments, "train", "dev"), image_folder(arguments)
    pattern = arguments.image_name
    return ImportPlan(
        title="Conceptual Captions",
        sources=list(files.values()),
        parts=parts_of(files, read_conceptual, images=images, pattern=pattern),
        texts=TEXTS,
        images=images,
        options={"command": "conceptual", "image_name": pattern, "splits": names_of(files)},
        may_lack_images=True,
    )
