"""The Transformer stack: post-layer-norm, as in the original UNIMO (and RoBERTa).

Parameters carry the original's names through ``ParamAttr(name=...)``, so that training,
evaluation and export agree by name and released weights load as a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import paddle
from paddle import _C_ops, nn
from paddle.nn import functional as F

from unimo_paddle.models.packing import Packing
from unimo_paddle.ops.decode_attention import Memory, decode_attention
from unimo_paddle.ops.few_rows import few_rows_product
from unimo_paddle.ops.layer import add_norm, bias_gelu, masked_softmax, split_heads
from unimo_paddle.ops.products import product
from unimo_paddle.ops.recompute import part

LARGEST_SEED = 2**31 - 1

ACTIVATIONS: dict[str, Callable[[paddle.Tensor], paddle.Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate=True),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": paddle.tanh,
}


def truncated_normal(scale: float) -> nn.initializer.Initializer:
    """Return a normal initializer of standard deviation ``scale``, cut at two of them.

    Paddle's bounds are absolute; left at their default they would cut nothing at 0.02.
    """
    return nn.initializer.TruncatedNormal(0.0, scale, a=-2.0 * scale, b=2.0 * scale)


def named_weight(name: str, scale: float) -> paddle.ParamAttr:
    """Return the attributes of a weight with the original's name and initialisation."""
    return paddle.ParamAttr(name=name, initializer=truncated_normal(scale))


def named_constant(name: str, value: float) -> paddle.ParamAttr:
    """Return the attributes of a bias or a layer norm's scale, which start as a constant."""
    return paddle.ParamAttr(name=name, initializer=nn.initializer.Constant(value))


def is_fused(layer: nn.Layer) -> bool:
    """Whether what a layer does between its products goes through our operators.

    In training on a CPU, where they save a quarter of the time. Programs that are served keep to
    Paddle's operations where they can, so that they run without ours.
    """
    return layer.training and not paddle.is_compiled_with_cuda()


class Dropout(nn.Layer):
    """Dropout that draws a seed, so that what is computed again is thinned out alike.

    Where nothing is trained it is no operation; Paddle's is a copy there.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Return x, thinned out in training."""
        if not self.training or self.rate == 0.0:
            return x
        # The public function takes no seed that is drawn when the program runs.
        return _C_ops.dropout(x, self.seed(), self.rate, False, "upscale_in_train", 0, False)

    def seed(self) -> paddle.Tensor | None:
        """Return what decides which numbers are dropped, int32 [1]; None where none are."""
        if not self.training or self.rate == 0.0:
            return None
        # Not 0, which means none: Paddle would draw one of its own.
        return paddle.randint(1, LARGEST_SEED, [1], "int32")


