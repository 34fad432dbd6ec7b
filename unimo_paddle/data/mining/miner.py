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
from unimo_paddle.data.mining.mined import Column, Mined, read_metadata, write_mined
from unimo_paddle.data.mining.neighbours import EXACT_ROWS
from unimo_paddle.data.mining.sides import columns_of
from unimo_paddle.data.mining.text_side import TextSide
from unimo_paddle.data.publish import sole_writer
from unimo_paddle.data.regions import RegionStores
from unimo_paddle.data.shards import folder_of, is_there
from unimo_paddle.data.sources import read_images, read_pairs
from unimo_paddle.errors import UserError

logger = logging.getLogger(__name__)

# Raised whenever the same files would be mined otherwise.
VERSION = 2


class Model(Protocol):
    """What a trained model compares images and texts by; rows have length one."""

    def embed_images(self, images: Sequence[Path | dict[str, Any]]) -> np.ndarray:
        """Features [N, D] of image files, or of lines of data that name them and their objects."""

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
        regions: stores of the regions of pairs' and splits' images, whose files need not exist.
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
    regions: tuple[Path, ...] = ()
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
    job = _Job(options, model)
    key = job.key() | {"model": model_sha256}
    metadata = {
        "pairs_sha256": key["pairs"],
        "pairs_name": options.pairs.name,
        "num_records": str(len(job.records)),
        "key": hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest(),
    }
    if _is_done(options, metadata, job.images_dir()):
        logger.info("%s is up to date", options.output)
        return Mined(options.output, options.pairs)
    work = options.output.parent / f".{options.output.name}.work"
    with sole_writer(options.output.with_name(f".{options.output.name}.lock"), options.output):
        shop = Workshop(work, key)
        columns, ways = job.run(shop)
        unfinished = shop.folder / "mined.safetensors"
        write_mined(unfinished, columns, metadata | ways)
        os.replace(unfinished, options.output)
        shop.remove()
    return Mined(options.output, options.pairs)


class _Job:
    """What is mined from what, with the records at hand."""

    def __init__(self, options: MiningOptions, model: Model | None) -> None:
        self.options, self.model = options, model
        self.stores = RegionStores(options.regions) if options.regions else None
        self.records = read_pairs(options.pairs, stores=self.stores)
        self.split_records = [
            record for split in options.splits for record in read_pairs(split, stores=self.stores)
        ]
        self.collection = self.way = None
        if options.images:
            paths = list(read_images(options.images))
            self.collection = find_collection(options.images, paths, options.objects)
            chosen = choose_way(self.collection, self.records, options.by)
            self.way = MODEL if model else chosen

    def key(self) -> dict[str, Any]:
        """All that the result depends on, but the model."""
        options = self.options
        key: dict[str, Any] = {
            "version": VERSION,
            "pairs": fingerprint_of(options.pairs),
            "splits": [fingerprint_of(split) for split in options.splits],
            "texts": [fingerprint_of(text) for text in options.texts],
            "num_neighbours": options.num_neighbours,
            "exact_rows": options.exact_rows,
        }
        if self.stores:  # which records can be used depends on them
            key |= {"regions": [store.manifest["key"] for store in self.stores.stores]}
        if self.collection:
            own = [record.image for record in [*self.records, *self.split_records]]
            own = self._with_files(own)
            labels = [self.collection.objects] if self.collection.objects else []
            seen = quick_fingerprint_of([*self.collection.paths, *own, *labels])
            key |= {"images": seen, "by": self.way}
        return key

    def _with_files(self, images: Sequence[Path]) -> list[Path]:
        """Images that there are; the regions of the others are in a store."""
        if self.stores is None:
            return list(images)
        found = [image for image in images if is_there(image)]
        if len(found) < len(images):
            logger.warning(
                "%d of %d images of pairs and splits have no file: copies of them may be found, "
                "and only objects tell what is near them",
                len(images) - len(found),
                len(images),
            )
        return found

    def images_dir(self) -> str:
        """The folder of the images as the file names it: from where it lies itself."""
        if self.collection is None:
            return ""
        folder = folder_of(self.collection.folder).resolve()
        return os.path.relpath(folder, self.options.output.parent.resolve())

    def run(self, shop: Workshop) -> tuple[list[Column], dict[str, str]]:
        """The columns of the file, and by what both sides were compared."""
        columns: list[Column] = []
        ways: dict[str, str] = {}
        options, model = self.options, self.model
        limits = {"exact_rows": options.exact_rows}
        if self.collection and self.way:
            logger.info("images are compared by %s", self.way)
            embed = model.embed_images if model else None
            images = ImageSide(shop, self.records, self.split_records, self.collection)
            side = images.mine(self.way, options.num_neighbours, embed, **limits)
            columns += columns_of(side, "image", "image_names", "image_name_offsets")
            ways |= {"images_by": self.way, "images_dir": self.images_dir()}
        if options.texts:
            embed = model.embed_texts if model else None
            texts = TextSide(shop, self.records, self.split_records, options.texts)
            side = texts.mine(options.num_neighbours, embed, **limits)
            columns += columns_of(side, "text", "texts", "text_offsets")
            ways["texts_by"] = MODEL if model else "words"
        return columns, ways


def _is_done(options: MiningOptions, metadata: dict[str, str], images_dir: str) -> bool:
    """Whether the file that is there holds what is to be mined; only mined files are replaced."""
    if not options.output.exists():
        return False
    try:
        found = read_metadata(options.output)
    except UserError as error:
        raise UserError(
            f"--output {options.output} exists and is no whole file of mined neighbours; delete it "
            "or choose another"
        ) from error
    # One that was moved without its images names a folder that is not theirs.
    return found["key"] == metadata["key"] and found.get("images_dir", "") == images_dir
