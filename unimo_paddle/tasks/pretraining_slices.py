"""Pre-training with a bound on memory: no stream of a batch is encoded at once.

The contrastive term sees all pairs of a batch, but only their features, which are small (see
``CachedLoss``). The other terms are means over hidden words and regions: when it is known how many
a whole batch has, each slice gives its share of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from paddle import Tensor

from unimo_paddle.tasks.base import CachedLoss, Sliced, Tensors
from unimo_paddle.tasks.pretraining_data import PretrainingEncoder
from unimo_paddle.tasks.pretraining_objectives import (
    WEIGHT_FIELDS,
    PretrainingObjectives,
    num_joint_pairs,
    total_names,
)

if TYPE_CHECKING:
    from unimo_paddle.tasks.pretraining import PretrainingConfig


def slice_loss(
    config: PretrainingConfig, encoder: PretrainingEncoder, sizes: Mapping[str, int]
) -> CachedLoss | None:
    """The loss of a training batch, at most ``contrastive_chunk_size`` pairs at once.

    Pairs that are encoded jointly, texts and images are cut into as many slices as the pairs are,
    or into single samples where they are fewer.

    Args:
        sizes: samples of each stream.

    Returns:
        None where all pairs fit into one slice, or no bound is set.
    """
    num_pairs = sizes["pairs"]
    # Slices begin at a pair that is read jointly, so that they read the same pairs as the batch.
    step = config.contrast.joint_every
    num_steps = -(-num_pairs // step)
    num_slices = -(-num_steps // (config.contrastive_chunk_size // step or num_steps))
    if num_slices == 1:
        return None
    counts = {**sizes, "pairs": num_joint_pairs(num_pairs, config.masked_pair_share)}
    if not config.encodes_jointly:
        del counts["pairs"]
    masked = {name: encoder.masked_fields(name) for name in counts}
    fields = [item for stream in masked.values() for item in stream]
    weights = [item for item in fields if item.name.endswith(WEIGHT_FIELDS)]
    objectives = PretrainingObjectives(config)

    def combine(network: Any, batch: Tensors) -> dict[str, Tensor]:
        terms = objectives.with_loss(objectives.contrast.terms(network, batch))
        return terms | objectives.totals(batch)

    def share(network: Any, batch: Tensors) -> dict[str, Tensor]:
        return objectives.with_loss(objectives.masked_terms(network, batch, totals=batch))

    contrast = objectives.contrast
    inputs = contrast.inputs(encoder.model.region_feature_size)
    return CachedLoss(
        encode=Sliced(inputs, cut(num_pairs, num_slices, step), contrast.features),
        features=contrast.feature_fields(),
        fields=(*contrast.labels(), *weights),
        combine=combine,
        totals=total_names([item.name for item in weights]),
        shares=tuple(
            Sliced(masked[name], cut(number, min(number, num_slices)), share)
            for name, number in counts.items()
        ),
    )


def cut(size: int, num_slices: int, step: int = 1) -> tuple[slice, ...]:
    """``size`` rows in slices that begin at multiples of ``step`` and are even but for one step."""
    num_steps = -(-size // step)
    ends = [min(size, num_steps * (i + 1) // num_slices * step) for i in range(num_slices)]
    return tuple(slice(start, end) for start, end in zip([0, *ends], ends, strict=False))
