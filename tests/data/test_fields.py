"""Collating samples into batches."""

from __future__ import annotations

import numpy as np
import pytest

from unimo_paddle.data.fields import Field, collate
from unimo_paddle.errors import UserError

IDS = Field("input_ids", (None,), pad=1)
FEATURES = Field("region_features", (None, 2), "float32")
LABEL = Field("labels", ())


def test_open_axes_are_padded_with_the_pad_value():
    batch = collate([{"input_ids": [5, 6, 7]}, {"input_ids": [8]}], [IDS])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 1, 1]]
    assert batch["input_ids"].dtype == np.int64


def test_padded_lengths_are_rounded_up():
    batch = collate([{"input_ids": [5, 6, 7]}], [IDS], multiple_of=8)
    assert batch["input_ids"].shape == (1, 8)


def test_an_axis_is_never_empty():
    batch = collate([{"input_ids": np.zeros(0, np.int64)}], [IDS])
    assert batch["input_ids"].tolist() == [[1]]


def test_only_open_axes_are_padded():
    samples = [{"region_features": np.ones((n, 2))} for n in (1, 3)]
    batch = collate(samples, [FEATURES])
    assert batch["region_features"].shape == (2, 3, 2)
    assert batch["region_features"].dtype == np.float32
    assert batch["region_features"][0].sum() == 2


def test_longer_samples_widen_what_came_before():
    samples = ({"input_ids": np.arange(n) + 5} for n in (1, 3, 2))
    batch = collate(samples, [IDS], size=3)
    assert batch["input_ids"].tolist() == [[5, 1, 1], [5, 6, 7], [5, 6, 1]]


def test_scalars_become_a_vector():
    assert collate([{"labels": 3}, {"labels": 4}], [LABEL])["labels"].tolist() == [3, 4]


def test_keys_that_no_field_names_are_left_out():
    assert list(collate([{"labels": 3, "other": 4}], [LABEL])) == ["labels"]


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({}, "no field 'region_features'"),
        ({"region_features": np.ones((3, 4))}, r"shape \[3, 4\]; declared is \[None, 2\]"),
        ({"region_features": np.ones(2)}, r"shape \[2\]"),
        ({"region_features": np.array([["a", "b"]])}, "does not fit float32"),
    ],
)
def test_a_sample_that_breaks_its_declaration_is_named(sample, message):
    with pytest.raises(UserError, match=message):
        collate([{"region_features": np.ones((1, 2))}, sample], [FEATURES])


def test_fractions_are_not_cut_to_integers():
    with pytest.raises(UserError, match="without loss"):
        collate([{"labels": 0.5}], [LABEL])