class Dense(nn.Layer):
    """A linear layer x W + b.

    Args:
        weight_attr, bias_attr: names and initial values; without ``bias_attr`` there is no bias.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        weight_attr: paddle.ParamAttr,
        bias_attr: paddle.ParamAttr | None,
    ) -> None:
        super().__init__()
        self.weight = self.create_parameter([input_size, output_size], attr=weight_attr)
        self.bias = None
        if bias_attr is not None:
            self.bias = self.create_parameter([output_size], attr=bias_attr, is_bias=True)

    def forward(self, x: paddle.Tensor, *, few_rows: bool = False) -> paddle.Tensor:
        """Return [..., output_size] from [..., input_size].

        Args:
            few_rows: read the weight once for all, as suits the steps of writing; no gradient.
        """
        if few_rows and not paddle.is_compiled_with_cuda():
            return few_rows_product(x, self.weight, self.bias)
        multiplied = self.multiply(x)
        if self.bias is None:
            return multiplied
        return add_bias(multiplied, self.bias, is_training=self.training)

    def multiply(self, x: paddle.Tensor) -> paddle.Tensor:
        """Return x W alone, for operators that add the bias themselves."""
        return product(x, self.weight)


def add_bias(x: paddle.Tensor, bias: paddle.Tensor, *, is_training: bool) -> paddle.Tensor:
    """Return x [..., D] + bias [D].

    Paddle's CPU kernel sums the gradient of a broadcast bias as slowly as the product before it
    runs (8 % of a training step). ones [..., 1] times bias [1, D] is the same number to the bit
    and gets its gradient from a matrix product.
    """
    if not is_training or paddle.is_compiled_with_cuda():
        return x + bias
    ones = paddle.ones_like(x[..., 0:1])
    ones.stop_gradient = True
    return x + paddle.matmul(ones, bias.unsqueeze(0))


def linear(name: str, input_size: int, output_size: int, scale: float) -> Dense:
    """Return a dense layer whose parameters are ``{name}.w_0`` [in, out] and ``{name}.b_0``."""
    return Dense(
        input_size,
        output_size,
        weight_attr=named_weight(f"{name}.w_0", scale),
        bias_attr=named_constant(f"{name}.b_0", 0.0),
    )


def layer_norm(name: str, size: int, epsilon: float, *, bias: float = 0.0) -> nn.LayerNorm:
    """Return a layer norm whose parameters are ``{name}_scale`` and ``{name}_bias``."""
    return nn.LayerNorm(size, **_norm_options(name, epsilon, bias))


def _norm_options(name: str, epsilon: float, bias: float = 0.0) -> dict[str, Any]:
    return {
        "epsilon": epsilon,
        "weight_attr": named_constant(f"{name}_scale", 1.0),
        "bias_attr": named_constant(f"{name}_bias", bias),
    }


class SumNorm(nn.LayerNorm):
    """The layer norm of a residual and of what a dense layer adds to it."""

    def forward(
        self,
        residual: paddle.Tensor,
        x: paddle.Tensor,
        fc: Dense,
        dropout: Dropout,
        *,
        few_rows: bool = False,
    ) -> paddle.Tensor:
        """Return norm(residual + dropout(fc(x))), [..., D]."""
        if not is_fused(self):
            return super().forward(residual + dropout(fc(x, few_rows=few_rows)))
        return add_norm(
            *(fc.multiply(x), fc.bias, residual, self.weight, self.bias),
            epsilon=self._epsilon,
            rate=dropout.rate,
            seed=dropout.seed(),
        )


class KeysValues(NamedTuple):
    """What positions offer to those that attend to them: [H, B, L, d] each."""

    keys: paddle.Tensor
    values: paddle.Tensor


class MultiHeadAttention(nn.Layer):
    """Attention with contiguous heads and an additive bias."""

    def __init__(
        self, name: str, hidden_size: int, num_heads: int, *, dropout: float, scale: float
    ) -> None:
        super().__init__()
        assert hidden_size % num_heads == 0
        self.num_heads = num_heads
        self.head_size = hidden_size // num_heads
        self.query = linear(f"{name}_query_fc", hidden_size, hidden_size, scale)
        self.key = linear(f"{name}_key_fc", hidden_size, hidden_size, scale)
        self.value = linear(f"{name}_value_fc", hidden_size, hidden_size, scale)
        self.output = linear(f"{name}_output_fc", hidden_size, hidden_size, scale)
        self.dropout = Dropout(dropout)

    def forward(
        self, hidden: paddle.Tensor, bias: paddle.Tensor, packing: Packing | None = None
    ) -> tuple[paddle.Tensor, paddle.Tensor, KeysValues]:
        """Return what is attended to [B, L, D], the probabilities [H, B, L, L] and the memory.

        ``output`` is for the layer to apply, for what follows may be one operator with its bias.
        Heads come first, so that the bias is a trailing block of the scores: Paddle's CPU kernel
        then adds it five times faster.

        Args:
            hidden: [B, L, D], or [N, D] of a packing; what is attended has the same shape.
            bias: [B, L, L]: 0 where row may see column, -1e4 elsewhere.
        """
        query = self._heads(self.query, hidden, packing, factor=self.head_size**-0.5)
        keys, values = (self._heads(fc, hidden, packing) for fc in (self.key, self.value))
        scores = product(query, keys, transpose_y=True)
        probabilities = masked_softmax(scores, bias) if is_fused(self) else F.softmax(scores + bias)
        attended = product(self.dropout(probabilities), values)
        joined = attended.transpose([1, 2, 0, 3]).flatten(2)
        if packing:
            joined = packing.pack(joined)
        return joined, probabilities, KeysValues(keys, values)

    def decode(
        self, hidden: paddle.Tensor, memory: Memory, ancestors: paddle.Tensor, cache: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Return what new words attend to [B, K, D], as ``forward``, and the cache with them.

        See ``decode_attention``.
        """
        new = (fc(hidden, few_rows=True) for fc in (self.query, self.key, self.value))
        return decode_attention(*new, memory, ancestors, cache)

    def _heads(
        self, fc: Dense, hidden: paddle.Tensor, packing: Packing | None, *, factor: float = 1.0
    ) -> paddle.Tensor:
        """Return a projection of hidden states by heads, times a factor: [H, B, L, d]."""
        unpack = packing.unpack if packing else lambda x: x
        if is_fused(self):
            return split_heads(unpack(fc.multiply(hidden)), fc.bias, self.num_heads, factor=factor)
        projected = fc(hidden) if factor == 1.0 else fc(hidden) * factor
        heads = unpack(projected).reshape([0, 0, self.num_heads, self.head_size])
        return heads.transpose([2, 0, 1, 3])


