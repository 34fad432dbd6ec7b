"""What the heads compute, beyond what the recordings already say."""

from __future__ import annotations

import math

import numpy as np
import paddle
import pytest

from unimo_paddle.models import (
    ClassificationHead,
    EntailmentHead,
    LanguageHead,
    MatchHead,
    ModelConfig,
    ProjectionHead,
    RegionClassificationHead,
    RegionRegressionHead,
    Temperature,
)

CONFIG = ModelConfig(vocab_size=11, hidden_size=8, num_layers=1, num_heads=2, region_feature_size=5)


@pytest.fixture(autouse=True)
def own_names():
    """Let every test build layers with the original's names, from the same seed."""
    paddle.seed(0)
    with paddle.utils.unique_name.guard():
        yield


def pooled(seed: int = 0, rows: int = 4) -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(seed).random((rows, 8), dtype="float32"))


@pytest.mark.parametrize(
    ("make_head", "num_inputs", "shape"),
    [
        (lambda: ClassificationHead(CONFIG, 3), 1, [4, 3]),
        (lambda: EntailmentHead(CONFIG), 2, [4, 3]),
        (lambda: MatchHead(CONFIG), 2, [4, 1]),
        (lambda: LanguageHead(CONFIG, paddle.ones([11, 8])), 1, [4, 11]),
        (lambda: RegionRegressionHead(CONFIG), 1, [4, 5]),
        (lambda: RegionClassificationHead(CONFIG, 7), 1, [4, 7]),
        (lambda: ProjectionHead(CONFIG, "text_projection", 6), 1, [4, 6]),
    ],
)
def test_shapes(make_head, num_inputs: int, shape: list[int]):
    assert make_head()(*[pooled(i) for i in range(num_inputs)]).shape == shape


def test_region_heads_take_a_batch_of_regions():
    assert RegionRegressionHead(CONFIG)(pooled().reshape([2, 2, 8])).shape == [2, 2, 5]


@pytest.mark.parametrize("make_head", [ClassificationHead, EntailmentHead])
def test_a_classifier_drops_in_training_only(make_head):
    head = make_head(CONFIG, 3)
    inputs = [paddle.ones([50, 8])] * (2 if make_head is EntailmentHead else 1)
    assert np.abs((head(*inputs) - head(*inputs)).numpy()).max() > 0.0
    head.eval()
    assert np.abs((head(*inputs) - head(*inputs)).numpy()).max() == 0.0


def test_an_untied_language_head_computes_with_its_own_matrix():
    config = ModelConfig(vocab_size=11, hidden_size=8, num_heads=2, tie_word_embeddings=False)
    head = LanguageHead(config)
    normed = head.norm(head.activate(head.transform(pooled()))).numpy()
    found = head(pooled()).numpy()
    np.testing.assert_allclose(found, normed @ head.weight.numpy(), atol=1e-6)


def test_a_projection_has_length_one():
    features = ProjectionHead(CONFIG, "image_projection", 6)(pooled())
    np.testing.assert_allclose(np.linalg.norm(features.numpy(), axis=1), 1.0, atol=1e-6)


def test_a_zero_vector_is_projected_to_zero_with_a_finite_gradient():
    vector = paddle.zeros([2, 8])
    vector.stop_gradient = False
    features = ProjectionHead(CONFIG, "image_projection", 6)(vector)
    features.sum().backward()
    np.testing.assert_array_equal(features.numpy(), 0.0)
    assert np.isfinite(vector.grad.numpy()).all()


def test_the_temperature_starts_where_asked():
    assert Temperature()().item() == pytest.approx(0.07, rel=1e-5)


@pytest.mark.parametrize("start", [0.01, 1.0])
def test_the_temperature_may_start_at_a_bound_and_learns(start: float):
    temperature = Temperature(start)
    value = temperature()
    value.sum().backward()
    assert value.item() == pytest.approx(start, rel=1e-5)
    assert temperature.log_inverse.grad.abs().item() > 0.0


@pytest.mark.parametrize(("beyond", "bound"), [(0.3, 0.01), (-0.3, 1.0)])
def test_beyond_a_bound_the_temperature_stays_inside_and_turns_back(beyond: float, bound: float):
    temperature = Temperature()
    edge = -math.log(bound)
    temperature.log_inverse.set_value(np.array([edge + beyond], "float32"))
    value = temperature()
    value.sum().backward()
    # Reflected: as far inside as the parameter is outside, with the gradient turned round.
    inside = math.exp(-(edge - beyond))
    assert 0.01 <= value.item() <= 1.0
    assert value.item() == pytest.approx(inside, rel=1e-4)
    assert temperature.log_inverse.grad.item() == pytest.approx(inside, rel=1e-4)
