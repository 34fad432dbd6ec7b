"""The terms of the pre-training loss, from the outputs of the network.

"UNIMO" (arXiv 2012.15409), sections 2.1 to 2.3. Each term is there only when it has a weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import paddle
from paddle import Tensor

from unimo_paddle import losses
from unimo_paddle.distributed import mean_scalars
from unimo_paddle.models.rows import (
    concat_rows,
    flatten_labels,
    gather_positions,
    hide_rows,
)
from unimo_paddle.tasks.base import Tensors
from unimo_paddle.tasks.pretraining_contrast import Contrast
from unimo_paddle.tasks.pretraining_fields import (
    image_targets,
    object_targets,
    text_targets,
)
from unimo_paddle.tasks.pretraining_network import PretrainingNetwork
from unimo_paddle.tasks.segments import image_inputs, take

if TYPE_CHECKING:
    from unimo_paddle.tasks.pretraining import PretrainingConfig


PREFIXES = ("", "texts_", "images_", "statements_")  # of the fields of the streams
# Of these fields the totals of a batch are sums.
WORD_WEIGHTS = ("hidden_text_weights", "hidden_text_seq2seq")
REGION_WEIGHTS = "region_weights"
NAME_WEIGHTS = "name_weights"
WEIGHT_FIELDS = (*WORD_WEIGHTS, REGION_WEIGHTS, NAME_WEIGHTS)
WORD_TOTALS = ("num_masked_words", "num_seq2seq_words")
REGION_TOTAL = "num_hidden_regions"
NAME_TOTAL = "num_named_patches"


@dataclass
class _Rows:
    """What is to be predicted, as it is collected: rows of each stream beside their targets."""

    words: list[tuple[Tensor, ...]] = field(default_factory=list)
    regions: list[tuple[Tensor, ...]] = field(default_factory=list)
    names: list[tuple[Tensor, ...]] = field(default_factory=list)


class PretrainingObjectives:
    """Every objective that is on, averaged over the streams that carry it.

    ``terms`` is the whole; a batch that is encoded slice by slice calls its parts.
    """

    def __init__(self, config: PretrainingConfig) -> None:
        self._config = config
        self.contrast = Contrast(config)

    def terms(self, network: PretrainingNetwork, batch: Tensors) -> dict[str, Tensor]:
        """The unweighted terms by name, and the temperature."""
        terms: dict[str, Tensor] = {}
        if self._config.weights.contrastive:
            features = self.contrast.features(network, batch)
            terms |= self.contrast.terms(network, {**batch, **features})
        batch = self._with_joint_pairs(batch)
        totals = mean_scalars(_count(batch))
        return terms | self.masked_terms(network, batch, totals=totals)

    def totals(self, batch: Tensors) -> dict[str, Tensor]:
        """How many words and regions of a batch are hidden, by kind: the mean of all ranks."""
        return mean_scalars(_count(self._with_joint_pairs(batch)))

    def _with_joint_pairs(self, batch: Tensors) -> dict[str, Tensor]:
        """The batch without the pairs that are not also encoded jointly, partly hidden."""
        share = self._config.masked_pair_share
        if share == 1.0:
            return dict(batch)
        targets = (*image_targets(), *object_targets(0), *text_targets())
        joint = {item.name for item in (*image_inputs(), *targets)}
        if not share:
            return {name: value for name, value in batch.items() if name not in joint}
        size = paddle.shape(batch["group"])[0]
        # In float32, as ``num_joint_pairs`` counts.
        count = paddle.ceil(size.astype("float32") * share).astype("int64")
        return {name: value[:count] if name in joint else value for name, value in batch.items()}

    def masked_terms(
        self, network: PretrainingNetwork, batch: Tensors, *, totals: Tensors
    ) -> dict[str, Tensor]:
        """Language and region terms of the streams in a batch, or of a slice of one of them.

        Outputs are collected and heads run once. All pairs of the batch are encoded jointly.

        Args:
            totals: of the whole batch; the terms of its slices add up to its own.
        """
        rows = _Rows()
        for prefix in PREFIXES:
            targets = ("hidden_text_input_ids", "hidden_regions", "named_objects")
            if {prefix + name for name in targets} & set(batch):
                self._encode_masked(network, batch, prefix, rows)
        terms: dict[str, Tensor] = {}
        if rows.words:
            terms |= self._language_terms(network, rows.words, totals)
        if rows.regions:
            terms |= self._region_terms(network, rows.regions, totals)
        if rows.names:
            terms |= self._name_terms(network, rows.names, totals)
        return terms

    def _encode_masked(
        self,
        network: PretrainingNetwork,
        batch: Tensors,
        prefix: str,
        rows: _Rows,
    ) -> None:
        """Encode one stream with its words and regions hidden; collect what is to be predicted."""
        has_text = f"{prefix}hidden_text_input_ids" in batch
        has_image = f"{prefix}region_features" in batch
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
        if f"{prefix}hidden_text_positions" in batch:
            names = ("positions", "labels", "weights", "seq2seq")
            positions, labels, weights, seq2seq = (batch[hidden_text + name] for name in names)
            hidden_words = gather_positions(encoding.text, positions)
            rows.words.append(
                (hidden_words, labels.flatten(), weights.flatten(), seq2seq.flatten())
            )
        if has_image and self._config.uses_regions:
            positions = batch[f"{prefix}region_positions"]
            rows.regions.append(
                (
                    gather_positions(encoding.regions, positions),
                    gather_positions(original, positions),
                    flatten_labels(batch[f"{prefix}region_labels"], positions),
                    batch[f"{prefix}region_weights"].flatten(),
                )
            )
        if f"{prefix}named_objects" in batch:
            rows.names.append(
                (
                    encoding.projected[:, 1:].flatten(0, 1),
                    batch[f"{prefix}named_objects"].flatten(0, 1).astype("float32"),
                    batch[f"{prefix}name_weights"].flatten(),
                )
            )

    def _language_terms(
        self, network: PretrainingNetwork, words: Sequence[tuple[Tensor, ...]], totals: Tensors
    ) -> dict[str, Tensor]:
        rows, labels, weights, seq2seq = (
            concat_rows(column) for column in zip(*words, strict=True)
        )
        logits = network.language_head(rows)
        terms = {}
        if self._config.weights.masked_language:
            terms["masked_language"] = losses.token_cross_entropy(
                logits, labels, weights * (1.0 - seq2seq), total=totals[WORD_TOTALS[0]]
            )
        if self._config.weights.seq2seq_language:
            terms["seq2seq_language"] = losses.token_cross_entropy(
                logits, labels, weights * seq2seq, total=totals[WORD_TOTALS[1]]
            )
        return terms

    def _region_terms(
        self, network: PretrainingNetwork, regions: Sequence[tuple[Tensor, ...]], totals: Tensors
    ) -> dict[str, Tensor]:
        rows, targets, labels, weights = (
            concat_rows(column) for column in zip(*regions, strict=True)
        )
        total = totals[REGION_TOTAL]
        terms = {}
        if self._config.weights.region_regression:
            terms["region_regression"] = losses.region_regression(
                network.regression_head(rows), targets, weights, total=total
            )
        if self._config.weights.region_classification:
            terms["region_classification"] = losses.region_classification(
                network.classification_head(rows), labels, weights, total=total
            )
        return terms

    def _name_terms(
        self, network: PretrainingNetwork, names: Sequence[tuple[Tensor, ...]], totals: Tensors
    ) -> dict[str, Tensor]:
        rows, named, weights = (concat_rows(column) for column in zip(*names, strict=True))
        logits = network.object_names_head(rows)
        return {
            "object_names": losses.binary_cross_entropy(
                logits, named, weights, total=totals[NAME_TOTAL]
            )
        }

    def with_loss(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The terms beside ``loss``, their weighted sum."""
        weights = vars(self._config.weights)
        parts = [weights[name] * term for name, term in terms.items() if name in weights]
        return {"loss": paddle.add_n(parts) if len(parts) > 1 else parts[0], **terms}


