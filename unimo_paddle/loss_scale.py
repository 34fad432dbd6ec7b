"""A factor on the loss that keeps small gradients of half precision above zero.

Micikevicius et al., "Mixed precision training" (arXiv 1710.03740), section 3.2; it doubles after
2,000 good updates and is halved by each one that is no number. It is a power of two, so where
nothing falls below the smallest numbers, it changes no bit of an update.
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import Tensor

FIRST_SCALE = 2.0**15
GOOD_UPDATES = 2000  # until it is doubled
SCALE_NAME = "loss_scale"
COUNT_NAME = "loss_scale_good_updates"
STATE_NAMES = (SCALE_NAME, COUNT_NAME)  # a checkpoint of another precision has none


class LossScale:
    """Persistable variables of the program under construction; programs of an update share them."""

    def __init__(self) -> None:
        self.scale = _persistable(SCALE_NAME, FIRST_SCALE)
        self._count = _persistable(COUNT_NAME, 0.0)

    def of(self, loss: Tensor) -> Tensor:
        """The loss whose gradients are to be made. Shape []."""
        return (loss * self.scale).reshape([])

    def unscale(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """The gradients of the loss itself."""
        inverse = 1.0 / self.scale
        return [gradient * inverse for gradient in gradients]

    def follow(self, is_broken: Tensor) -> None:
        """Move the scale after an update; the flag [] tells whether it was no number."""
        bad = is_broken.astype("float32")
        count = (self._count + 1.0) * (1.0 - bad)
        is_full = (count >= GOOD_UPDATES).astype("float32")
        moved = self.scale * (1.0 - 0.5 * bad) * (1.0 + is_full)
        paddle.assign(paddle.maximum(moved, paddle.ones_like(moved)), self.scale)
        paddle.assign(count * (1.0 - is_full), self._count)


def _persistable(name: str, value: float) -> Tensor:
    initializer = paddle.nn.initializer.Constant(value)
    return paddle.pir.core.create_persistable_value("float32", [1], name, initializer=initializer)
