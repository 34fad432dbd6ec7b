"""The sizes and choices that make a model."""

from __future__ import annotations

from dataclasses import dataclass

from unimo_paddle.errors import UserError
from unimo_paddle.models.patch_dictionary import COLOUR_SHARE
from unimo_paddle.models.stem import patch_side
from unimo_paddle.models.transformer import ACTIVATIONS

BOX_SIZE = 5  # x1 / W, y1 / H, x2 / W, y2 / H, area / (W H)


@dataclass(frozen=True)
class ModelConfig:
    """The sizes and choices that make a unified Transformer."""

    vocab_size: int = 50265  # rows of the word embedding
    hidden_size: int = 768  # width D of every position
    num_layers: int = 12  # Transformer layers
    num_heads: int = 12  # attention heads; must divide hidden_size
    ffn_size: int | None = None  # width of the feed-forward layer; none means 4 * hidden_size
    max_positions: int = 514  # rows of the position embedding, reserved ones included
    first_position: int = 2  # position id of the first token (padding has the one before)
    hidden_dropout: float = 0.1  # dropout after embeddings, attention and feed-forward
    attention_dropout: float = 0.1  # dropout on the attention probabilities
    activation: str = "gelu"  # of the feed-forward layers and the language head
    region_feature_size: int = 2048  # numbers a region: detector feature or pixels of a patch
    location_frequencies: int = 0  # Fourier features of the box centre; 0 is the original
    patch_grid: int = 0  # cells a side read by convolutions; 1: each row alone; 0: a linear layer
    patch_edge_size: int = 0  # convolutions read edges of squares of so many pixels; 0: pixels
    patch_dictionary: int = 0  # pieces of edges, found by pre-training, that tell patches; 0: none
    type_vocab_size: int = 0  # rows of the token type embedding; 0 means none
    num_roles: int = 0  # rows of the dialogue role embedding; 0 means none
    num_turns: int = 0  # rows of the dialogue turn embedding; 0 means none
    tie_word_embeddings: bool = True  # the language head shares the word embedding
    initializer_range: float = 0.02  # standard deviation of the initial weights
    layer_norm_eps: float = 1e-5  # added to the variance in every layer norm

    def __post_init__(self) -> None:
        for name, low in _LOWER_BOUNDS.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise UserError(f"model.{name} is {value}; give at least {low}")
        for name in ("hidden_dropout", "attention_dropout"):
            value = getattr(self, name)
            if not 0.0 <= value < 1.0:
                raise UserError(f"model.{name} is {value}; give a share from 0 to below 1")
        for name in ("initializer_range", "layer_norm_eps"):
            value = getattr(self, name)
            if not value > 0.0:
                raise UserError(f"model.{name} is {value}; give a number above 0")
        if self.hidden_size % self.num_heads:
            raise UserError(
                f"model.num_heads {self.num_heads} does not divide model.hidden_size "
                f"{self.hidden_size}; change one of them"
            )
        if self.activation not in ACTIVATIONS:
            raise UserError(
                f"model.activation is {self.activation!r}; choose one of {', '.join(ACTIVATIONS)}"
            )
        if self.patch_grid and not patch_side(self.region_feature_size):
            raise UserError(
                f"model.patch_grid is {self.patch_grid}, but model.region_feature_size "
                f"{self.region_feature_size} is no patch of 2, 4, 8 .. pixels a side in three "
                "colours; choose patches of such a size, or patch_grid 0"
            )
        self._check_edge_size()
        if self.first_position >= self.max_positions:
            raise UserError(
                f"model.first_position {self.first_position} leaves no room in "
                f"model.max_positions {self.max_positions}; raise max_positions"
            )

    def _check_edge_size(self) -> None:
        size, side = self.patch_edge_size, patch_side(self.region_feature_size)
        if size and not self.patch_grid:
            raise UserError(
                f"model.patch_edge_size is {size}, but without convolutions nothing reads edges; "
                "give model.patch_grid the number of patches a side, or set patch_edge_size to 0"
            )
        if size and not (size < side and side % size == 0):
            raise UserError(
                f"model.patch_edge_size is {size}, but patches are {side} pixels a side; give a "
                f"power of two below {side}, or 0"
            )
        if self.patch_dictionary and not size:
            raise UserError(
                f"model.patch_dictionary is {self.patch_dictionary}, but its entries are made of "
                "edges; give model.patch_edge_size, or set patch_dictionary to 0"
            )
        if 0 < self.patch_dictionary < COLOUR_SHARE:
            raise UserError(
                f"model.patch_dictionary is {self.patch_dictionary}; give at least {COLOUR_SHARE} "
                "entries, or 0"
            )

    @property
    def feed_forward_size(self) -> int:
        """The width of the feed-forward layer."""
        return 4 * self.hidden_size if self.ffn_size is None else self.ffn_size

    @property
    def location_size(self) -> int:
        """The numbers that describe a box: five, and four for each Fourier frequency."""
        return BOX_SIZE + 4 * self.location_frequencies

    @property
    def max_text_length(self) -> int:
        """The longest text that the position embedding can hold."""
        return self.max_positions - self.first_position


_LOWER_BOUNDS = {
    "vocab_size": 5,
    "hidden_size": 1,
    "num_layers": 1,
    "num_heads": 1,
    "ffn_size": 1,
    "max_positions": 1,
    "first_position": 0,
    "region_feature_size": 1,
    "location_frequencies": 0,
    "patch_grid": 0,
    "patch_edge_size": 0,
    "patch_dictionary": 0,
    "type_vocab_size": 0,
    "num_roles": 0,
    "num_turns": 0,
}
