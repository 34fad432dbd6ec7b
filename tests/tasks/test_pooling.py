"""Which rows a head reads."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from unimo_paddle.data.sequences import mark_text
from unimo_paddle.models import ModelConfig, UnifiedTransformer
from unimo_paddle.models.unimo import Encoding
from unimo_paddle.tasks.pooling import last_ids, pool_pair

MODEL = ModelConfig(
    vocab_size=50,
    hidden_size=8,
    num_layers=1,
    num_heads=2,
    max_positions=20,
    region_feature_size=6,
)
LENGTHS = (5, 7)  # tokens of two texts, side by side in rows of 7
REGIONS = (2, 4)


def mask_of(lengths: tuple[int, ...]) -> np.ndarray:
    return (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.float32)


def expected_rows(rows: np.ndarray, lengths: tuple[int, ...], pooling: str) -> np.ndarray:
    """The row of each sample, picked by hand."""
    if pooling == "first":
        return rows[:, 0]
    if pooling == "mean":
        pairs = zip(rows, lengths, strict=True)
        return np.stack([sample[:length].mean(axis=0) for sample, length in pairs])
    return np.stack([sample[length - 2] for sample, length in zip(rows, lengths, strict=True)])


@pytest.mark.parametrize("pooling", ["first", "mean", "mask"])
def test_text_and_image_are_pooled_as_they_are_told(pooling: str) -> None:
    with paddle.utils.unique_name.guard():
        model = UnifiedTransformer(MODEL)
    rng = np.random.default_rng(0)
    text = rng.standard_normal((2, max(LENGTHS), 8), dtype=np.float32)
    regions = rng.standard_normal((2, max(REGIONS), 8), dtype=np.float32)
    encoding = Encoding(
        hidden=None, regions=paddle.to_tensor(regions), tags=None, text=paddle.to_tensor(text)
    )
    batch = {
        "text_mask": paddle.to_tensor(mask_of(LENGTHS)),
        "region_mask": paddle.to_tensor(mask_of(REGIONS)),
    }
    found = pool_pair(model, encoding, batch, pooling)

    image_pooling = "first" if pooling == "first" else "mean"
    rows = (
        expected_rows(text, LENGTHS, pooling),
        expected_rows(regions, REGIONS, image_pooling),
    )
    for pooled, row, pooler in zip(
        found, rows, (model.text_pooler, model.image_pooler), strict=True
    ):
        product = row @ pooler.weight.numpy() + pooler.bias.numpy()
        np.testing.assert_allclose(pooled.numpy(), np.maximum(product, 0.0), atol=1e-5)


def test_the_row_that_mask_reads_holds_the_mask() -> None:
    sample = mark_text([7, 8, 9], 20, first_position=2, last=last_ids("mask", MODEL))
    assert sample["input_ids"].tolist() == [0, 7, 8, 9, MODEL.vocab_size - 1, 2]
    assert last_ids("first", MODEL) == last_ids("mean", MODEL) == ()
