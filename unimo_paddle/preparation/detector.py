"""A detector exported for Paddle Inference, run over images in batches."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from paddle import inference

from unimo_paddle.data.records import Fault
from unimo_paddle.data.regions.layout import ImageRegions
from unimo_paddle.errors import UserError
from unimo_paddle.preparation.detector_settings import DetectorConfig

GRAPH_SUFFIXES = (".json", ".pdmodel")  # of Paddle 3 and before
WEIGHTS_SUFFIX = ".pdiparams"
_WIDE_BOX = 6  # numbers of PaddleDetection's boxes: class, score, x1 y1 x2 y2


@dataclass(frozen=True)
class Prepared:
    """An image as the detector is fed.

    Args:
        pixels: [3, H, W] float32.
        size: width and height of the image itself.
        scale: what its width and height were multiplied by.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    scale: tuple[float, float]


class Detector:
    """A network that gives boxes, features and perhaps class scores.

    Args:
        path: of the exported files, with or without their suffix.
        config: how it is fed and what it gives.
    """

    def __init__(self, path: Path, config: DetectorConfig) -> None:
        self.config = config
        self.files = _graph_files(path)
        self._predictor = _load(self.files)
        self._inputs = self._predictor.get_input_names()
        self._outputs = self._predictor.get_output_names()
        wanted = [config.image_input, config.shape_input, config.scale_input]
        unknown = [name for name in wanted if name is not None and name not in self._inputs]
        unfed = [name for name in self._inputs if name not in wanted]
        if unknown or unfed:
            problem = f"has no input {unknown[0]!r}" if unknown else f"needs {unfed[0]!r}, too"
            raise UserError(
                f"detector {self.files[0]} {problem}; its inputs are {', '.join(self._inputs)}: "
                "set image_input, shape_input and scale_input"
            )
        self._places = {
            role: self._place(role, getattr(config, role))
            for role in ("boxes", "features", "scores", "counts")
        }

    def _place(self, role: str, name: str | None) -> int | None:
        """The place of an output among all; its name may be that place."""
        if name is None:
            return None
        if name in self._outputs:
            return self._outputs.index(name)
        if name.isdigit() and int(name) < len(self._outputs):
            return int(name)
        raise UserError(
            f"detector {self.files[0]} has no output {name!r} for {role}; there are "
            f"{', '.join(f'{i} {known}' for i, known in enumerate(self._outputs))}"
        )

    def prepare(self, image: np.ndarray) -> Prepared:
        """Resize and normalise an image [H, W, 3] uint8 RGB."""
        config = self.config
        height, width = image.shape[:2]
        new_width, new_height = _new_size(width, height, config)
        pixels = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
        if config.channels == "bgr":
            pixels = pixels[..., ::-1]
        values = pixels.astype(np.float32) * np.float32(config.pixel_scale)
        values = (values - np.float32(config.mean)) / np.float32(config.std)
        scale = (new_width / width, new_height / height)
        return Prepared(values.transpose(2, 0, 1), (width, height), scale)

    def detect(self, images: Sequence[Prepared]) -> list[dict[str, np.ndarray | None]]:
        """Boxes, features and scores of each image, as the network gives them."""
        multiple = self.config.multiple if self.config.resize == "keep" else 1
        shapes = np.array([image.pixels.shape[1:] for image in images])
        height, width = -(-shapes.max(axis=0) // multiple) * multiple
        batch = np.zeros((len(images), 3, height, width), np.float32)
        for row, image in zip(batch, images, strict=True):
            row[:, : image.pixels.shape[1], : image.pixels.shape[2]] = image.pixels
        scales = np.array([image.scale[::-1] for image in images], np.float32)
        feeds = {self.config.image_input: batch}
        feeds[self.config.shape_input] = shapes.astype(np.float32)
        feeds[self.config.scale_input] = scales
        for name in self._inputs:
            self._predictor.get_input_handle(name).copy_from_cpu(feeds[name])
        try:
            self._predictor.run()
        except (RuntimeError, ValueError, OSError) as error:
            problem = " ".join(str(error).split())[-200:]
            raise UserError(
                f"detector {self.files[0]} cannot run on {list(batch.shape)}: {problem}; check "
                "resize, sides and --batch_size"
            ) from None
        outputs = [self._predictor.get_output_handle(name).copy_to_cpu() for name in self._outputs]
        return self._split(outputs, len(images))

    def _split(
        self, outputs: Sequence[np.ndarray], count: int
    ) -> list[dict[str, np.ndarray | None]]:
        """The outputs of each image of a batch."""
        roles = ("boxes", "features", "scores")
        found = {role: None if (p := self._places[role]) is None else outputs[p] for role in roles}
        place = self._places["counts"]
        counts = None if place is None else outputs[place].reshape(-1).astype(int)
        rows = {role: self._rows_of(role, x, counts, count) for role, x in found.items()}
        return [{role: rows[role] and rows[role][i] for role in roles} for i in range(count)]

    def _rows_of(
        self, role: str, array: np.ndarray | None, counts: np.ndarray | None, count: int
    ) -> list[np.ndarray] | None:
        """[B, n, X] or all rows [sum n, X] of a batch, an image each."""
        if array is None:
            return None
        if array.ndim > 2 and len(array) == count:
            # Without -1: in some image there may be nothing.
            tables = list(array.reshape(*array.shape[:2], math.prod(array.shape[2:])))
            return (
                tables if counts is None else [t[:n] for t, n in zip(tables, counts, strict=True)]
            )
        if array.ndim == 2 and counts is not None and counts.sum() == len(array):
            return np.split(array, np.cumsum(counts)[:-1])
        if array.ndim == 2 and count == 1:
            return [array]
        raise UserError(
            f"detector {self.files[0]}: output for {role} has shape {list(array.shape)} for "
            f"{count} images; it must be [images, boxes, numbers], or [boxes, numbers] with an "
            "output for counts or --batch_size 1"
        )

    def regions(self, image_id: str, image: Prepared, found: dict[str, Any]) -> ImageRegions:
        """What is kept of an image: boxes cut at its edges, the surest regions first."""
        boxes, features, scores = found["boxes"], found["features"], found["scores"]
        classes = confidences = None
        if boxes.shape[1] == _WIDE_BOX:
            classes, confidences = boxes[:, 0].astype(int), boxes[:, 1]
            boxes = boxes[:, 2:]
        if boxes.shape[1] != 4 or len(features) != len(boxes):
            raise Fault(
                f"boxes have shape {list(boxes.shape)} and features {list(features.shape)}, "
                "expected [n, 4] or [n, 6] and [n, numbers]"
            )
        probabilities = None if scores is None else self._probabilities(scores, len(boxes))
        if probabilities is not None:
            confidences = probabilities[:, int(self.config.has_background) :].max(axis=1)
        boxes = self._to_pixels(boxes, image)
        kept = self._choose(boxes, confidences)
        if not len(kept):
            raise Fault("the detector found nothing")
        return ImageRegions(
            image_id=image_id,
            features=features[kept],
            boxes=boxes[kept],
            width=image.size[0],
            height=image.size[1],
            class_probabilities=None if probabilities is None else probabilities[kept],
            classes=None if classes is None else classes[kept],
            confidences=None if classes is None else confidences[kept],
        )

    def _probabilities(self, scores: np.ndarray, count: int) -> np.ndarray:
        if len(scores) != count:
            raise Fault(f"{len(scores)} rows of scores for {count} boxes")
        if self.config.score_kind == "probabilities":
            return scores
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def _to_pixels(self, boxes: np.ndarray, image: Prepared) -> np.ndarray:
        """Boxes in pixels of the image, cut at its edges."""
        sides = np.array(image.size * 2, np.float32)
        factors = {"image": np.ones(4), "shares": sides, "input": 1 / np.array(image.scale * 2)}
        scaled = boxes * factors[self.config.box_unit].astype(np.float32)
        return np.clip(scaled, 0, sides)

    def _choose(self, boxes: np.ndarray, confidences: np.ndarray | None) -> np.ndarray:
        """Numbers of the regions kept, none with an empty box."""
        config = self.config
        kept = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        if confidences is None:
            return kept[: config.max_regions]
        kept = kept[np.argsort(-confidences[kept], kind="stable")]
        sure = int((confidences[kept] >= config.min_confidence).sum())
        return kept[: min(max(sure, config.min_regions), config.max_regions)]


def _new_size(width: int, height: int, config: DetectorConfig) -> tuple[int, int]:
    if config.resize == "stretch":
        return config.long_side, config.short_side
    scale = config.short_side / min(width, height)
    scale = min(scale, config.long_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _graph_files(path: Path) -> tuple[Path, Path]:
    """The files of the graph and of its weights."""
    stem = path.with_suffix("") if path.suffix in (*GRAPH_SUFFIXES, WEIGHTS_SUFFIX) else path
    weights = stem.with_name(stem.name + WEIGHTS_SUFFIX)
    for suffix in GRAPH_SUFFIXES:
        graph = stem.with_name(stem.name + suffix)
        if graph.is_file() and weights.is_file():
            return graph, weights
    raise UserError(
        f"detector {stem} is not there: it needs {stem.name}{GRAPH_SUFFIXES[0]} or "
        f"{stem.name}{GRAPH_SUFFIXES[1]}, and {weights.name}; export it for Paddle Inference"
    )


def _load(files: tuple[Path, Path]) -> Any:
    config = inference.Config(*map(str, files))
    config.disable_glog_info()
    # On by default; one of its passes drops operations silently in Paddle 3.3.
    config.disable_mkldnn()
    config.set_cpu_math_library_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        return inference.create_predictor(config)
    except (RuntimeError, ValueError, OSError) as error:
        problem = " ".join(str(error).split())[-200:]
        raise UserError(
            f"Paddle cannot load the detector {files[0]}: {problem}; export it again"
        ) from None
