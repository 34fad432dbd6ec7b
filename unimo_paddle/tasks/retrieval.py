"""Retrieval of images by captions and of captions by images, by a score of both read together.

In training a caption with its image is told from other images and from other captions by the
circle loss ("Circle Loss: A Unified Perspective of Pair Similarity Optimization", CVPR 2020).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from paddle import Tensor, nn
from paddle.nn import functional as F
from tqdm import tqdm

from unimo_paddle import losses
from unimo_paddle.data.fields import Field, Sample, collate
from unimo_paddle.data.images import Regions, encode_regions
from unimo_paddle.data.loader import Stream
from unimo_paddle.data.original_order import candidates_by_epoch
from unimo_paddle.data.original_retrieval import RegionLine
from unimo_paddle.data.records import TOLERATED_RECORDS, text_of
from unimo_paddle.data.regions import RegionEntry
from unimo_paddle.data.sources import read_pairs
from unimo_paddle.errors import BadSample, UserError
from unimo_paddle.metrics.retrieval import recall_of_scores
from unimo_paddle.models import MatchHead, ModelConfig, UnifiedTransformer
from unimo_paddle.tasks.base import Arrays, TaskConfig, Tensors
from unimo_paddle.tasks.classification import check_dropout
from unimo_paddle.tasks.finetuning import PREDICT, TRAIN_SPLIT, Prediction
from unimo_paddle.tasks.image_records import ImageTask, Text, check_text_length
from unimo_paddle.tasks.pooling import check_pooling, pool_pair
from unimo_paddle.tasks.retrieval_data import (
    MinedNegatives,
    NamedImage,
    Pair,
    PairTable,
    RandomNegatives,
    RetrievalDataConfig,
    read_features,
    read_lines_table,
    table_of_pairs,
)
from unimo_paddle.tasks.segments import TEXT_INPUTS, take

logger = logging.getLogger(__name__)

CANDIDATE = "candidate_"  # prefix of the fields with all candidates of a caption
MININGS = ("random", "separate")


@TaskConfig.register_subclass("retrieval")
@dataclass(frozen=True)
class RetrievalConfig(TaskConfig):
    """Images of captions and captions of images."""

    data: RetrievalDataConfig = field(default_factory=RetrievalDataConfig)
    negatives: int = 10  # other images, and again other captions, that a caption meets in training
    mining: str = "random"  # how they are chosen: random, or separate: near by separate scores
    mined: str | None = None  # .npz of the features for that; tasks/retrieval_data.py says how
    mining_pool: int = 100  # so many of the nearest are drawn from
    margin: float = 0.2  # of the circle loss: how far scores of wrong pairs are pushed below 0
    scale: float = 1.0  # of the circle loss: how much the hardest candidates count
    use_sigmoid: bool = False  # squash scores between 0 and 1
    pooling: str = "first"  # what is read of text and image: first, mean, mask
    head_dropout: float | None = None  # on the product of both vectors; null: attention_dropout
    evaluated_images: int = 0  # images of a split that are measured, the first; 0 = all

    def __post_init__(self) -> None:
        for name in ("negatives", "mining_pool"):
            if getattr(self, name) < 1:
                raise UserError(f"task.{name} is {getattr(self, name)}; give at least 1")
        if self.evaluated_images < 0 or self.evaluated_images == 1:
            raise UserError(
                f"task.evaluated_images is {self.evaluated_images}; give at least 2, or 0 for all"
            )
        check_pooling(self.pooling, self.data)
        if self.mining not in MININGS:
            raise UserError(f"task.mining is {self.mining!r}; choose one of {', '.join(MININGS)}")
        if (self.mined is None) == (self.mining == "separate"):
            raise UserError(
                f"task.mining is {self.mining} and task.mined is {self.mined}; give both a file "
                "and mining separate, or neither"
            )
        if self.data.is_original and self.mining != "random":
            raise UserError(
                f"task.mining is {self.mining}, but the original draws at random; choose random, "
                "or task.data.compatibility standard"
            )
        if not 0.0 <= self.margin <= 1.0:
            raise UserError(f"task.margin is {self.margin}; give a number from 0 to 1")
        if not 0.0 < self.scale < math.inf:
            raise UserError(f"task.scale is {self.scale}; give a finite number above 0")
        if self.head_dropout is not None:
            check_dropout(self.head_dropout)

    def build(self, model: ModelConfig, assets_dir: Path) -> RetrievalTask:
        """Make the task for a model of these sizes."""
        return RetrievalTask(self, model, assets_dir)


class RetrievalNetwork(nn.Layer):
    """Encodes an image and a text together and scores how well they match.

    Args:
        dropout: on the product of both pooled vectors.
        pooling: what is pooled of each.
    """

    def __init__(
        self,
        model: ModelConfig,
        inputs: Sequence[Field],
        *,
        dropout: float,
        pooling: str,
        use_sigmoid: bool,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.inputs = inputs
        self.use_sigmoid = use_sigmoid
        self.transformer = UnifiedTransformer(model)
        self.head = MatchHead(replace(model, attention_dropout=dropout))

    def forward(self, batch: Tensors) -> Tensor:
        """Return scores [B] of pairs."""
        encoding = self.transformer(**take(batch, self.inputs))
        pooled = pool_pair(self.transformer, encoding, batch, self.pooling)
        scores = self.head(*pooled).flatten()
        return F.sigmoid(scores) if self.use_sigmoid else scores

    def score_candidates(self, batch: Tensors) -> Tensor:
        """Return scores [B, S] of fields with S candidates each; the first is the right one."""
        candidates = take(batch, self.inputs, CANDIDATE)
        size = next(iter(candidates.values())).shape[1]
        scores = self({name: tensor.flatten(0, 1) for name, tensor in candidates.items()})
        return scores.reshape([-1, size])


class RetrievalTask(ImageTask):
    """See the module. A record is a caption with its image; all of a split are a table."""

    scenes_prefix = ""
    targets = ()

    def __init__(self, config: RetrievalConfig, model: ModelConfig, assets_dir: Path) -> None:
        super().__init__(config.data, model, assets_dir)
        check_text_length(config.data, model)
        self.config = config
        self.pooling = config.pooling
        self.data: RetrievalDataConfig = config.data
        self.inputs = (*TEXT_INPUTS, *self.image_inputs)
        size = 1 + 2 * config.negatives
        self.candidates = tuple(
            replace(item, name=CANDIDATE + item.name, shape=(size, *item.shape))
            for item in self.inputs
        )

    # ---- records

    def read_split(self, split: str) -> PairTable:
        """The images and captions of a split, read once."""
        if self.data.source == "original" and split not in self._splits:
            path = self.split_path(split)
            self._splits[split] = read_lines_table(
                path, self.data, self.model, split=split, stores=self.stores
            )
        return super().read_split(split)

    def read(self, path: Path) -> PairTable:
        """The images and captions of a file of JSON lines."""
        limit = self.data.bad_record_limit
        records = read_pairs(path, stores=self.stores, bad_record_limit=limit)
        return table_of_pairs(path, records, kind=self.data.image.kind)

    def read_original(self, path: Path) -> PairTable:
        """Unused: which features belong to a file is known by its split."""
        raise AssertionError("read_split reads the original's files")

    def parse_with(self, item: Mapping[str, Any], find: Callable[[str], Path]) -> Pair:
        """A pair from ``text`` and ``image`` (with ``objects``, if these count) or ``regions``."""
        name = item.get("image")
        name = name if isinstance(name, str) else "the given image"
        return Pair(NamedImage(name, self.image_of(item, find)), text_of(item, "text"))

    def texts(self, record: Pair) -> Iterable[str]:
        """The caption, unless it consists of ids."""
        return [record.text] if isinstance(record.text, str) else []

    def is_labelled(self, record: Pair) -> bool:
        """Always: a caption belongs to its image."""
        return True

    # ---- samples

    def encode(self, record: Pair, rng: np.random.Generator | None = None) -> Sample:
        """The text and the image."""
        image = self.encode_named(record.image, rng, [record.text])
        return {**self.encode_text(record.text), **image}

    def encode_targets(self, record: Pair) -> Sample:
        """Nothing: the right candidate is the first."""
        return {}

    def encode_named(
        self,
        named: NamedImage,
        rng: np.random.Generator | None = None,
        texts: Sequence[Text] = (),
    ) -> Sample:
        """The rows of an image; what is wrong with it is told under its name."""
        image = named.image
        regions = image.load() if isinstance(image, RegionLine | RegionEntry) else image
        if not isinstance(regions, Regions):
            return self.encode_image(regions, rng, texts)
        # Repeating the original's confusion of width and height takes boxes out of their image.
        may_swap = self.data.is_original and isinstance(image, RegionLine)
        features, boxes = encode_regions(
            regions, self.data.image, where=named.name, are_boxes_inside=not may_swap
        )
        mask = np.ones(len(features), np.float32)
        return {"region_features": features, "region_boxes": boxes, "region_mask": mask}

    def encode_candidates(
        self, table: PairTable, numbers: np.ndarray, rng: np.random.Generator | None = None
    ) -> Sample:
        """A caption's image and negatives: the right pair, other images, other captions.

        Args:
            numbers: [1 + 2 * negatives]: the caption, other images, other captions.
        """
        caption, *others = (int(number) for number in numbers)
        count = self.config.negatives
        own = [table.captions[number] for number in (caption, *others[count:])]
        # No image may be mirrored against any text that it meets.
        images = [self.encode_named(table.images[table.owners[caption]], rng, own)]
        images += [self.encode_named(table.images[i], rng, own[:1]) for i in others[:count]]
        texts = [self.encode_text(text) for text in own]
        sample = collate([texts[0]] * count + texts, TEXT_INPUTS)
        sample |= collate(images + images[:1] * count, self.image_inputs)
        return {CANDIDATE + name: value for name, value in sample.items()}

    # ---- streams

    def training_fields(self, batch_size: int) -> tuple[Field, ...]:
        """All candidates of a caption."""
        return self.candidates

    def training_streams(self, batch_size: int) -> tuple[Stream, ...]:
        """Captions with their candidates; in the original's order where that is asked for."""
        table = self.read_split(TRAIN_SPLIT)
        if self.data.is_original:
            return (
                Stream(
                    TRAIN_SPLIT,
                    candidates_by_epoch(table.owners, self.config.negatives),
                    lambda numbers, rng: self.encode_candidates(table, numbers),
                    self.candidates,
                    batch_size,
                    shuffle=False,
                ),
            )
        negatives = self._negatives(table)

        def encode(caption: int, rng: np.random.Generator) -> Sample:
            return self.encode_candidates(table, negatives.draw(caption, rng), rng)

        return (Stream(TRAIN_SPLIT, range(len(table)), encode, self.candidates, batch_size),)

    def _negatives(self, table: PairTable) -> RandomNegatives | MinedNegatives:
        config = self.config
        if config.mined is None:
            return RandomNegatives(table, config.negatives)
        logger.info("looking for the nearest images and captions in %s", config.mined)
        features = read_features(Path(config.mined), table)
        return MinedNegatives(
            table, *features, count=config.negatives, pool_size=config.mining_pool
        )

    def evaluation_stream(self, split: str, batch_size: int) -> Stream:
        """The captions of a split with random candidates of the same split."""
        table = self.read_split(split)
        negatives = RandomNegatives(table, self.config.negatives)

        def encode(caption: int, rng: np.random.Generator) -> Sample:
            return self.encode_candidates(table, negatives.draw(caption, rng))

        return Stream(split, range(len(table)), encode, self.candidates, batch_size)

    # ---- graph half

    def build_network(self) -> RetrievalNetwork:
        """Make the Transformer with the layer that scores."""
        dropout = self.config.head_dropout
        return RetrievalNetwork(
            self.model,
            self.inputs,
            dropout=self.model.attention_dropout if dropout is None else dropout,
            pooling=self.config.pooling,
            use_sigmoid=self.config.use_sigmoid,
        )

    def loss(self, network: RetrievalNetwork, batch: Tensors) -> dict[str, Tensor]:
        """The circle loss, and how often no wrong candidate scores as high as the right one."""
        scores = network.score_candidates(batch)
        is_best = (scores[:, :1] > scores[:, 1:]).all(axis=1)
        return {
            "loss": losses.retrieval_loss(scores, self.config.margin, self.config.scale),
            "accuracy": is_best.astype(scores.dtype).mean(),
        }

    def predict(self, network: RetrievalNetwork, batch: Tensors) -> dict[str, Tensor]:
        """The score of each pair."""
        return {"score": network(batch)}

    # ---- measures

    def decode(self, outputs: Arrays) -> list[Prediction]:
        """The score of each pair."""
        return [{"score": float(score)} for score in outputs["score"]]

    def measure(self, predictions: Sequence[Prediction], records: Sequence[Pair]) -> dict:
        """Unused: right pairs alone tell no recall."""
        raise AssertionError("score measures all pairs")

    def score(self, split: str, serve: Callable[[str, Stream], Arrays]) -> dict[str, float]:
        """Recall both ways by the scores of every image with every caption."""
        table = self.read_split(split)
        if self.config.evaluated_images:
            table = table.first(self.config.evaluated_images)
        image_of_text = dict(enumerate(table.owners.tolist()))
        return recall_of_scores(*self.score_pairs(table, serve), image_of_text, interval_seed=0)

    def score_pairs(
        self, table: PairTable, serve: Callable[[str, Stream], Arrays]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, image numbers and caption numbers [P] of all pairs of a table.

        An image is encoded once and met by all captions, similar lengths together. One that
        cannot be used is named and left out, which ranks it last.
        """
        texts = [self.encode_text(text) for text in table.captions]
        order = np.argsort([len(text["input_ids"]) for text in texts], kind="stable")
        total = len(table.images) * len(table)
        logger.info(
            "scoring %d pairs of %d images and %d captions", total, len(table.images), len(table)
        )
        start, is_told = time.monotonic(), False
        parts = []
        with tqdm(total=total, desc="scoring pairs", unit="pair", mininterval=1) as progress:
            for number, named in enumerate(table.images):
                scored = self._score_image(named, texts, order, serve)
                parts.append((scored[0], np.full(len(scored[0]), number), scored[1]))
                progress.update(len(table))
                seconds = time.monotonic() - start
                if seconds > 10 and not is_told:
                    left = seconds / (number + 1) * (len(table.images) - number - 1)
                    logger.info("scoring takes about %.0f minutes more", left / 60)
                    is_told = True
        num_skipped = sum(not len(part[0]) for part in parts)
        limit = max(TOLERATED_RECORDS, self.data.bad_record_limit * len(parts))
        if num_skipped > limit or num_skipped == len(parts):
            raise UserError(
                f"{num_skipped} of {len(parts)} images of {table.path} cannot be used; see the "
                "warnings above"
            )
        scores, images, captions = (np.concatenate(column) for column in zip(*parts, strict=True))
        return scores, images, captions

    def _score_image(
        self,
        named: NamedImage,
        texts: Sequence[Sample],
        order: np.ndarray,
        serve: Callable[[str, Stream], Arrays],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores of an image with all texts, and the numbers of these."""
        try:
            image = self.encode_named(named)
        except BadSample as bad:
            logger.warning("skipped an image: %s", bad)
            return np.empty(0, np.float32), np.empty(0, np.int64)
        encode = lambda number, rng: {**texts[number], **image}  # noqa: E731
        outputs = serve(PREDICT, Stream("pairs", order, encode, self.inputs, 64))
        return outputs["score"], order[outputs["index"]]
