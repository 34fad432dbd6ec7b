"""Import captions by Karpathy's splits: dataset_coco.json, dataset_flickr30k.json, and 8k's.

Writes train.jsonl (for COCO with what it calls restval), dev.jsonl and test.jsonl, a line an image
with all its captions. Images are looked for by the path that the file gives (train2014/NAME) and by
the name alone. Those that lie outside the output folder get a hard link in it. docs/formats.md
lists all sets.

examples:
    python tools/prepare_data.py karpathy --set coco --input dataset_coco.json \\
        --images coco_images
    python tools/prepare_data.py karpathy --set flickr30k --input dataset_flickr30k.json \\
        --images flickr30k-images
  where a store has the regions of the images, and nobody needs their files
    python tools/prepare_data.py karpathy --set coco --input dataset_coco.json --no_images
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from unimo_paddle.data.formats.karpathy import SPLITS, read_karpathy
from unimo_paddle.preparation.importing import (
    SET_OUTPUT,
    ImportPlan,
    Part,
    add_import_arguments,
    image_folder,
    run_import,
)
from unimo_paddle.preparation.measures import TextColumn

CAPTION = TextColumn("captions", 50, "task.language.max_target_length")
SENTENCE = TextColumn("captions", 512, "task.data.max_text_length")
TITLES = {"coco": "COCO", "flickr30k": "Flickr30k", "flickr8k": "Flickr8k"}
RECIPES = {
    "coco": (
        "configs/finetune/coco_captioning_base.yaml",
        "configs/finetune/coco_captioning_large.yaml",
    ),
    "flickr30k": (
        "configs/finetune/flickr30k_retrieval_base.yaml",
        "configs/finetune/flickr30k_retrieval_large.yaml",
    ),
    "flickr8k": (),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--set", choices=sorted(TITLES), required=True, help="which of them")
    parser.add_argument("--input", type=Path, required=True, help="Karpathy's JSON file")
    parser.add_argument(
        "--without_restval", action="store_true", help="leave COCO's restval images out"
    )
    add_import_arguments(parser, output=SET_OUTPUT, with_images=True)


def run(arguments: argparse.Namespace) -> None:
    """Import the three splits."""
    run_import(_plan, arguments)


def _plan(arguments: argparse.Namespace) -> ImportPlan:
    name, images = arguments.set, image_folder(arguments)
    splits = {
        theirs: ours
        for theirs, ours in SPLITS.items()
        if not (arguments.without_restval and theirs == "restval")
    }
    read = functools.partial(read_karpathy, arguments.input, images, splits=splits)
    return ImportPlan(
        title=f"{TITLES[name]}, Karpathy's splits",
        sources=[arguments.input],
        parts=[
            Part(f"{split}.jsonl", arguments.input, functools.partial(read, split=split))
            for split in dict.fromkeys(SPLITS.values())
        ],
        texts=[CAPTION if name == "coco" else SENTENCE],
        images=images,
        options={"command": f"karpathy {name}", "without_restval": arguments.without_restval},
        recipes=RECIPES[name],
    )
