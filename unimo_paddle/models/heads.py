"""Heads: what turns encoded positions into logits, features or scores.

Parameter names and initial values are the original's; new heads follow the same taste.
"""

from __future__ import annotations

import math

import paddle
from paddle import nn

from unimo_paddle.models.config import ModelConfig
from unimo_paddle.models.transformer import (
    ACTIVATIONS,
    Dense,
    Dropout,
    add_bias,
    layer_norm,
    linear,
    named_constant,
    named_weight,
)
from unimo_paddle.ops.few_rows import few_rows_product
from unimo_paddle.ops.products import product

HEAD_DROPOUT = 0.1  # the original's, whatever the model's own dropout is
ENTAILMENT_SIZE = 2048  # the original's, whatever the model's width is
SMALLEST_NORM = 1.0e-6  # below it a vector is not stretched to length one


class ClassificationHead(nn.Layer):
    """Class logits, or one number to regress, from pooled text."""

    def __init__(
        self, config: ModelConfig, num_labels: int, *, dropout: float = HEAD_DROPOUT
    ) -> None:
        super().__init__()
        name = f"cls_out_{num_labels}"
        self.dropout = Dropout(dropout)
        self.output = Dense(
            config.hidden_size,
            num_labels,
            weight_attr=named_weight(f"{name}_w", config.initializer_range),
            bias_attr=named_constant(f"{name}_b", 0.0),
        )

    def forward(self, pooled: paddle.Tensor) -> paddle.Tensor:
        """Return logits [B, num_labels] from pooled [B, D]."""
        return self.output(self.dropout(pooled))


class EntailmentHead(nn.Layer):
    """Class logits from the sum of pooled text and image.

    Two linear layers with no activation between them, as in the original.
    """

    def __init__(
        self, config: ModelConfig, num_labels: int = 3, *, dropout: float = HEAD_DROPOUT
    ) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.expand = _numbered_linear(config, 0, config.hidden_size, ENTAILMENT_SIZE)
        self.output = _numbered_linear(config, 1, ENTAILMENT_SIZE, num_labels)

    def forward(self, pooled_text: paddle.Tensor, pooled_image: paddle.Tensor) -> paddle.Tensor:
        """Return logits [B, num_labels] from two [B, D]."""
        return self.output(self.expand(self.dropout(pooled_text + pooled_image)))


def _numbered_linear(config: ModelConfig, index: int, input_size: int, output_size: int) -> Dense:
    return Dense(
        input_size,
        output_size,
        weight_attr=named_weight(f"cls_out_w_{index}", config.initializer_range),
        bias_attr=named_constant(f"cls_out_b_{index}", 0.0),
    )


class MatchHead(nn.Layer):
    """The joint score of an image and a text, from the product of their pooled vectors."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dropout = Dropout(config.attention_dropout)
        initializer = nn.initializer
        self.output = Dense(
            config.hidden_size,
            1,
            weight_attr=paddle.ParamAttr("match_fc.w_0", initializer=initializer.XavierUniform()),
            bias_attr=paddle.ParamAttr("match_fc.b_0", initializer=initializer.Uniform(-1.0, 1.0)),
        )

    def forward(self, pooled_text: paddle.Tensor, pooled_image: paddle.Tensor) -> paddle.Tensor:
        """Return scores [B, 1] from two [B, D]."""
        return self.output(self.dropout(pooled_text * pooled_image))


class LanguageHead(nn.Layer):
    """Word logits at chosen positions: dense, activation, norm, then the word embedding.

    Args:
        config: sizes; ``tie_word_embeddings`` decides whose matrix makes the logits.
        word_embedding: [V, D], shared when tied; else None.
    """

    def __init__(self, config: ModelConfig, word_embedding: paddle.Tensor | None = None) -> None:
        super().__init__()
        size, scale = config.hidden_size, config.initializer_range
        self.transform = linear("mask_lm_trans_fc", size, size, scale)
        self.activate = ACTIVATIONS[config.activation]
        # The bias of this norm starts at one: the original does so, and its recipes assume it.
        self.norm = layer_norm("mask_lm_trans_layer_norm", size, config.layer_norm_eps, bias=1.0)
        self.is_tied = config.tie_word_embeddings
        if self.is_tied:
            assert word_embedding is not None, "a tied language head needs the word embedding"
            self.word_embedding = word_embedding
        else:
            self.weight = self.create_parameter(
                [size, config.vocab_size], attr=named_weight("mask_lm_out_fc.w_0", scale)
            )
        self.bias = self.create_parameter(
            [config.vocab_size], attr=named_constant("mask_lm_out_fc.b_0", 0.0), is_bias=True
        )

    def forward(self, hidden: paddle.Tensor, *, few_rows: bool = False) -> paddle.Tensor:
        """Return logits [P, V] from the hidden states [P, D] of the chosen positions.

        Args:
            few_rows: read the weights once for all, as suits the steps of writing; no gradient.
        """
        hidden = self.norm(self.activate(self.transform(hidden, few_rows=few_rows)))
        if few_rows and not paddle.is_compiled_with_cuda():
            matrix = self.word_embedding if self.is_tied else self.weight
            return few_rows_product(hidden, matrix, self.bias, is_transposed=self.is_tied)
        if self.is_tied:
            logits = product(hidden, self.word_embedding, transpose_y=True)
        else:
            logits = product(hidden, self.weight)
        return add_bias(logits, self.bias, is_training=self.training)


class RegionRegressionHead(nn.Layer):
    """The original feature of a masked region, by a linear layer.

    Its weights start at zero, so that it begins with one guess for all regions and not with noise
    that takes hundreds of updates to unlearn.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        name = "region_regression_fc"
        self.output = Dense(
            config.hidden_size,
            config.region_feature_size,
            weight_attr=named_constant(f"{name}.w_0", 0.0),
            bias_attr=named_constant(f"{name}.b_0", 0.0),
        )

    def forward(self, hidden: paddle.Tensor) -> paddle.Tensor:
        """Return features [..., F] from hidden states [..., D]."""
        return self.output(hidden)


