"""The fields of pre-training: what each stream carries, and what is predicted where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from unimo_paddle.data.fields import Field, Sample
from unimo_paddle.tasks.segments import PADDING_ID, TEXT_INPUTS


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


def text_targets() -> tuple[Field, ...]:
    """The text with hidden words or fragments, and what is predicted where."""
    return (
        Field("hidden_text_input_ids", (None,), "int64", PADDING_ID),
        Field("hidden_text_position_ids", (None,), "int64", PADDING_ID),
        Field("hidden_text_mask", (None,), "float32", 0),
        Field("hidden_text_text_order", (None,), "int64", 0),
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


class Zipped(Sequence):
    """Two sequences read side by side."""

    def __init__(self, first: Sequence, second: Sequence) -> None:
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self._first[index], self._second[index]


def prefixed(prefix: str, fields: Sequence[Field]) -> tuple[Field, ...]:
    """The same fields under prefixed names."""
    return tuple(replace(item, name=prefix + item.name) for item in fields)


def prefix_sample(prefix: str, sample: Sample) -> Sample:
    """The same values under prefixed names."""
    return {prefix + name: value for name, value in sample.items()}
