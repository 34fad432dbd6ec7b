"""The terms of the pre-training loss, from the outputs of the network.

"UNIMO" (arXiv 2012.15409), sections 2.1 to 2.3. Each term is there only when it has a weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import paddle
from paddle import Tensor

from unimo_paddle import losses
from unimo_paddle.distributed import gather_ids, gather_rows
from unimo_paddle.models.rows import (
    concat_rows,
    flatten_labels,
    gather_positions,
    hide_rows,
)
from unimo_paddle.ops.contrastive import contrastive_logsumexp
from unimo_paddle.tasks.base import Tensors
from unimo_paddle.tasks.pretraining_fields import (
    TEXT_INPUTS,
    image_inputs,
    image_targets,
    text_targets,
)
from unimo_paddle.tasks.pretraining_network import PretrainingNetwork, take

if TYPE_CHECKING:
    from unimo_paddle.tasks.pretraining import PretrainingConfig


class PretrainingObjectives:
    """Every objective that is on, averaged over the streams that carry it."""

    def __init__(self, config: PretrainingConfig) -> None:
        self._config = config

    def terms(self, network: PretrainingNetwork, batch: Tensors) -> dict[str, Tensor]:
        """The unweighted terms by name, and the temperature."""
        terms: dict[str, Tensor] = {}
        if self._config.weights.contrastive:
            terms["contrastive"] = self._contrastive(network, batch)
            terms["temperature"] = network.temperature().mean()
        return terms | self._masked_terms(network, batch)

    def _contrastive(self, network: PretrainingNetwork, batch: Tensors) -> Tensor:
        """Both sides encoded alone; the other pairs of the batch, of all ranks, are negatives."""
        captions = {item.name: batch[f"caption_{item.name}"].flatten(0, 1) for item in TEXT_INPUTS}
        image = gather_rows(network.embed_images(batch))
        text = gather_rows(network.embed_texts(captions))
        group, wording = gather_ids(batch["group"]), gather_ids(batch["caption_group"])
        caption_group = paddle.ones_like(wording) * group.unsqueeze(1)
        # An image shares its duplicate id with the captions worded like its own first one.
        sums = contrastive_logsumexp(
            image,
            text,
            network.temperature(),
            group,
            caption_group.flatten(),
            wording[:, 0],
            wording.flatten(),
        )
        return losses.symmetric_contrastive(*sums)

    def _masked_terms(self, network: PretrainingNetwork, batch: Tensors) -> dict[str, Tensor]:
        """Language and region terms over all streams: outputs are collected, heads run once."""
        config = self._config
        words: list[tuple[Tensor, ...]] = []
        regions: list[tuple[Tensor, ...]] = []
        if self._config.encodes_jointly:
            pairs = _first(batch, config.masked_pair_share)
            self._encode_masked(network, pairs, "", words, regions, has_text=True, has_image=True)
        if config.uses_language and "texts_hidden_text_input_ids" in batch:
            self._encode_masked(
                network, batch, "texts_", words, regions, has_text=True, has_image=False
            )
        if config.uses_regions and "images_region_features" in batch:
            self._encode_masked(
                network, batch, "images_", words, regions, has_text=False, has_image=True
            )
        terms: dict[str, Tensor] = {}
        if words:
            terms |= self._language_terms(network, words)
        if regions:
            terms |= self._region_terms(network, regions)
        return terms

    def _encode_masked(
        self,
        network: PretrainingNetwork,
        batch: Tensors,
        prefix: str,
        words: list[tuple[Tensor, ...]],
        regions: list[tuple[Tensor, ...]],
        *,
        has_text: bool,
        has_image: bool,
    ) -> None:
        """Encode one stream with its words and regions hidden; collect what is to be predicted."""
        inputs: dict[str, Tensor] = {}
        if has_image:
            inputs |= take(batch, image_inputs(), prefix)
            original = inputs["region_features"]
            if self._config.uses_regions:
                inputs["region_features"] = hide_rows(
                    original, batch[f"{prefix}hidden_regions"], inputs["region_mask"]
                )
        if has_text:
            hidden_text = f"{prefix}hidden_text_"
            inputs |= {
                name: batch[hidden_text + name]
                for name in ("input_ids", "position_ids", "text_order")
            }
            inputs["text_mask"] = batch[f"{hidden_text}mask"]
        encoding = network.transformer(**inputs)
        if has_text and self._config.uses_language:
            names = ("positions", "labels", "weights", "seq2seq")
            positions, labels, weights, seq2seq = (batch[hidden_text + name] for name in names)
            rows = gather_positions(encoding.text, positions)
            words.append((rows, labels.flatten(), weights.flatten(), seq2seq.flatten()))
        if has_image and self._config.uses_regions:
            positions = batch[f"{prefix}region_positions"]
            regions.append(
                (
                    gather_positions(encoding.regions, positions),
                    gather_positions(original, positions),
                    flatten_labels(batch[f"{prefix}region_labels"], positions),
                    batch[f"{prefix}region_weights"].flatten(),
                )
            )

    def _language_terms(
        self, network: PretrainingNetwork, words: Sequence[tuple[Tensor, ...]]
    ) -> dict[str, Tensor]:
        rows, labels, weights, seq2seq = (
            concat_rows(column) for column in zip(*words, strict=True)
        )
        logits = network.language_head(rows)
        terms = {}
        if self._config.weights.masked_language:
            terms["masked_language"] = losses.token_cross_entropy(
                logits, labels, weights * (1.0 - seq2seq)
            )
        if self._config.weights.seq2seq_language:
            terms["seq2seq_language"] = losses.token_cross_entropy(
                logits, labels, weights * seq2seq
            )
        return terms

    def _region_terms(
        self, network: PretrainingNetwork, regions: Sequence[tuple[Tensor, ...]]
    ) -> dict[str, Tensor]:
        rows, targets, labels, weights = (
            concat_rows(column) for column in zip(*regions, strict=True)
        )
        terms = {}
        if self._config.weights.region_regression:
            predicted = network.regression_head(rows)
            terms["region_regression"] = losses.region_regression(predicted, targets, weights)
        if self._config.weights.region_classification:
            logits = network.classification_head(rows)
            terms["region_classification"] = losses.region_classification(logits, labels, weights)
        return terms


def _first(batch: Tensors, share: float) -> dict[str, Tensor]:
    """The first rows of every field of the pairs: the share that is encoded jointly."""
    if share == 1.0:
        return dict(batch)
    size = paddle.shape(batch["region_features"])[0]
    count = paddle.ceil(size.astype("float32") * share).astype("int64")
    pairs = {item.name for item in (*image_inputs(), *image_targets(True), *text_targets())}
    return {name: value[:count] if name in pairs else value for name, value in batch.items()}