def _count(batch: Tensors) -> dict[str, Tensor]:
    """The totals of a batch all of whose pairs are encoded jointly."""
    parts: dict[str, list[Tensor]] = {name: [] for name in total_names(list(batch))}
    for prefix in PREFIXES:
        if prefix + WORD_WEIGHTS[0] in batch:
            weights, seq2seq = (batch[prefix + name] for name in WORD_WEIGHTS)
            parts[WORD_TOTALS[0]].append((weights * (1.0 - seq2seq)).sum())
            parts[WORD_TOTALS[1]].append((weights * seq2seq).sum())
        if prefix + REGION_WEIGHTS in batch:
            parts[REGION_TOTAL].append(batch[prefix + REGION_WEIGHTS].sum())
        if prefix + NAME_WEIGHTS in batch:
            parts[NAME_TOTAL].append(batch[prefix + NAME_WEIGHTS].sum())
    return {name: paddle.add_n(sums) for name, sums in parts.items()}


def total_names(field_names: Sequence[str]) -> tuple[str, ...]:
    """The totals of a batch with these fields."""
    names: tuple[str, ...] = ()
    if any(prefix + WORD_WEIGHTS[0] in field_names for prefix in PREFIXES):
        names += WORD_TOTALS
    if any(prefix + REGION_WEIGHTS in field_names for prefix in PREFIXES):
        names += (REGION_TOTAL,)
    if any(prefix + NAME_WEIGHTS in field_names for prefix in PREFIXES):
        names += (NAME_TOTAL,)
    return names


def num_joint_pairs(num_pairs: int, share: float) -> int:
    """How many of a batch's pairs are also encoded jointly: its first ones."""
    return int(np.ceil(np.float32(num_pairs) * np.float32(share)))
