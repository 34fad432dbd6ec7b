"""The seeded grammar of the scenes: what may stand where, in which colours, on which ground.

A scene is two to four objects on a 3 x 3 grid of places. It is a value: the same scene is always
drawn and described alike, and every statement about it can be decided from its objects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unimo_paddle.data.scenes.outlines import outline, shape_mask

COLOURS = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink")
SHAPES = ("circle", "square", "triangle", "star", "heart", "ring")
PATTERNS = ("plain", "striped", "dotted", "checked")
SIZES = ("small", "medium", "large")
BACKGROUNDS = ("paper", "wood", "bricks", "tiles", "cloth", "sand")

# Cells (row, column) of a place word. A wide place ("on the left") is true of its whole side, as a
# reader takes it: the cells in the middle of a side have no narrower name.
PLACES: dict[str, frozenset[tuple[int, int]]] = {
    "upper left": frozenset({(0, 0)}),
    "upper right": frozenset({(0, 2)}),
    "lower left": frozenset({(2, 0)}),
    "lower right": frozenset({(2, 2)}),
    "centre": frozenset({(1, 1)}),
    "top": frozenset({(0, 0), (0, 1), (0, 2)}),
    "bottom": frozenset({(2, 0), (2, 1), (2, 2)}),
    "left": frozenset({(0, 0), (1, 0), (2, 0)}),
    "right": frozenset({(0, 2), (1, 2), (2, 2)}),
}
RELATIONS = ("left of", "right of", "above", "below", "in front of")

# Each colour lacks one shape in everything but `test_novel`: eight of the 48 combinations.
NOVEL_COMBINATIONS = frozenset(
    (colour, SHAPES[(i + 3) % len(SHAPES)]) for i, colour in enumerate(COLOURS)
)
_COMBINATIONS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)

# Radii in units of the image, far enough apart to be told from each other without comparison.
_RADII = {"small": (0.112, 0.124), "medium": (0.15, 0.165), "large": (0.2, 0.216)}
_JITTER = 0.06  # of an object's centre around its cell's, in units of the image
_MIN_VISIBLE = 0.62  # share of an object that must stay uncovered
_MIN_COVER = 0.05  # share of an object that another must cover to be "in front of" it
_RASTER = 72  # pixels a side of the masks that decide on visibility


@dataclass(frozen=True)
class SceneObject:
    """One object; centre and radius in units of the image, angle in radians."""

    shape: str
    colour: str
    pattern: str
    size: str
    cell: tuple[int, int]  # row, column of the 3 x 3 grid
    centre: tuple[float, float]  # x, y
    radius: float
    angle: float
    tone: tuple[float, float, float]  # shifts of hue (degrees), saturation, brightness

    @property
    def place(self) -> str:
        """The narrowest place word that is true of the object."""
        return min(places_of(self.cell), key=lambda place: len(PLACES[place]))

    @property
    def bounds(self) -> np.ndarray:
        """The corners x1, y1, x2, y2 of the object in units of the image, clipped to it."""
        corners = outline(self.shape, self.centre, self.radius, self.angle)
        return np.clip(np.concatenate([corners.min(axis=0), corners.max(axis=0)]), 0, 1)

    def box(self, image_size: int) -> list[float]:
        """Return the bounds in pixels."""
        return [round(float(value), 1) for value in self.bounds * image_size]


@dataclass(frozen=True)
class Scene:
    """Objects from back to front, the ground they lie on, and the seed of all textures."""

    objects: tuple[SceneObject, ...]
    background: str
    texture_seed: int
    # covered[i][j]: the share of object i that object j, nearer to the viewer, hides.
    covered: tuple[tuple[float, ...], ...]

    @property
    def signature(self) -> tuple:
        """What can be said of the scene; two scenes of one signature cannot be told apart."""
        objects = sorted((o.colour, o.shape, o.pattern, o.size, o.cell) for o in self.objects)
        return (self.background, tuple(objects))


def places_of(cell: tuple[int, int]) -> list[str]:
    """Return the place words that are true of a cell, in the order of `PLACES`."""
    return [place for place, cells in PLACES.items() if cell in cells]


def relation_holds(scene: Scene, subject: int, relation: str, other: int) -> bool:
    """Decide whether a relation between two objects of a scene is true.

    Left, right, above and below compare columns and rows of the grid, which lie far apart, so that
    no statement is a matter of taste.
    """
    row, column = scene.objects[subject].cell
    other_row, other_column = scene.objects[other].cell
    if relation == "left of":
        return column < other_column
    if relation == "right of":
        return column > other_column
    if relation == "above":
        return row < other_row
    if relation == "below":
        return row > other_row
    assert relation == "in front of", relation
    return scene.covered[other][subject] >= _MIN_COVER


def relations_of(scene: Scene) -> list[tuple[int, str, int]]:
    """Return every true relation (subject, relation, other) of a scene."""
    indices = range(len(scene.objects))
    return [
        (i, relation, j)
        for i in indices
        for j in indices
        for relation in RELATIONS
        if i != j and relation_holds(scene, i, relation, j)
    ]


def scene_graph(scene: Scene, image_size: int) -> dict:
    """Return the scene as JSON: objects with attributes and boxes in pixels, relations, ground."""
    objects = [
        {
            "shape": item.shape,
            "colour": item.colour,
            "pattern": item.pattern,
            "size": item.size,
            "place": item.place,
            "cell": list(item.cell),
            "box": item.box(image_size),
            "visible": round(1 - sum(scene.covered[i]), 2),
        }
        for i, item in enumerate(scene.objects)
    ]
    return {
        "objects": objects,
        "relations": [list(relation) for relation in relations_of(scene)],
        "background": scene.background,
    }


def labelled_objects(scene: Scene) -> list[dict]:
    """Return what can be named where, the ground first: boxes as shares of the image."""
    objects = [
        {
            "box": [round(float(share), 4) for share in item.bounds],
            "names": [item.shape, item.colour, item.pattern, item.size],
        }
        for item in scene.objects
    ]
    return [{"box": [0, 0, 1, 1], "names": [scene.background]}, *objects]


def sample_scene(rng: np.random.Generator, *, novel: bool = False) -> Scene:
    """Draw a scene; with `novel`, at least one object has a combination that no other split has.

    Scenes whose objects hide too much of each other are drawn again.
    """
    while True:
        objects = _sample_objects(rng, novel)
        covered = _coverage(objects)
        if min(1 - sum(row) for row in covered) >= _MIN_VISIBLE and not _is_doubtful(covered):
            background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
            return Scene(objects, background, int(rng.integers(1 << 31)), covered)


def _sample_objects(rng: np.random.Generator, novel: bool) -> tuple[SceneObject, ...]:
    num_objects = int(rng.choice([2, 3, 4], p=[0.3, 0.4, 0.3]))
    combinations = _sample_combinations(rng, num_objects, novel)
    cells = [divmod(int(cell), 3) for cell in rng.choice(9, size=num_objects, replace=False)]
    return tuple(
        _sample_object(rng, combination, cell)
        for combination, cell in zip(combinations, cells, strict=True)
    )


def _sample_combinations(
    rng: np.random.Generator, num_objects: int, novel: bool
) -> list[tuple[str, str]]:
    """Draw different (colour, shape) combinations from a palette of two or three colours.

    Few colours a scene make many scenes share their colours, so that colours alone tell little.
    """
    seen = [pair for pair in _COMBINATIONS if pair not in NOVEL_COMBINATIONS]
    chosen = []
    if novel:
        held_out = sorted(NOVEL_COMBINATIONS)
        chosen.append(held_out[rng.integers(len(held_out))])
    colours = [colour for colour, _ in chosen]
    others = [colour for colour in COLOURS if colour not in colours]
    palette_size = int(rng.choice([2, 3], p=[0.7, 0.3]))
    palette = colours + list(rng.permutation(others))[: palette_size - len(colours)]
    pool = [pair for pair in seen if pair[0] in palette]
    if novel:
        pool += [pair for pair in held_out if pair[0] in palette and pair not in chosen]
    order = rng.permutation(len(pool))[: num_objects - len(chosen)]
    chosen += [pool[i] for i in order]
    return [chosen[i] for i in rng.permutation(num_objects)]


def _sample_object(
    rng: np.random.Generator, combination: tuple[str, str], cell: tuple[int, int]
) -> SceneObject:
    colour, shape = combination
    size = str(rng.choice(SIZES, p=[0.25, 0.45, 0.3]))
    pattern = str(rng.choice(PATTERNS, p=[0.4, 0.2, 0.2, 0.2]))
    radius = float(rng.uniform(*_RADII[size]))
    middle = (np.array(cell[::-1]) + 0.5) / 3 + rng.uniform(-_JITTER, _JITTER, 2)
    margin = 1.1 * radius + 0.008  # keeps the widest outline in the image, and in its cell
    x, y = np.clip(middle, margin, 1 - margin)
    # A circle shows no turn; a square turned far would be called a diamond.
    angle = float(rng.uniform(-0.22, 0.22))
    tone = (rng.uniform(-6, 6), rng.uniform(-0.12, 0.06), rng.uniform(-0.12, 0.06))
    return SceneObject(
        shape, colour, pattern, size, cell, (float(x), float(y)), radius, angle, tone
    )


def _coverage(objects: tuple[SceneObject, ...]) -> tuple[tuple[float, ...], ...]:
    """Return for each object the shares of it that the others, drawn later, hide."""
    masks = [shape_mask(o.shape, o.centre, o.radius, o.angle, size=_RASTER) > 0 for o in objects]
    covered = np.zeros((len(objects), len(objects)))
    for i, mask in enumerate(masks):
        free = mask.copy()
        for j in range(len(masks) - 1, i, -1):
            covered[i, j] = np.count_nonzero(free & masks[j]) / np.count_nonzero(mask)
            free &= ~masks[j]
    return tuple(tuple(float(value) for value in row) for row in covered)


def _is_doubtful(covered: tuple[tuple[float, ...], ...]) -> bool:
    """Tell whether some object hides another so little that readers would disagree on it."""
    return any(0.01 < share < _MIN_COVER for row in covered for share in row)
