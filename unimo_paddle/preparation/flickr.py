"""Import Flickr8k or Flickr30k from a file of captions and lists of images.

Reads Flickr8k.token.txt or results_20130124.token (a name with #, a tab, a caption), or
captions.txt (image,caption). Lists such as Flickr_8k.trainImages.txt divide the images; without
lists, everything is train.jsonl. A line an image with all its captions is written. Images that lie
outside the output folder get a hard link in it. docs/formats.md lists all sets.

examples:
    python tools/prepare_data.py flickr --captions Flickr8k.token.txt \\
        --train Flickr_8k.trainImages.txt --dev Flickr_8k.devImages.txt \\
        --test Flickr_8k.testImages.txt --images Flicker8k_Dataset
    python tools/prepare_data.py flickr --captions captions.txt --images Images
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Collection
from pathlib import Path

from unimo_paddle.data.formats.flickr import FlickrCaptions, read_names
from unimo_paddle.data.formats.image_folder import ImageFolder
from unimo_paddle.data.formats.items import Items
from unimo_paddle.preparation.importing import (
    ImportPlan,
    Part,
    add_import_arguments,
    image_folder,
    run_import,
)
from unimo_paddle.preparation.karpathy import SENTENCE
from unimo_paddle.preparation.splits import add_split_arguments, names_of

SPLITS = ("train", "dev", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--captions", type=Path, required=True, help="file of captions")
    lists = {split: f"list of the images of {split}" for split in SPLITS}
    add_split_arguments(parser, **lists)
    add_import_arguments(parser, output=Path("data/flickr8k"), with_images=True)


def run(arguments: argparse.Namespace) -> None:
    """Import the images of every list, or all."""
    run_import(_plan, arguments)


def _plan(arguments: argparse.Namespace) -> ImportPlan:
    lists = {split: getattr(arguments, split) for split in SPLITS}
    lists = {split: path for split, path in lists.items() if path is not None}
    images = image_folder(arguments)
    captions = FlickrCaptions(arguments.captions)
    names = {split: read_names(path) for split, path in lists.items()} or {"train": None}
    return ImportPlan(
        title=f"Flickr, {arguments.captions.name}",
        sources=[arguments.captions, *lists.values()],
        parts=[
            Part(
                f"{split}.jsonl",
                arguments.captions,
                functools.partial(_read, captions, images, chosen, is_first=number == 0),
            )
            for number, (split, chosen) in enumerate(names.items())
        ],
        texts=[SENTENCE],
        images=images,
        options={"command": "flickr", "splits": names_of(lists)},
    )


def _read(
    captions: FlickrCaptions,
    images: ImageFolder,
    names: Collection[str] | None,
    *,
    is_first: bool,
) -> Items:
    """The images of a split; lines that say of no image belong to the first one."""
    yield from captions.read(images, names)
    if is_first:
        yield from captions.bad
