"""The contrastive loss equals one that holds every score in a list, gradients included."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from unimo_paddle.errors import UserError
from unimo_paddle.tasks.pretraining import PretrainingConfig
from unimo_paddle.tasks.pretraining_contrast import Contrast
from unimo_paddle.tasks.pretraining_fields import MINED_IMAGE, MINED_TEXT, REWRITE
from unimo_paddle.tasks.pretraining_settings import ContrastConfig, PretrainingDataConfig

NUM_PAIRS, SIZE = 5, 6
TEMPERATURES = {"temperature": 0.3, "joint_temperature": 0.9, "mined_temperature": 0.5}

SWITCHES = {
    "batch alone": {},
    "joint rewrites": {"rewrites_per_pair": 3},
    "separate rewrites": {"rewrites_per_pair": 3, "joint_scores": False},
    "joint paraphrases": {"rewrites_per_pair": 2, "paraphrases_per_pair": 2},
    "separate paraphrases": {"paraphrases_per_pair": 2, "joint_scores": False},
    "images": {"images_per_pair": 2},
    "texts": {"texts_per_pair": 3},
    "everything": {
        "rewrites_per_pair": 3,
        "paraphrases_per_pair": 1,
        "images_per_pair": 2,
        "texts_per_pair": 1,
    },
    "some joint": {"rewrites_per_pair": 2, "paraphrases_per_pair": 1, "joint_every": 2},
    "one temperature": {
        "rewrites_per_pair": 2,
        "images_per_pair": 1,
        "texts_per_pair": 1,
        "temperature_per_kind": False,
    },
}


def make_batch(contrast: Contrast, count: int) -> dict[str, np.ndarray]:
    """Features and labels: two pairs of one image, two captions worded alike, absent candidates."""
    rng = np.random.default_rng(5)
    batch = {}
    for item in contrast.feature_fields():
        value = rng.normal(size=(NUM_PAIRS, *item.shape))
        if item.name != "joint_scores":
            value /= np.linalg.norm(value, axis=-1, keepdims=True)
        batch[item.name] = value
    for item in contrast.labels():
        if item.name.endswith("weights"):
            value = rng.random((NUM_PAIRS, *item.shape)) > 0.3
            if item.name.startswith(REWRITE) and contrast._contrast.uses_joint_scores:
                value[:, 0] = True  # the caption itself
            batch[item.name] = value.astype(float)
    batch["group"] = np.array([0, 1, 2, 3, 1])
    wording = np.arange(NUM_PAIRS * count).reshape(NUM_PAIRS, count)
    wording[3, 0] = wording[0, 0]
    batch["caption_group"] = wording
    return batch


def reference(config: PretrainingConfig, batch: dict, temperature: dict) -> paddle.Tensor:
    """Every candidate of every pair in a list, in float64, one pair at a time."""
    contrast = config.contrast
    image, text = batch["image_features"], batch["text_features"]
    group, wording = batch["group"].tolist(), batch["caption_group"].tolist()
    count = text.shape[1]
    has_joint_loss = contrast.logarithm == "kind" and contrast.uses_joint_scores

    def kept(row: int, column: int, k: int) -> bool:
        return group[row] == group[column] or wording[row][0] != wording[column][k]

    def rewrites_of(row: int) -> list[tuple[paddle.Tensor, bool, tuple]]:
        found = []
        for k in range(0 if row % contrast.joint_every else contrast.num_rewrites):
            if batch[REWRITE + "weights"][row, k] > 0:
                if contrast.uses_joint_scores:
                    scale = "joint_temperature" if contrast.temperature_per_kind else "temperature"
                    score = batch["joint_scores"][row, k] / temperature[scale]
                else:
                    score = (image[row] * batch["rewrite_features"][row, k]).sum()
                    score = score / temperature["temperature"]
                found.append((score, k < contrast.num_positive_rewrites, ("rewrite", row, k)))
        return found

    def texts_of(row: int) -> list[tuple[paddle.Tensor, bool, tuple]]:
        """What an image chooses from: (score, whether it is positive, its name)."""
        found = [] if has_joint_loss else rewrites_of(row)
        for column in range(NUM_PAIRS):
            for k in range(count):
                if kept(row, column, k):
                    score = (image[row] * text[column, k]).sum() / temperature["temperature"]
                    found.append((score, group[row] == group[column], (row, column, k)))
        for owner, k in np.ndindex(NUM_PAIRS, contrast.texts_per_pair):
            if batch[MINED_TEXT + "weights"][owner, k] > 0:
                score = (image[row] * batch["mined_text_features"][owner, k]).sum() / mined
                found.append((score, group[owner] == group[row], ("text", owner, k)))
        return found

    def images_of(column: int, k: int) -> list[tuple[paddle.Tensor, bool, tuple]]:
        found = []
        for row in range(NUM_PAIRS):
            if kept(row, column, k):
                score = (image[row] * text[column, k]).sum() / temperature["temperature"]
                found.append((score, group[row] == group[column], (row, column, k)))
        for owner, number in np.ndindex(NUM_PAIRS, contrast.images_per_pair):
            if batch[MINED_IMAGE + "weights"][owner, number] > 0:
                score = (batch["mined_image_features"][owner, number] * text[column, k]).sum()
                name = ("image", owner, number)
                found.append((score / mined, group[owner] == group[column], name))
        return found

    def choose(candidates: list[tuple[paddle.Tensor, bool, tuple]]) -> paddle.Tensor:
        every = paddle.stack([score.reshape([]) for score, *_ in candidates])
        right = paddle.stack([s.reshape([]) for s, is_positive, _ in candidates if is_positive])
        return paddle.logsumexp(every) - paddle.logsumexp(right)

    mined = temperature["mined_temperature" if contrast.temperature_per_kind else "temperature"]
    pairs = [(row, k) for row in range(NUM_PAIRS) for k in range(count)]
    if contrast.logarithm != "pair":
        by_image = paddle.stack([choose(texts_of(row)) for row in range(NUM_PAIRS)]).mean()
        by_caption = paddle.stack([choose(images_of(*pair)) for pair in pairs]).mean()
        loss = 0.5 * (by_image + by_caption)
        if has_joint_loss:
            rows = range(0, NUM_PAIRS, contrast.joint_every)
            loss += paddle.stack([choose(rewrites_of(row)) for row in rows]).mean()
        return loss
    losses = []
    for row, k in pairs:
        both = [*texts_of(row), *(x for x in images_of(row, k) if x[2] != (row, row, k))]
        losses.append(choose(both))
    return paddle.stack(losses).mean()


def with_gradients(batch: dict[str, np.ndarray], dtype: str, compute) -> dict[str, np.ndarray]:
    """The loss, and its gradients by features and temperatures."""
    tensors = {}
    for name, value in batch.items():
        is_label = value.dtype.kind == "i" or name.endswith("weights")
        tensors[name] = paddle.to_tensor(value, dtype=None if value.dtype.kind == "i" else dtype)
        tensors[name].stop_gradient = is_label
    scales = {name: paddle.to_tensor([x], dtype=dtype) for name, x in TEMPERATURES.items()}
    for scale in scales.values():
        scale.stop_gradient = False
    loss = compute(tensors, scales)
    loss.backward()
    sources = {name: x for name, x in (tensors | scales).items() if x.grad is not None}
    return {"loss": loss.numpy()} | {name: x.grad.numpy() for name, x in sources.items()}


@pytest.mark.parametrize("logarithm", ["kind", "direction", "pair"])
@pytest.mark.parametrize("captions", [1, 2])
@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES.keys())
def test_loss_and_gradients_equal_those_of_all_scores(switches, captions, logarithm) -> None:
    config = PretrainingConfig(
        contrast=ContrastConfig(logarithm=logarithm, **switches),
        data=PretrainingDataConfig(captions_per_image=captions),
        projection_size=SIZE,
    )
    contrast = Contrast(config)
    batch = make_batch(contrast, captions)
    expected = with_gradients(batch, "float64", lambda *parts: reference(config, *parts))

    def compute(tensors, scales):
        network = SimpleNamespace(
            **{name: lambda scale=scale: scale for name, scale in scales.items()}
        )
        return contrast.terms(network, tensors)["contrastive"]

    actual = with_gradients(batch, "float32", compute)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewrites_per_pair": -1}, "contrast.rewrites_per_pair is -1; give at least 0"),
        ({"logarithm": "one"}, "contrast.logarithm is 'one'; choose kind, direction or pair"),
        ({"rewrites_per_pair": 1, "joint_every": 0}, "joint_every is 0; give at least 1"),
        ({"texts_per_pair": 1, "joint_every": 2}, "joint_every is 2, but nothing is read jointly"),
        ({"rewrite_kinds": ("verb",)}, "rewrite_kinds holds 'verb'; choose of object, attribute"),
    ],
)
def test_wrong_settings_are_named(change, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ContrastConfig(**change)
