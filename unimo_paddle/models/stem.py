"""Convolutions that read a grid of patches in the place of a linear layer on each patch.

"Early Convolutions Help Transformers See Better" (arXiv 2106.14881): little training finds shapes
and textures in overlapping pieces of an image much sooner than in a patch at a time.
"""

from __future__ import annotations

import math

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from unimo_paddle.models.patch_dictionary import STRIDE, PatchDictionary
from unimo_paddle.models.rows import count_rows
from unimo_paddle.models.transformer import linear

NUM_COLOURS = 3
RADIUS = 2  # places around a place whose contrast is evened out
SMALLEST_CONTRAST = 0.1  # of normalised pixels; less is noise
GREY = (0.299, 0.587, 0.114)  # shares of red, green, blue
SLOPES_A_SIDE = 4  # of a square over which edges are counted
NUM_DIRECTIONS = 8  # of edges; an edge from dark to bright and its reverse are two
SMALLEST_EDGE = 0.05  # of normalised pixels; less is noise


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
    loud is learnt first and long alone. With an ``edge_size`` the convolutions begin at
    ``edges_and_colours`` in the place of pixels; with a ``dictionary_size`` there are none, and the
    linear layer reads which entries of a ``PatchDictionary`` the edges and colours resemble.

    Args:
        grid_size: cells a side of the image; 1: every row is an image of its own.
        feature_size: numbers of a cell, row by row, colours last.
        hidden_size: width of the result.
        scale: standard deviation of the last layer's weights.
        edge_size: pixels a side over which edges are counted; 0: convolutions read pixels.
        dictionary_size: entries of the dictionary, which reads edges; 0: convolutions.
    """

    def __init__(
        self,
        grid_size: int,
        feature_size: int,
        hidden_size: int,
        scale: float,
        *,
        edge_size: int = 0,
        dictionary_size: int = 0,
    ) -> None:
        super().__init__()
        self.grid_size, self.edge_size = grid_size, edge_size
        self.side = patch_side(feature_size)
        assert self.side and edge_size < self.side, (feature_size, edge_size)
        self.dictionary = None
        self.convolutions = nn.LayerList()
        if dictionary_size:
            assert edge_size and self.side % (STRIDE * edge_size) == 0, (self.side, edge_size)
            self.dictionary = PatchDictionary(NUM_DIRECTIONS, 2 * NUM_COLOURS, dictionary_size)
            width = self.dictionary.num_entries
        else:
            width = self._add_convolutions(hidden_size)
        self.output = linear("patch_stem_fc", width, hidden_size, scale)

    def _add_convolutions(self, hidden_size: int) -> int:
        """Make the convolutions, and return the width of what the last gives."""
        edge_size = self.edge_size
        num_halvings = (self.side // max(1, edge_size)).bit_length() - 1
        widths = [max(8, hidden_size >> i) for i in reversed(range(num_halvings))]
        num_channels = 2 * NUM_COLOURS + (NUM_DIRECTIONS if edge_size else 0)
        before = [num_channels, *widths]
        after = [*widths, widths[-1]]
        strides = [2] * num_halvings + [1]
        for i, sizes in enumerate(zip(before, after, strides, strict=True)):
            self.convolutions.append(_convolution(f"patch_stem_{i}.w_0", *sizes))
        return widths[-1]

    def forward(self, patches: paddle.Tensor) -> paddle.Tensor:
        """Return [B, cells, hidden_size] from patches [B, cells, feature_size].

        A grid of one cell takes any number of rows and reads each alone.
        """
        told = self._convolve(patches) if self.dictionary is None else self._shares(patches)
        return self._by_image(self.output(told), patches)

    def _by_image(self, told: paddle.Tensor, patches: paddle.Tensor) -> paddle.Tensor:
        """Return [B, cells N, width] of what is told; a grid of one told [B cells, N, width]."""
        if self.grid_size > 1:
            return told
        return told.reshape([-1, count_rows(patches) * told.shape[1], told.shape[2]])

    def _convolve(self, patches: paddle.Tensor) -> paddle.Tensor:
        """Return what the convolutions tell of each cell of the grid: [B, cells, width]."""
        image = self._image(patches)
        if self.edge_size:
            hidden = edges_and_colours(image, self.edge_size)
        else:
            hidden = paddle.concat([image, even_contrast(image)], axis=1)
        for convolution in self.convolutions:
            hidden = F.gelu(convolution(hidden))
        return hidden.flatten(2).transpose([0, 2, 1])

    def look_up(self, patches: paddle.Tensor) -> paddle.Tensor:
        """Return how much each cell looks like each entry: [B, cells, entries].

        The entries' mean square is 1, as large as what convolutions are given.
        """
        return self._by_image(self._shares(patches), patches)

    def _shares(self, patches: paddle.Tensor) -> paddle.Tensor:
        """The same of each cell of the grid."""
        channels = edges_and_colours(self._image(patches), self.edge_size)
        shares = self.dictionary(channels, self.grid_size)
        return shares * math.sqrt(self.dictionary.num_entries / 2)

    def describe(self, patches: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Return the pieces of edges [B, P, F] and the colours [B, C, 6] of each image.

        A dictionary is found among them.
        """
        channels = edges_and_colours(self._image(patches), self.edge_size)
        edges, colours = self.dictionary.describe(channels)
        return self._by_image(edges, patches), self._by_image(colours, patches)

    def _image(self, patches: paddle.Tensor) -> paddle.Tensor:
        """The image [B, 3, H, W] that patches [B, cells, feature_size] were cut from."""
        grid, side = self.grid_size, self.side
        image = patches.reshape([-1, grid, grid, side, side, NUM_COLOURS])
        image = image.transpose([0, 5, 1, 3, 2, 4])
        return image.reshape([-1, NUM_COLOURS, grid * side, grid * side])


