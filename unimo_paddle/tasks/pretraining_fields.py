"""The fields of pre-training: what each stream carries, and what is predicted where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unimo_paddle.data.fields import Field, Sample
from unimo_paddle.tasks.pretraining_settings import ContrastConfig
from unimo_paddle.tasks.segments import PADDING_ID, TEXT_INPUTS, image_inputs


def image_targets(num_classes: int = 0) -> tuple[Field, ...]:
    """What the objectives on hidden regions need beside the image.

    Args:
        num_classes: of the detector whose distributions are the labels; 0: labels are numbers.
    """
    labels = Field("region_labels", (None,), "int64", 0)
    if num_classes:
        labels = Field("region_labels", (None, num_classes), "float32", 0)
    return (
        Field("hidden_regions", (None,), "float32", 0),
        Field("region_positions", (None,), "int64", 0),
        labels,
        Field("region_weights", (None,), "float32", 0),
    )


def object_targets(num_names: int) -> tuple[Field, ...]:
    """Which names are given to what lies in each patch, and whether the patch counts."""
    return (
        Field("named_objects", (None, num_names), "uint8", 0),
        Field("name_weights", (None,), "float32", 0),
    )


def hidden_text_inputs() -> tuple[Field, ...]:
    """The text that is read beside hidden regions, with its own words hidden or whole."""
    return (
        Field("hidden_text_input_ids", (None,), "int64", PADDING_ID),
        Field("hidden_text_position_ids", (None,), "int64", PADDING_ID),
        Field("hidden_text_mask", (None,), "float32", 0),
        Field("hidden_text_text_order", (None,), "int64", 0),
    )


def text_targets() -> tuple[Field, ...]:
    """The text with hidden words or fragments, and what is predicted where."""
    return (
        *hidden_text_inputs(),
        Field("hidden_text_positions", (None,), "int64", 0),
        Field("hidden_text_labels", (None,), "int64", 0),
        Field("hidden_text_weights", (None,), "float32", 0),
        Field("hidden_text_seq2seq", (None,), "float32", 0),
    )


def caption_inputs(count: int) -> tuple[Field, ...]:
    """``count`` unmasked captions of an image, and a number for each wording."""
    fields = (replace(item, shape=(count, None)) for item in TEXT_INPUTS)
    return (*prefixed("caption_", tuple(fields)), Field("caption_group", (count,), "int64"))


GROUP = Field("group", (), "int64")  # of the image: all its captions are positives


# Of the fields of candidates. The weight [K] of each is 1 where it is real.
REWRITE, MINED_IMAGE, MINED_TEXT = "rewrite_", "mined_image_", "mined_text_"
WEIGHTS = "weights"


def candidate_inputs(contrast: ContrastConfig, feature_size: int) -> tuple[Field, ...]:
    """What a pair is contrasted with beside its batch."""
    fields: list[Field] = []
    for prefix, count, inputs in (
        (REWRITE, contrast.num_rewrites, TEXT_INPUTS),
        (MINED_IMAGE, contrast.images_per_pair, image_inputs(feature_size)),
        (MINED_TEXT, contrast.texts_per_pair, TEXT_INPUTS),
    ):
        if count:
            several = tuple(replace(item, shape=(count, *item.shape)) for item in inputs)
            fields += [*prefixed(prefix, several), Field(prefix + WEIGHTS, (count,), "float32")]
    return tuple(fields)


def prefixed(prefix: str, fields: Sequence[Field]) -> tuple[Field, ...]:
    """The same fields under prefixed names."""
    return tuple(replace(item, name=prefix + item.name) for item in fields)


def prefix_sample(prefix: str, sample: Sample) -> Sample:
    """The same values under prefixed names."""
    return {prefix + name: value for name, value in sample.items()}
