"""What a layer of a Transformer does between its matrix products, each in one pass over memory.

For training on CPUs, where Paddle has an operation, mostly on one thread, for each sign in these
formulas: ``csrc/layer/layer.h`` states them. All have gradients and work in the static and the
dynamic graph; on a GPU each is its reference.
"""

from __future__ import annotations

import paddle
from paddle import Tensor
from paddle.nn import functional as F

from unimo_paddle.errors import UserError
from unimo_paddle.ops.library import check_axes, run_operator


def add_norm(
    rows: Tensor,
    bias: Tensor,
    residual: Tensor,
    scale: Tensor,
    shift: Tensor,
    *,
    epsilon: float,
    rate: float = 0.0,
    seed: Tensor | None = None,
) -> Tensor:
    """Return the layer norm of residual + dropout(rows + bias): [..., D].

    Args:
        rows, residual: [..., D].
        bias, scale, shift: [D].
        epsilon: added to the variance.
        rate: share of the numbers that is dropped.
        seed: int32 [1], which decides what is dropped; needed where the rate is not 0.
    """
    check_axes("add_norm", "rows", rows, "..., N, D")
    check_axes("add_norm", "residual", residual, "..., N, D")
    for name, tensor in {"bias": bias, "scale": scale, "shift": shift}.items():
        check_axes("add_norm", name, tensor, "D")
    if not 0 <= rate < 1 or (rate and seed is None):
        raise UserError(f"add_norm: rate is {rate}; give one below 1, and a seed with it")
    if paddle.is_compiled_with_cuda():
        return add_norm_reference(
            rows, bias, residual, scale, shift, epsilon=epsilon, rate=rate, seed=seed
        )
    seed = paddle.zeros([1], "int32") if seed is None else seed
    tensors = (rows, bias, residual, scale, shift, seed)
    return run_operator("unimo_add_norm", *tensors, float(epsilon), float(rate))[0]


def add_norm_reference(
    rows: Tensor,
    bias: Tensor,
    residual: Tensor,
    scale: Tensor,
    shift: Tensor,
    *,
    epsilon: float,
    rate: float = 0.0,
    seed: Tensor | None = None,
) -> Tensor:
    """The same by Paddle's operations; dropout draws other numbers."""
    added = rows + bias
    if rate:
        added = paddle._C_ops.dropout(added, seed, rate, False, "upscale_in_train", 0, False)
    return F.layer_norm(residual + added, scale.shape, scale, shift, epsilon)


def bias_gelu(rows: Tensor, bias: Tensor) -> Tensor:
    """Return gelu(rows + bias), [..., D] of rows [..., D] and bias [D], by the exact formula."""
    check_axes("bias_gelu", "rows", rows, "..., D")
    check_axes("bias_gelu", "bias", bias, "D")
    if paddle.is_compiled_with_cuda():
        return bias_gelu_reference(rows, bias)
    return run_operator("unimo_bias_gelu", rows, bias)[0]


def bias_gelu_reference(rows: Tensor, bias: Tensor) -> Tensor:
    """The same by Paddle's operations."""
    return F.gelu(rows + bias)


def split_heads(rows: Tensor, bias: Tensor, num_heads: int, *, factor: float = 1.0) -> Tensor:
    """Return factor * (rows + bias) by heads: [H, B, L, D / H].

    Args:
        rows: [B, L, D].
        bias: [D].
        num_heads: H.
    """
    check_axes("split_heads", "rows", rows, "B, L, D")
    check_axes("split_heads", "bias", bias, "D")
    if num_heads < 1 or bias.shape[0] % num_heads:
        raise UserError(
            f"split_heads: num_heads is {num_heads}; give a divisor of {bias.shape[0]} numbers"
        )
    if paddle.is_compiled_with_cuda():
        return split_heads_reference(rows, bias, num_heads, factor=factor)
    return run_operator("unimo_split_heads", rows, bias, int(num_heads), float(factor))[0]


def split_heads_reference(
    rows: Tensor, bias: Tensor, num_heads: int, *, factor: float = 1.0
) -> Tensor:
    """The same by Paddle's operations."""
    added = (rows + bias) * factor
    return added.reshape([0, 0, num_heads, bias.shape[0] // num_heads]).transpose([2, 0, 1, 3])


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Return softmax(scores + mask) over the last axis; the mask gets no gradient.

    Args:
        scores: [H, B, L, M].
        mask: [B, L, M].
    """
    check_axes("masked_softmax", "scores", scores, "H, B, L, M")
    check_axes("masked_softmax", "mask", mask, "B, L, M")
    if paddle.is_compiled_with_cuda():
        return masked_softmax_reference(scores, mask)
    return run_operator("unimo_masked_softmax", scores, mask)[0]


def masked_softmax_reference(scores: Tensor, mask: Tensor) -> Tensor:
    """The same by Paddle's operations."""
    return F.softmax(scores + mask.detach())
