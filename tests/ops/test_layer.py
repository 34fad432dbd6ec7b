"""What layers do between their products, against Paddle's operations, forward and gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import paddle
import pytest

from unimo_paddle.ops.layer import (
    add_norm,
    add_norm_reference,
    bias_gelu,
    bias_gelu_reference,
    masked_softmax,
    masked_softmax_reference,
    split_heads,
    split_heads_reference,
)

SHAPES = [(1, 1, 1), (2, 3, 7), (1, 65, 33), (3, 64, 8), (5, 50, 100)]
EPSILON = 1e-5


def normal(seed: int, *shapes: tuple[int, ...], scale: float = 1.0) -> list[paddle.Tensor]:
    rng = np.random.default_rng(seed)
    tensors = [paddle.to_tensor((scale * rng.standard_normal(s)).astype("float32")) for s in shapes]
    for tensor in tensors:
        tensor.stop_gradient = False
    return tensors


def with_gradients(function: Callable, tensors: list, **settings) -> list[np.ndarray]:
    """What comes out, and the gradients of a sum with random weights by all tensors."""
    for tensor in tensors:
        tensor.clear_gradient()
    output = function(*tensors, **settings)
    (weights,) = normal(9, tuple(output.shape))
    (output * weights).sum().backward()
    gradients = [tensor.grad for tensor in tensors]
    return [output.numpy(), *(np.zeros(1) if g is None else g.numpy() for g in gradients)]


def check_equal(found: list[np.ndarray], expected: list[np.ndarray], tolerance: float) -> None:
    for number, (a, b) in enumerate(zip(found, expected, strict=True)):
        scale = max(1.0, float(np.abs(b).max()))
        np.testing.assert_allclose(a, b, atol=tolerance * scale, rtol=0, err_msg=str(number))


def norm_tensors(shape: tuple[int, ...]) -> list[paddle.Tensor]:
    width = shape[-1:]
    return normal(0, shape, width, shape, width, width)


@pytest.mark.parametrize("shape", [s for s in SHAPES if s[-1] > 1], ids=str)
def test_add_norm_is_a_sum_and_a_layer_norm(shape: tuple[int, ...]) -> None:
    tensors = norm_tensors(shape)
    found = with_gradients(add_norm, tensors, epsilon=EPSILON)
    check_equal(found, with_gradients(add_norm_reference, tensors, epsilon=EPSILON), 2e-5)


def test_add_norm_of_one_number_is_the_shift() -> None:
    rows, bias, residual, scale, shift = norm_tensors((4, 1))
    found = add_norm(rows, bias, residual, scale, shift, epsilon=EPSILON)
    assert (found == shift).all()


def kept_by(seed: int, rate: float, shape: tuple[int, int]) -> np.ndarray:
    """Which numbers dropout keeps, told from gradients: those by the bias are of columns."""
    rows, bias, residual, scale, shift = norm_tensors(shape)
    normed = add_norm(
        *(rows, bias, residual, scale, shift),
        epsilon=EPSILON,
        rate=rate,
        seed=paddle.to_tensor([seed], "int32"),
    )
    (weights,) = normal(9, shape)
    (normed * weights).sum().backward()
    return rows.grad.numpy() != 0


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_is_that_of_the_sum_and_of_its_gradient(rate: float) -> None:
    shape = (300, 70)
    kept = kept_by(5, rate, shape)
    tensors = norm_tensors(shape)

    def expected_of(rows, bias, residual, scale, shift) -> paddle.Tensor:
        mask = paddle.to_tensor(kept.astype("float32") / (1 - rate))
        added = residual + (rows + bias) * mask
        return paddle.nn.functional.layer_norm(added, [shape[1]], scale, shift, EPSILON)

    seed = paddle.to_tensor([5], "int32")
    found = with_gradients(add_norm, tensors, epsilon=EPSILON, rate=rate, seed=seed)
    check_equal(found, with_gradients(expected_of, tensors), 3e-5)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_keeps_its_share_everywhere_and_another_choice_for_each_seed(rate: float) -> None:
    shape = (400, 256)
    masks = [kept_by(seed, rate, shape) for seed in (1, 2, 2**31 - 1)]
    deviation = (rate * (1 - rate)) ** 0.5
    for kept in masks:
        assert abs(kept.mean() - (1 - rate)) < 5 * deviation / kept.size**0.5
        for axis in (0, 1):
            shares = kept.mean(axis)
            count = kept.shape[axis]
            assert np.abs(shares - (1 - rate)).max() < 6 * deviation / count**0.5
    flat = [mask.ravel() - mask.mean() for mask in masks]
    for a, b in [
        (flat[0], flat[1]),
        (flat[1], flat[2]),
        (flat[0][1:], flat[0][:-1]),
        (flat[0][256:], flat[0][:-256]),
    ]:
        assert abs((a * b).mean()) < 5 * deviation**2 / len(a) ** 0.5


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bias_gelu_is_paddles(shape: tuple[int, ...]) -> None:
    tensors = normal(1, shape, shape[-1:], scale=3.0)
    found = with_gradients(bias_gelu, tensors)
    check_equal(found, with_gradients(bias_gelu_reference, tensors), 2e-6)


def test_bias_gelu_holds_far_out() -> None:
    values = np.array([-200, -40, -13.5, -9, -5, -1e-20, 0, 1e-20, 5, 9, 13.5, 200], "float64")
    rows = paddle.to_tensor(values.astype("float32"), stop_gradient=False)
    activated = bias_gelu(rows, paddle.zeros([len(values)]))
    activated.sum().backward()
    doubles = paddle.to_tensor(values, stop_gradient=False)
    paddle.nn.functional.gelu(doubles).sum().backward()
    expected = paddle.nn.functional.gelu(doubles).numpy()
    np.testing.assert_allclose(activated.numpy(), expected, rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(rows.grad.numpy(), doubles.grad.numpy(), rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize(
    ("shape", "num_heads"), [((1, 1, 1), 1), ((2, 3, 20), 4), ((3, 70, 63), 7), ((2, 33, 128), 2)]
)
def test_split_heads_is_paddles(shape: tuple[int, ...], num_heads: int) -> None:
    tensors = normal(2, shape, shape[-1:])
    settings = {"num_heads": num_heads, "factor": 0.25}
    found = with_gradients(split_heads, tensors, **settings)
    check_equal(found, with_gradients(split_heads_reference, tensors, **settings), 2e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 7), (3, 2, 70, 33), (2, 1, 9, 101)])
def test_masked_softmax_is_paddles(shape: tuple[int, ...]) -> None:
    scores, mask = normal(3, shape, shape[1:], scale=4.0)
    mask = paddle.where(mask > 2.0, paddle.full_like(mask, -1e4), paddle.zeros_like(mask))
    mask.stop_gradient = True
    found = with_gradients(masked_softmax, [scores, mask])
    check_equal(found, with_gradients(masked_softmax_reference, [scores, mask]), 2e-6)
    assert np.allclose(found[0].sum(-1), 1.0, atol=1e-6)


def test_numbers_that_are_none_stay_so() -> None:
    rows, bias = (tensor.detach() for tensor in normal(4, (2, 9), (9,)))
    rows[0, 3] = float("nan")
    found = bias_gelu(rows, bias).numpy()
    assert np.isnan(found[0, 3]) and np.isfinite(np.delete(found.ravel(), 3)).all()
    scores, mask = (tensor.detach() for tensor in normal(4, (1, 1, 2, 9), (1, 2, 9)))
    scores[0, 0, 0, 8] = float("nan")
    found = masked_softmax(scores, mask).numpy()[0, 0]
    assert np.isnan(found[0]).all() and np.isfinite(found[1]).all()


def wrong_calls() -> list:
    rows, bias, residual, scale, shift = norm_tensors((4, 6))
    norm = {"epsilon": EPSILON}
    return [
        (lambda: add_norm(rows, bias[:5], residual, scale, shift, **norm), "must be of shape"),
        (lambda: add_norm(rows, bias, residual[:3], scale, shift, **norm), "shape of rows"),
        (lambda: add_norm(rows, bias, residual, scale, shift, rate=1.0, **norm), "rate is 1.0"),
        (lambda: add_norm(rows, bias, residual, scale, shift, rate=0.1, **norm), "give one below"),
        (lambda: add_norm(rows[0, 0], bias, residual, scale, shift, **norm), "expected"),
        (lambda: bias_gelu(rows, bias[:5]), r"must be of shape \[6\]"),
        (lambda: bias_gelu(rows.astype("float64"), bias), "must be float32"),
        (lambda: split_heads(rows, bias, 2), r"rows has shape \[4, 6\]; expected \[B, L, D\]"),
        (lambda: split_heads(rows.unsqueeze(0), bias, 4), "give a divisor of 6 numbers"),
        (lambda: split_heads(rows.unsqueeze(0), bias[:4], 2), r"must be of shape \[6\]"),
        (lambda: masked_softmax(rows, rows), r"expected \[H, B, L, M\]"),
        (
            lambda: masked_softmax(rows.reshape([1, 2, 2, 6]), rows.reshape([2, 2, 6])[:1]),
            r"mask must be of shape \[2, 2, 6\]",
        ),
    ]


@pytest.mark.parametrize("number", range(12))
def test_wrong_tensors_are_refused(number: int) -> None:
    call, message = wrong_calls()[number]
    with pytest.raises(ValueError, match=message):
        call()
