"""Padded rows that are left out change nothing: no real row, and no gradient."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from unimo_paddle.models import ModelConfig, UnifiedTransformer
from unimo_paddle.models.packing import Packing, padding_kept

CONFIG = ModelConfig(
    vocab_size=50,
    hidden_size=16,
    num_layers=2,
    num_heads=4,
    max_positions=20,
    region_feature_size=6,
    hidden_dropout=0.0,
    attention_dropout=0.0,
    initializer_range=0.5,
)
LENGTHS = {
    "of all lengths": [5, 1, 3, 4],
    "none padded": [5, 5, 5, 5],
    "nothing real in one": [5, 0, 2, 5],
}


def make_feeds(lengths: list[int], *, with_image: bool) -> dict[str, paddle.Tensor]:
    rng = np.random.default_rng(0)
    size = len(lengths)
    mask = (np.arange(5) < np.array(lengths)[:, None]).astype("float32")
    order = np.tile([0, 0, 1, 2, 3], (size, 1))
    feeds = {"input_ids": rng.integers(4, 50, (size, 5)), "text_mask": mask, "text_order": order}
    if with_image:
        feeds |= {
            "region_features": rng.standard_normal((size, 3, 6), dtype="float32"),
            "region_boxes": rng.random((size, 3, 5), dtype="float32"),
            "region_mask": np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]], "float32"),
        }
    return {name: paddle.to_tensor(value) for name, value in feeds.items()}


def real_rows_and_gradients(feeds: dict[str, paddle.Tensor]) -> dict[str, np.ndarray]:
    paddle.seed(0)
    with paddle.utils.unique_name.guard():
        model = UnifiedTransformer(CONFIG, with_images="region_mask" in feeds, poolers=())
    encoding = model(**feeds)
    real = encoding.hidden * encoding.mask.unsqueeze(-1)
    weights = np.random.default_rng(1).standard_normal(real.shape, dtype="float32")
    (real * paddle.to_tensor(weights)).sum().backward()
    gradients = {x.name: x.grad.numpy() for x in model.parameters() if x.grad is not None}
    return {"real rows": real.numpy(), **gradients}


@pytest.mark.parametrize("with_image", [True, False], ids=["pairs", "texts"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_real_rows_and_gradients_are_those_of_padded_batches(
    lengths: list[int], with_image: bool
) -> None:
    feeds = make_feeds(lengths, with_image=with_image)
    found = real_rows_and_gradients(feeds)
    with padding_kept():
        expected = real_rows_and_gradients(feeds)
    assert found.keys() == expected.keys() and len(found) > 30
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=2e-5, err_msg=name)


def test_only_what_is_real_is_packed() -> None:
    mask = paddle.to_tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    rows = paddle.arange(12, dtype="float32").reshape([2, 3, 2])
    packing = Packing(mask)
    packed = packing.pack(rows)
    assert packed.tolist() == [[0.0, 1.0], [4.0, 5.0], [10.0, 11.0]]
    mask = mask.unsqueeze(-1)
    assert (packing.unpack(packed) * mask).tolist() == (rows * mask).tolist()


def test_training_leaves_padding_out_and_evaluation_does_not() -> None:
    with paddle.utils.unique_name.guard():
        model = UnifiedTransformer(CONFIG, with_images=False, poolers=())
    feeds = make_feeds([5, 1, 3, 4], with_image=False)
    last = model(**feeds).text[1].numpy()
    assert (last[1:] == last[0]).all()  # the one real row, repeated
    with padding_kept():
        kept = model(**feeds).text[1].numpy()
    model.eval()
    evaluated = model(**feeds).text[1].numpy()
    assert (kept[1:] != kept[0]).any()
    # Training has operators of its own; in rows of padding next to nothing is normed.
    np.testing.assert_allclose(evaluated, kept, atol=1e-3)
