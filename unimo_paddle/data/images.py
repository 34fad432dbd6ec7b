"""Images as the model meets them: rows of features with boxes, from raw pixels or a detector.

Row 0 is always the whole image (the mean of the rows, box 0 0 1 1 1). The rows after it are grid
cells of the pixels (patches), the pixels of labelled boxes (objects, in ``data.objects``) or a
detector's regions; the model does not know which.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from unimo_paddle.errors import BadSample, UserError

KINDS = ("patches", "objects", "regions")
WHOLE_IMAGE_BOX = (0.0, 0.0, 1.0, 1.0, 1.0)
# Detectors round: a box may end this many pixels outside its image.
BOX_TOLERANCE = 1.0
SHARE_TOLERANCE = 0.005  # the same of boxes in shares of the image

_SIDE_WORDS = re.compile(r"\b(left|right)(most|ward|wards|hand|handed|side)?\b", re.IGNORECASE)


@dataclass(frozen=True)
class ImageConfig:
    """How an image becomes rows of features; the default is patches of raw pixels."""

    kind: str = "patches"  # patches of raw pixels, objects (labelled boxes), regions of a detector
    image_size: int = 160  # side in pixels to which an image is resized (patches), or at least read
    patch_size: int = 16  # side in pixels of a grid cell (patches), or of a box resized (objects)
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # of red, green, blue in 0 .. 1
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)  # of red, green, blue in 0 .. 1
    crop_scale: float = 0.6  # smallest share of the area that a training crop keeps; 1 = no crop
    crop_ratio: float = 4 / 3  # largest stretch of a training crop in either direction
    flip: bool = True  # mirror half of the training images, unless a caption names a side
    max_pixels: int = 10**8  # larger images are refused from their header
    max_regions: int = 100  # rows kept beside row 0, first ones first (regions, objects)
    feature_size: int = 2048  # numbers in a region's feature (regions)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(
                f"image.kind {self.kind!r} is unknown; choose one of {', '.join(KINDS)}"
            )
        for name in ("image_size", "patch_size", "max_pixels", "max_regions", "feature_size"):
            if getattr(self, name) < 1:
                raise UserError(f"image.{name} is {getattr(self, name)}; give at least 1")
        if self.kind == "patches" and self.image_size % self.patch_size:
            raise UserError(
                f"image.image_size {self.image_size} is no multiple of image.patch_size "
                f"{self.patch_size}; change one, for the patches must fill the image"
            )
        if len(self.mean) != 3 or len(self.std) != 3:
            raise UserError("image.mean and image.std: give three numbers; red, green, blue")
        if not all(math.isfinite(value) for value in self.mean):
            raise UserError(f"image.mean is {self.mean}; give finite numbers")
        if not all(math.isfinite(value) and value > 0 for value in self.std):
            raise UserError(f"image.std is {self.std}; give numbers above 0")
        if not 0 < self.crop_scale <= 1:
            raise UserError(
                f"image.crop_scale is {self.crop_scale}; give a share above 0, at most 1"
            )
        if not 1 <= self.crop_ratio < math.inf:
            raise UserError(f"image.crop_ratio is {self.crop_ratio}; give at least 1")

    @property
    def grid_size(self) -> int:
        """Grid cells along a side."""
        return self.image_size // self.patch_size

    @property
    def num_rows(self) -> int:
        """Most rows an image has, row 0 included."""
        return 1 + (self.grid_size**2 if self.kind == "patches" else self.max_regions)

    @property
    def region_feature_size(self) -> int:
        """Numbers in a row's feature."""
        return self.feature_size if self.kind == "regions" else 3 * self.patch_size**2


@dataclass(frozen=True)
class Regions:
    """A detector's output for one image.

    Args:
        features: [n, F] float32.
        boxes: [n, 4] float32, x1 y1 x2 y2 in pixels.
        width, height: of the image in pixels.
        class_probabilities: [n, C] float32, the detector's distribution over its classes.

    Where only shares of the image are known, width and height are 1.
    """

    features: np.ndarray
    boxes: np.ndarray
    width: float
    height: float
    class_probabilities: np.ndarray | None = None

    def load(self) -> Regions:
        """Themselves; those that lie in a store are read by the same name."""
        return self


