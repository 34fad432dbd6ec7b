"""Small true examples of what detectors write, as their projects published the layouts."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FEATURE_SIZE = 8
NUM_CLASSES = 5  # the background first
CLASS_NAMES = ["tree", "dog", "sky", "car"]  # of the others


@dataclass(frozen=True)
class Detected:
    """What a detector found in an image."""

    image_id: str
    width: int
    height: int
    boxes: np.ndarray
    features: np.ndarray
    probabilities: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """Boxes as shares of the image with their widths and heights [n, 6]."""
        scaled = self.boxes / np.array([self.width, self.height] * 2, np.float32)
        return np.hstack([scaled, scaled[:, 2:] - scaled[:, :2]]).astype(np.float32)

    @property
    def objects(self) -> np.ndarray:
        """The likeliest things, counted without the background."""
        return self.probabilities[:, 1:].argmax(axis=1)

    @property
    def confidences(self) -> np.ndarray:
        """How likely they are."""
        return self.probabilities[:, 1:].max(axis=1)


def detect(image_id: str, seed: int = 0, num_regions: int | None = None) -> Detected:
    """Random regions inside an image; boxes have coordinates that half precision would change."""
    rng = np.random.default_rng(seed)
    width, height = int(rng.integers(500, 700)), int(rng.integers(400, 600))
    count = num_regions or int(rng.integers(2, 6))
    low = rng.uniform(0, 0.5, (count, 2))
    high = low + rng.uniform(0.1, 0.5, (count, 2))
    boxes = np.hstack([low, high]) * np.array([width, height] * 2)
    scores = rng.random((count, NUM_CLASSES))
    return Detected(
        image_id,
        width,
        height,
        boxes.astype(np.float32),
        rng.standard_normal((count, FEATURE_SIZE), np.float32) * 3,
        (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32),
    )


def encode(array: np.ndarray) -> str:
    """Base64 of an array's bytes."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def bottom_up_line(found: Detected) -> str:
    """Bottom-up attention: image_id, image_w, image_h, num_boxes, boxes, features."""
    sizes = (found.image_id, found.width, found.height, len(found.boxes))
    return "\t".join([*map(str, sizes), encode(found.boxes), encode(found.features)])


def lxmert_line(found: Detected) -> str:
    """LXMERT: img_id, img_h, img_w, objects and attributes with confidences, boxes, features."""
    count = len(found.boxes)
    columns = [
        *(found.image_id, str(found.height), str(found.width)),
        *(encode(found.objects.astype(np.int64)), encode(found.confidences)),
        *(encode(np.zeros(count, np.int64)), encode(np.zeros(count, np.float32))),
        *(str(count), encode(found.boxes), encode(found.features)),
    ]
    return "\t".join(columns)


def retrieval_line(found: Detected) -> str:
    """The original's feature files: name, width, height, n, boxes, features, probabilities."""
    sizes = (found.image_id, found.width, found.height, len(found.boxes))
    arrays = (found.boxes, found.features, found.probabilities)
    return "\t".join([*map(str, sizes), *map(encode, arrays)])


def entailment_line(found: Detected, number: int) -> str:
    """The original's entailment files: 14 fields."""
    fields = [found.image_id, str(number), "0", "0 5 2", "0 0 0", "2 3 4", "0"]
    fields += [str(found.width), str(found.height), str(len(found.boxes))]
    return ";".join([*fields, encode(found.boxes), encode(found.features), "", ""])


def caption_line(found: Detected, number: int) -> str:
    """The original's caption files: 16 fields."""
    fields = [f"coco_img_{found.image_id}", str(number), "0 5 2", "0 0 0", "2 3 4", "0", "", ""]
    fields += [str(found.height), str(found.width), str(len(found.boxes)), encode(found.boxes)]
    return ";".join([*fields, encode(found.probabilities), "", encode(found.features), "0"])


def write_lines(path: Path, lines: list[str]) -> Path:
    """Write lines to a file."""
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def uniter_arrays(found: Detected) -> dict[str, np.ndarray]:
    """UNITER's .npz files: all in half precision, boxes as shares."""
    arrays = {
        "norm_bb": found.shares,
        "features": found.features,
        "conf": found.confidences,
        "soft_labels": found.probabilities,
    }
    return {name: array.astype(np.float16) for name, array in arrays.items()}


def vilbert_record(found: Detected) -> dict:
    """What ViLBERT's extractor saves of an image; its ``objects`` lack a row by mistake."""
    return {
        "bbox": found.boxes,
        "num_boxes": len(found.boxes),
        "objects": found.objects[1:],
        "image_width": found.width,
        "image_height": found.height,
        "cls_prob": found.probabilities,
        "image_id": found.image_id,
        "features": found.features,
    }
