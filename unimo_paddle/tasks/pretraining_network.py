"""The network of pre-training: the unified Transformer and a head for each objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import paddle
from paddle import Tensor, nn

from unimo_paddle.data.fields import Field
from unimo_paddle.models import (
    LanguageHead,
    ModelConfig,
    ProjectionHead,
    RegionClassificationHead,
    RegionRegressionHead,
    Temperature,
    UnifiedTransformer,
)
from unimo_paddle.models.rows import hide_rows
from unimo_paddle.tasks.base import Tensors
from unimo_paddle.tasks.pretraining_fields import TEXT_INPUTS, image_inputs

if TYPE_CHECKING:
    from unimo_paddle.tasks.pretraining import PretrainingConfig


class PretrainingNetwork(nn.Layer):
    """The unified Transformer with a head for each objective that is on."""

    def __init__(self, config: PretrainingConfig, model: ModelConfig, num_classes: int) -> None:
        super().__init__()
        weights = config.weights
        self.transformer = UnifiedTransformer(model, poolers=())
        self.pooling = config.pooling
        if weights.contrastive:
            size = config.projection_size
            self.image_projection = ProjectionHead(model, "image_projection", size)
            self.text_projection = ProjectionHead(model, "text_projection", size)
            self.temperature = Temperature(config.temperature, minimum=config.min_temperature)
        if config.uses_language:
            self.language_head = LanguageHead(model, self.transformer.word_embedding)
        if weights.region_regression:
            self.regression_head = RegionRegressionHead(model)
        if weights.region_classification:
            self.classification_head = RegionClassificationHead(model, num_classes)

    def embed_images(self, batch: Tensors) -> Tensor:
        """Unit image features [B, projection_size] of images encoded alone."""
        inputs = take(batch, image_inputs())
        encoding = self.transformer(**inputs)
        return self.image_projection(self._pool(encoding.regions, inputs["region_mask"]))

    def embed_texts(self, batch: Tensors) -> Tensor:
        """Unit text features [B, projection_size] of texts encoded alone."""
        inputs = take(batch, TEXT_INPUTS)
        encoding = self.transformer(**inputs)
        return self.text_projection(self._pool(encoding.text, inputs["text_mask"]))

    def _pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        if self.pooling == "first":
            return hidden[:, 0]
        mask = mask.unsqueeze(-1)
        return (hidden * mask).sum(axis=1) / mask.sum(axis=1)

    def fill_regions(self, batch: Tensors) -> Tensor:
        """Features [B, R, F] that the network expects of each region of a pair, some hidden."""
        inputs = take(batch, (*TEXT_INPUTS, *image_inputs()))
        inputs["region_features"] = hide_rows(
            inputs["region_features"], batch["hidden_regions"], inputs["region_mask"]
        )
        return self.regression_head(self.transformer(**inputs).regions)

    def attend_regions(self, batch: Tensors) -> Tensor:
        """How much each token of a pair looks at each region: [B, T, R], mean over all heads."""
        inputs = take(batch, (*TEXT_INPUTS, *image_inputs()))
        encoding = self.transformer(**inputs, collect_attention=True)
        attention = paddle.add_n([layer.mean(axis=1) for layer in encoding.attentions])
        num_regions = paddle.shape(inputs["region_features"])[1]
        return attention[:, num_regions:, :num_regions] / len(encoding.attentions)


def take(batch: Tensors, fields: Sequence[Field], prefix: str = "") -> dict[str, Tensor]:
    """The tensors of these fields, whose names in the batch are prefixed, under their own names."""
    return {item.name: batch[prefix + item.name] for item in fields}
