"""One run of mining: from files to the file of neighbours, gone on with after a kill."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from unimo_paddle.data.chunks import Workshop
from unimo_paddle.data.fingerprints import fingerprint_of, quick_fingerprint_of
from unimo_paddle.data.mining.image_side import MODEL, ImageSide, choose_way, find_collection
from unimo_paddle.data.mining.mined import Column, Mined, write_mined
from unimo_paddle.data.mining.neighbours import EXACT_ROWS
from unimo_paddle.data.mining.sides import columns_of
from unimo_paddle.data.mining.text_side import TextSide
from unimo_paddle.data.sources import read_images, read_pairs
from unimo_paddle.errors import UserError

logger = logging.getLogger(__name__)

# Raised whenever the same files would be mined otherwise.
VERSION = 1


class Model(Protocol):
    """What a trained model compares images and texts by; rows have length one."""

    def embed_images(self, images: Sequence[Path]) -> np.ndarray:
        """Features [N, D] of image files."""

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Features [N, D] of texts."""


@dataclass(frozen=True)
class MiningOptions:
    """What to mine from what.

    Args:
        pairs: JSON lines of the pairs.
        output: the file to write; work that is not done yet lies beside it.
        images: folder of images without captions; none mines no images.
        texts: text files; none mines no sentences.
        splits: JSON lines of pairs that nothing may be mined from, as they are evaluated on.
        num_neighbours: of each record on each side.
        by: "objects" or "looks"; None takes objects where both sides have them.
        objects: JSON lines of the images' objects; None looks for objects.jsonl in the folder.
        exact_rows: up to so many features are searched exactly.
    """

    pairs: Path
    output: Path
    images: Path | None = None
    texts: tuple[Path, ...] = ()
    splits: tuple[Path, ...] = ()
    num_neighbours: int = 100
    by: str | None = None
    objects: Path | None = None
    exact_rows: int = EXACT_ROWS

    def __post_init__(self) -> None:
        if not self.images and not self.texts:
            raise UserError("nothing to mine from: give --images, --texts or both")
        if self.num_neighbours < 1:
            raise UserError(f"--neighbours is {self.num_neighbours}; give at least 1")


def mine(options: MiningOptions, *, model: Model | None = None, model_sha256: str = "") -> Mined:
    """Write the file of neighbours, unless it is there already, and open it.

    Args:
        model: compares by its features instead of objects, looks and words.
        model_sha256: tells models apart.
    """
    records = read_pairs(options.pairs)
    split_records = [record for split in options.splits for record in read_pairs(split)]
    key: dict[str, Any] = {
        "version": VERSION,
        "pairs": fingerprint_of(options.pairs),
        "splits": [fingerprint_of(split) for split in options.splits],
        "texts": [fingerprint_of(text) for text in options.texts],
        "num_neighbours": options.num_neighbours,
        "exact_rows": options.exact_rows,
        "model": model_sha256,
    }
    collection = way = None
    if options.images:
        paths = list(read_images(options.images))
        collection = find_collection(options.images, paths, options.objects)
        way = MODEL if model else choose_way(collection, records, options.by)
        labels = [collection.objects] if collection.objects else []
        images = [*paths, *(record.image for record in [*records, *split_records]), *labels]
        key |= {"images": quick_fingerprint_of(images), "by": way}
    folder = options.output.parent / f".{options.output.name}.work"
    metadata = {
        "pairs_sha256": key["pairs"],
        "pairs_name": options.pairs.name,
        "num_records": str(len(records)),
        "key": _digest(key),
    }
    if _is_done(options, metadata):
        logger.info("%s is up to date", options.output)
        return Mined(options.output, options.pairs)
    shop = Workshop(folder, key)
    columns: list[Column] = []
    if collection and way:
        logger.info("images are compared by %s", way)
        side = ImageSide(shop, records, split_records, collection).mine(
            way,
            options.num_neighbours,
            model.embed_images if model else None,
            exact_rows=options.exact_rows,
        )
        columns += columns_of(side, "image", "image_names", "image_name_offsets")
        metadata |= {
            "images_by": way,
            "images_dir": os.path.relpath(
                collection.folder.resolve(), options.output.parent.resolve()
            ),
        }
    if options.texts:
        side = TextSide(shop, records, split_records, options.texts).mine(
            options.num_neighbours,
            model.embed_texts if model else None,
            exact_rows=options.exact_rows,
        )
        columns += columns_of(side, "text", "texts", "text_offsets")
        metadata["texts_by"] = MODEL if model else "words"
    unfinished = folder / "mined.safetensors"
    write_mined(unfinished, columns, metadata)
    os.replace(unfinished, options.output)
    shop.remove()
    return Mined(options.output, options.pairs)


def _is_done(options: MiningOptions, metadata: dict[str, str]) -> bool:
    """Whether the file that is there holds what is to be mined; others are mined over."""
    if not options.output.is_file():
        return False
    try:
        return Mined(options.output, options.pairs).metadata["key"] == metadata["key"]
    except UserError:
        return False


def _digest(key: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
