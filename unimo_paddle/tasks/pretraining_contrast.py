"""Cross-modal contrastive learning: a pair, its batch, and candidates of its own.

"UNIMO" (arXiv 2012.15409), section 2.1 and equation 1. Images and texts encoded alone give
separate scores: of all pairs of the batch, over all ranks, and of mined images and sentences.
Captions and rewritten captions encoded with the image give joint scores.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import paddle
from paddle import Tensor

from unimo_paddle import losses
from unimo_paddle.data.fields import Field
from unimo_paddle.distributed import gather_constants, gather_rows
from unimo_paddle.ops.contrastive import contrastive_logsumexp
from unimo_paddle.tasks.base import Tensors
from unimo_paddle.tasks.pretraining_fields import (
    GROUP,
    MINED_IMAGE,
    MINED_TEXT,
    REWRITE,
    WEIGHTS,
    candidate_inputs,
    caption_inputs,
)
from unimo_paddle.tasks.segments import TEXT_INPUTS, image_inputs, take

# A score of what is absent, before it is divided by the temperature; real ones are 1 at most.
ABSENT = 100.0

if TYPE_CHECKING:
    from unimo_paddle.tasks.pretraining import PretrainingConfig
    from unimo_paddle.tasks.pretraining_network import PretrainingNetwork


@dataclass
class _Extra:
    """Scores [N, K] of the candidates that only a row has, with their weights."""

    scores: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)

    def add(self, scores: Tensor, weights: Tensor) -> None:
        self.scores.append(scores)
        self.weights.append(weights)

    def join(self, sums: Tensor) -> Tensor:
        """The log-sum-exps [ranks * N] with the candidates of all ranks' rows."""
        if not self.scores:
            return sums
        scores = gather_rows(paddle.concat(self.scores, axis=1))
        weights = gather_constants(paddle.concat(self.weights, axis=1))
        return losses.add_candidates(sums, scores, weights)


@dataclass
class _Side:
    """Images or texts by separate scores: those of the batch, then mined ones; of all ranks."""

    features: list[Tensor] = field(default_factory=list)  # [N, D] each
    groups: list[Tensor] = field(default_factory=list)  # [N]
    duplicates: list[Tensor] = field(default_factory=list)  # [N]
    weights: list[Tensor] = field(default_factory=list)  # [N], 1 where it is real

    def add(self, features: Tensor, groups: Tensor, duplicates: Tensor) -> None:
        self.features.append(features)
        self.groups.append(groups)
        self.duplicates.append(duplicates)
        self.weights.append(paddle.ones_like(groups).astype(features.dtype))

    def add_mined(self, batch: Tensors, prefix: str, scale: Tensor | None) -> None:
        """What was mined for a pair is positive for it, and negative for all other pairs.

        If it were negative for none, a model had only to tell it from the batch, by its style, and
        to call it alike to everything.

        Args:
            scale: of scores, over those of the batch.
        """
        features, weights = batch[f"{prefix}features"], batch[prefix + WEIGHTS]
        if scale is not None:
            features = features * scale
        features = features * weights.unsqueeze(-1)  # nothing of what is absent
        groups = paddle.ones_like(weights).astype("int64") * batch["group"].unsqueeze(1)
        self.features.append(gather_rows(features.flatten(0, 1)))
        self.groups.append(gather_constants(groups.flatten()))
        self.duplicates.append(-paddle.ones_like(self.groups[-1]))
        self.weights.append(gather_constants(weights.flatten()))

    @property
    def size(self) -> Tensor:
        """How many are of the batch."""
        return paddle.shape(self.features[0])[0]

    def joined(self, *, place: int) -> tuple[Tensor, Tensor, Tensor]:
        """Features with two more numbers, groups and duplicates.

        The product of these numbers of a row and a column is 0 where both are real, and far below
        all scores where one is absent.

        Args:
            place: 0 for rows, 1 for columns.
        """
        weights = paddle.concat(self.weights)
        numbers = [paddle.ones_like(weights), (weights - 1.0) * ABSENT]
        more = paddle.stack(numbers[::-1] if place else numbers, axis=1)
        features = paddle.concat([paddle.concat(self.features), more], axis=1)
        return features, paddle.concat(self.groups), paddle.concat(self.duplicates)


def _log_sums(rows: _Side, columns: _Side, temperature: Tensor) -> tuple[Tensor, ...]:
    """The four log-sum-exps of what is of the batch, over all of the other side."""
    if len(rows.features) == len(columns.features) == 1:  # nothing is mined
        parts = [(x.features[0], x.groups[0], x.duplicates[0]) for x in (rows, columns)]
    else:
        parts = [side.joined(place=place) for place, side in enumerate((rows, columns))]
    (image, *of_images), (text, *of_texts) = parts
    ids = (group for pair in zip(of_images, of_texts, strict=True) for group in pair)
    sums = contrastive_logsumexp(image, text, temperature, *ids)
    sizes = (rows.size, rows.size, columns.size, columns.size)
    return tuple(x[:size] for x, size in zip(sums, sizes, strict=True))


