"""Karpathy's splits with captions: ``dataset_coco.json``, ``_flickr30k``, ``_flickr8k``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unimo_paddle.data.formats.image_folder import ImageFolder
from unimo_paddle.data.formats.items import Items, Record, one_line, parsed, read_list, value_of
from unimo_paddle.data.records import Fault

# Our split of each of theirs; restval is what COCO's validation images leave over.
SPLITS = {"train": "train", "restval": "train", "val": "dev", "test": "test"}


def read_karpathy(
    path: Path, images: ImageFolder, split: str, splits: Mapping[str, str] = SPLITS
) -> Items:
    """``id``, ``image`` and ``captions`` of the images of a split.

    Args:
        split: a split of ours.
        splits: the split of ours of each of theirs; those without one are left out.
    """
    items = (
        (where, item) for where, item in read_list(path, "images") if _is_of(item, split, splits)
    )
    return parsed(items, lambda item: _parse(item, images))


def _is_of(item: Any, split: str, splits: Mapping[str, str]) -> bool:
    """Whether an image is of a split; what has no known one is told about with the first split."""
    theirs = item.get("split") if isinstance(item, dict) else None
    is_known = isinstance(theirs, str) and theirs in SPLITS
    return splits.get(theirs) == split if is_known else split == "train"


def _parse(item: Any, images: ImageFolder) -> Record:
    theirs = value_of(item, "split", str)
    if theirs not in SPLITS:
        raise Fault(f"split {theirs!r} is none of {', '.join(SPLITS)}")
    name = value_of(item, "filename", str)
    folder = item.get("filepath")
    names = [f"{folder}/{name}", name] if folder else [name]
    sentences = value_of(item, "sentences", list)
    captions = [one_line(value_of(one, "raw", str), "raw") for one in sentences]
    if not captions:
        raise Fault("'sentences' is empty")
    number = item.get("cocoid", Path(name).stem)
    return {"id": str(number), "image": images.find(*names), "captions": captions}
