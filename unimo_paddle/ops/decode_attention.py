"""Attention of the words that are being written: to what was encoded, and to their own text.

``csrc/decode_attention/decode_attention.h`` states it exactly. All texts of a sample share its
memory, and written words stay where they are: a table of ancestors says whose word belongs to
which text.
"""

from __future__ import annotations

from typing import NamedTuple

import paddle
from paddle import Tensor
from paddle.nn import functional as F

from unimo_paddle.ops.library import check_axes, run_operator

_AXES = (  # of what the operator takes, in its order
    *((name, "B, K, D") for name in ("query", "keys", "values")),
    ("memory.keys", "H, B, d, L"),
    ("memory.values", "H, B, L, d"),
    ("memory.bias", "B, L"),
    ("ancestors", "B, K, t"),
    ("cache", "2, C, B, K, D"),
)


class Memory(NamedTuple):
    """What was encoded, as one layer remembers it."""

    keys: Tensor  # [H, B, d, L]
    values: Tensor  # [H, B, L, d]
    bias: Tensor  # [B, L]: 0 for what may be seen, a large negative number elsewhere


def no_words(texts: Tensor, width: int) -> Tensor:
    """A cache [2, 0, B, K, width] before the first word of texts [B, K]."""
    begin = paddle.to_tensor([2, 0], "int32")
    end = paddle.to_tensor([width], "int32")
    return paddle.zeros(paddle.concat([begin, paddle.shape(texts).astype("int32"), end]))


def decode_attention(
    query: Tensor, keys: Tensor, values: Tensor, memory: Memory, ancestors: Tensor, cache: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what new words attend to [B, K, D], and the cache with them. Has no gradient.

    On a CPU the cache is written in place where it has room: it serves one line of steps. On a GPU
    this is ``decode_attention_reference``.

    Args:
        query, keys, values: [B, K, D] of a new word for each of K texts; heads side by side.
        memory: of the samples.
        ancestors: [B, K, t] int64: which text's word of each time belongs to text k, from 0 to
            K - 1. The last time is that of the new words, where it is k.
        cache: [2, C, B, K, D], keys and values of the words at times below t - 1 (C may be more).
    """
    arguments = (query, keys, values, *memory, ancestors, cache)
    for (name, axes), tensor in zip(_AXES, arguments, strict=True):
        check_axes("decode_attention", name, tensor, axes)
    if paddle.is_compiled_with_cuda():
        return decode_attention_reference(query, keys, values, memory, ancestors, cache)
    attended, extended = run_operator("unimo_decode_attention", *arguments)
    return attended, extended


def decode_attention_reference(
    query: Tensor, keys: Tensor, values: Tensor, memory: Memory, ancestors: Tensor, cache: Tensor
) -> tuple[Tensor, Tensor]:
    """The same by Paddle's operations; the cache has room for its words only."""
    heads = memory.keys.shape[0]
    new = paddle.stack([keys, values]).unsqueeze(1)
    count = paddle.shape(ancestors)[2]
    cache = paddle.concat([cache[:, : count - 1], new], axis=1)  # [2, t, B, K, D]
    rows = paddle.arange(paddle.shape(ancestors)[1], dtype="int64")
    is_ancestor = (ancestors.transpose([2, 0, 1]).unsqueeze(-1) == rows).astype(cache.dtype)
    own_keys, own_values = (
        _heads_first(paddle.matmul(is_ancestor, part).transpose([1, 2, 0, 3]), heads)
        for part in (cache[0], cache[1])
    )  # [H, B, K, t, d]
    queries = _heads_first(query, heads) * memory.keys.shape[2] ** -0.5  # [H, B, K, d]
    to_memory = paddle.matmul(queries, memory.keys) + memory.bias.unsqueeze(1)
    to_words = (own_keys * queries.unsqueeze(3)).sum(axis=-1)
    shares = F.softmax(paddle.concat([to_memory, to_words], axis=-1))
    length = paddle.shape(memory.keys)[3]
    attended = paddle.matmul(shares[..., :length], memory.values)
    attended += (own_values * shares[..., length:].unsqueeze(-1)).sum(axis=3)
    return attended.transpose([1, 2, 0, 3]).flatten(2), cache


def _heads_first(rows: Tensor, heads: int) -> Tensor:
    """[H, ..., d] of rows [..., H * d]."""
    split = rows.reshape([0] * (rows.ndim - 1) + [heads, -1])
    axes = list(range(split.ndim))
    return split.transpose([axes[-2], *axes[:-2], axes[-1]])
