"""What must be known of a detector to run it: inputs, outputs, how images are brought in."""

from __future__ import annotations

import math
from dataclasses import dataclass

from unimo_paddle.data.images import ImageConfig
from unimo_paddle.errors import UserError

RESIZES = ("keep", "stretch")
BOX_UNITS = ("image", "input", "shares")
CHANNELS = ("rgb", "bgr")
SCORES = ("probabilities", "logits")


@dataclass(frozen=True)
class DetectorConfig:
    """How a detector is fed and what it gives; outputs by name, or by place counted from 0."""

    boxes: str = "0"  # output with x1 y1 x2 y2, or class, score, x1 y1 x2 y2 (PaddleDetection)
    features: str = "1"  # output with a feature for each box
    scores: str | None = "2"  # output with a score of each class for each box; none: there is none
    counts: str | None = None  # output with how many boxes each image of a batch has; none: all
    image_input: str = "image"  # input with the pixels [B, 3, H, W]
    shape_input: str | None = None  # input with height and width after resizing (im_shape)
    scale_input: str | None = None  # input with what both were multiplied by (scale_factor)
    resize: str = "keep"  # keep the ratio of the sides, or stretch to short_side x long_side
    short_side: int = 800  # pixels; the height where stretched
    long_side: int = 1333  # pixels, at most; the width where stretched
    multiple: int = 32  # sides are filled up with zeros to a multiple of so many pixels (keep)
    channels: str = "rgb"  # rgb or bgr, the order of the colours
    pixel_scale: float = 1 / 255  # pixels are multiplied by it first; 1 for Caffe's detectors
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # taken off, in the order of channels
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)  # then divided by
    box_unit: str = "image"  # pixels of the image, pixels of the input, or shares of the image
    score_kind: str = "probabilities"  # of every class, or logits that a softmax makes them of
    has_background: bool = True  # class 0 of the scores is the background
    min_confidence: float = 0.2  # regions less sure are left out
    min_regions: int = 10  # but so many are kept, where there are any
    max_regions: int = ImageConfig.max_regions  # the surest are kept

    def __post_init__(self) -> None:
        for name, choices in (
            ("resize", RESIZES),
            ("box_unit", BOX_UNITS),
            ("channels", CHANNELS),
            ("score_kind", SCORES),
        ):
            if getattr(self, name) not in choices:
                raise UserError(
                    f"{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}"
                )
        for name in ("short_side", "long_side", "multiple", "min_regions", "max_regions"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; give at least 1")
        if self.min_regions > self.max_regions:
            raise UserError(
                f"min_regions is {self.min_regions} but max_regions {self.max_regions}; lower it"
            )
        if not all(math.isfinite(value) for value in self.mean):
            raise UserError(f"mean is {list(self.mean)}; give finite numbers")
        if not all(math.isfinite(value) and value > 0 for value in (*self.std, self.pixel_scale)):
            raise UserError("std and pixel_scale: give numbers above 0")
        if not 0 <= self.min_confidence <= 1:
            raise UserError(f"min_confidence is {self.min_confidence}; give a share from 0 to 1")