class Contrast:
    """The contrastive term, in two halves: features of the parts, then the loss of all of them."""

    def __init__(self, config: PretrainingConfig) -> None:
        self._config = config
        self._contrast = config.contrast

    # ---- fields

    def inputs(self, feature_size: int) -> tuple[Field, ...]:
        """What ``features`` reads of a pair."""
        *captions, _ = caption_inputs(self._config.data.captions_per_image)
        candidates = candidate_inputs(self._contrast, feature_size)
        return (*image_inputs(feature_size), *captions, *candidates)

    def labels(self) -> tuple[Field, ...]:
        """What ``terms`` reads beside the features."""
        *_, caption_group = caption_inputs(self._config.data.captions_per_image)
        weights = [item for item in self.inputs(1) if item.name.endswith("_" + WEIGHTS)]
        return (GROUP, caption_group, *weights)

    def feature_fields(self) -> tuple[Field, ...]:
        """What ``features`` gives."""
        config, contrast = self._config, self._contrast
        size = config.projection_size
        fields = [
            Field("image_features", (size,), "float32"),
            Field("text_features", (config.data.captions_per_image, size), "float32"),
        ]
        if contrast.uses_joint_scores:
            fields.append(Field("joint_scores", (contrast.num_rewrites,), "float32"))
        elif contrast.num_rewrites:
            fields.append(Field("rewrite_features", (contrast.num_rewrites, size), "float32"))
        if contrast.images_per_pair:
            shape = (contrast.images_per_pair, size)
            fields.append(Field("mined_image_features", shape, "float32"))
        if contrast.texts_per_pair:
            shape = (contrast.texts_per_pair, size)
            fields.append(Field("mined_text_features", shape, "float32"))
        return tuple(fields)

    # ---- features

    def features(self, network: PretrainingNetwork, batch: Tensors) -> dict[str, Tensor]:
        """Pairs and candidates encoded: see ``feature_fields``; the first axis is the pairs'."""
        contrast = self._contrast
        found = {
            "image_features": network.embed_images(batch),
            "text_features": _embed_texts(network, batch, "caption_"),
        }
        if contrast.uses_joint_scores:
            found["joint_scores"] = self._joint_scores(network, batch)
        elif contrast.num_rewrites:
            found["rewrite_features"] = _embed_texts(network, batch, REWRITE)
        if contrast.images_per_pair:
            images = take(batch, image_inputs(), MINED_IMAGE)
            flat = network.embed_images({name: x.flatten(0, 1) for name, x in images.items()})
            found["mined_image_features"] = _unflatten(flat, contrast.images_per_pair)
        if contrast.texts_per_pair:
            found["mined_text_features"] = _embed_texts(network, batch, MINED_TEXT)
        return found

    def _joint_scores(self, network: PretrainingNetwork, batch: Tensors) -> Tensor:
        """Of an image with its first caption, then with the rewrites of it: [B, R].

        Pairs that are not read jointly have zeros, and weights of zero when it comes to the loss.
        """
        every = self._contrast.joint_every
        texts, images = take(batch, TEXT_INPUTS, REWRITE), take(batch, image_inputs())
        if every == 1:
            return network.score_texts(images, texts)
        read = [{name: x[::every] for name, x in part.items()} for part in (images, texts)]
        scores = network.score_texts(*read).unsqueeze(1)
        others = paddle.zeros_like(scores).tile([1, every - 1, 1])
        spread = paddle.concat([scores, others], axis=1).flatten(0, 1)
        return spread[: paddle.shape(texts["input_ids"])[0]]

    # ---- the loss

    def terms(self, network: PretrainingNetwork, batch: Tensors) -> dict[str, Tensor]:
        """What features and ids give; the other pairs of the batch, of all ranks, are negatives.

        An image chooses among texts: captions of the batch, rewrites, mined sentences of all pairs.
        A caption chooses among images: those of the batch, and mined ones of all pairs.
        """
        contrast = self._contrast
        temperature = network.temperature()
        terms = {"temperature": temperature.mean()}
        rows, columns = self._sides(network, batch, terms)
        sums = _log_sums(rows, columns, temperature)
        every, positive, joint = _Extra(), _Extra(), None
        if contrast.num_rewrites and contrast.has_joint_logarithm:
            joint = self._joint_loss(network, batch, terms)
        elif contrast.num_rewrites:
            self._add_rewrites(network, batch, every, positive, terms)
        row_all, row_positive, *by_column = sums
        joined = (every.join(row_all), positive.join(row_positive), *by_column)
        count = batch["text_features"].shape[1]  # an evaluation has one caption an image
        loss = self._loss(joined, rows.features[0], columns.features[0], temperature, count=count)
        return {"contrastive": loss if joint is None else loss + joint, **terms}

    def _sides(
        self, network: PretrainingNetwork, batch: Tensors, terms: dict[str, Tensor]
    ) -> tuple[_Side, _Side]:
        """What stands against what by separate scores: images, and texts, of all ranks."""
        contrast, group = self._contrast, gather_constants(batch["group"])
        wording = gather_constants(batch["caption_group"])
        caption_group = paddle.ones_like(wording) * group.unsqueeze(1)
        # An image shares its duplicate id with the captions worded like its own first one.
        rows, columns = _Side(), _Side()
        rows.add(gather_rows(batch["image_features"]), group, wording[:, 0])
        texts = gather_rows(batch["text_features"].flatten(0, 1))
        columns.add(texts, caption_group.flatten(), wording.flatten())
        scale = None
        if contrast.has_mined_temperature:
            mined_temperature = network.mined_temperature()
            terms["mined_temperature"] = mined_temperature.mean()
            scale = network.temperature() / mined_temperature
        if contrast.images_per_pair:
            rows.add_mined(batch, MINED_IMAGE, scale)
        if contrast.texts_per_pair:
            columns.add_mined(batch, MINED_TEXT, scale)
        return rows, columns

    def _joint_loss(
        self, network: PretrainingNetwork, batch: Tensors, terms: dict[str, Tensor]
    ) -> Tensor:
        """Of joint scores alone: an image chooses what is true of it among its rewrites.

        In one logarithm with separate scores they would hardly learn: once a separate positive is
        far above 0, where joint scores start, no joint one changes the sums.
        """
        every, positive = _Extra(), _Extra()
        self._add_rewrites(network, batch, every, positive, terms)
        nothing = gather_constants(paddle.zeros_like(batch["joint_scores"][:, 0]) + losses.NOTHING)
        terms["joint"] = losses.one_way_contrastive(every.join(nothing), positive.join(nothing))
        return terms["joint"]

    def _add_rewrites(
        self,
        network: PretrainingNetwork,
        batch: Tensors,
        every: _Extra,
        positive: _Extra,
        terms: dict[str, Tensor],
    ) -> None:
        """Let rewrites join; those that are positives come first among them."""
        contrast, temperature = self._contrast, network.temperature()
        if not contrast.uses_joint_scores:
            products = batch["image_features"].unsqueeze(1) * batch["rewrite_features"]
            scores = products.sum(axis=-1)
        else:
            scores = batch["joint_scores"]
            if contrast.has_joint_temperature:
                temperature = network.joint_temperature()
                terms["joint_temperature"] = temperature.mean()
        scores, weights = scores / temperature, batch[REWRITE + WEIGHTS]
        if contrast.joint_every > 1:
            rows = paddle.arange(paddle.shape(weights)[0])
            is_read = (rows % contrast.joint_every == 0).astype(weights.dtype)
            weights = weights * is_read.unsqueeze(1)
        every.add(scores, weights)
        count = contrast.num_positive_rewrites
        if count:
            positive.add(scores[:, :count], weights[:, :count])

    def _loss(
        self,
        sums: tuple[Tensor, ...],
        image: Tensor,
        text: Tensor,
        temperature: Tensor,
        *,
        count: int,
    ) -> Tensor:
        """Of sums over candidates; ``count`` texts [count * N, D] follow each other per image."""
        if self._contrast.logarithm != "pair":
            return losses.symmetric_contrastive(*sums)
        own = paddle.repeat_interleave(image, count, axis=0) if count > 1 else image
        scores = (own * text).sum(axis=1) / temperature
        rows = None
        if count > 1:
            rows = paddle.arange(paddle.shape(text)[0]) // count
        return losses.joint_contrastive(*sums, pair_scores=scores, pair_rows=rows)


def _embed_texts(network: PretrainingNetwork, batch: Tensors, prefix: str) -> Tensor:
    """Features [B, K, D] of the K texts beside each pair."""
    texts = take(batch, TEXT_INPUTS, prefix)
    count = texts["input_ids"].shape[1]
    flat = network.embed_texts({name: x.flatten(0, 1) for name, x in texts.items()})
    return _unflatten(flat, count)


def _unflatten(features: Tensor, count: int) -> Tensor:
    return features.reshape([-1, count, features.shape[1]])
