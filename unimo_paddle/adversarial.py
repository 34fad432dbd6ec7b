"""Adversarial fine-tuning: small perturbations of the embeddings that raise the loss.

After VILLA ("Large-Scale Adversarial Training for Vision-and-Language Representation Learning",
arXiv 2006.06195) and FreeLB (arXiv 1909.11764), with the rules of the original UNIMO. An update
takes ``steps`` steps from a random perturbation of each side. Each step adds gradients for

    (CE_clean + sum over sides CE_side) / steps + kl_weight * sum over sides KL(clean, side)

where KL is symmetric, and moves every perturbation along the gradient of CE_side / steps. That
gradient is a number, so no gradient of second order is ever taken.

A step is one run of one program that holds a branch a side and a clean one; between steps only
the perturbations are kept. So an update of any number of steps needs the memory of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import Tensor

from unimo_paddle import losses
from unimo_paddle.data.fields import Field
from unimo_paddle.errors import UserError

TEXT, IMAGE = "text", "image"
SIDES = {"both": (TEXT, IMAGE), "text": (TEXT,), "image": (IMAGE,)}
NORMS = ("l2", "infinity")
PROJECTIONS = ("original", "published")
SMALLEST_NORM = 1.0e-8

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class AdversarialConfig:
    """How inputs are perturbed; off as long as ``steps`` is 0."""

    steps: int = 0  # steps of the perturbations in an update; 0 trains without any
    sides: str = "both"  # what is perturbed, each in its own branch: both, text or image
    learning_rate: float = 0.05  # length of a step of a perturbation
    initial_magnitude: float = 0.4  # size of the random perturbation at the start
    max_norm: float = 0.4  # largest perturbation of a sample; 0 means no limit
    norm: str = "l2"  # of a sample's gradient and perturbation: l2 or infinity
    projection: str = "original"  # the norm that the limit is for: see ``ascend``
    kl_weight: float = 1.0  # of the divergence between clean and perturbed predictions
    with_clean: bool = True  # learn from clean inputs too; without, there is no divergence

    def __post_init__(self) -> None:
        choices = {"sides": tuple(SIDES), "norm": NORMS, "projection": PROJECTIONS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UserError(
                    f"task.adversarial.{name} is {getattr(self, name)!r}; choose one of "
                    f"{', '.join(allowed)}"
                )
        for name in ("steps", "learning_rate", "initial_magnitude", "max_norm", "kl_weight"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UserError(
                    f"task.adversarial.{name} is {value}; give a finite number of at least 0"
                )

    @property
    def perturbed(self) -> tuple[str, ...]:
        """The sides that are perturbed."""
        return SIDES[self.sides]


@dataclass(frozen=True)
class Side:
    """Something that can be perturbed.

    Args:
        perturbation: its field, [L, F] a sample; the name is the network's argument.
        mask: name of the field that is 1 where a row is real.
    """

    perturbation: Field
    mask: str


@dataclass(frozen=True)
class PerturbedLoss:
    """A loss of the logits [P, C] of a network, called with a batch and its perturbations.

    Args:
        sides: by name, those of the config at least.
        cross_entropy: (logits, batch) -> a scalar.
        weights: batch -> [P], of the rows of the logits in the divergence.
    """

    config: AdversarialConfig
    sides: Mapping[str, Side]
    cross_entropy: Callable[[Tensor, Tensors], Tensor]
    weights: Callable[[Tensors], Tensor]

    @property
    def fields(self) -> tuple[Field, ...]:
        """The perturbations that a step is fed."""
        return tuple(self.sides[name].perturbation for name in self.config.perturbed)

    def start(
        self, batch: Mapping[str, np.ndarray], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Random perturbations of a batch."""
        perturbations = {}
        for name in self.config.perturbed:
            side = self.sides[name]
            mask = batch[side.mask]
            shape = (*mask.shape, side.perturbation.shape[-1])
            uniform = rng.uniform(-1.0, 1.0, shape).astype(np.float32)
            perturbations[side.perturbation.name] = scaled_start(uniform, mask, self.config)
        return perturbations

    def step(
        self, network: Callable[[Tensors, Tensors], Tensor], tensors: Tensors
    ) -> dict[str, Tensor]:
        """One step: ``loss``, its parts by name, and the moved perturbations.

        Args:
            tensors: the batch, and the perturbations under their names.
        """
        config, steps = self.config, float(self.config.steps)
        clean = network(tensors, {}) if config.with_clean else None
        terms: dict[str, Tensor] = {}
        parts: list[Tensor] = []
        if clean is not None:
            terms["clean_loss"] = self.cross_entropy(clean, tensors)
            parts.append(terms["clean_loss"] / steps)
        moved = {}
        for name in config.perturbed:
            side = self.sides[name]
            argument = side.perturbation.name
            perturbation = tensors[argument]
            perturbation.stop_gradient = False
            logits = network(tensors, {argument: perturbation})
            loss = self.cross_entropy(logits, tensors)
            terms[f"{name}_loss"] = loss
            parts.append(loss / steps)
            (gradient,) = paddle.static.gradients([loss / steps], [perturbation])
            moved[argument] = ascend(perturbation.detach(), gradient.detach(), config)
            if clean is not None and config.kl_weight:
                divergence = losses.symmetric_kl(clean, logits, self.weights(tensors))
                terms[f"{name}_divergence"] = divergence
                parts.append(config.kl_weight * divergence)
        return {"loss": paddle.add_n(parts) if len(parts) > 1 else parts[0], **terms, **moved}


def scaled_start(uniform: np.ndarray, mask: np.ndarray, config: AdversarialConfig) -> np.ndarray:
    """Scale draws from U(-1, 1) [B, L, F] to a perturbation at the start, zero where padded.

    For l2 it is divided by the root of how many numbers of a sample are perturbed.
    """
    scale = np.full((len(mask), 1, 1), config.initial_magnitude, np.float32)
    if config.norm == "l2":
        count = mask.sum(axis=1) * uniform.shape[2]
        scale /= np.sqrt(np.maximum(count, 1.0)).reshape(-1, 1, 1).astype(np.float32)
    return (uniform * mask[:, :, None] * scale).astype(np.float32)


def ascend(perturbation: Tensor, gradient: Tensor, config: AdversarialConfig) -> Tensor:
    """Return the perturbation [B, L, F] after a step along the gradient, within its limit.

    A step is the gradient over its norm, for each sample. For the infinity norm every number is
    clamped to the limit. For l2 the published papers shrink a perturbation whose norm exceeds the
    limit to the limit; the original looks at the norm n of the *gradient* and multiplies the
    perturbation by max_norm / n where n exceeds max_norm.
    """
    size = _norm(gradient, config)
    moved = perturbation + config.learning_rate * gradient / size
    if not config.max_norm:
        return moved
    if config.norm == "infinity":
        return paddle.clip(moved, -config.max_norm, config.max_norm)
    judged = size if config.projection == "original" else _norm(moved, config)
    limit = paddle.full_like(judged, config.max_norm)
    return moved * (limit / paddle.maximum(judged, limit))


def _norm(x: Tensor, config: AdversarialConfig) -> Tensor:
    """The norm of each sample [B, 1, 1], never below ``SMALLEST_NORM``."""
    if config.norm == "l2":
        size = paddle.sqrt((x * x).sum(axis=[1, 2], keepdim=True))
    else:
        size = paddle.abs(x).max(axis=[1, 2], keepdim=True)
    return paddle.maximum(size, paddle.full_like(size, SMALLEST_NORM))
