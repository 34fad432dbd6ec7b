"""What a sentence about a scene means, and whether it is true of a scene.

A meaning says: there are different objects, one for each mention, that have the attributes
mentioned and stand in the relations named; and the whole scene has this ground and this number of
objects. Truth is decided by trying every assignment of objects to mentions (at most 4! of them).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

from unimo_paddle.data.scenes.grammar import PLACES, Scene, SceneObject, relation_holds


@dataclass(frozen=True)
class Mention:
    """What a sentence says of one object; None where it says nothing."""

    colour: str | None = None
    shape: str | None = None
    pattern: str | None = None
    size: str | None = None
    place: str | None = None

    def fits(self, item: SceneObject) -> bool:
        """Decide whether an object has every attribute mentioned."""
        return (
            self.colour in (None, item.colour)
            and self.shape in (None, item.shape)
            and self.pattern in (None, item.pattern)
            and self.size in (None, item.size)
            and (self.place is None or item.cell in PLACES[self.place])
        )

    def to_json(self) -> dict[str, str]:
        """Return the attributes that are mentioned."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Meaning:
    """Mentions of different objects, relations (subject, relation, other) of them, the rest."""

    mentions: tuple[Mention, ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    background: str | None = None
    num_objects: int | None = None

    def holds(self, scene: Scene) -> bool:
        """Decide whether the sentence is true of a scene."""
        if self.background not in (None, scene.background):
            return False
        if self.num_objects not in (None, len(scene.objects)):
            return False
        indices = range(len(scene.objects))
        return any(
            self._holds_for(scene, chosen) for chosen in permutations(indices, len(self.mentions))
        )

    def _holds_for(self, scene: Scene, chosen: tuple[int, ...]) -> bool:
        return all(
            mention.fits(scene.objects[index])
            for mention, index in zip(self.mentions, chosen, strict=True)
        ) and all(
            relation_holds(scene, chosen[subject], relation, chosen[other])
            for subject, relation, other in self.relations
        )

    def to_json(self) -> dict:
        """Return the meaning as JSON; `meaning_from_json` reads it back."""
        record: dict = {"mentions": [mention.to_json() for mention in self.mentions]}
        if self.relations:
            record["relations"] = [list(relation) for relation in self.relations]
        if self.background is not None:
            record["background"] = self.background
        if self.num_objects is not None:
            record["num_objects"] = self.num_objects
        return record


def meaning_from_json(record: dict) -> Meaning:
    """Return the meaning that `Meaning.to_json` wrote."""
    return Meaning(
        tuple(Mention(**mention) for mention in record["mentions"]),
        tuple(
            (subject, relation, other) for subject, relation, other in record.get("relations", ())
        ),
        record.get("background"),
        record.get("num_objects"),
    )


def identifying_share(meanings: list[list[Meaning]], scenes: list[Scene]) -> float:
    """Return the share of captions that are true of one scene only: the ceiling of recall@1.

    Args:
        meanings: of the captions of each scene.
        scenes: the split that captions are searched in; `meanings[i]` describe `scenes[i]`.
    """
    alone = [
        sum(meaning.holds(scene) for scene in scenes) == 1
        for captions in meanings
        for meaning in captions
    ]
    return sum(alone) / len(alone)
