"""Labelled objects of images: rows of their pixels, which names stand where, and all names.

A detector learns from such labels before UNIMO sees its regions ("UNIMO", arXiv 2012.15409).
Here the model's own rows learn from them: patches, or what lies in each box.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unimo_paddle.data.images import (
    WHOLE_IMAGE_BOX,
    ImageConfig,
    View,
    normalise_rows,
    pixels_of,
    resize,
)
from unimo_paddle.data.records import Fault, texts_of
from unimo_paddle.errors import BadSample, UserError


@dataclass(frozen=True)
class LabelledObject:
    """A box and what is said of the thing in it.

    Args:
        box: x1, y1, x2, y2 as shares of the image's width and height.
        names: of the thing and of its attributes, such as "heart", "red", "striped"; may be none.
    """

    box: tuple[float, float, float, float]
    names: tuple[str, ...] = ()


def parse_objects(objects: Any) -> tuple[LabelledObject, ...]:
    """Read the key ``objects`` of a JSON record; see ``sources.read_pairs``. None are none."""
    if objects is None:
        return ()
    if not isinstance(objects, list):
        raise Fault(f"'objects' must be a list, not {str(objects)[:40]!r}")
    return tuple(_parse_object(item, f"objects[{i}]") for i, item in enumerate(objects))


def _parse_object(item: Any, name: str) -> LabelledObject:
    if not isinstance(item, dict) or "box" not in item:
        raise Fault(f"'{name}' must be an object with a box, not {str(item)[:40]!r}")
    try:
        x1, y1, x2, y2 = map(float, item["box"])
    except (ValueError, TypeError, OverflowError):
        raise Fault(f"'{name}.box' must be four numbers, not {str(item['box'])[:40]!r}") from None
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
        raise Fault(
            f"'{name}.box' {item['box']} must be x1 y1 x2 y2 with 0 <= x1 < x2 <= 1 and "
            "0 <= y1 < y2 <= 1, shares of width and height"
        )
    return LabelledObject((x1, y1, x2, y2), texts_of(item, "names"))


def encode_objects(
    image: np.ndarray,
    view: View,
    objects: Sequence[LabelledObject],
    config: ImageConfig,
    *,
    where: str,
) -> tuple[np.ndarray, np.ndarray, list[LabelledObject]]:
    """Rows of the objects whose centres a view shows: their boxes' pixels, resized.

    Where it shows none, the whole image takes the place of the view.

    Args:
        image: [H, W, 3] uint8, red first.
        where: names the record in messages.

    Returns:
        Features [1 + N, p*p*3] and boxes [1 + N, 5] in shares of the view, float32, and the N
        objects that have a row: the first ``max_regions``.
    """
    if not objects:
        raise BadSample(
            where,
            "the record has no labelled objects; give the key 'objects', or use image.kind patches",
        )
    size = image.shape[:2]
    corners = np.array([item.box for item in objects])
    boxes, is_shown = view.locate(corners, size)
    if not is_shown.any():
        view = View(0, 0, size[1], size[0], view.is_flipped)
        boxes, is_shown = view.locate(corners, size)
    numbers = np.flatnonzero(is_shown)[: config.max_regions]
    part, boxes = pixels_of(image, view), boxes[numbers]
    pixels = np.stack([resize(_cut(part, box), config.patch_size).ravel() for box in boxes])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1, keepdims=True)
    places = np.vstack([WHOLE_IMAGE_BOX, np.hstack([boxes, areas])]).astype(np.float32)
    return normalise_rows(pixels, config), places, [objects[number] for number in numbers]


def _cut(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The pixels that a box in shares of the image touches; at least one."""
    height, width = image.shape[:2]
    scale = np.array([width, height])
    low = np.minimum(np.floor(box[:2] * scale).astype(int), scale - 1)
    high = np.maximum(np.ceil(box[2:] * scale).astype(int), low + 1)
    return image[low[1] : high[1], low[0] : high[0]]


@dataclass(frozen=True)
class ObjectNames:
    """The names that are learnt, and their numbers."""

    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def count(cls, images: Iterable[Sequence[LabelledObject]], most: int) -> ObjectNames:
        """The ``most`` names that are given most often, ties in the order of the alphabet."""
        counts = Counter(name for objects in images for item in objects for name in item.names)
        ranked = sorted(counts, key=lambda name: (-counts[name], name))
        return cls(tuple(ranked[:most]))

    def at(
        self, points: np.ndarray, reach: np.ndarray, objects: Sequence[LabelledObject]
    ) -> np.ndarray:
        """Mark what is named at each point: [N, names] uint8; nothing where no box lies.

        Of objects that overlap the last one counts, as it lies in front.

        Args:
            points: [N, 2], shares of the image's width and height.
            reach: [2], the least distance from its centre that a box extends: half of that
                between points, so that no small object falls between them.
        """
        named = np.zeros((len(points), len(self.names)), np.uint8)
        for item, names in zip(objects, self.of(objects), strict=True):
            low, high = np.array(item.box[:2]), np.array(item.box[2:])
            distance = np.abs(points - 0.5 * (low + high))
            inside = (distance <= np.maximum(0.5 * (high - low), reach)).all(axis=1)
            named[inside] = names
        return named

    def of(self, objects: Sequence[LabelledObject]) -> np.ndarray:
        """Mark the names of each object: [N, names] uint8."""
        named = np.zeros((len(objects), len(self.names)), np.uint8)
        for row, item in zip(named, objects, strict=True):
            row[[self._numbers[name] for name in item.names if name in self._numbers]] = 1
        return named

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    def save(self, path: Path | str) -> None:
        """Write the list as JSON."""
        Path(path).write_text(json.dumps(self.names, ensure_ascii=False, indent=0), "utf-8")

    @classmethod
    def load(cls, path: Path | str) -> ObjectNames:
        """Read what ``save`` wrote."""
        try:
            names = json.loads(Path(path).read_text("utf-8"))
        except OSError as error:
            raise UserError(f"object names {path} cannot be read: {error.strerror}") from None
        except ValueError:
            raise UserError(f"object names {path} are no JSON; make them again") from None
        if not (isinstance(names, list) and names and all(isinstance(x, str) for x in names)):
            raise UserError(f"object names {path} are no list of texts; make them again")
        return cls(tuple(names))