@dataclass(frozen=True)
class View:
    """The part of an image that the model is shown.

    Args:
        left, top, width, height: of the part in pixels.
        is_flipped: whether left and right change places.
    """

    left: int
    top: int
    width: int
    height: int
    is_flipped: bool = False

    def cells(self, grid_size: int, image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Where the cells of a grid lie in the image, in shares of its width and height.

        Args:
            grid_size: cells along a side of the view.
            image_size: height and width in pixels of the image that the view is a part of.

        Returns:
            The centres [cells, 2] as x and y, and half of a cell's width and height [2].
        """
        rows, columns = np.divmod(np.arange(grid_size**2), grid_size)
        if self.is_flipped:
            columns = grid_size - 1 - columns
        height, width = image_size
        size = np.array([self.width / width, self.height / height]) / grid_size
        corner = np.array([self.left / width, self.top / height])
        return corner + (np.stack([columns, rows], axis=1) + 0.5) * size, 0.5 * size

    def locate(
        self, boxes: np.ndarray, image_size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where boxes of the image lie in the view, cut at its edges.

        Args:
            boxes: [N, 4], x1 y1 x2 y2 in shares of the image's width and height.
            image_size: height and width in pixels of the image that the view is a part of.

        Returns:
            Boxes [N, 4] in shares of the view's width and height, and [N] whether the view shows
            the centre of a box.
        """
        height, width = image_size
        corners = boxes * (width, height, width, height) - (self.left, self.top) * 2
        corners /= (self.width, self.height) * 2
        if self.is_flipped:
            corners = np.stack(
                [1 - corners[:, 2], corners[:, 1], 1 - corners[:, 0], corners[:, 3]], axis=1
            )
        centres = 0.5 * (corners[:, :2] + corners[:, 2:])
        return corners.clip(0.0, 1.0), ((centres >= 0) & (centres <= 1)).all(axis=1)


def encode_image(
    image: np.ndarray,
    config: ImageConfig,
    *,
    rng: np.random.Generator | None = None,
    captions: Sequence[str] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a raw image: features [1 + cells, p*p*3] and boxes [1 + cells, 5], float32.

    With a generator the image is cropped and flipped at random (training), without one the whole
    image is resized (evaluation).

    Args:
        image: [H, W, 3] uint8, red first.
        captions: what is said of the image; one that names a side forbids the flip.
    """
    return encode_view(image, choose_view(image, config, rng=rng, captions=captions), config)


def choose_view(
    image: np.ndarray,
    config: ImageConfig,
    *,
    rng: np.random.Generator | None = None,
    captions: Sequence[str] = (),
) -> View:
    """Draw the view that ``encode_image`` shows; without a generator it is the whole image."""
    height, width = image.shape[:2]
    if rng is None:
        return View(0, 0, width, height)
    area = height * width * rng.uniform(config.crop_scale, 1.0)
    stretch = math.log(config.crop_ratio)
    ratio = width / height * math.exp(rng.uniform(-stretch, stretch))
    view_width = min(width, max(1, round(math.sqrt(area * ratio))))
    view_height = min(height, max(1, round(math.sqrt(area / ratio))))
    left = int(rng.integers(width - view_width + 1))
    top = int(rng.integers(height - view_height + 1))
    is_flipped = config.flip and rng.random() < 0.5 and not mentions_side(captions)
    return View(left, top, view_width, view_height, is_flipped)


def encode_view(
    image: np.ndarray, view: View, config: ImageConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a view of a raw image, as ``encode_image`` returns them."""
    return patchify(resize(pixels_of(image, view), config.image_size), config)


def pixels_of(image: np.ndarray, view: View) -> np.ndarray:
    """The part of an image that is shown, mirrored where it is to be."""
    part = image[view.top : view.top + view.height, view.left : view.left + view.width]
    return part[:, ::-1] if view.is_flipped else part


def mentions_side(captions: Sequence[str]) -> bool:
    """Tell whether a caption names the left or the right, so that a mirror image would lie."""
    return any(_SIDE_WORDS.search(caption) for caption in captions)


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Bring pixels [H, W, 3] to [size, size, 3]."""
    if image.shape[:2] == (size, size):
        return image
    shrinks = image.shape[0] > size or image.shape[1] > size
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=interpolation)


def patchify(image: np.ndarray, config: ImageConfig) -> tuple[np.ndarray, np.ndarray]:
    """Cut an image into grid cells, row by row, and put the whole image in front.

    Args:
        image: [image_size, image_size, 3] uint8, red first.

    Returns:
        Normalised features [1 + cells, p*p*3] (each cell row by row, colours last) and boxes
        [1 + cells, 5], float32; the boxes are shared and read-only.
    """
    side, size = config.grid_size, config.patch_size
    assert image.shape == (config.image_size, config.image_size, 3), image.shape
    cells = image.reshape(side, size, side, size, 3).transpose(0, 2, 1, 3, 4)
    return normalise_rows(cells.reshape(side * side, -1), config), _grid_boxes(side)


def normalise_rows(pixels: np.ndarray, config: ImageConfig) -> np.ndarray:
    """Features [1 + N, p*p*3] of rows of pixels [N, p*p*3] uint8, with their mean in front."""
    scale, offset = _normalisation(config)
    features = np.empty((1 + len(pixels), pixels.shape[1]), np.float32)
    np.multiply(pixels, scale, out=features[1:])
    features[1:] += offset
    features[1:].mean(axis=0, out=features[0])
    return features


def unpatchify(features: np.ndarray, config: ImageConfig) -> np.ndarray:
    """Put patches back together into a picture [image_size, image_size, 3] uint8.

    Args:
        features: [cells, p*p*3], or with row 0 in front.
    """
    side, size = config.grid_size, config.patch_size
    assert len(features) in (side * side, 1 + side * side), features.shape
    scale, offset = _normalisation(config)
    pixels = np.clip(np.rint((features[-side * side :] - offset) / scale), 0, 255)
    cells = pixels.astype(np.uint8).reshape(side, side, size, size, 3)
    return cells.transpose(0, 2, 1, 3, 4).reshape(config.image_size, config.image_size, 3)


@lru_cache(maxsize=8)
def _normalisation(config: ImageConfig) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset of each number of a patch [p*p*3]: value = pixel * scale + offset."""
    mean, std = np.asarray(config.mean), np.asarray(config.std)
    pixels = config.patch_size**2
    scale = np.tile(1.0 / (255.0 * std), pixels).astype(np.float32)
    return scale, np.tile(-mean / std, pixels).astype(np.float32)


@lru_cache(maxsize=8)
def _grid_boxes(side: int) -> np.ndarray:
    rows, columns = np.divmod(np.arange(side * side), side)
    area = np.full(side * side, 1.0 / (side * side))
    cells = np.stack(
        [columns / side, rows / side, (columns + 1) / side, (rows + 1) / side, area], axis=1
    )
    boxes = np.vstack([WHOLE_IMAGE_BOX, cells]).astype(np.float32)
    boxes.setflags(write=False)
    return boxes


def encode_regions(
    regions: Regions, config: ImageConfig, *, where: str, are_boxes_inside: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a detector's regions: features [1 + n, F] and boxes [1 + n, 5], float32.

    The first ``max_regions`` are kept (detectors put the most confident first). Row 0 is the mean
    of all, also of those that are not kept, as in the original. Anything that does not fit the
    image or the configuration raises BadSample.

    Args:
        where: names the record in messages.
        are_boxes_inside: whether a box outside the image is refused. The original confuses width
            and height in one place; who repeats that must let such boxes pass.
    """
    features = np.asarray(regions.features, np.float32)
    boxes = np.asarray(regions.boxes, np.float32)
    width, height = float(regions.width), float(regions.height)
    _check_regions(features, boxes, width, height, feature_size=config.feature_size, where=where)
    _check_boxes(boxes, width, height, are_inside=are_boxes_inside, where=where)
    probabilities = regions.class_probabilities
    if probabilities is not None and len(probabilities) != len(features):
        raise BadSample(
            where, f"{len(probabilities)} class distributions for {len(features)} regions"
        )
    whole = features.mean(axis=0)
    features, boxes = features[: config.max_regions], boxes[: config.max_regions]

    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / (width * height)
    scaled = boxes / np.array([width, height, width, height], np.float32)
    rows = np.empty((1 + len(features), features.shape[1]), np.float32)
    rows[0], rows[1:] = whole, features
    places = np.empty((1 + len(boxes), 5), np.float32)
    places[0], places[1:, :4], places[1:, 4] = WHOLE_IMAGE_BOX, scaled, area
    return rows, places


def _check_regions(
    features: np.ndarray,
    boxes: np.ndarray,
    width: float,
    height: float,
    *,
    feature_size: int,
    where: str,
) -> None:
    if features.ndim != 2 or features.shape[1] != feature_size:
        raise BadSample(
            where, f"features have shape {list(features.shape)}, expected [n, {feature_size}]"
        )
    if len(features) == 0:
        raise BadSample(where, "no regions")
    if boxes.shape != (len(features), 4):
        raise BadSample(
            where, f"boxes have shape {list(boxes.shape)}, expected [{len(features)}, 4]"
        )
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        raise BadSample(where, f"image size {width} x {height} is not positive")
    if not np.isfinite(features).all():
        raise BadSample(where, "features hold a value that is not a finite number")
    if not np.isfinite(boxes).all():
        raise BadSample(where, "boxes hold a value that is not a finite number")


def _check_boxes(
    boxes: np.ndarray, width: float, height: float, *, are_inside: bool, where: str
) -> None:
    outside, empty = outside_and_empty(boxes, width, height)
    for wrong, what in (
        (outside & are_inside, f"lies outside the {width:g} x {height:g} image"),
        (empty, "is empty"),
    ):
        if wrong.any():
            row = int(wrong.argmax())
            raise BadSample(where, f"box {row} {boxes[row].tolist()} {what}")


def outside_and_empty(
    boxes: np.ndarray, width: float | np.ndarray, height: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which boxes [n, 4] leave their image, and which have no area: two arrays [n] of bool.

    Args:
        width, height: of the image of all boxes, or [n] of the image of each; 1 for shares.
    """
    shape = (len(boxes),)
    sides = np.stack([np.broadcast_to(width, shape), np.broadcast_to(height, shape)], axis=1)
    tolerance = np.where((sides == 1.0).all(axis=1), SHARE_TOLERANCE, BOX_TOLERANCE)[:, None]
    low, high = boxes[:, :2], boxes[:, 2:]
    both = np.hstack([low < -tolerance, high < -tolerance])
    both |= np.hstack([low > sides + tolerance, high > sides + tolerance])
    return both.any(axis=1), (high <= low).any(axis=1)
