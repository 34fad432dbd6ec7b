"""The network of pre-training: the unified Transformer and a head for each objective."""

from __future__ import annotations

from typing import TYPE_CHECKING

import paddle
from paddle import Tensor, nn

from unimo_paddle.models import (
    LanguageHead,
    MatchHead,
    ModelConfig,
    ObjectNamesHead,
    ProjectionHead,
    RegionClassificationHead,
    RegionRegressionHead,
    Temperature,
    UnifiedTransformer,
)
from unimo_paddle.models.rows import NUM_PLACES, hide_rows, pool_places, pool_rows
from unimo_paddle.tasks.base import Tensors
from unimo_paddle.tasks.pooling import pool_pair
from unimo_paddle.tasks.segments import TEXT_INPUTS, image_inputs, take

if TYPE_CHECKING:
    from unimo_paddle.tasks.pretraining import PretrainingConfig
    from unimo_paddle.tasks.pretraining_regions import RegionTargets


class PretrainingNetwork(nn.Layer):
    """The unified Transformer with a head for each objective that is on."""

    def __init__(
        self, config: PretrainingConfig, model: ModelConfig, targets: RegionTargets
    ) -> None:
        super().__init__()
        weights = config.weights
        contrast = config.contrast
        poolers = ("text", "image") if contrast.uses_joint_scores else ()
        self.transformer = UnifiedTransformer(model, poolers=poolers)
        self.pooling = config.pooling
        if weights.contrastive:
            size = config.projection_size
            rows = 1 + NUM_PLACES**2 if config.pooling == "places" else 1
            self.image_projection = ProjectionHead(model, "image_projection", size, num_rows=rows)
            self.text_projection = ProjectionHead(model, "text_projection", size)
            self.temperature = Temperature(config.temperature, minimum=config.min_temperature)
        if contrast.uses_joint_scores:
            self.match_head = MatchHead(model)
        if contrast.has_joint_temperature:  # its scores have no bound, so it starts at one
            self.joint_temperature = Temperature(1.0, name="log_inverse_joint_temperature")
        if contrast.has_mined_temperature:
            self.mined_temperature = Temperature(
                config.temperature,
                minimum=config.min_temperature,
                name="log_inverse_mined_temperature",
            )
        if config.uses_language:
            self.language_head = LanguageHead(model, self.transformer.word_embedding)
        if weights.region_regression:
            self.regression_head = RegionRegressionHead(model)
        if weights.region_classification:
            self.classification_head = RegionClassificationHead(model, targets.num_classes)
        if weights.object_names:
            self.object_names_head = ObjectNamesHead(model, targets.num_object_names)

    def embed_images(self, batch: Tensors) -> Tensor:
        """Unit image features [B, projection_size] of images encoded alone."""
        return self.image_projection(self.pool_images(batch))

    def embed_texts(self, batch: Tensors) -> Tensor:
        """Unit text features [B, projection_size] of texts encoded alone."""
        return self.text_projection(self.pool_texts(batch))

    def score_pairs(self, batch: Tensors) -> Tensor:
        """Joint scores [B, 1] of images and texts encoded together."""
        return self._score(take(batch, (*TEXT_INPUTS, *image_inputs())))

    def score_texts(self, images: Tensors, texts: Tensors) -> Tensor:
        """Joint scores [B, K] of images with K texts each, of the fields of both.

        Images are embedded once, which is where convolutions read their patches.
        """
        count = texts["input_ids"].shape[1]
        rows = self.transformer.embed_regions(images["region_features"], images["region_boxes"])
        inputs = {name: x.flatten(0, 1) for name, x in texts.items()}
        for name, value in (("region_rows", rows), ("region_mask", images["region_mask"])):
            inputs[name] = paddle.repeat_interleave(value, count, axis=0)
        return self._score(inputs).reshape([-1, count])

    def _score(self, inputs: Tensors) -> Tensor:
        encoding = self.transformer(**inputs)
        pooling = "first" if self.pooling == "first" else "mean"
        return self.match_head(*pool_pair(self.transformer, encoding, inputs, pooling))

    def pool_images(self, batch: Tensors) -> Tensor:
        """What ``embed_images`` projects: [B, D], or [B, 10 * D] around places."""
        inputs = take(batch, image_inputs())
        rows = self.transformer(**inputs).regions
        if self.pooling == "first":
            return rows[:, 0]
        if self.pooling == "mean":
            return pool_rows(rows, inputs["region_mask"])
        return pool_places(rows, inputs["region_boxes"], inputs["region_mask"])

    def pool_texts(self, batch: Tensors) -> Tensor:
        """What ``embed_texts`` projects: [B, D]."""
        inputs = take(batch, TEXT_INPUTS)
        rows = self.transformer(**inputs).text
        return rows[:, 0] if self.pooling == "first" else pool_rows(rows, inputs["text_mask"])

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