def edges_and_colours(image: paddle.Tensor, size: int) -> paddle.Tensor:
    """How much edge of each direction there is about a place, its colours, and how they stand out.

    "Histograms of Oriented Gradients for Human Detection" (Dalal and Triggs 2005): the strength of
    gradients is summed by direction over ``size`` x ``size`` pixels and divided by that of all
    directions around, so that a faint outline counts like a sharp one. A few thousand images teach
    convolutions on pixels little more than colours; what tells shapes is therefore given.

    Args:
        image: [B, 3, H, W], normalised pixels.
        size: divides H and W. Slopes are measured between squares of a quarter of it.

    Returns:
        [B, NUM_DIRECTIONS + 6, H / size, W / size].
    """
    weights = np.array(GREY, np.float32).reshape(1, NUM_COLOURS, 1, 1)
    grey = (image * paddle.assign(weights)).sum(axis=1, keepdim=True)
    finest = max(1, size // SLOPES_A_SIDE)
    grey = F.avg_pool2d(grey, finest) if finest > 1 else grey
    gradients = F.conv2d(F.pad(grey, [1, 1, 1, 1], mode="replicate"), paddle.assign(_slopes()))
    strengths = F.avg_pool2d(F.relu(gradients), size // finest)
    around = F.avg_pool2d(strengths.sum(axis=1, keepdim=True), 3, 1, 1, exclusive=True)
    shares = paddle.sqrt(strengths / (around + SMALLEST_EDGE) + 1e-4)
    colours = F.avg_pool2d(image, size)
    # Each part varies about as much as normalised pixels do.
    parts = [3.0 * shares - 1.0, 2.0 * colours, 4.0 * (colours - _local_mean(colours))]
    return paddle.concat(parts, axis=1)


def _slopes() -> np.ndarray:
    """The 3 x 3 weights [NUM_DIRECTIONS, 1, 3, 3] that measure the slope in each direction."""
    angles = 2.0 * math.pi * np.arange(NUM_DIRECTIONS) / NUM_DIRECTIONS
    slopes = np.zeros((NUM_DIRECTIONS, 1, 3, 3), np.float32)
    slopes[:, 0, 1, 2], slopes[:, 0, 2, 1] = np.cos(angles), np.sin(angles)
    slopes[:, 0, 1, 0], slopes[:, 0, 0, 1] = -np.cos(angles), -np.sin(angles)
    return slopes


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
