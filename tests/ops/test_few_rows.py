"""The product of a few rows against Paddle's, in both graphs."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from unimo_paddle.ops.few_rows import few_rows_product, few_rows_product_reference

SHAPES = [
    (1, 1, 1),
    (5, 64, 96),
    (7, 65, 131),
    (24, 200, 33),
    (25, 40, 50),
    (48, 130, 70),
    (49, 48, 64),
]


def operands(num_rows: int, depth: int, columns: int, *, is_transposed: bool) -> list:
    rng = np.random.default_rng(0)
    shape = (columns, depth) if is_transposed else (depth, columns)
    arrays = (
        rng.standard_normal((num_rows, depth)),
        rng.standard_normal(shape),
        rng.standard_normal(columns),
    )
    return [paddle.to_tensor(array.astype("float32")) for array in arrays]


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_equals_paddles_product(shape: tuple, is_transposed: bool, with_bias: bool) -> None:
    rows, matrix, bias = operands(*shape, is_transposed=is_transposed)
    bias = bias if with_bias else None
    found = few_rows_product(rows, matrix, bias, is_transposed=is_transposed)
    expected = few_rows_product_reference(rows, matrix, bias, is_transposed=is_transposed)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-4)


def test_axes_before_the_last_are_kept() -> None:
    rows, matrix, bias = operands(6, 16, 20, is_transposed=False)
    product = few_rows_product(rows.reshape([2, 3, 16]), matrix, bias)
    assert product.shape == [2, 3, 20]
    flat = few_rows_product(rows, matrix, bias)
    assert (product.reshape([6, 20]) == flat).all()


def test_other_types_are_multiplied_as_well() -> None:
    rows, matrix, bias = (x.astype("float64") for x in operands(3, 8, 9, is_transposed=False))
    found = few_rows_product(rows, matrix, bias)
    np.testing.assert_allclose(found.numpy(), (rows @ matrix + bias).numpy(), atol=1e-12)


def test_rows_that_do_not_fit_the_matrix_are_refused() -> None:
    rows, matrix, _ = operands(3, 8, 9, is_transposed=False)
    with pytest.raises(ValueError, match=r"rows of 8 numbers do not fit a matrix of 9 x 8"):
        few_rows_product(rows, matrix.transpose([1, 0]))


def test_tensors_of_different_types_are_refused() -> None:
    rows, matrix, bias = operands(3, 8, 9, is_transposed=False)
    with pytest.raises(ValueError, match="must be of one type"):
        few_rows_product(rows, matrix, bias.astype("int32"))


def test_a_bias_without_numbers_is_refused() -> None:
    rows, matrix, bias = operands(3, 8, 9, is_transposed=False)
    with pytest.raises(ValueError, match=r"bias has shape \[0\]; give one or None"):
        few_rows_product(rows, matrix, bias[:0])


@pytest.mark.parametrize(
    ("rows", "matrix", "message"),
    [
        ([-1, 4], [4], r"matrix has shape \[4\]; expected \[K, N\]"),
        ([-1, 4], [4, 5, 6], r"matrix has shape \[4, 5, 6\]; expected \[K, N\]"),
        ([], [4, 5], r"rows has shape \[\]; expected \[..., K\]"),
    ],
)
def test_the_static_graph_refuses_wrong_ranks_while_it_is_built(rows, matrix, message) -> None:
    paddle.enable_static()
    try:
        with paddle.static.program_guard(paddle.static.Program()):
            feeds = [
                paddle.static.data("rows", rows, "float32"),
                paddle.static.data("matrix", matrix, "float32"),
            ]
            with pytest.raises(ValueError, match=message):
                few_rows_product(*feeds)
    finally:
        paddle.disable_static()


def test_the_static_graph_takes_open_axes() -> None:
    rows, matrix, bias = operands(4, 12, 10, is_transposed=True)
    paddle.enable_static()
    try:
        main, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(main, startup):
            feeds = [
                paddle.static.data("rows", [-1, -1, 12], "float32"),
                paddle.static.data("matrix", [10, 12], "float32"),
                paddle.static.data("bias", [10], "float32"),
            ]
            product = few_rows_product(*feeds, is_transposed=True)
            assert tuple(product.shape) == (-1, -1, 10)
        values = [rows.numpy().reshape(2, 2, 12), matrix.numpy(), bias.numpy()]
        feed = dict(zip(("rows", "matrix", "bias"), values, strict=True))
        (found,) = paddle.static.Executor().run(main, feed=feed, fetch_list=[product])
    finally:
        paddle.disable_static()
    expected = few_rows_product_reference(rows, matrix, bias, is_transposed=True)
    np.testing.assert_allclose(found.reshape(4, 10), expected.numpy(), atol=1e-4)
