"""Pre-training: a weighted mixture of objectives over texts, images and pairs.

"UNIMO" (arXiv 2012.15409), sections 2.1 to 2.3: contrastive learning between images and texts
encoded alone and unmasked (equation 1, separate scores), masked regions (feature regression and
classification), bidirectional and sequence-to-sequence language modelling, which alternate.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import Tensor

from unimo_paddle.data.fields import Field, Sample
from unimo_paddle.data.images import Regions
from unimo_paddle.data.loader import Stream
from unimo_paddle.data.regions import RegionEntry
from unimo_paddle.data.regions.lookup import IMAGE_ID
from unimo_paddle.data.rewriting import RewrittenCaptions
from unimo_paddle.data.sources import ImageRecord, LabelledImage, PairRecord
from unimo_paddle.errors import UserError
from unimo_paddle.metrics.retrieval import recall_both_ways
from unimo_paddle.models import ModelConfig
from unimo_paddle.tasks.base import Arrays, CachedLoss, Service, Task, TaskConfig, Tensors
from unimo_paddle.tasks.image_records import Image as GivenImage
from unimo_paddle.tasks.image_records import existing_file, parse_image
from unimo_paddle.tasks.pretraining_data import PretrainingEncoder
from unimo_paddle.tasks.pretraining_fields import image_targets
from unimo_paddle.tasks.pretraining_network import PretrainingNetwork
from unimo_paddle.tasks.pretraining_objectives import PretrainingObjectives
from unimo_paddle.tasks.pretraining_pictures import draw_attention, draw_filling, draw_retrieval
from unimo_paddle.tasks.pretraining_search import prefer_captions, search_split
from unimo_paddle.tasks.pretraining_settings import (
    ContrastConfig,
    Mixture,
    ObjectiveWeights,
    PretrainingDataConfig,
)
from unimo_paddle.tasks.pretraining_slices import slice_loss
from unimo_paddle.tasks.pretraining_start import DataStart, start_views
from unimo_paddle.tasks.reranking import SCORE_PAIRS
from unimo_paddle.tasks.segments import TEXT_INPUTS, image_inputs


@TaskConfig.register_subclass("pretraining")
@dataclass(frozen=True)
class PretrainingConfig(TaskConfig):
    """Pre-training on texts, images and pairs."""

    data: PretrainingDataConfig = field(default_factory=PretrainingDataConfig)
    mixture: Mixture = field(default_factory=Mixture)
    weights: ObjectiveWeights = field(default_factory=ObjectiveWeights)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    masked_pair_share: float = 1.0  # share of a batch's pairs that are also encoded jointly, masked
    projection_size: int = 256  # numbers in image_features and text_features
    pooling: str = "first"  # what is projected: first row, mean of all, or means around places
    correlated_start: int = 0  # training pairs whose correlation projections start from; 0 = none
    temperature: float = 0.07  # start of the learnt temperature
    min_temperature: float = 0.01  # its lower bound
    contrastive_chunk_size: int = 0  # pairs encoded at once, to bound memory; 0 = a whole batch

    def __post_init__(self) -> None:
        for name in vars(self.mixture):
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
        if not (self.weights.contrastive or self.encodes_jointly):
            raise UserError(
                "nothing is learnt of pairs: task.weights.contrastive and task.masked_pair_share "
                "are 0; give one of them a value above 0"
            )
        if not 0 <= self.masked_pair_share <= 1:
            raise UserError(
                f"task.masked_pair_share is {self.masked_pair_share}; give a share from 0 to 1"
            )
        if self.contrast.has_candidates and not self.weights.contrastive:
            raise UserError(
                "task.contrast asks for candidates but task.weights.contrastive is 0; give it a "
                "weight, or leave task.contrast out"
            )
        lows = {"projection_size": 1, "correlated_start": 0, "contrastive_chunk_size": 0}
        for name, low in lows.items():
            if getattr(self, name) < low:
                raise UserError(f"task.{name} is {getattr(self, name)}; give at least {low}")
        if self.correlated_start == 1:
            raise UserError(
                "task.correlated_start is 1, but one pair correlates with nothing; give at least "
                "2, better some hundreds, or 0"
            )
        if self.contrastive_chunk_size and not self.weights.contrastive:
            raise UserError(
                f"task.contrastive_chunk_size is {self.contrastive_chunk_size} but "
                "task.weights.contrastive is 0; set the chunk size to 0, and bound memory with "
                "train.batch_size and train.gradient_accumulation"
            )
        if 0 < self.contrastive_chunk_size < self.contrast.joint_every:
            raise UserError(
                f"task.contrastive_chunk_size is {self.contrastive_chunk_size}; give at least "
                f"task.contrast.joint_every, which is {self.contrast.joint_every}"
            )
        if self.weights.object_names and not (
            self.masked_pair_share and self.data.image.kind != "regions"
        ):
            raise UserError(
                f"task.weights.object_names is {self.weights.object_names:g}, but names are read "
                "from pixels of pairs that are encoded jointly; set it to 0, or "
                "task.data.image.kind to patches or objects and task.masked_pair_share above 0"
            )
        self._check_streams()
        if not (0 < self.min_temperature <= self.temperature <= 1 and self.min_temperature < 1):
            raise UserError(
                f"task.temperature is {self.temperature}; give a number from "
                f"task.min_temperature {self.min_temperature} (above 0, below 1) to 1"
            )
        if self.pooling not in ("first", "mean", "places"):
            raise UserError(f"task.pooling is {self.pooling!r}; choose first, mean or places")

    def _check_streams(self) -> None:
        """Refuse objectives that no stream brings anything to: their heads would learn nothing."""
        if self.masked_pair_share:
            return
        for kind, streams in (
            ("language", ("texts", "statements")),
            ("region", ("images", "statements")),
        ):
            names = [name for name, x in vars(self.weights).items() if kind in name and x]
            if names and not any(getattr(self.mixture, name) for name in streams):
                shares = ["masked_pair_share", *(f"mixture.{name}" for name in streams)]
                raise UserError(
                    f"task.weights.{names[0]} is {getattr(self.weights, names[0]):g}, but nothing "
                    f"is hidden to learn it from: {', '.join(f'task.{x}' for x in shares)} are 0; "
                    f"give one a share, or set {', '.join(f'task.weights.{x}' for x in names)} to 0"
                )

    @property
    def uses_language(self) -> bool:
        """Whether a language objective is on."""
        return self.weights.masked_language > 0 or self.weights.seq2seq_language > 0

    @property
    def uses_regions(self) -> bool:
        """Whether an objective on hidden regions is on."""
        return self.weights.region_regression > 0 or self.weights.region_classification > 0

    @property
    def encodes_jointly(self) -> bool:
        """Whether images and captions of pairs are also encoded together, partly hidden."""
        return self.masked_pair_share > 0 and (
            self.uses_language or self.uses_regions or self.weights.object_names > 0
        )

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
            contrast=config.contrast,
            uses_regions=config.uses_regions,
            uses_language=config.uses_language,
        )
        self.image_inputs = image_inputs(model.region_feature_size)
        self.services = self._make_services()
        self.views = self._make_views()

    def _make_services(self) -> tuple[Service, ...]:
        """What is exported: each side encoded alone, and joint scores where they are learnt."""
        if not self.config.weights.contrastive:
            return ()
        services = (
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
        if not self.config.contrast.uses_joint_scores:
            return services
        pair = (*TEXT_INPUTS, *self.image_inputs)
        score = lambda network, batch: {"scores": network.score_pairs(batch).flatten()}  # noqa: E731
        return (*services, Service(SCORE_PAIRS, pair, score))

    def _make_views(self) -> tuple[Service, ...]:
        """What the start and the pictures are made from; those of patches, as these are pixels."""
        correlates = self.config.weights.contrastive and self.config.correlated_start
        views = start_views(self.model, self.image_inputs, correlates=bool(correlates))
        if self.config.data.image.kind != "patches" or not self.config.encodes_jointly:
            return tuple(views)
        pair = (*TEXT_INPUTS, *self.image_inputs)
        views += [
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
                    (*pair, image_targets()[0]),
                    lambda network, batch: {
                        "filled_features": network.fill_regions(batch),
                        **_copy(batch, "hidden_regions", "region_features"),
                    },
                )
            )
        return tuple(views)

    # ---- host half

    def prepare(self, seed: int) -> None:
        """Generate the built-in data and make the vocabularies, where absent."""
        self.encoder.prepare(seed)

    def save_assets(self, folder: Path) -> None:
        """Write the vocabularies."""
        self.encoder.save_assets(folder)

    def training_streams(self, batch_size: int) -> tuple[Stream, ...]:
        """Pairs, texts and images in the shares of the mixture."""
        return self.encoder.training_streams(self._stream_sizes(batch_size))

    def training_fields(self, batch_size: int) -> tuple[Field, ...]:
        """Those of the streams that have a share."""
        encoder = self.encoder
        single = [name for name in self._stream_sizes(batch_size) if name != "pairs"]
        groups = [encoder.pair_fields(self.config.data.captions_per_image)]
        groups += map(encoder.masked_fields, single)
        return tuple(item for fields in groups for item in fields)

    def evaluation_fields(self) -> tuple[Field, ...]:
        """Those of a pair with one caption."""
        return self.encoder.pair_fields(1)

    def _stream_sizes(self, batch_size: int) -> dict[str, int]:
        """Samples of each stream; streams that no objective needs get none."""
        shares = dict(vars(self.config.mixture))
        uses_names = self.config.weights.object_names > 0
        if not self.config.uses_language:
            shares["texts"] = 0.0
        if not self.config.uses_regions:
            shares["images"] = 0.0
        if not (self.config.uses_language or self.config.uses_regions or uses_names):
            shares["statements"] = 0.0
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

    def initial_values(
        self, serve: Callable[[str, Stream], Arrays], given: Collection[str] = ()
    ) -> Iterator[dict[str, np.ndarray]]:
        """A dictionary of patches, and layers to where images and captions correlate most."""
        start = DataStart(
            self.encoder,
            self.model,
            serve,
            num_pairs=self.config.correlated_start if self.config.weights.contrastive else 0,
            projection_size=self.config.projection_size,
            joint=self.config.contrast.uses_joint_scores,
        )
        return start.values(given)

    def evaluation_stream(self, split: str, batch_size: int) -> Stream:
        """The pairs of a split; rewritten captions of others are refused here already."""
        self._rewritten(split)
        return self.encoder.pair_stream(split, batch_size)

    def _rewritten(self, split: str) -> RewrittenCaptions | None:
        """Captions of a split that were changed, where there are any."""
        path = self.config.data.split_rewrites.get(split)
        return path and RewrittenCaptions(path, self.encoder.read_split(split))

    def score(self, split: str, serve: Callable[[str, Stream], Arrays]) -> dict[str, float]:
        """Recall at 1, 5, 10 both ways by separate scores, over all captions of a split.

        And how often captions are preferred to rewritten ones, where the split has a file of them.
        Both with 95 % bootstrap intervals over the images.
        """
        if not self.config.weights.contrastive:
            return {}
        rewritten = self._rewritten(split)  # early: what is wrong with it must not cost the rest
        records = self.encoder.read_split(split)
        images = serve("embed_images", self.encoder.image_stream(records))
        texts = serve("embed_texts", self.encoder.caption_stream(records))
        groups = np.array([record.group for record in records], np.int64)
        caption_groups = np.repeat(groups, [len(record.captions) for record in records])
        found = recall_both_ways(
            images["image_features"],
            texts["text_features"],
            groups[images["index"]],
            caption_groups[texts["index"]],
            interval_seed=0,
        )
        if rewritten is None:
            return found
        joint = self.config.contrast.uses_joint_scores
        return found | prefer_captions(self.encoder, records, rewritten, serve, joint=joint)

    def search(
        self, split: str, serve: Callable[[str, Stream], Arrays], first: int | None
    ) -> dict[str, dict[str, float]]:
        """See ``Task.search``; an image that several records name is one image."""
        records = self.encoder.read_split(split)
        return search_split(self.encoder, records, serve, first)

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
        """An image as ``embed_images`` is fed: a file, pixels [H, W, 3] uint8 RGB, or an object.

        An object holds what a line of pairs does but for the captions: its ``objects`` or
        ``regions``, where rows are made of these. Regions are also looked for in the stores.
        """
        config = self.config.data.image
        if not isinstance(image, Mapping):
            if config.kind == "patches":
                return self.encoder.encode_image(image)
            image = {"image": image if isinstance(image, np.ndarray) else str(image)}
        found = parse_image(image, existing_file, config, self.encoder.open_stores())
        return self.encoder.encode_image(_record_of(found, image))

    def encode_text(self, text: str) -> Sample:
        """A text as ``embed_texts`` is fed."""
        return self.encoder.encode_text(text)

    # ---- graph half

    def build_network(self) -> PretrainingNetwork:
        """Make the Transformer and the heads of the objectives that are on."""
        return PretrainingNetwork(self.config, self.model, self.encoder.targets)

    def loss(self, network: PretrainingNetwork, batch: Tensors) -> dict[str, Tensor]:
        """Every objective that is on, averaged over the streams that carry it."""
        objectives = PretrainingObjectives(self.config)
        return objectives.with_loss(objectives.terms(network, batch))

    def cached_loss(self, batch_size: int) -> CachedLoss | None:
        """The same with at most ``contrastive_chunk_size`` pairs encoded at once."""
        return slice_loss(self.config, self.encoder, self._stream_sizes(batch_size))


def _copy(batch: Tensors, *names: str) -> dict[str, Tensor]:
    """Inputs that a picture shows; Paddle cannot fetch a feed itself."""
    return {name: paddle.assign(batch[name]) for name in names}


def _record_of(found: GivenImage, item: Mapping[str, Any]) -> ImageRecord | np.ndarray:
    """What was parsed of an item, as the encoder knows it."""
    if isinstance(found, Regions | RegionEntry):
        name = item.get("image") or item.get(IMAGE_ID) or "the given regions"
        return PairRecord(Path(str(name)), (), found, group=0)
    if isinstance(found, Path | np.ndarray):
        return found
    return LabelledImage(found.pixels, found.objects)
