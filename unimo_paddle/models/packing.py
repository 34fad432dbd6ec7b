"""Rows without padding: what is computed row by row in training leaves the padded rows out.

A batch is padded to its longest text, so half of its rows may be none. Only attention needs the
rows of a sequence side by side.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import paddle
from paddle import Tensor, _C_ops

_kept = [False]  # innermost last


@contextlib.contextmanager
def padding_kept() -> Iterator[None]:
    """Compute padded rows, too, in what is built meanwhile; the recordings hold them."""
    _kept.append(True)
    try:
        yield
    finally:
        _kept.pop()


def leaves_padding_out() -> bool:
    """Whether it is worth while; not on GPUs, where nobody has measured it."""
    return not _kept[-1] and not paddle.is_compiled_with_cuda()


class Packing:
    """Which rows [B, L] of a batch are real.

    Args:
        mask: [B, L] float, 1 where a row is real.
    """

    def __init__(self, mask: Tensor) -> None:
        is_real = mask > 0.0
        self._places = paddle.nonzero(is_real.flatten()).flatten()  # [N]
        count = paddle.cumsum(is_real.flatten().astype("int64"))
        self._numbers = paddle.clip(count - 1, min=0).reshape(paddle.shape(mask))  # [B, L]

    def pack(self, rows: Tensor) -> Tensor:
        """The real rows [N, D] of rows [B, L, D]."""
        return paddle.gather(rows.reshape([-1, rows.shape[-1]]), self._places)

    def unpack(self, packed: Tensor) -> Tensor:
        """Rows [B, L, D] from the real ones [N, D]; the others repeat one of these.

        One operation, the quickest there is for this; no gradient comes from what is masked later.
        """
        # The public function refuses a table whose length the graph does not know.
        return _C_ops.embedding(self._numbers, packed, -1, False)
