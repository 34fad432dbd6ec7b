"""Karpathy's splits with captions: ``dataset_coco.json``, ``_flickr30k``, ``_flickr8k``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unimo_paddle.data.formats.image_folder import ImageFolder
from unimo_paddle.data.formats.items import Items, Record, one_line, read_list, value_of
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
    for where, item in read_list(path, "images"):
        if _is_of(item, split, splits):
            yield from _image(where, item, images)


def _is_of(item: Any, split: str, splits: Mapping[str, str]) -> bool:
    """Whether an image is of a split; what has no known one is told about with the first split."""
    theirs = item.get("split") if isinstance(item, dict) else None
    is_known = isinstance(theirs, str) and theirs in SPLITS
    return splits.get(theirs) == split if is_known else split == "train"


def _image(where: str, item: Any, images: ImageFolder) -> Items:
    """An image with the captions that can be used, behind what is wrong with the others."""
    try:
        record, sentences = _parse(item, images)
    except Fault as fault:
        yield where, fault
        return
    captions = []
    for number, sentence in enumerate(sentences):
        try:
            captions.append(one_line(value_of(sentence, "raw", str), "raw"))
        except Fault as fault:
            yield f"{where}.sentences[{number}]", fault
    if captions:
        yield where, record | {"captions": captions}


def _parse(item: Any, images: ImageFolder) -> tuple[Record, list[Any]]:
    """What names an image, and its sentences."""
    theirs = value_of(item, "split", str)
    if theirs not in SPLITS:
        raise Fault(f"split {theirs!r} is none of {', '.join(SPLITS)}")
    name = value_of(item, "filename", str)
    folder = item.get("filepath")
    names = [f"{folder}/{name}", name] if folder else [name]
    sentences = value_of(item, "sentences", list)
    if not sentences:
        raise Fault("'sentences' is empty")
    number = item.get("cocoid", Path(name).stem)
    return {"id": str(number), "image": images.find(*names)}, sentences
