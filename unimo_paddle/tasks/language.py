"""What tasks that write text share: the network, its loss, and how likely a target is."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional as F

from unimo_paddle import losses
from unimo_paddle.adversarial import AdversarialConfig, PerturbedLoss, Side
from unimo_paddle.data.fields import Field
from unimo_paddle.errors import UserError
from unimo_paddle.metrics.intervals import sums_of_groups, with_intervals
from unimo_paddle.models import LanguageHead, ModelConfig, UnifiedTransformer
from unimo_paddle.models.rows import gather_positions
from unimo_paddle.tasks.base import Arrays, Tensors
from unimo_paddle.tasks.finetuning import Prediction
from unimo_paddle.tasks.segments import take


@dataclass(frozen=True)
class LanguageConfig:
    """How targets are learnt."""

    max_target_length: int = 64  # tokens of a target with its first; longer ones lose their end
    label_smoothing: float = 0.1  # share of each target that is spread over the vocabulary
    written_records: int = 200  # of a split, the first, whose texts are written when it is measured

    def __post_init__(self) -> None:
        if self.max_target_length < 2:
            raise UserError(
                f"task.language.max_target_length is {self.max_target_length}; give at least 2"
            )
        if self.written_records < 0:
            raise UserError(
                f"task.language.written_records is {self.written_records}; give 0 for none, or more"
            )
        if not 0.0 <= self.label_smoothing < 1.0:
            raise UserError(
                f"task.language.label_smoothing is {self.label_smoothing}; give a share from 0 to "
                "below 1"
            )


class LanguageNetwork(nn.Layer):
    """Encodes a source with its target and names the words of the target.

    Args:
        model: sizes.
        inputs: fields of the segments that are encoded.
        with_images: whether regions are among them.
    """

    def __init__(self, model: ModelConfig, inputs: Sequence[Field], *, with_images: bool) -> None:
        super().__init__()
        self.inputs = inputs
        self.vocab_size = model.vocab_size
        self.transformer = UnifiedTransformer(model, with_images=with_images, poolers=())
        self.head = LanguageHead(
            model, self.transformer.word_embedding if model.tie_word_embeddings else None
        )

    def forward(self, batch: Tensors, perturbations: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return logits [B * P, V] at the target's positions [B, P]."""
        encoding = self.transformer(**take(batch, self.inputs), **(perturbations or {}))
        return self.head(gather_positions(encoding.text, batch["target_positions"]))


def target_cross_entropy(logits: Tensor, batch: Tensors, config: LanguageConfig) -> Tensor:
    """The mean cross entropy of the target's words, smoothed as configured."""
    return losses.token_cross_entropy(
        logits,
        batch["target_ids"].flatten(),
        batch["target_weights"].flatten(),
        label_smoothing=config.label_smoothing,
    )


def language_terms(logits: Tensor, batch: Tensors, config: LanguageConfig) -> dict[str, Tensor]:
    """Return ``loss`` and, where that is smoothed, ``cross_entropy``, which is not."""
    loss = target_cross_entropy(logits, batch, config)
    if not config.label_smoothing:
        return {"loss": loss}
    labels, weights = batch["target_ids"].flatten(), batch["target_weights"].flatten()
    return {
        "loss": loss,
        "cross_entropy": losses.token_cross_entropy(logits.detach(), labels, weights),
    }


def perturbed_language(
    adversarial: AdversarialConfig, sides: Mapping[str, Side], config: LanguageConfig
) -> PerturbedLoss | None:
    """The smoothed cross entropy of perturbed inputs too; None where that is not configured."""
    if not adversarial.steps:
        return None
    return PerturbedLoss(
        adversarial,
        sides,
        cross_entropy=lambda logits, batch: target_cross_entropy(logits, batch, config),
        weights=lambda batch: batch["target_weights"].flatten(),
    )


def target_likelihood(logits: Tensor, batch: Tensors) -> dict[str, Tensor]:
    """The log-likelihood [B] of each target, and how many words [B] it has."""
    weights = batch["target_weights"]
    nats = F.cross_entropy(logits, batch["target_ids"].flatten(), reduction="none")
    nats = nats.reshape(paddle.shape(weights))
    return {"log_likelihood": -(nats * weights).sum(axis=1), "num_tokens": weights.sum(axis=1)}


def decode_likelihood(outputs: Arrays) -> list[Prediction]:
    """The log-likelihood of each target in nats, and its number of tokens."""
    return [
        {"log_likelihood": float(value), "num_tokens": int(count)}
        for value, count in zip(outputs["log_likelihood"], outputs["num_tokens"], strict=True)
    ]


def measure_likelihood(
    predictions: Sequence[Prediction], groups: Sequence[Hashable] | None = None
) -> dict[str, float]:
    """Cross entropy in nats a token over all targets together, and its exponential.

    Both with intervals; the ends of one are the exponentials of the other's.

    Args:
        groups: targets of equal groups are drawn together (captions of one image, say).
    """
    nats = -np.array([item["log_likelihood"] for item in predictions], np.float64)
    counts = np.array([item["num_tokens"] for item in predictions], np.float64)
    values = with_intervals(
        {"nats_per_token": lambda nats, counts: nats.sum() / max(1.0, counts.sum())},
        *sums_of_groups(groups, nats, counts),
    )
    ends = {end: values[f"nats_per_token{end}"] for end in ("", "_low", "_high")}
    return values | {f"perplexity{end}": math.exp(min(x, 700.0)) for end, x in ends.items()}
