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
import functools
from pathlib import Path

from unimo_paddle.data.formats.entailment import read_snli_ve
from unimo_paddle.errors import UserError
from unimo_paddle.preparation.importing import (
    ImportPlan,
    Part,
    add_import_arguments,
    image_folder,
    run_import,
)
from unimo_paddle.preparation.measures import TextColumn

FILES = {split: f"snli_ve_{split}.jsonl" for split in ("train", "dev", "test")}
TEXTS = (TextColumn("hypothesis", 512, "task.data.max_text_length"),)
RECIPES = ("configs/finetune/snli_ve_base.yaml", "configs/finetune/snli_ve_large.yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--input", type=Path, required=True, help="folder of the published files")
    add_import_arguments(parser, output="data/snli_ve", with_images=True)


def run(arguments: argparse.Namespace) -> None:
    """Import the files that are there."""
    found = {split: arguments.input / name for split, name in FILES.items()}
    found = {split: path for split, path in found.items() if path.is_file()}
    if not found:
        raise UserError(f"{arguments.input} holds none of {', '.join(FILES.values())}")
    images = image_folder(arguments)
    plan = ImportPlan(
        title="SNLI-VE",
        sources=list(found.values()),
        parts=[
            Part(f"{split}.jsonl", path, functools.partial(read_snli_ve, path, images))
            for split, path in found.items()
        ],
        texts=TEXTS,
        label="label",
        images=images,
        options={"command": "snli_ve"},
        recipes=RECIPES,
    )
    run_import(plan, arguments)
