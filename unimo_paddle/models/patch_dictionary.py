"""What a cell of an image shows, told by the typical pieces of images that it resembles.

"An Analysis of Single-Layer Networks in Unsupervised Feature Learning" (Coates, Ng and Lee 2011):
pieces found by k-means, and how much nearer each is than the mean of all, tell images apart before
any layer has learnt to.
"""

from __future__ import annotations

import paddle
from paddle import nn
from paddle.nn import functional as F

NAME = "patch_dictionary"  # that all parameters begin with
WINDOW = 4  # squares of edges a side in a piece
STRIDE = 2  # squares from a piece to the next
COLOUR_SHARE = 4  # a dictionary has so many times fewer colours than pieces of edges
SMALLEST = 1e-6  # under a root: 0 has no slope there


def parameter_names(kind: str) -> tuple[str, str, str]:
    """The whitening's weight and bias and the entries, of ``edges`` or ``colours``."""
    name = f"{NAME}_{kind}"
    return f"{name}_whitening.w_0", f"{name}_whitening.b_0", f"{name}.w_0"


class PatchDictionary(nn.Layer):
    """Shares of a cell that look like each piece of edges and like each colour.

    The entries are not trained: they are found in images before the first update
    (``data/dictionary.py``) and kept.

    Args:
        num_directions: channels of edges, first; those of colours follow.
        num_colours: channels of colours.
        size: pieces of edges; there are ``COLOUR_SHARE`` times fewer colours.
    """

    def __init__(self, num_directions: int, num_colours: int, size: int) -> None:
        super().__init__()
        self.num_directions = num_directions
        self.edges = _Entries("edges", num_directions * WINDOW**2, size)
        self.colours = _Entries("colours", num_colours, size // COLOUR_SHARE)
        self.num_entries = size + size // COLOUR_SHARE

    def describe(self, channels: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Return the pieces [B, (H / 2) (W / 2), P] and colours [B, H W, C] of [B, _, H, W]."""
        edges, colours = paddle.split(channels, [self.num_directions, -1], axis=1)
        margin = (WINDOW - STRIDE) // 2
        edges = F.pad(edges, [margin] * 4, mode="replicate")
        pieces = F.unfold(edges, WINDOW, strides=STRIDE)
        return pieces.transpose([0, 2, 1]), colours.flatten(2).transpose([0, 2, 1])

    def forward(self, channels: paddle.Tensor, grid_size: int) -> paddle.Tensor:
        """Return [B, grid_size^2, num_entries] from the channels [B, _, H, W] of images."""
        pieces, colours = self.describe(channels)
        side = channels.shape[-1]
        shares = [
            self.edges(pieces, grid_size, side // STRIDE // grid_size),
            self.colours(colours, grid_size, side // grid_size),
        ]
        return paddle.concat(shares, axis=-1)


class _Entries(nn.Layer):
    """Entries [size, F] of one kind, compared after a linear whitening of what is looked up."""

    def __init__(self, kind: str, num_features: int, size: int) -> None:
        super().__init__()
        weight, bias, entries = map(_kept, parameter_names(kind))
        # Not `Dense`: half precision would blur distances.
        self.whitening = nn.Linear(num_features, num_features, weight_attr=weight, bias_attr=bias)
        self.entries = self.create_parameter([size, num_features], attr=entries)
        self.size = size

    def forward(self, rows: paddle.Tensor, grid_size: int, side: int) -> paddle.Tensor:
        """Return [B, grid_size^2, size] from rows [B, (grid_size side)^2, F], left to right."""
        distances = paddle.sqrt(paddle.clip(self._squared_distances(rows), min=SMALLEST))
        nearness = F.relu(distances.mean(axis=-1, keepdim=True) - distances)
        cells = nearness.reshape([-1, grid_size, side, grid_size, side, self.size])
        cells = cells.sum(axis=[2, 4]).flatten(1, 2)
        shares = cells / (cells.sum(axis=-1, keepdim=True) + SMALLEST)
        return paddle.sqrt(shares + SMALLEST)

    def _squared_distances(self, rows: paddle.Tensor) -> paddle.Tensor:
        """Those of each row to each entry, by one product: here memory is slower than sums."""
        rows, entries = self.whitening(rows), self.entries
        squares = (rows * rows).sum(axis=-1, keepdim=True)
        left = paddle.concat([rows, squares, paddle.ones_like(squares)], axis=-1)
        squares = (entries * entries).sum(axis=-1, keepdim=True)
        right = paddle.concat([-2.0 * entries, paddle.ones_like(squares), squares], axis=-1)
        return paddle.matmul(left, right, transpose_y=True)


def _kept(name: str) -> paddle.ParamAttr:
    """The attributes of a parameter that no update changes."""
    initial = nn.initializer.Normal(0.0, 1.0)
    return paddle.ParamAttr(name=name, initializer=initial, trainable=False)
