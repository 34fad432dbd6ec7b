"""Rows without padding: what is computed row by row in training leaves the padded rows out.

A batch is padded to its longest text, so half of its rows may be none. Only attention needs the
rows of a sequence side by side.
"""

from __future__ import annotations

import paddle
from paddle import Tensor


class Packing:
    """Which rows [B, L] of a batch are real.

    Args:
        mask: [B, L] float, 1 where a row is real.
    """

    def __init__(self, mask: Tensor) -> None:
        self._shape = paddle.shape(mask)
        self._places = paddle.nonzero(mask.flatten() > 0.0).flatten()

    def pack(self, rows: Tensor) -> Tensor:
        """The real rows [N, D] of rows [B, L, D]."""
        return paddle.gather(rows.flatten(0, 1), self._places)

    def unpack(self, packed: Tensor) -> Tensor:
        """Rows [B, L, D] from the real ones [N, D]; the others are 0."""
        size = packed.shape[1]
        nothing = paddle.zeros([self._shape[0] * self._shape[1], size], packed.dtype)
        spread = paddle.scatter(nothing, self._places, packed)
        return spread.reshape([self._shape[0], self._shape[1], size])