class LayerOutput(NamedTuple):
    """What a layer computed of all positions."""

    hidden: paddle.Tensor  # [B, L, D], or [N, D] of a packing
    probabilities: paddle.Tensor  # [H, B, L, L]
    memory: KeysValues


class TransformerLayer(nn.Layer):
    """One layer: attention and feed-forward, a residual sum and a layer norm after each."""

    def __init__(
        self,
        name: str,
        hidden_size: int,
        num_heads: int,
        *,
        ffn_size: int,
        activation: str,
        hidden_dropout: float,
        attention_dropout: float,
        scale: float,
        epsilon: float,
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(
            f"{name}_multi_head_att", hidden_size, num_heads, dropout=attention_dropout, scale=scale
        )
        self.attention_norm = SumNorm(
            hidden_size, **_norm_options(f"{name}_post_att_layer_norm", epsilon)
        )
        self.expand = linear(f"{name}_ffn_fc_0", hidden_size, ffn_size, scale)
        self.contract = linear(f"{name}_ffn_fc_1", ffn_size, hidden_size, scale)
        self.output_norm = SumNorm(
            hidden_size, **_norm_options(f"{name}_post_ffn_layer_norm", epsilon)
        )
        self.dropout = Dropout(hidden_dropout)
        self.activate = ACTIVATIONS[activation]

    def forward(
        self, hidden: paddle.Tensor, attention_bias: paddle.Tensor, packing: Packing | None = None
    ) -> LayerOutput:
        """Let hidden states [B, L, D], or [N, D], attend to each other; the bias is [B, L, L]."""
        attended, probabilities, memory = self.attention(hidden, attention_bias, packing)
        return LayerOutput(self._transform(hidden, attended), probabilities, memory)

    def decode(
        self, hidden: paddle.Tensor, memory: Memory, ancestors: paddle.Tensor, cache: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Let new words [B, K, D] attend to a memory and to the words before them.

        Returns:
            the next hidden states, and the cache with the new words.
        """
        attended, cache = self.attention.decode(hidden, memory, ancestors, cache)
        return self._transform(hidden, attended, few_rows=True), cache

    def _transform(
        self, hidden: paddle.Tensor, attended: paddle.Tensor, *, few_rows: bool = False
    ) -> paddle.Tensor:
        hidden = self.attention_norm(
            hidden, attended, self.attention.output, self.dropout, few_rows=few_rows
        )
        if is_fused(self) and self.activate is F.gelu:
            expanded = bias_gelu(self.expand.multiply(hidden), self.expand.bias)
        else:
            expanded = self.activate(self.expand(hidden, few_rows=few_rows))
        return self.output_norm(hidden, expanded, self.contract, self.dropout, few_rows=few_rows)


class TransformerStack(nn.Layer):
    """Layers applied in turn; there is no final norm, for each layer ends with one."""

    def __init__(self, layers: list[TransformerLayer]) -> None:
        super().__init__()
        self.layers = nn.LayerList(layers)

    def forward(
        self, hidden: paddle.Tensor, attention_bias: paddle.Tensor, packing: Packing | None = None
    ) -> list[LayerOutput]:
        """Return what each layer computed, from hidden states [B, L, D], or [N, D] of a packing."""
        outputs = []
        for layer in self.layers:
            with part():
                outputs.append(layer(hidden, attention_bias, packing))
            hidden = outputs[-1].hidden
        return outputs

    def decode(
        self,
        hidden: paddle.Tensor,
        memories: Sequence[Memory],
        ancestors: paddle.Tensor,
        caches: Sequence[paddle.Tensor],
    ) -> tuple[paddle.Tensor, list[paddle.Tensor]]:
        """Return the last hidden states [B, K, D] of new words, and all caches with them."""
        extended = []
        for layer, memory, cache in zip(self.layers, memories, caches, strict=True):
            hidden, cache = layer.decode(hidden, memory, ancestors, cache)
            extended.append(cache)
        return hidden, extended
