"""Convolutions that read a grid of patches in the place of a linear layer on each patch.

"Early Convolutions Help Transformers See Better" (arXiv 2106.14881): little training finds shapes
and textures in overlapping pieces of an image much sooner than in a patch at a time.
"""

from __future__ import annotations

import math

import paddle
from paddle import nn
from paddle.nn import functional as F

from unimo_paddle.models.rows import count_rows
from unimo_paddle.models.transformer import linear

NUM_COLOURS = 3
RADIUS = 2  # pixels around a pixel whose contrast is evened out
SMALLEST_CONTRAST = 0.1  # of normalised pixels; less is noise


def patch_side(feature_size: int) -> int:
    """The side in pixels of a patch with so many numbers; 0 if it is no power of two above 1."""
    side = math.isqrt(feature_size // NUM_COLOURS)
    fits = NUM_COLOURS * side**2 == feature_size and side > 1 and side & (side - 1) == 0
    return side if fits else 0


class PatchStem(nn.Layer):
    """Halves the image with 3 x 3 convolutions until a cell of the grid is one position.

    The width doubles with every halving; one more convolution lets a position see its neighbours,
    and a linear layer follows. Beside its colours the image is given with its local contrast
    evened out ("What is the Best Multi-Stage Architecture for Object Recognition?", Jarrett et
    al. 2009): colours are many times louder than the edges and textures beside them, and what is
    loud is learnt first and long alone.

    Args:
        grid_size: cells a side of the image; 1: every row is an image of its own.
        feature_size: numbers of a cell, row by row, colours last.
        hidden_size: width of the result.
        scale: standard deviation of the last layer's weights.
    """

    def __init__(self, grid_size: int, feature_size: int, hidden_size: int, scale: float) -> None:
        super().__init__()
        self.grid_size = grid_size
        self.side = patch_side(feature_size)
        assert self.side, feature_size
        num_halvings = self.side.bit_length() - 1
        widths = [max(8, hidden_size >> i) for i in reversed(range(num_halvings))]
        before = [2 * NUM_COLOURS, *widths]
        after = [*widths, widths[-1]]
        strides = [2] * num_halvings + [1]
        self.convolutions = nn.LayerList(
            _convolution(f"patch_stem_{i}.w_0", *sizes)
            for i, sizes in enumerate(zip(before, after, strides, strict=True))
        )
        self.output = linear("patch_stem_fc", widths[-1], hidden_size, scale)

    def forward(self, patches: paddle.Tensor) -> paddle.Tensor:
        """Return [B, cells, hidden_size] from patches [B, cells, feature_size].

        A grid of one cell takes any number of rows and reads each alone.
        """
        grid, side = self.grid_size, self.side
        image = patches.reshape([-1, grid, grid, side, side, NUM_COLOURS])
        image = image.transpose([0, 5, 1, 3, 2, 4])
        image = image.reshape([-1, NUM_COLOURS, grid * side, grid * side])
        hidden = paddle.concat([image, even_contrast(image)], axis=1)
        for convolution in self.convolutions:
            hidden = F.gelu(convolution(hidden))
        cells = self.output(hidden.flatten(2).transpose([0, 2, 1]))
        return cells if grid > 1 else cells.reshape([-1, count_rows(patches), cells.shape[-1]])


def even_contrast(image: paddle.Tensor) -> paddle.Tensor:
    """Subtract the mean of 5 x 5 pixels around each pixel, and divide by their deviation.

    The deviation is that of all colours together and at least ``SMALLEST_CONTRAST``.

    Args:
        image: [B, colours, H, W].
    """
    centred = image - _local_mean(image)
    variance = _local_mean((centred * centred).mean(axis=1, keepdim=True))
    return centred * paddle.rsqrt(variance + SMALLEST_CONTRAST**2)


def _local_mean(image: paddle.Tensor) -> paddle.Tensor:
    """The mean of the pixels within two of each, as far as there are any."""
    return F.avg_pool2d(image, 2 * RADIUS + 1, stride=1, padding=RADIUS, exclusive=True)


def _convolution(name: str, before: int, after: int, stride: int) -> nn.Conv2D:
    weight = paddle.ParamAttr(name=name, initializer=nn.initializer.KaimingNormal())
    return nn.Conv2D(
        before, after, 3, stride=stride, padding=1, weight_attr=weight, bias_attr=False
    )
