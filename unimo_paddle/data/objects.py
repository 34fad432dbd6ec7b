"""Labelled objects of images: which names stand where, and the list of all names.

A detector learns from such labels before UNIMO sees its regions ("UNIMO", arXiv 2012.15409).
Here the model's own patches learn from them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unimo_paddle.errors import UserError


@dataclass(frozen=True)
class LabelledObject:
    """A box and what is said of the thing in it.

    Args:
        box: x1, y1, x2, y2 as shares of the image's width and height.
        names: of the thing and of its attributes, such as "heart", "red", "striped".
    """

    box: tuple[float, float, float, float]
    names: tuple[str, ...]


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
        numbers = {name: number for number, name in enumerate(self.names)}
        for item in objects:
            low, high = np.array(item.box[:2]), np.array(item.box[2:])
            distance = np.abs(points - 0.5 * (low + high))
            inside = (distance <= np.maximum(0.5 * (high - low), reach)).all(axis=1)
            named[inside] = 0
            known = [numbers[name] for name in item.names if name in numbers]
            named[np.ix_(inside, known)] = 1
        return named

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
