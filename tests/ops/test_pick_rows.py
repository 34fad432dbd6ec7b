"""Picked rows against their reference, in both graphs."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from unimo_paddle.ops.pick_rows import pick_rows, pick_rows_reference


def operands(dtype: str, tail: tuple[int, ...]) -> tuple[paddle.Tensor, paddle.Tensor]:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 99, (3, 4, *tail)).astype(dtype)
    return paddle.to_tensor(values), paddle.to_tensor(rng.integers(0, 4, (3, 5)))


@pytest.mark.parametrize("tail", [(6,), (1,), (2, 3)], ids=str)
@pytest.mark.parametrize("dtype", ["int64", "float32", "bool"])
def test_they_equal_those_of_paddles_operations(dtype: str, tail: tuple[int, ...]) -> None:
    values, rows = operands(dtype, tail)
    found, expected = pick_rows(values, rows), pick_rows_reference(values, rows)
    assert found.dtype == expected.dtype and found.shape == [3, 5, *tail]
    np.testing.assert_array_equal(found.numpy(), expected.numpy())


@pytest.mark.parametrize("length", [0, 1, 7])
@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_a_number_comes_behind_each(dtype: str, length: int) -> None:
    values, rows = operands(dtype, (length,))
    behind = paddle.arange(15).reshape([3, 5]).astype(dtype)
    found = pick_rows(values, rows, behind)
    np.testing.assert_array_equal(found[..., -1].numpy(), behind.numpy())
    np.testing.assert_array_equal(found[..., :-1].numpy(), pick_rows(values, rows).numpy())
    if length:
        expected = pick_rows_reference(values, rows, behind)
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


@pytest.mark.parametrize(
    ("rows", "behind", "message"),
    [
        (np.array([[0, 4]] * 3), None, r"rows must lie in 0 \.\. 3"),
        (np.array([[0, -1]] * 3), None, r"rows must lie in 0 \.\. 3"),
        (np.array([[0]]), None, r"int64 of shape \[3, n\]"),
        (np.array([[0]] * 3), np.zeros((3, 2)), "what comes behind"),
    ],
)
def test_what_does_not_fit_is_refused(rows, behind, message) -> None:
    values, _ = operands("float32", (2,))
    extra = None if behind is None else paddle.to_tensor(behind.astype("float32"))
    with pytest.raises(ValueError, match=message):
        pick_rows(values, paddle.to_tensor(rows), extra)


def test_a_number_comes_behind_no_row_as_well() -> None:
    values, rows = paddle.zeros([2, 3, 4]), paddle.zeros([2, 0], "int64")
    assert pick_rows(values, rows, paddle.zeros([2, 0])).shape == [2, 0, 5]
    with pytest.raises(ValueError, match=r"behind has shape \[2, 0\]; give that of rows, \[2, 1\]"):
        pick_rows(values, paddle.zeros([2, 1], "int64"), paddle.zeros([2, 0]))


@pytest.mark.parametrize(
    ("values", "rows", "behind", "message"),
    [
        ([4], [-1, 5], None, r"values has shape \[4\]; expected \[B, K', ...\]"),
        ([-1, 4], [5], None, r"rows has shape \[5\]; expected \[B, K\]"),
        ([-1, 4], [], None, r"rows has shape \[\]; expected \[B, K\]"),
        ([-1, 4], [-1, 5], [-1, 5], r"values has shape \[-1, 4\]; expected \[B, K', t\]"),
        ([-1, 4, 6], [-1, 5], [5], r"behind has shape \[5\]; expected \[B, K\]"),
    ],
)
def test_the_static_graph_refuses_wrong_ranks_while_it_is_built(
    values, rows, behind, message
) -> None:
    paddle.enable_static()
    try:
        with paddle.static.program_guard(paddle.static.Program()):
            shapes = {"values": values, "rows": rows, "behind": behind}
            feeds = {
                name: paddle.static.data(name, shape, "int64")
                for name, shape in shapes.items()
                if shape is not None
            }
            with pytest.raises(ValueError, match=message):
                pick_rows(**feeds)
    finally:
        paddle.disable_static()


def test_the_static_graph_takes_open_axes() -> None:
    values, rows = operands("int64", (4,))
    paddle.enable_static()
    try:
        program = paddle.static.Program()
        with paddle.static.program_guard(program):
            feeds = [
                paddle.static.data("values", [-1, 4, -1], "int64"),
                paddle.static.data("rows", [-1, 5], "int64"),
            ]
            picked = pick_rows(*feeds, feeds[1])
            assert tuple(picked.shape) == (-1, 5, -1)
        feed = {"values": values.numpy(), "rows": rows.numpy()}
        (found,) = paddle.static.Executor().run(program, feed=feed, fetch_list=[picked])
    finally:
        paddle.disable_static()
    np.testing.assert_array_equal(found, pick_rows_reference(values, rows, rows).numpy())
