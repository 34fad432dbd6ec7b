"""What a head reads of an encoded text or pair.

- ``first``: the first row of each segment, [CLS] and the whole image, as the original does;
- ``mean``: the mean of each segment's rows;
- ``mask``: of the text a [MASK] that is put at its end, of the image the mean. Pre-training has
  taught that token to look for what is missing, so that little data goes further ("Exploiting
  Cloze Questions for Few Shot Text Classification", arXiv 2001.07676, with a layer in the place
  of chosen words).
"""

from __future__ import annotations

import paddle
from paddle import Tensor

from unimo_paddle.errors import UserError
from unimo_paddle.models import Encoding, ModelConfig, UnifiedTransformer
from unimo_paddle.tasks.base import Tensors
from unimo_paddle.tasks.finetuning import FineTuningDataConfig

POOLINGS = ("first", "mean", "mask")


def check_pooling(pooling: str, data: FineTuningDataConfig) -> None:
    """Raise for an unknown way, or for one that the original does not have."""
    if pooling not in POOLINGS:
        raise UserError(f"task.pooling is {pooling!r}; choose one of {', '.join(POOLINGS)}")
    if data.is_original and pooling != "first":
        raise UserError(
            f"task.pooling is {pooling}, but the original reads the first row; choose first, or "
            "task.data.compatibility standard"
        )


def last_ids(pooling: str, model: ModelConfig) -> tuple[int, ...]:
    """What stands at the end of a text, before its [SEP]: [MASK], the last word, or nothing."""
    return (model.vocab_size - 1,) if pooling == "mask" else ()


def pool_text(
    transformer: UnifiedTransformer, encoding: Encoding, batch: Tensors, pooling: str
) -> Tensor:
    """The pooled text [B, D]."""
    if pooling == "first":
        return transformer.pooled_text(encoding)
    mask = batch["text_mask"]
    return transformer.pooled_text(encoding, _last_but_one(mask) if pooling == "mask" else mask)


def pool_pair(
    transformer: UnifiedTransformer, encoding: Encoding, batch: Tensors, pooling: str
) -> tuple[Tensor, Tensor]:
    """The pooled text and the pooled image, [B, D] each."""
    weights = None if pooling == "first" else batch["region_mask"]
    return (
        pool_text(transformer, encoding, batch, pooling),
        transformer.pooled_image(encoding, weights),
    )


def _last_but_one(mask: Tensor) -> Tensor:
    """1 where the last real position but one is, else 0; of a mask [B, T] of ones, then zeros."""
    nothing = paddle.zeros_like(mask[:, :2])
    padded = paddle.concat([mask, nothing], axis=1)
    return padded[:, 1:-1] - padded[:, 2:]
