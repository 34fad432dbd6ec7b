"""Look through tar shards in webdataset layout, and list their pairs for every task.

Members of one name, up to the first dot, belong together: an image with its captions in a .txt (a
line each) or a .json ("captions" or "caption"). Nothing is unpacked: records name the images as
SHARD.tar/MEMBER, which all readers of images know. Pre-training also reads shards without this,
named in task.data.pairs. Shards that lie outside the output folder get a hard link in it.
docs/formats.md lists all sets.

examples:
    python tools/prepare_data.py shards --train "cc3m/{00000..00331}.tar" --output data/cc3m
    python tools/prepare_data.py shards --train "train/{000..113}.tar" --dev dev/000.tar \\
        --output data/mine
"""

from __future__ import annotations

import argparse
import functools
import os
from pathlib import Path
from typing import Any

from unimo_paddle.data.formats.image_folder import ImageFolder
from unimo_paddle.data.formats.items import Items, Record, one_lines, parsed
from unimo_paddle.data.shards import list_shards, split_member
from unimo_paddle.data.sources import read_samples
from unimo_paddle.errors import UserError
from unimo_paddle.preparation.conceptual import TEXTS
from unimo_paddle.preparation.importing import (
    ImportPlan,
    Part,
    add_import_arguments,
    run_import,
)

KEPT_KEYS = ("tags", "objects", "graph", "regions")  # of what a .json says, as lines of pairs do


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--train", type=Path, help="shards to train on, {00..09} for several")
    parser.add_argument("--dev", type=Path, help="shards to measure on")
    parser.add_argument(
        "--copy_images",
        action="store_true",
        help="copy shards from elsewhere into the output, where they cannot be linked",
    )
    add_import_arguments(parser, output="data/shards")


def run(arguments: argparse.Namespace) -> None:
    """Look through all shards and list what is in them."""
    given = {split: getattr(arguments, split) for split in ("train", "dev")}
    given = {split: pattern for split, pattern in given.items() if pattern is not None}
    if not given:
        raise UserError("nothing to look through: give --train, --dev or both")
    shards = [shard for pattern in given.values() for shard in list_shards(pattern)]
    root = Path(os.path.commonpath([shard.parent.resolve() for shard in shards]))
    images = ImageFolder(root, arguments.output)
    plan = ImportPlan(
        title="Shards",
        sources=[],
        parts=[
            Part(f"{split}.jsonl", pattern, functools.partial(_read, pattern, root, images))
            for split, pattern in given.items()
        ],
        texts=TEXTS,
        images=images,
        options={
            "command": "shards",
            "shards": {
                os.path.relpath(shard.resolve(), root): [
                    shard.stat().st_size,
                    shard.stat().st_mtime_ns,
                ]
                for shard in shards
            },
            "splits": {split: pattern.name for split, pattern in given.items()},
        },
    )
    run_import(plan, arguments)


def _read(pattern: Path, root: Path, images: ImageFolder) -> Items:
    folder = list_shards(pattern)[0].parent

    def parse(sample: dict[str, Any]) -> Record:
        shard, member = split_member(folder / sample["image"])
        place = images.find(os.path.relpath(shard.resolve(), root))
        record = {
            "image": f"{place}/{member}",
            "captions": one_lines(sample["captions"], "captions"),
        }
        return record | {key: sample[key] for key in KEPT_KEYS if sample.get(key)}

    return parsed(read_samples(pattern), parse)
