"""Import SNLI-VE: what an image of Flickr30k says of a sentence.

Reads snli_ve_train.jsonl, snli_ve_dev.jsonl and snli_ve_test.jsonl; writes lines with id, image,
hypothesis and label. Images that lie outside the output folder get a hard link in it.
docs/formats.md lists all sets.

examples:
    python tools/prepare_data.py snli_ve --input SNLI-VE --images flickr30k-images
  where a store has the regions of the images, and nobody needs their files
    python tools/prepare_data.py snli_ve --input SNLI-VE --no_images
"""

from __future__ import annotations

import argparse
from pathlib import Path

from unimo_paddle.data.formats.entailment import read_snli_ve
from unimo_paddle.preparation.importing import (
    ImportPlan,
    add_import_arguments,
    image_folder,
    run_import,
)
from unimo_paddle.preparation.measures import TextColumn
from unimo_paddle.preparation.splits import found_files, parts_of

FILES = {split: f"snli_ve_{split}.jsonl" for split in ("train", "dev", "test")}
TEXTS = (TextColumn("hypothesis", 512, "task.data.max_text_length"),)
RECIPES = ("configs/finetune/snli_ve_base.yaml", "configs/finetune/snli_ve_large.yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--input", type=Path, required=True, help="folder of the published files")
    add_import_arguments(parser, output=Path("data/snli_ve"), with_images=True)


def run(arguments: argparse.Namespace) -> None:
    """Import the files that are there."""
    run_import(_plan, arguments)


def _plan(arguments: argparse.Namespace) -> ImportPlan:
    files, images = found_files(arguments.input, FILES, what="SNLI-VE"), image_folder(arguments)
    return ImportPlan(
        title="SNLI-VE",
        sources=list(files.values()),
        parts=parts_of(files, read_snli_ve, images=images),
        texts=TEXTS,
        label="label",
        images=images,
        options={"command": "snli_ve"},
        recipes=RECIPES,
    )
