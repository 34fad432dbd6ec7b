"""The fields of the segments that a model encodes, shared by all tasks."""

from __future__ import annotations

from collections.abc import Sequence

from paddle import Tensor

from unimo_paddle.data.fields import Field
from unimo_paddle.data.images import ImageConfig
from unimo_paddle.errors import UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.tasks.base import Tensors

PADDING_ID = 1

TEXT_INPUTS = (
    Field("input_ids", (None,), "int64", PADDING_ID),
    Field("position_ids", (None,), "int64", PADDING_ID),
    Field("text_mask", (None,), "float32", 0),
)
# A position sees another if that one's order is not greater.
TEXT_ORDER = Field("text_order", (None,), "int64", 0)
DIALOGUE_INPUTS = (
    Field("role_ids", (None,), "int64", 0),
    Field("turn_ids", (None,), "int64", 0),
)
TAG_INPUTS = (
    Field("tag_ids", (None,), "int64", PADDING_ID),
    Field("tag_positions", (None,), "int64", PADDING_ID),
    Field("tag_mask", (None,), "float32", 0),
)
# What is generated: places in the text, and the ids that stand there.
TARGETS = (
    Field("target_positions", (None,), "int64", 0),
    Field("target_ids", (None,), "int64", 0),
    Field("target_weights", (None,), "float32", 0),
)


def image_inputs(feature_size: int | None = None) -> tuple[Field, ...]:
    """Rows of an image with features of this size; None where only the names matter."""
    return (
        Field("region_features", (None, feature_size), "float32", 0),
        Field("region_boxes", (None, 5), "float32", 0),
        Field("region_mask", (None,), "float32", 0),
    )


def check_image(image: ImageConfig, model: ModelConfig) -> None:
    """Raise where the model's sizes are not those of an encoded image."""
    if image.region_feature_size != model.region_feature_size:
        raise UserError(
            f"model.region_feature_size is {model.region_feature_size} but task.data.image makes "
            f"{image.region_feature_size} numbers a row; set it to that"
        )
    if not model.patch_grid:
        return
    if image.kind == "regions" or (image.kind == "objects" and model.patch_grid > 1):
        remedy = "0" if image.kind == "regions" else "0, or 1 for convolutions on each"
        raise UserError(
            f"model.patch_grid is {model.patch_grid}, but task.data.image.kind is {image.kind}; "
            f"set patch_grid to {remedy}"
        )
    if image.kind == "patches" and model.patch_grid not in (1, image.grid_size):
        raise UserError(
            f"model.patch_grid is {model.patch_grid}, but task.data.image makes "
            f"{image.grid_size} patches a side; set it to that, or to 1 for each patch alone"
        )


def take(batch: Tensors, fields: Sequence[Field], prefix: str = "") -> dict[str, Tensor]:
    """The tensors of these fields, whose names in the batch are prefixed, under their own names."""
    return {item.name: batch[prefix + item.name] for item in fields}
