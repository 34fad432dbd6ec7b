"""The unified-modal Transformer: regions, tags and text in one sequence.

"UNIMO: Towards Unified-Modal Understanding and Generation via Cross-Modal Contrastive
Learning" (arXiv 2012.15409), section 2. Bidirectional encoding and sequence-to-sequence
generation differ only in the attention bias, made here from the masks and ``text_order``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import paddle
from paddle import nn

from unimo_paddle.models.config import ModelConfig
from unimo_paddle.models.embeddings import RegionEmbedding, TextEmbedding
from unimo_paddle.models.packing import Packing, leaves_padding_out
from unimo_paddle.models.rows import count_rows, pool_rows
from unimo_paddle.models.transformer import (
    KeysValues,
    TransformerLayer,
    TransformerStack,
    linear,
)
from unimo_paddle.ops.decode_attention import Memory

# Not minus infinity: a row that may see nothing must stay finite (and spreads evenly).
HIDDEN_BIAS = 1.0e4


@dataclass
class Encoding:
    """What the stack computed: the whole sequence, and the same cut into its segments."""

    hidden: paddle.Tensor  # [B, L, D]: regions, tags, text
    regions: paddle.Tensor | None  # [B, R, D]
    tags: paddle.Tensor | None  # [B, G, D]
    text: paddle.Tensor | None  # [B, T, D]
    projected: paddle.Tensor | None = None  # [B, R, D]: regions before their boxes join
    layers: list[paddle.Tensor] = field(default_factory=list)  # embedding, then every layer
    attentions: list[paddle.Tensor] | None = None  # every layer's [B, H, L, L], when asked for
    mask: paddle.Tensor | None = None  # [B, L]: 1 where a position is real
    memories: list[KeysValues] = field(default_factory=list)  # every layer's keys and values


class UnifiedTransformer(nn.Layer):
    """One Transformer for images, texts and pairs; absent segments are None.

    Args:
        config: sizes and choices.
        with_images: create what embeds regions. A model of texts alone has no such parameters.
        poolers: which of "text" and "image" get a pooling layer. A parameter that the loss does
            not reach has no gradient, so a task asks for what it uses.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        with_images: bool = True,
        poolers: tuple[str, ...] = ("text", "image"),
    ) -> None:
        super().__init__()
        assert set(poolers) <= {"text", "image"}
        assert with_images or "image" not in poolers
        self.config = config
        size, scale = config.hidden_size, config.initializer_range
        self.text_embedding = TextEmbedding(config)
        self.region_embedding = RegionEmbedding(config) if with_images else None
        self.stack = TransformerStack([_layer(config, i) for i in range(config.num_layers)])
        self.text_pooler = (
            linear("pooled_fc_text", size, size, scale) if "text" in poolers else None
        )
        self.image_pooler = (
            linear("pooled_fc_image", size, size, scale) if "image" in poolers else None
        )

    @property
    def word_embedding(self) -> paddle.Tensor:
        """The word embedding [V, D], which the language head shares."""
        return self.text_embedding.word.weight

    def forward(
        self,
        input_ids: paddle.Tensor | None = None,
        position_ids: paddle.Tensor | None = None,
        text_mask: paddle.Tensor | None = None,
        text_order: paddle.Tensor | None = None,
        *,
        region_features: paddle.Tensor | None = None,
        region_boxes: paddle.Tensor | None = None,
        region_mask: paddle.Tensor | None = None,
        tag_ids: paddle.Tensor | None = None,
        tag_positions: paddle.Tensor | None = None,
        tag_mask: paddle.Tensor | None = None,
        role_ids: paddle.Tensor | None = None,
        turn_ids: paddle.Tensor | None = None,
        type_ids: paddle.Tensor | None = None,
        text_perturbation: paddle.Tensor | None = None,
        region_perturbation: paddle.Tensor | None = None,
        region_rows: paddle.Tensor | None = None,
        collect_attention: bool = False,
    ) -> Encoding:
        """Encode the given segments as one sequence.

        Args:
            input_ids, position_ids: [B, T] int64. position_ids None: first_position, and on.
            text_mask: [B, T] float, 1 where a token is real.
            text_order: [B, T] int64. A position sees another if that one's order is not greater;
                regions and tags have order 0. None: every real position sees every other.
            region_features: [B, R, F]; region_boxes: [B, R, 5]; region_mask: [B, R].
            tag_ids, tag_positions, tag_mask: [B, G]; embedded as words are.
            role_ids, turn_ids, type_ids: [B, T], for models that have such embeddings. Types are
                by default 0, and 1 where text_order is above 0.
            text_perturbation: [B, T, D], added to the text embedding before its norm.
            region_perturbation: [B, R, F], added to the region features.
            region_rows: [B, R, D], of ``embed_regions``, in place of features and boxes.
            collect_attention: keep every layer's attention probabilities.
        """
        embeddings, masks = {}, {}
        projected = None
        if region_features is not None:
            projected, region_rows = self._embed_regions(
                region_features, region_boxes, region_perturbation
            )
        if region_rows is not None:
            embeddings["regions"], masks["regions"] = region_rows, region_mask
        if tag_ids is not None:
            embeddings["tags"] = self.text_embedding(tag_ids, tag_positions)
            masks["tags"] = tag_mask
        if input_ids is not None:
            if position_ids is None:
                position_ids = _continuous_positions(input_ids, self.config.first_position)
            if type_ids is None and text_order is not None and self.config.type_vocab_size > 1:
                type_ids = (text_order > 0).astype("int64")
            embeddings["text"] = self.text_embedding(
                input_ids,
                position_ids,
                role_ids=role_ids,
                turn_ids=turn_ids,
                type_ids=type_ids,
                perturbation=text_perturbation,
            )
            masks["text"] = text_mask
        assert embeddings, "nothing to encode: give text, regions or tags"
        embedded, mask = _concat(list(embeddings.values())), _concat(list(masks.values()))
        bias = attention_bias(mask, _order(masks, text_order))
        # Images alone are hardly ever padded.
        is_packed = self.training and input_ids is not None and leaves_padding_out()
        packing = Packing(mask) if is_packed else None
        outputs = self.stack(packing.pack(embedded) if packing else embedded, bias, packing)
        if packing:
            outputs = [output._replace(hidden=packing.unpack(output.hidden)) for output in outputs]
        attentions = None
        if collect_attention:
            attentions = [output.probabilities.transpose([1, 0, 2, 3]) for output in outputs]
        return Encoding(
            hidden=outputs[-1].hidden,
            **_split(outputs[-1].hidden, embeddings),
            projected=projected,
            layers=[embedded, *(output.hidden for output in outputs)],
            attentions=attentions,
            mask=mask,
            memories=[output.memory for output in outputs],
        )

    def embed_regions(
        self, region_features: paddle.Tensor, region_boxes: paddle.Tensor
    ) -> paddle.Tensor:
        """What the layers see of images [B, R, D], which many texts may share."""
        return self._embed_regions(region_features, region_boxes)[1]

    def _embed_regions(
        self,
        features: paddle.Tensor,
        boxes: paddle.Tensor,
        perturbation: paddle.Tensor | None = None,
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Regions projected, and with their boxes: [B, R, D] each."""
        assert self.region_embedding is not None, "this model was built without images"
        projected = self.region_embedding.project(features, perturbation)
        return projected, self.region_embedding(projected, boxes)

    def memories(self, encoding: Encoding) -> list[Memory]:
        """What each layer remembers of an encoding, for ``decode``."""
        bias = (encoding.mask - 1.0) * HIDDEN_BIAS
        return [
            Memory(layer.keys.transpose([0, 1, 3, 2]), layer.values, bias)
            for layer in encoding.memories
        ]

    def decode(
        self,
        ids: paddle.Tensor,
        positions: paddle.Tensor,
        memories: Sequence[Memory],
        ancestors: paddle.Tensor,
        caches: Sequence[paddle.Tensor],
    ) -> tuple[paddle.Tensor, list[paddle.Tensor]]:
        """Encode new words of texts that are being written behind what was encoded.

        A new word sees all real positions of the encoding and the words of its own text. Role and
        turn of what is written are 0, its type is 1.

        Args:
            ids, positions: [B, K] int64, a word for each of K texts.
            memories: of every layer, for B samples; all texts of a sample share them.
            ancestors: [B, K, t] int64: which text's word of each time belongs to text k.
            caches: of every layer, [2, C, B, K, D]: the words before.

        Returns:
            hidden states [B, K, D], and the caches with the new words.
        """
        extras = {}
        if self.config.num_roles:
            extras["role_ids"] = paddle.zeros_like(ids)
        if self.config.num_turns:
            extras["turn_ids"] = paddle.zeros_like(ids)
        if self.config.type_vocab_size > 1:
            extras["type_ids"] = paddle.ones_like(ids)
        hidden = self.text_embedding(ids, positions, **extras)
        return self.stack.decode(hidden, memories, ancestors, caches)

    def pooled_text(
        self, encoding: Encoding, weights: paddle.Tensor | None = None
    ) -> paddle.Tensor:
        """Return ReLU(W . first text token): [B, D].

        With weights [B, T] the weighted mean of all tokens stands for the first one.
        """
        assert self.text_pooler is not None and encoding.text is not None
        row = encoding.text[:, 0] if weights is None else pool_rows(encoding.text, weights)
        return nn.functional.relu(self.text_pooler(row))

    def pooled_image(
        self, encoding: Encoding, weights: paddle.Tensor | None = None
    ) -> paddle.Tensor:
        """Return ReLU(W . first region): [B, D]; weights [B, R] are taken as for a text."""
        assert self.image_pooler is not None and encoding.regions is not None
        row = encoding.regions[:, 0] if weights is None else pool_rows(encoding.regions, weights)
        return nn.functional.relu(self.image_pooler(row))


def attention_bias(mask: paddle.Tensor, order: paddle.Tensor | None) -> paddle.Tensor:
    """Return [B, L, L]: 0 where row i sees column j, -1e4 elsewhere.

    visible(i, j) = mask_i mask_j [order_j <= order_i]. A padded row sees nothing, so all its
    scores fall by the same 1e4 and it attends to everything, as in the original.

    Args:
        mask: [B, L] float.
        order: [B, L] int64, or None when everything sees everything.
    """
    visible = mask.unsqueeze(2) * mask.unsqueeze(1)
    if order is not None:
        visible = visible * (order.unsqueeze(1) <= order.unsqueeze(2)).astype(visible.dtype)
    bias = (visible - 1.0) * HIDDEN_BIAS
    bias.stop_gradient = True
    return bias


def _layer(config: ModelConfig, index: int) -> TransformerLayer:
    return TransformerLayer(
        f"encoder_layer_{index}",
        config.hidden_size,
        config.num_heads,
        ffn_size=config.feed_forward_size,
        activation=config.activation,
        hidden_dropout=config.hidden_dropout,
        attention_dropout=config.attention_dropout,
        scale=config.initializer_range,
        epsilon=config.layer_norm_eps,
    )


def _order(
    masks: dict[str, paddle.Tensor], text_order: paddle.Tensor | None
) -> paddle.Tensor | None:
    """Return the order of the whole sequence [B, L]; what is not text has order 0."""
    if text_order is None:
        return None
    assert "text" in masks, "text_order without text"
    before = [
        paddle.zeros_like(mask, dtype=text_order.dtype)
        for name, mask in masks.items()
        if name != "text"
    ]
    return _concat([*before, text_order])


def _continuous_positions(ids: paddle.Tensor, first_position: int) -> paddle.Tensor:
    return paddle.cumsum(paddle.ones_like(ids), axis=1) + (first_position - 1)


def _concat(segments: list[paddle.Tensor]) -> paddle.Tensor:
    return segments[0] if len(segments) == 1 else paddle.concat(segments, axis=1)


def _split(
    hidden: paddle.Tensor, embeddings: dict[str, paddle.Tensor]
) -> dict[str, paddle.Tensor | None]:
    """Cut the sequence into the segments that it was joined from."""
    segments: dict[str, paddle.Tensor | None] = {"regions": None, "tags": None, "text": None}
    if len(embeddings) == 1:
        return {**segments, next(iter(embeddings)): hidden}
    start = 0
    for name, embedding in embeddings.items():
        end = start + count_rows(embedding)
        segments[name] = hidden[:, start:end]
        start = end
    return segments
