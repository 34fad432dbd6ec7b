"""What the layers see of words and of regions: sums of embeddings, normalised."""

from __future__ import annotations

import math

import paddle
from paddle import nn

from unimo_paddle.models.config import ModelConfig
from unimo_paddle.models.stem import PatchStem
from unimo_paddle.models.transformer import Dropout, layer_norm, linear, named_weight


class TextEmbedding(nn.Layer):
    """Sum of word, position and optional role, turn and type embeddings, normalised."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        scale = config.initializer_range

        def table(name: str, rows: int) -> nn.Embedding | None:
            attributes = named_weight(name, scale)
            return nn.Embedding(rows, config.hidden_size, weight_attr=attributes) if rows else None

        self.word = table("word_embedding", config.vocab_size)
        self.position = table("pos_embedding", config.max_positions)
        self.role = table("role_embedding", config.num_roles)
        self.turn = table("turn_embedding", config.num_turns)
        self.token_type = table("type_embedding", config.type_vocab_size)
        self.norm = layer_norm("pre_encoder_layer_norm", config.hidden_size, config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout)

    def forward(
        self,
        ids: paddle.Tensor,
        positions: paddle.Tensor,
        *,
        role_ids: paddle.Tensor | None = None,
        turn_ids: paddle.Tensor | None = None,
        type_ids: paddle.Tensor | None = None,
        perturbation: paddle.Tensor | None = None,
    ) -> paddle.Tensor:
        """Return [B, T, D]; ids are [B, T], the perturbation is added before the norm."""
        total = self.word(ids) + self.position(positions)
        if self.token_type is not None and type_ids is None:
            type_ids = paddle.zeros_like(ids)
        extras = ((self.role, role_ids), (self.turn, turn_ids), (self.token_type, type_ids))
        for embedding, extra_ids in extras:
            if extra_ids is not None:
                assert embedding is not None, "ids given for an embedding the model does not have"
                total = total + embedding(extra_ids)
        if perturbation is not None:
            total = total + perturbation
        return self.dropout(self.norm(total))


class RegionEmbedding(nn.Layer):
    """Sum of the projected feature and the projected box, normalised; no position.

    With a ``patch_grid`` convolutions read all rows but the first, which is the whole image; with a
    grid of 1 they read every row by itself. Both parts are then normalised before they are added,
    as in LXMERT (arXiv 1908.07490, section 2.1): what convolutions tell of a patch would drown its
    place.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size, scale, epsilon = config.hidden_size, config.initializer_range, config.layer_norm_eps
        self.num_frequencies = config.location_frequencies
        self.feature = linear("image_emb", config.region_feature_size, size, scale)
        self.stem = None
        if config.patch_grid:
            self.stem = PatchStem(
                config.patch_grid,
                config.region_feature_size,
                size,
                scale,
                edge_size=config.patch_edge_size,
                dictionary_size=config.patch_dictionary,
            )
            self.feature_norm = layer_norm("patch_stem_layer_norm", size, epsilon)
            self.location_norm = layer_norm("image_loc_layer_norm", size, epsilon)
        self.location = linear("image_loc", config.location_size, size, scale)
        self.norm = layer_norm("v_pre_encoder_layer_norm", size, epsilon)
        self.dropout = Dropout(config.hidden_dropout)

    def project(
        self, features: paddle.Tensor, perturbation: paddle.Tensor | None = None
    ) -> paddle.Tensor:
        """Return [B, R, D] from features [B, R, F], without the boxes."""
        if perturbation is not None:
            features = features + perturbation
        if self.stem is None:
            return self.feature(features)
        whole, patches = self.feature(features[:, :1]), self.stem(features[:, 1:])
        return self.feature_norm(paddle.concat([whole, patches], axis=1))

    def forward(self, projected: paddle.Tensor, boxes: paddle.Tensor) -> paddle.Tensor:
        """Return [B, R, D] from projected features [B, R, D] and boxes [B, R, 5]."""
        if self.num_frequencies:
            boxes = paddle.concat([boxes, fourier_features(boxes, self.num_frequencies)], axis=-1)
        location = self.location(boxes)
        if self.stem is not None:
            location = self.location_norm(location)
        return self.dropout(self.norm(projected + location))


def fourier_features(boxes: paddle.Tensor, num_frequencies: int) -> paddle.Tensor:
    """Return sin and cos of 2^i pi (x, y) of the box centres: [B, R, 4 * num_frequencies].

    A patch's place is then told apart by a linear layer at every scale, which the five numbers
    alone leave to the layers above.
    """
    centres = (boxes[:, :, 0:2] + boxes[:, :, 2:4]) * (0.5 * math.pi)
    angles = paddle.concat([centres * float(2**i) for i in range(num_frequencies)], axis=-1)
    return paddle.concat([paddle.sin(angles), paddle.cos(angles)], axis=-1)
