"""Pre-training: a weighted mixture of objectives over texts, images and pairs.

"UNIMO" (arXiv 2012.15409), sections 2.1 to 2.3: contrastive learning between images and texts
encoded alone and unmasked (equation 1, separate scores), masked regions (feature regression and
classification), bidirectional and sequence-to-sequence language modelling, which alternate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import Tensor

from unimo_paddle import losses
from unimo_paddle.data.fields import Sample
from unimo_paddle.data.loader import Stream
from unimo_paddle.distributed import gather_ids, gather_rows
from unimo_paddle.errors import UserError
from unimo_paddle.metrics.retrieval import recall_both_ways
from unimo_paddle.models import ModelConfig
from unimo_paddle.models.rows import (
    concat_rows,
    flatten_labels,
    gather_positions,
    hide_rows,
)
from unimo_paddle.ops.contrastive import contrastive_logsumexp
from unimo_paddle.tasks.base import Arrays, Service, Task, TaskConfig, Tensors
from unimo_paddle.tasks.pretraining_data import PretrainingDataConfig, PretrainingEncoder
from unimo_paddle.tasks.pretraining_fields import (
    TEXT_INPUTS,
    image_inputs,
    image_targets,
    text_targets,
)
from unimo_paddle.tasks.pretraining_network import PretrainingNetwork, take
from unimo_paddle.tasks.pretraining_pictures import draw_attention, draw_filling, draw_retrieval


@dataclass(frozen=True)
class Mixture:
    """Shares of the three streams in a batch; 0 leaves a stream out."""

    texts: float = 1.0  # sentences without images
    images: float = 1.0  # images without sentences
    pairs: float = 5.0  # images with captions


@dataclass(frozen=True)
class ObjectiveWeights:
    """Weights of the terms of the loss; 0 switches an objective and its cost off."""

    contrastive: float = 1.0  # image-text contrastive learning on pairs
    masked_language: float = 1.0  # words hidden in spans, seen from both sides
    seq2seq_language: float = 1.0  # fragments generated from left to right
    region_regression: float = 1.0  # features of hidden regions or pixels of hidden patches
    region_classification: float = 1.0  # classes or visual words of hidden regions


@TaskConfig.register_subclass("pretraining")
@dataclass(frozen=True)
class PretrainingConfig(TaskConfig):
    """Pre-training on texts, images and pairs."""

    data: PretrainingDataConfig = field(default_factory=PretrainingDataConfig)
    mixture: Mixture = field(default_factory=Mixture)
    weights: ObjectiveWeights = field(default_factory=ObjectiveWeights)
    masked_pair_share: float = 1.0  # share of a batch's pairs that are also encoded jointly, masked
    projection_size: int = 256  # numbers in image_features and text_features
    pooling: str = "first"  # what is projected: the first row, or the mean of all rows
    temperature: float = 0.07  # start of the learnt temperature
    min_temperature: float = 0.01  # its lower bound

    def __post_init__(self) -> None:
        for name in ("texts", "images", "pairs"):
            if not 0 <= getattr(self.mixture, name) < float("inf"):
                raise UserError(
                    f"task.mixture.{name} is {getattr(self.mixture, name)}; give a share of at "
                    "least 0"
                )
        for name, value in vars(self.weights).items():
            if not 0 <= value < float("inf"):
                raise UserError(f"task.weights.{name} is {value}; give a weight of at least 0")
        if not any(vars(self.weights).values()):
            raise UserError("every weight under task.weights is 0; give one objective a weight")
        if not 0 <= self.masked_pair_share <= 1:
            raise UserError(
                f"task.masked_pair_share is {self.masked_pair_share}; give a share from 0 to 1"
            )
        if self.pooling not in ("first", "mean"):
            raise UserError(f"task.pooling is {self.pooling!r}; choose first or mean")

    @property
    def uses_language(self) -> bool:
        """Whether a language objective is on."""
        return self.weights.masked_language > 0 or self.weights.seq2seq_language > 0

    @property
    def uses_regions(self) -> bool:
        """Whether an objective on hidden regions is on."""
        return self.weights.region_regression > 0 or self.weights.region_classification > 0

    def build(self, model: ModelConfig, assets_dir: Path) -> PretrainingTask:
        """Make the task for a model of these sizes."""
        return PretrainingTask(self, model, assets_dir)


class PretrainingTask(Task):
    """See the module; the host half is ``PretrainingEncoder``."""

    def __init__(self, config: PretrainingConfig, model: ModelConfig, assets_dir: Path) -> None:
        self.config = config
        self.model = model
        self.encoder = PretrainingEncoder(
            config.data,
            model,
            assets_dir,
            weights=config.weights,
            uses_regions=config.uses_regions,
            uses_language=config.uses_language,
        )
        self.image_inputs = image_inputs(model.region_feature_size)
        self.services = self._make_services()
        self.views = self._make_views()

    def _make_services(self) -> tuple[Service, ...]:
        """What is exported: each side encoded alone."""
        if not self.config.weights.contrastive:
            return ()
        return (
            Service(
                "embed_images",
                self.image_inputs,
                lambda network, batch: {"image_features": network.embed_images(batch)},
            ),
            Service(
                "embed_texts",
                TEXT_INPUTS,
                lambda network, batch: {"text_features": network.embed_texts(batch)},
            ),
        )

    def _make_views(self) -> tuple[Service, ...]:
        """What pictures are drawn from; patches only, for regions are no pixels."""
        if self.config.data.image.kind != "patches" or not self._encodes_jointly:
            return ()
        pair = (*TEXT_INPUTS, *self.image_inputs)
        views = [
            Service(
                "attend_regions",
                pair,
                lambda network, batch: {
                    "attention": network.attend_regions(batch),
                    **_copy(batch, "input_ids", "region_features"),
                },
            )
        ]
        if self.config.weights.region_regression:
            views.append(
                Service(
                    "fill_regions",
                    (*pair, image_targets(uses_regions=True)[0]),
                    lambda network, batch: {
                        "filled_features": network.fill_regions(batch),
                        **_copy(batch, "hidden_regions", "region_features"),
                    },
                )
            )
        return tuple(views)

    @property
    def _encodes_jointly(self) -> bool:
        config = self.config
        return config.masked_pair_share > 0 and (config.uses_language or config.uses_regions)

    # ---- host half

    def prepare(self, seed: int) -> None:
        """Generate the built-in data, train the vocabulary, find the visual words, where absent."""
        self.encoder.prepare(seed)

    def save_assets(self, folder: Path) -> None:
        """Write the vocabulary and the visual words."""
        self.encoder.save_assets(folder)

    def training_streams(self, batch_size: int) -> tuple[Stream, ...]:
        """Pairs, texts and images in the shares of the mixture."""
        return self.encoder.training_streams(self._stream_sizes(batch_size))

    def _stream_sizes(self, batch_size: int) -> dict[str, int]:
        """Samples of each stream; streams that no objective needs get none."""
        shares = dict(vars(self.config.mixture))
        if not self.config.uses_language:
            shares["texts"] = 0.0
        if not self.config.uses_regions:
            shares["images"] = 0.0
        total = sum(shares.values())
        if not shares["pairs"]:
            raise UserError("task.mixture.pairs is 0; pre-training needs pairs, give them a share")
        sizes = {name: round(batch_size * share / total) for name, share in shares.items()}
        for name, share in shares.items():
            if share and not sizes[name]:
                raise UserError(
                    f"train.batch_size {batch_size} leaves no sample for the {name} (share "
                    f"{share:g} of {total:g}); raise it, or set task.mixture.{name} to 0"
                )
        return {name: size for name, size in sizes.items() if size}

    def evaluation_stream(self, split: str, batch_size: int) -> Stream:
        """The pairs of a split."""
        return self.encoder.pair_stream(split, batch_size)

    def score(self, split: str, serve: Callable[[str, Stream], Arrays]) -> dict[str, float]:
        """Recall at 1, 5, 10 both ways by separate scores, over all captions of a split."""
        if not self.config.weights.contrastive:
            return {}
        records = self.encoder.read_split(split)
        images = serve("embed_images", self.encoder.image_stream(records))
        texts = serve("embed_texts", self.encoder.caption_stream(records))
        groups = np.array([record.group for record in records], np.int64)
        caption_groups = np.repeat(groups, [len(record.captions) for record in records])
        return recall_both_ways(
            images["image_features"],
            texts["text_features"],
            groups[images["index"]],
            caption_groups[texts["index"]],
        )

    def pictures(self, split: str, serve: Callable[[str, Stream], Arrays]) -> dict[str, np.ndarray]:
        """What fixed captions retrieve, what is filled into hidden patches, where words look."""
        drawings = {
            "embed_images": ("retrieval", draw_retrieval),
            "fill_regions": ("hidden_patches", draw_filling),
            "attend_regions": ("attention", draw_attention),
        }
        names = [service.name for service in (*self.services, *self.views)]
        return {
            title: draw(self.encoder, split, serve)
            for name, (title, draw) in drawings.items()
            if name in names
        }

    def encode_image(self, image: Any) -> Sample:
        """An image file, or pixels [H, W, 3] uint8 RGB, as ``embed_images`` is fed."""
        return self.encoder.encode_image(image)

    def encode_text(self, text: str) -> Sample:
        """A text as ``embed_texts`` is fed."""
        return self.encoder.encode_text(text)

    # ---- graph half

    def build_network(self) -> PretrainingNetwork:
        """Make the Transformer and the heads of the objectives that are on."""
        return PretrainingNetwork(self.config, self.model, self.encoder.num_classes)

    def loss(self, network: PretrainingNetwork, batch: Tensors) -> dict[str, Tensor]:
        """Every objective that is on, averaged over the streams that carry it."""
        terms: dict[str, Tensor] = {}
        if self.config.weights.contrastive:
            terms["contrastive"] = self._contrastive(network, batch)
            terms["temperature"] = network.temperature().mean()
        terms |= self._masked_terms(network, batch)
        weights = vars(self.config.weights)
        total = [weights[name] * term for name, term in terms.items() if name in weights]
        return {"loss": paddle.add_n(total) if len(total) > 1 else total[0], **terms}

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
        config = self.config
        words: list[tuple[Tensor, ...]] = []
        regions: list[tuple[Tensor, ...]] = []
        if self._encodes_jointly:
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
            if self.config.uses_regions:
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
        if has_text and self.config.uses_language:
            names = ("positions", "labels", "weights", "seq2seq")
            positions, labels, weights, seq2seq = (batch[hidden_text + name] for name in names)
            rows = gather_positions(encoding.text, positions)
            words.append((rows, labels.flatten(), weights.flatten(), seq2seq.flatten()))
        if has_image and self.config.uses_regions:
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
        if self.config.weights.masked_language:
            terms["masked_language"] = losses.token_cross_entropy(
                logits, labels, weights * (1.0 - seq2seq)
            )
        if self.config.weights.seq2seq_language:
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
        if self.config.weights.region_regression:
            predicted = network.regression_head(rows)
            terms["region_regression"] = losses.region_regression(predicted, targets, weights)
        if self.config.weights.region_classification:
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


def _copy(batch: Tensors, *names: str) -> dict[str, Tensor]:
    """Inputs that a picture shows; Paddle cannot fetch a feed itself."""
    return {name: paddle.assign(batch[name]) for name in names}
