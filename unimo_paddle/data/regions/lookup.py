"""Which image of a store a record means.

Detectors name an image by its file, by that without the suffix, or by the number that COCO's file
names end with: ``COCO_val2014_000000391895.jpg`` is found as any of them, and as ``391895``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from unimo_paddle.data.images import ImageConfig
from unimo_paddle.data.records import Fault
from unimo_paddle.data.regions.store import RegionEntry, RegionStore
from unimo_paddle.errors import UserError

logger = logging.getLogger(__name__)

IMAGE_ID = "image_id"  # key of a record that names its image whatever its file is called
FILE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".npz", ".npy", ".gif", ".tif", ".tiff")
_COCO_NUMBER = re.compile(r"(?:^|_)(\d{12})$")


def without_suffix(name: str) -> str:
    """A name without the suffix of an image or array file."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in FILE_SUFFIXES else name


def possible_ids(name: str) -> Iterator[str]:
    """What a store may call the image of this path, the most telling first."""
    parts = PurePosixPath(name).parts
    for start in range(len(parts)):
        inner = "/".join(parts[start:])
        yield inner
        yield without_suffix(inner)
    number = _COCO_NUMBER.search(without_suffix(parts[-1]) if parts else "")
    if number:
        yield str(int(number[1]))


class RegionStores:
    """Several stores, looked through in order.

    Args:
        paths: their folders.
        config: what the model expects: features of another size are refused. None: any.
    """

    def __init__(self, paths: Sequence[Path | str], config: ImageConfig | None = None) -> None:
        self.stores = [RegionStore(path) for path in paths]
        for store in self.stores:
            if config is not None and store.feature_size != config.feature_size:
                raise UserError(
                    f"{store.path} has features of {store.feature_size} numbers, but "
                    f"task.data.image.feature_size is {config.feature_size}; set it to the store's"
                )

    def find(self, item: Mapping[str, Any]) -> RegionEntry:
        """The regions of a record, by its ``image_id`` or else its ``image``.

        A ``Fault`` says that none of the stores has it.
        """
        return self.named(*names_of(item))

    def named(self, name: str, ids: Iterable[str]) -> RegionEntry:
        """The first of the names that a store has; ``name`` is what a ``Fault`` calls the image."""
        for image_id in dict.fromkeys(ids):
            for store in self.stores:
                index = store.index_of(image_id)
                if index is not None:
                    return store.entry(index)
        raise Fault(f"image {name[:80]!r} has no regions in {self._folders}")

    def warn_of_missing_names(self, path: Path) -> None:
        """Say that records of a file have no tags, though the stores were to give them."""
        logger.warning(
            "%s: task.data.with_tags adds nothing, for no record has tags and %s has no names of "
            "classes; import it from files with classes, with --names, or set with_tags to false",
            path,
            self._folders,
        )

    @property
    def _folders(self) -> str:
        return ", ".join(str(store.path) for store in self.stores)


def names_of(item: Mapping[str, Any]) -> tuple[str, list[str]]:
    """What messages call the image of a record, and what a store may call it."""
    given = item.get(IMAGE_ID)
    if given is not None:
        if not isinstance(given, (str, int)) or isinstance(given, bool):
            raise Fault(f"'{IMAGE_ID}' must be text or a whole number, not {str(given)[:40]!r}")
        return str(given), [str(given)]
    name = item.get("image")
    if not isinstance(name, str) or not name.strip():
        raise Fault("key 'image' or 'image_id' is missing, by which its regions are found")
    return name, list(possible_ids(name.strip()))


class StoredImages(Mapping[str, RegionEntry]):
    """The images of stores by any of their names, as far as they are wanted.

    Args:
        only: names of the images wanted; None: all.
    """

    def __init__(self, stores: RegionStores, only: Container[str] | None = None) -> None:
        self._stores = stores
        self._only = only

    def __getitem__(self, name: str) -> RegionEntry:
        if self._only is not None and name not in self._only:
            raise KeyError(name)
        try:
            return self._stores.named(name, possible_ids(name))
        except Fault:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return (name for store in self._stores.stores for name in store.image_ids())

    def __len__(self) -> int:
        return sum(map(len, self._stores.stores))


def check_stores(paths: Sequence[str], source: str, config: ImageConfig) -> None:
    """Refuse settings with stores that nothing would be read from."""
    if paths and source == "scenes":
        raise UserError(
            "task.data.regions has no effect on task.data.source scenes; leave it out, or set the "
            "source to files"
        )
    if paths and config.kind != "regions":
        raise UserError(
            f"task.data.regions names stores but task.data.image.kind is {config.kind}; set it to "
            "regions"
        )
