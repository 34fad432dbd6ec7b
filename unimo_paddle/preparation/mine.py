"""Find the images and sentences nearest to each pair in collections without pairs.

Images are compared by their labelled objects where both sides have them, else by colours and
edges; captions with sentences by TF-IDF; with --bundle, all by the features of a trained model.
Nothing is found that is in the pairs or in the splits. A run that was killed goes on when the same
command is typed again. docs/data.md explains the file.

examples:
    python tools/prepare_data.py mine --pairs mine/train.jsonl --images mine/unlabelled \\
        --texts mine/corpus.txt --splits mine/dev.jsonl --output mine/mined.safetensors
  again, by what a model has learnt, with a page to look at
    python tools/prepare_data.py mine --pairs mine/train.jsonl --images mine/unlabelled \\
        --texts mine/corpus.txt --bundle runs/mine/bundle --output mine/mined2.safetensors \\
        --page mined.html
"""

from __future__ import annotations

import argparse
from pathlib import Path

from unimo_paddle.data.fingerprints import fingerprint_of
from unimo_paddle.data.mining import MiningOptions, mine
from unimo_paddle.data.mining.image_side import LOOKS, OBJECTS
from unimo_paddle.data.regions import RegionStores
from unimo_paddle.data.scenes import ensure_image_objects, holds_scenes
from unimo_paddle.data.sources import read_pairs
from unimo_paddle.errors import UserError
from unimo_paddle.preparation.page import write_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--pairs", type=Path, required=True, help="pairs to mine for, JSON lines")
    parser.add_argument("--images", type=Path, help="folder of images without captions")
    parser.add_argument("--texts", type=Path, nargs="+", default=[], help="plain text files")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--splits", type=Path, nargs="+", default=[], help="pairs that nothing may be found of"
    )
    parser.add_argument(
        "--regions", type=Path, nargs="+", help="stores of the regions of images without files"
    )
    parser.add_argument("--neighbours", type=int, default=100, help="of a record, a side (100)")
    parser.add_argument("--by", choices=(OBJECTS, LOOKS), help="how images are compared")
    parser.add_argument(
        "--objects", type=Path, help="objects of the images, JSON lines (IMAGES/objects.jsonl)"
    )
    parser.add_argument("--bundle", type=Path, help="compare by this exported model's features")
    parser.add_argument("--page", type=Path, help="HTML page to write, with pairs and what is near")
    parser.add_argument("--page_pairs", type=int, default=24, help="pairs on the page (24)")


def run(arguments: argparse.Namespace) -> None:
    """Mine, and say what came out."""
    if arguments.bundle and arguments.by:
        raise UserError(f"--by {arguments.by} and --bundle exclude each other; give one")
    if arguments.images and holds_scenes(arguments.images):
        ensure_image_objects(arguments.images)
    options = MiningOptions(
        pairs=arguments.pairs,
        output=arguments.output,
        images=arguments.images,
        texts=tuple(arguments.texts),
        splits=tuple(arguments.splits),
        num_neighbours=arguments.neighbours,
        by=arguments.by,
        objects=arguments.objects,
        regions=tuple(arguments.regions or ()),
    )
    if arguments.bundle:
        # Paddle takes seconds to import, and nothing else here needs it.
        from unimo_paddle.predictor import Predictor
        from unimo_paddle.tasks.bundle import MANIFEST_NAME

        model = Predictor(arguments.bundle)
        # The manifest lists the SHA-256 of every file of the bundle.
        mined = mine(
            options, model=model, model_sha256=fingerprint_of(arguments.bundle / MANIFEST_NAME)
        )
    else:
        mined = mine(options)
    print(f"written: {arguments.output} ({mined.summary()})")
    if arguments.page:
        stores = RegionStores(arguments.regions) if arguments.regions else None
        records = read_pairs(arguments.pairs, stores=stores)
        write_page(arguments.page, mined, records, num_pairs=arguments.page_pairs)
        print(f"written: {arguments.page}")
