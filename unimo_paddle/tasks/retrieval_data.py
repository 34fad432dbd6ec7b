"""Captions with their images, and the negatives that they meet in training.

Hard negatives are the images and captions nearest by separate scores. They come from a file that a
pre-trained bundle makes of the training file (images in the order in which it first names them, and
all captions, those of the first image first):

    predictor = Predictor("runs/pretrained/bundle")
    numpy.savez(
        "mined.npz",
        image_features=predictor.embed_images(images),
        text_features=predictor.embed_texts(captions),
    )

They are for weights that tell random negatives apart already: a scoring layer that starts anew
learns little from them. A larger ``mining_pool`` makes them easier. They are not looked for with
the network itself at the start of a run, for a resumed run would need the same ones again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from unimo_paddle.data.original_retrieval import (
    SIZES,
    RegionLine,
    read_captions,
    read_image_ids,
    read_region_lines,
)
from unimo_paddle.data.regions import RegionEntry, RegionStores
from unimo_paddle.data.regions.lookup import StoredImages
from unimo_paddle.data.sources import PairRecord
from unimo_paddle.errors import ARCHIVE_DAMAGES, UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.tasks.finetuning import TRAIN_SPLIT
from unimo_paddle.tasks.image_records import Image, ImageDataConfig, LabelledImage, Text

FEATURE_NAMES = ("image_features", "text_features")
SCORES_AT_ONCE = 1 << 24  # 64 MiB of float32


@dataclass(frozen=True)
class RetrievalDataConfig(ImageDataConfig):
    """Where images with captions come from."""

    features: dict[str, str] = field(
        default_factory=dict
    )  # split (train, too): its feature file, or a folder of them (source original)
    image_ids: str | None = None  # file of the images to use, name<tab>id (source original)
    size_columns: tuple[str, str] = SIZES  # columns 2 and 3 of feature files (source original)

    def __post_init__(self) -> None:
        super().__post_init__()
        if sorted(self.size_columns) != sorted(SIZES):
            raise UserError(
                f"task.data.size_columns is {list(self.size_columns)}; give [width, height] or "
                "[height, width]"
            )
        is_usual = self.size_columns == SIZES
        if self.source != "original" and (self.features or self.image_ids or not is_usual):
            raise UserError(
                "task.data.features, image_ids and size_columns have no effect on task.data.source "
                f"{self.source}; leave them out"
            )


@dataclass(frozen=True)
class NamedImage:
    """An image and what messages call it."""

    name: str
    image: Image | RegionLine


@dataclass(frozen=True)
class Pair:
    """An image and a text that is looked for in it."""

    image: NamedImage
    text: Text


class PairTable(Sequence):
    """The images and captions of a split by number; as a sequence, every caption with its image.

    Args:
        path: of the file, for messages.
        images: [N].
        captions: [M].
        owners: [M], the number of each caption's image; every image has a caption.
    """

    def __init__(
        self,
        path: Path,
        images: Sequence[NamedImage],
        captions: Sequence[Text],
        owners: Sequence[int] | np.ndarray,
    ) -> None:
        if len(images) < 2:
            raise UserError(f"{path} has captions of a single image; retrieval needs at least two")
        self.path = path
        self.images = images
        self.captions = captions
        self.owners = np.asarray(owners, np.int64)

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> Pair:
        return Pair(self.images[self.owners[index]], self.captions[index])

    @cached_property
    def captions_of(self) -> list[np.ndarray]:
        """Numbers of the captions of each image."""
        order = np.argsort(self.owners, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.owners))[:-1])

    @cached_property
    def _alike(self) -> dict[Text, list[int]]:
        alike = defaultdict(list)
        for number, text in enumerate(self.captions):
            alike[text].append(number)
        return dict(alike)

    def images_with(self, caption: int) -> set[int]:
        """The images that have this caption, word for word: none is a negative of it."""
        return set(self.owners[self._alike[self.captions[caption]]].tolist())

    def captions_on(self, image: int) -> set[int]:
        """The captions with the words of a caption of the image: none is a negative of it."""
        own = (self._alike[self.captions[number]] for number in self.captions_of[image])
        return {number for numbers in own for number in numbers}

    def first(self, num_images: int) -> PairTable:
        """The first images of the table with their captions; all, where there are no more."""
        if num_images >= len(self.images):
            return self
        kept = np.flatnonzero(self.owners < num_images)
        captions = [self.captions[number] for number in kept]
        return PairTable(self.path, self.images[:num_images], captions, self.owners[kept])


def table_of_pairs(path: Path, records: Sequence[PairRecord], *, kind: str) -> PairTable:
    """The table of records; those of the same image file become one image.

    Args:
        kind: of the images, as ``ImageConfig`` has it.
    """
    images: dict[int, NamedImage] = {}
    captions: list[list[str]] = []
    for record in records:
        name = str(record.image)
        if kind != "patches" and not getattr(record, kind):
            raise UserError(
                f"{path}: {name} has no {kind}; give them, or use task.data.image.kind patches"
            )
        if record.group not in images:
            images[record.group] = NamedImage(name, _image_of(record, kind))
            captions.append([])
        captions[record.group] += record.captions
    owners = np.repeat(np.arange(len(captions)), [len(texts) for texts in captions])
    flat = [text for texts in captions for text in texts]
    return PairTable(path, [images[group] for group in sorted(images)], flat, owners)


def _image_of(record: PairRecord, kind: str) -> Image:
    if kind == "regions":
        return record.regions
    return record.image if kind == "patches" else LabelledImage(record.image, record.objects)


def read_lines_table(
    path: Path,
    data: RetrievalDataConfig,
    model: ModelConfig,
    *,
    split: str,
    stores: RegionStores | None = None,
) -> PairTable:
    """The table of a split in the original's files, whose captions ``path`` holds.

    Images are numbered as the captions name them. Regions come from the feature file of the split,
    or from the stores.
    """
    limit = data.bad_record_limit
    listed = data.image_ids and read_image_ids(data.image_ids, bad_record_limit=limit)
    regions: Mapping[str, RegionLine | RegionEntry]
    if stores is not None:
        regions = StoredImages(stores, listed or None)
    elif split not in data.features:
        raise UserError(
            f"task.data.features names no feature file or folder of split {split!r}; add it, or "
            "name stores under task.data.regions"
        )
    else:
        regions = read_region_lines(
            data.features[split],
            feature_size=data.image.feature_size,
            size_columns=_size_columns(data, split),
            only=listed or None,
            bad_record_limit=limit,
        )
    lines = read_captions(
        path,
        images=regions,
        vocab_size=model.vocab_size,
        first_position=model.first_position,
        bad_record_limit=limit,
    )
    numbers: dict[str, int] = {}
    owners = [numbers.setdefault(line.image, len(numbers)) for line in lines]
    found = {name: regions[name] for name in numbers}
    images = [
        NamedImage(name if isinstance(image, RegionEntry) else image.where, image)
        for name, image in found.items()
    ]
    return PairTable(path, images, [line.ids for line in lines], owners)


def _size_columns(data: RetrievalDataConfig, split: str) -> tuple[str, str]:
    """Where width and height stand; the original confuses them, but not in training."""
    if not data.is_original:
        return data.size_columns
    return SIZES if split == TRAIN_SPLIT else SIZES[::-1]


class RandomNegatives:
    """Draws candidates: other images of a caption, then other captions of its image, at random.

    What has the same words is no negative. None is drawn twice as long as there are others.

    Args:
        count: of each kind.
    """

    def __init__(self, table: PairTable, count: int) -> None:
        self.table = table
        self.count = count

    def draw(self, caption: int, rng: np.random.Generator) -> np.ndarray:
        """Return numbers [1 + 2 * count]: the caption, images, captions."""
        table = self.table
        own = int(table.owners[caption])
        images = self._other(len(table.images), table.images_with(caption), rng, "image")
        captions = self._other(len(table), table.captions_on(own), rng, "caption")
        return np.array([caption, *images, *captions], np.int64)

    def _other(
        self, size: int, excluded: Collection[int], rng: np.random.Generator, kind: str
    ) -> list[int]:
        if len(excluded) == size:
            raise UserError(
                f"{self.table.path}: a caption has no other {kind} to be told from, for all have "
                "the same words; give more varied captions"
            )
        chosen: list[int] = []
        taken = set(excluded)
        while len(chosen) < self.count:
            if len(taken) == size:
                taken = set(excluded)
            number = int(rng.integers(size))
            if number not in taken:
                chosen.append(number)
                taken.add(number)
        return chosen


class MinedNegatives:
    """Draws candidates from the nearest: images near a caption, captions near its image.

    Args:
        image_features, text_features: [N, D] and [M, D]; their cosine is the separate score.
        count: of each kind.
        pool_size: so many of the nearest are drawn from.
    """

    def __init__(
        self,
        table: PairTable,
        image_features: np.ndarray,
        text_features: np.ndarray,
        *,
        count: int,
        pool_size: int,
    ) -> None:
        self.table = table
        self.count = count
        images, texts = _normalise(image_features), _normalise(text_features)
        same_words = [table.images_with(caption) for caption in range(len(table))]
        self.images = _nearest(texts, images, same_words, pool_size)
        same_words = [table.captions_on(image) for image in range(len(table.images))]
        self.captions = _nearest(images, texts, same_words, pool_size)

    def draw(self, caption: int, rng: np.random.Generator) -> np.ndarray:
        """Return numbers [1 + 2 * count]: the caption, images, captions."""
        pools = self.images[caption], self.captions[self.table.owners[caption]]
        chosen = [rng.choice(pool, self.count, replace=len(pool) < self.count) for pool in pools]
        return np.array([caption, *chosen[0], *chosen[1]], np.int64)


def _normalise(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-6)


def _nearest(
    queries: np.ndarray, candidates: np.ndarray, excluded: Sequence[set[int]], pool_size: int
) -> np.ndarray:
    """Numbers [Q, pool] of the nearest candidates of each query that are not excluded."""
    size = min(pool_size, len(candidates) - max(map(len, excluded)))
    if size < 1:
        raise UserError(
            "task.mining separate: a caption has no negatives, for all captions have the same "
            "words; give more varied captions"
        )
    found = np.empty((len(queries), size), np.int32)
    step = max(1, SCORES_AT_ONCE // len(candidates))
    for start in range(0, len(queries), step):
        scores = queries[start : start + step] @ candidates.T
        for row, numbers in zip(scores, excluded[start : start + step], strict=True):
            row[list(numbers)] = -np.inf
        found[start : start + step] = np.argpartition(-scores, size - 1, axis=1)[:, :size]
    return found


def read_features(path: Path, table: PairTable) -> tuple[np.ndarray, np.ndarray]:
    """Read the features of a table's images [N, D] and captions [M, D]; see the module."""
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in FEATURE_NAMES if name not in file.files]
            if missing:
                raise UserError(f"task.mined {path} holds no array {missing[0]}; make it anew")
            arrays = [np.asarray(file[name]) for name in FEATURE_NAMES]
    except UserError:
        raise
    except (OSError, *ARCHIVE_DAMAGES) as error:
        problem = str(error)[:100]
        raise UserError(
            f"task.mined {path} is no readable .npz file ({problem}); make it anew"
        ) from None
    counts = {"image_features": len(table.images), "text_features": len(table)}
    for array, (name, count) in zip(arrays, counts.items(), strict=True):
        if array.ndim != 2 or len(array) != count or array.shape[1] != arrays[0].shape[-1]:
            raise UserError(
                f"task.mined {path}: {name} has shape {list(array.shape)}; {table.path} has "
                f"{count} of them, and both arrays need rows of one size"
            )
        if not (np.issubdtype(array.dtype, np.floating) and np.isfinite(array).all()):
            raise UserError(f"task.mined {path}: {name} holds what is no finite number")
    return arrays[0], arrays[1]
