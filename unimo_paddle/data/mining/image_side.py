"""Images of a collection near those of pairs, never among those of the pairs themselves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unimo_paddle.data.chunks import Chunks, Workshop
from unimo_paddle.data.mining.features import (
    check_objects,
    describe_looks,
    names_of,
)
from unimo_paddle.data.mining.neighbours import DenseTable, SparseTable, warn_if_alike
from unimo_paddle.data.mining.sides import Side
from unimo_paddle.data.mining.texts import WordWeights
from unimo_paddle.data.objects import LabelledObject
from unimo_paddle.data.prints import find_copies, print_images
from unimo_paddle.data.shards import folder_of
from unimo_paddle.data.sources import (
    LabelledImage,
    PairRecord,
    labels_path,
    read_labelled_images,
)
from unimo_paddle.errors import UserError

logger = logging.getLogger(__name__)

OBJECTS, LOOKS, MODEL = "objects", "looks", "model"
IMAGES_AT_ONCE = 256
QUERIES_AT_ONCE = 512

EmbedImages = Callable[[Sequence[Path | dict[str, Any]]], np.ndarray]  # as ``Predictor`` takes them


@dataclass(frozen=True)
class ImageCollection:
    """Images without captions.

    Args:
        folder: in which they lie, or the shards.
        paths: of all of them.
        objects: JSON lines of their labelled objects, if there are any.
    """

    folder: Path
    paths: Sequence[Path]
    objects: Path | None


def find_collection(folder: Path, paths: Sequence[Path], objects: Path | None) -> ImageCollection:
    """The images of a folder or of shards, with the objects beside them unless others are given."""
    inside = labels_path(folder_of(folder))
    return ImageCollection(folder, paths, objects or (inside if inside.is_file() else None))


def choose_way(
    collection: ImageCollection, records: Sequence[PairRecord], wanted: str | None
) -> str:
    """By what images are compared: by objects where both sides have them, else by looks."""
    num_labelled = sum(bool(record.objects) for record in records)
    if wanted == OBJECTS and collection.objects is None:
        raise UserError(
            f"--by objects, but {labels_path(folder_of(collection.folder))} does not exist; write "
            "it or name another file with --objects"
        )
    if wanted == OBJECTS:
        check_objects(num_labelled, len(records), "the pairs")
    if wanted is not None:
        return wanted
    is_known = collection.objects is not None and 2 * num_labelled >= len(records)
    return OBJECTS if is_known else LOOKS


class ImageSide:
    """The work on images: what may be found, what it is compared by, what is nearest."""

    def __init__(
        self,
        shop: Workshop,
        records: Sequence[PairRecord],
        split_records: Sequence[PairRecord],
        collection: ImageCollection,
    ) -> None:
        self._shop = shop
        self._collection = collection
        own: dict[Path, PairRecord] = {}
        for record in records:
            own.setdefault(record.image, record)
        numbers = {path: number for number, path in enumerate(own)}
        self._own = list(own)
        self._own_objects = [record.objects for record in own.values()]
        self._query_of = np.array([numbers[record.image] for record in records])
        self._splits = list({record.image for record in split_records} - own.keys())
        self._splits.sort()

    def mine(self, way: str, count: int, embed: EmbedImages | None, *, exact_rows: int) -> Side:
        """Neighbours of all records' images."""
        kept = self._keep()
        count = min(count, len(kept))  # no room for what cannot be
        if way == OBJECTS:
            found = self._by_objects(kept, count)
        else:
            describe = self._beside_objects(embed) if embed else describe_looks
            found = self._by_features(kept, count, describe, exact_rows)
        folder = folder_of(self._collection.folder).resolve()
        names = [str(path.relative_to(folder)) for path in self._collection.paths]
        return Side(found, self._query_of, names)

    def _keep(self) -> np.ndarray:
        """Numbers of the images that may be found; why others may not is told."""
        paths = self._collection.paths
        prints = self._prints(paths, "image collection")
        known_paths = [*self._own, *self._splits]
        own = self._prints(self._own, "images of pairs")
        self._is_usable = own["is_usable"].astype(bool)
        splits = self._prints(self._splits, "images of splits")
        known = np.concatenate([own, splits])

        def look(start: int, stop: int) -> np.ndarray:
            is_known = np.zeros(stop - start, bool)
            for copy in find_copies(
                prints[start:stop],
                known,
                these_paths=paths[start:stop],
                those_paths=known_paths,
            ):
                is_known[copy.this] = True
            return is_known

        is_known = self._shop.compute(
            "copies of known images", len(paths), look, size=IMAGES_AT_ONCE, unit="image"
        ).read_all()
        _, firsts = np.unique(prints["digest"], axis=0, return_index=True)
        is_first = np.zeros(len(paths), bool)
        is_first[firsts] = True
        is_usable = prints["is_usable"].astype(bool)
        kept = np.flatnonzero(is_usable & is_first & ~is_known)
        logger.info(
            "images: %d of %d may be found; %d cannot be read, %d are copies of the pairs or "
            "splits, %d are there twice",
            len(kept),
            len(paths),
            int((~is_usable).sum()),
            int((is_usable & is_known).sum()),
            int((is_usable & ~is_known & ~is_first).sum()),
        )
        if not len(kept):
            raise UserError(
                f"none of the {len(paths)} images of {self._collection.folder} may be found: all "
                "are copies of the pairs or splits, or cannot be read; give other images"
            )
        return kept

    def _prints(self, paths: Sequence[Path], name: str) -> np.ndarray:
        if not paths:
            return print_images([])
        make = lambda start, stop: print_images(paths[start:stop])  # noqa: E731
        return self._shop.compute(
            name, len(paths), make, size=IMAGES_AT_ONCE, unit="image"
        ).read_all()

    def _beside_objects(self, embed: EmbedImages) -> EmbedImages:
        """Images with what is known to be in them, which some models read."""
        known = dict(zip(self._own, self._own_objects, strict=True))
        if self._collection.objects is not None:
            known |= {path: item.objects for path, item in self._labels().items()}
        return lambda paths: embed([_item_of(path, known.get(path, ())) for path in paths])

    def _labels(self) -> dict[Path, LabelledImage]:
        folder = folder_of(self._collection.folder)
        return read_labelled_images(folder, self._collection.objects)

    def _by_features(
        self, kept: np.ndarray, count: int, embed: EmbedImages, exact_rows: int
    ) -> Chunks:
        is_kept = np.zeros(len(self._collection.paths), bool)
        is_kept[kept] = True
        features = self._features(self._collection.paths, is_kept, embed, "features of collection")
        queries = self._features(self._own, self._is_usable, embed, "features of pairs")
        warn_if_alike(features, "features of images")
        path = self._shop.folder / "images.faiss"
        logger.info("indexing %d images", len(kept))
        table = DenseTable(features, kept, path=path, exact_rows=exact_rows)

        def search(start: int, stop: int) -> np.ndarray:
            return table.nearest(queries.read(start, stop), count)

        return self._shop.compute(
            "nearest images", len(queries), search, size=QUERIES_AT_ONCE, unit="image"
        )

    def _features(
        self, paths: Sequence[Path], is_wanted: np.ndarray, embed: EmbedImages, name: str
    ) -> Chunks:
        """Features of images, zeros for those that are not wanted."""

        def describe(start: int, stop: int) -> np.ndarray:
            wanted = np.flatnonzero(is_wanted[start:stop])
            # One of any kind tells the size, if nothing else of the chunk is wanted.
            numbers = wanted + start if len(wanted) else np.flatnonzero(is_wanted)[:1]
            rows = embed([paths[number] for number in numbers]).astype(np.float16)
            features = np.zeros((stop - start, rows.shape[1]), np.float16)
            features[wanted] = rows[: len(wanted)]
            return features

        if not is_wanted.any():
            raise UserError(f"none of {len(paths)} images ({name}) can be read; check the files")
        return self._shop.compute(name, len(paths), describe, size=IMAGES_AT_ONCE, unit="image")

    def _by_objects(self, kept: np.ndarray, count: int) -> Chunks:
        labels = self._labels()
        known = [labels.get(self._collection.paths[number]) for number in kept]
        objects = [item.objects if item else () for item in known]
        check_objects(sum(map(bool, objects)), len(kept), self._collection.objects)
        names = [names_of(items) for items in objects]
        weights = WordWeights(analyzer=list)
        weights.learn(names)
        table = SparseTable(*weights.write(self._shop, "objects", names), kept)
        own = [names_of(objects) for objects in self._own_objects]
        return weights.nearest(self._shop, "nearest images", table, own, count)


def _item_of(path: Path, objects: Sequence[LabelledObject]) -> Path | dict[str, Any]:
    """An image as a line of the data holds it, where more is known than its pixels."""
    if not objects:
        return path
    listed = [{"box": list(item.box), "names": list(item.names)} for item in objects]
    return {"image": str(path), "objects": listed}
