"""COCO's caption files: ``captions_train2014.json`` and the like."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from unimo_paddle.data.formats.image_folder import ImageFolder
from unimo_paddle.data.formats.items import Items, one_line, read_list, value_of
from unimo_paddle.data.records import Fault


def read_coco(path: Path, images: ImageFolder) -> Items:
    """``id``, ``image`` and ``captions`` of every image of a file, in its order.

    Annotations that cannot be used are items of their own, after the images.
    """
    captions: dict[int, list[str]] = defaultdict(list)
    places: dict[int, str] = {}
    bad: list[tuple[str, Fault]] = []
    for where, item in read_list(path, "annotations"):
        try:
            number = value_of(item, "image_id", int)
            captions[number].append(one_line(value_of(item, "caption", str), "caption"))
            places.setdefault(number, where)
        except Fault as fault:
            bad.append((where, fault))
    for where, item in read_list(path, "images"):
        try:
            number, name = value_of(item, "id", int), value_of(item, "file_name", str)
            said = captions.pop(number, [])
            if not said:
                raise Fault(f"no annotation is about image {number}")
            found = images.find(name, f"{_folder_of(name)}/{name}")
            yield where, {"id": str(number), "image": found, "captions": said}
        except Fault as fault:
            yield where, fault
    yield from bad
    for number in captions:
        yield places[number], Fault(f"image_id {number} is none of the images")


def _folder_of(name: str) -> str:
    """The folder that COCO's archives have a file in: of COCO_train2014_0001.jpg train2014."""
    parts = Path(name).stem.split("_")
    return parts[1] if len(parts) == 3 else "."
