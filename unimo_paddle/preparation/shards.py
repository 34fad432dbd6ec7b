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
import os
from pathlib import Path
from typing import Any

from unimo_paddle.data.formats.image_folder import ImageFolder
from unimo_paddle.data.formats.items import Items, Record, one_lines, parsed
from unimo_paddle.data.shards import list_shards, split_member
from unimo_paddle.data.sources import read_samples
from unimo_paddle.preparation.conceptual import TEXTS
from unimo_paddle.preparation.importing import ImportPlan, add_import_arguments, run_import
from unimo_paddle.preparation.splits import add_split_arguments, given_files, names_of, parts_of

KEPT_KEYS = ("tags", "objects", "graph", "regions")  # of what a .json says, as lines of pairs do


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_split_arguments(
        parser, train="shards to train on, {00..09} for several", dev="shards to measure on"
    )
    parser.add_argument(
        "--copy_images",
        action="store_true",
        help="copy shards from elsewhere into the output, where they cannot be linked",
    )
    add_import_arguments(parser, output=Path("data/shards"))


def run(arguments: argparse.Namespace) -> None:
    """Look through all shards and list what is in them."""
    run_import(_plan, arguments)


def _plan(arguments: argparse.Namespace) -> ImportPlan:
    given = given_files(arguments, "train", "dev")
    shards = [shard for pattern in given.values() for shard in list_shards(pattern)]
    root = Path(os.path.commonpath([shard.parent.resolve() for shard in shards]))
    states = {os.path.relpath(shard.resolve(), root): shard.stat() for shard in shards}
    images = ImageFolder(root, arguments.output, names=states)
    return ImportPlan(
        title="Shards",
        sources=[],
        parts=parts_of(given, _read, root=root, images=images),
        texts=TEXTS,
        images=images,
        options={
            "command": "shards",
            "shards": {name: [state.st_size, state.st_mtime_ns] for name, state in states.items()},
            "splits": names_of(given),
        },
    )


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