class RegionClassificationHead(nn.Layer):
    """The class of a masked region (a detector's class or a visual word), by a linear layer."""

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        super().__init__()
        self.output = linear(
            "region_class_fc", config.hidden_size, num_classes, config.initializer_range
        )

    def forward(self, hidden: paddle.Tensor) -> paddle.Tensor:
        """Return logits [..., num_classes] from hidden states [..., D]."""
        return self.output(hidden)


class ObjectNamesHead(nn.Layer):
    """Which names hold of what lies in a patch, by a linear layer; any number of them may."""

    def __init__(self, config: ModelConfig, num_names: int) -> None:
        super().__init__()
        self.output = linear(
            "object_names_fc", config.hidden_size, num_names, config.initializer_range
        )

    def forward(self, embedded: paddle.Tensor) -> paddle.Tensor:
        """Return a logit for each name [..., num_names] from embedded patches [..., D]."""
        return self.output(embedded)


class ProjectionHead(nn.Layer):
    """A vector of length one for the separate score, by a linear layer.

    Args:
        config: sizes.
        name: of the parameters ``{name}.w_0`` and ``{name}.b_0``, such as "image_projection".
        size: length of the vector.
        num_rows: pooled rows that are projected side by side.
    """

    def __init__(self, config: ModelConfig, name: str, size: int, *, num_rows: int = 1) -> None:
        super().__init__()
        self.output = linear(name, num_rows * config.hidden_size, size, config.initializer_range)

    def forward(self, hidden: paddle.Tensor) -> paddle.Tensor:
        """Return [B, size], each row of length one; a zero row stays zero, gradient included."""
        projected = self.output(hidden)
        squared_norm = (projected * projected).sum(axis=-1, keepdim=True)
        floor = paddle.full_like(squared_norm, SMALLEST_NORM**2)
        return projected * paddle.rsqrt(paddle.maximum(squared_norm, floor))


class Temperature(nn.Layer):
    """The learnable temperature of the contrastive loss, between two bounds.

    The parameter is the logarithm of the inverse, so that a step changes the temperature by a
    share of itself. A plain clip would have no gradient beyond a bound and never come back;
    here the value is reflected at the bounds, which leaves it unchanged between them and turns
    the gradient round beyond them.
    """

    def __init__(
        self,
        start: float = 0.07,
        *,
        minimum: float = 0.01,
        maximum: float = 1.0,
        name: str = "log_inverse_temperature",
    ) -> None:
        super().__init__()
        assert 0.0 < minimum <= start <= maximum and minimum < maximum
        self.lowest = -math.log(maximum)
        self.highest = -math.log(minimum)
        initial = nn.initializer.Constant(-math.log(start))
        self.log_inverse = self.create_parameter(
            [1], attr=paddle.ParamAttr(name=name, initializer=initial)
        )

    def forward(self) -> paddle.Tensor:
        """Return the temperature: [1], from minimum to maximum."""
        value = self.log_inverse
        value = paddle.where(value > self.highest, 2.0 * self.highest - value, value)
        value = paddle.where(value < self.lowest, 2.0 * self.lowest - value, value)
        return paddle.exp(-value)
