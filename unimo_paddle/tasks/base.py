"""The contract between a task and the loops that train, evaluate, export and serve it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import draccus
import numpy as np
from paddle import Tensor, nn

from unimo_paddle.adversarial import PerturbedLoss
from unimo_paddle.data.fields import Field
from unimo_paddle.data.loader import Stream
from unimo_paddle.models import ModelConfig

Tensors = Mapping[str, Tensor]
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class TaskConfig(draccus.ChoiceRegistry):
    """Settings of a task; ``task: {type: NAME}`` selects which."""

    def build(self, model: ModelConfig, assets_dir: Path) -> Task:
        """Make the task; ``assets_dir`` holds what it learnt from its data (vocabularies)."""
        raise TypeError(f"{type(self).__name__} builds no task")


@dataclass(frozen=True)
class Service:
    """One function of a trained network, used alike by evaluation, export and the predictor.

    Args:
        name: file name in a bundle and key of the predictor.
        inputs: the fields it is fed.
        compute: (network, tensors by field name) -> named outputs.
    """

    name: str
    inputs: tuple[Field, ...]
    compute: Callable[[Any, Tensors], dict[str, Tensor]]


@dataclass(frozen=True)
class Sliced:
    """What is computed of a batch slice by slice.

    Args:
        fields: of the batch, which each slice is fed with.
        slices: the rows of each; together, in this order, they are all rows that take part.
        compute: (network, tensors by field name) -> named outputs.
    """

    fields: tuple[Field, ...]
    slices: tuple[slice, ...]
    compute: Callable[[Any, Tensors], dict[str, Tensor]]


@dataclass(frozen=True)
class CachedLoss:
    """A loss whose batch is never encoded at once, though some terms see all of it.

    Gradient caching, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"
    (arXiv 2101.06983): all slices are encoded without gradient; the terms of all features together
    give the gradient of each feature; every slice is encoded again, and <features, gradients> is
    what it descends.

    Args:
        encode: slices -> features, first axis as in the batch.
        features: the fields of these outputs.
        fields: of the whole batch, which ``combine`` is fed beside the features.
        combine: (network, features and fields) -> terms, ``loss`` and totals.
        totals: names of those outputs of ``combine`` that every slice of ``shares`` is fed, of
            shape []: what must be known of the whole batch, such as how many words are hidden.
        shares: slices -> their shares of all other terms and of ``loss``. Over all slices they
            add up to those of the batch.
    """

    encode: Sliced
    features: tuple[Field, ...]
    fields: tuple[Field, ...]
    combine: Callable[[Any, Tensors], dict[str, Tensor]]
    totals: tuple[str, ...]
    shares: tuple[Sliced, ...]


class Task(ABC):
    """One problem end to end: a host half in NumPy and a graph half in Paddle."""

    services: tuple[Service, ...]  # what a bundle serves
    views: tuple[Service, ...] = ()  # what the start and the pictures are made from

    @abstractmethod
    def prepare(self, seed: int) -> None:
        """Make the assets that training needs and that are not there yet."""

    @abstractmethod
    def save_assets(self, folder: Path) -> None:
        """Write what a bundle needs beside its graphs."""

    @abstractmethod
    def training_streams(self, batch_size: int) -> tuple[Stream, ...]:
        """The streams of a training batch of ``batch_size`` samples a process."""

    @abstractmethod
    def evaluation_stream(self, split: str, batch_size: int) -> Stream | None:
        """The records of a split, encoded without augmentation; None: it has no labels."""

    @abstractmethod
    def training_fields(self, batch_size: int) -> tuple[Field, ...]:
        """What batches of ``training_streams`` hold, known before any record is read."""

    @abstractmethod
    def evaluation_fields(self) -> tuple[Field, ...]:
        """What batches of an ``evaluation_stream`` hold."""

    @abstractmethod
    def build_network(self) -> nn.Layer:
        """Make the network with the heads that the objectives need."""

    @abstractmethod
    def loss(self, network: Any, batch: Tensors) -> dict[str, Tensor]:
        """Named terms and ``loss``, their weighted sum."""

    def cached_loss(self, batch_size: int) -> CachedLoss | None:
        """The same loss of a training batch, computed slice by slice; None: all at once."""
        return None

    def perturbed_loss(self) -> PerturbedLoss | None:
        """What is learnt in training in place of ``loss``; None: nothing is perturbed."""
        return None

    def initial_values(
        self, serve: Callable[[str, Stream], Arrays], given: Collection[str] = ()
    ) -> Iterator[dict[str, np.ndarray]]:
        """Parameters that start from the data, by name; asked once, before the first update.

        Every rank asks, and is given the same to the bit.

        Args:
            serve: as for ``score``, with the untrained network; it knows the views too.
            given: names of parameters that have their values: what would set these alone is not
                made.

        Yields:
            What is set before the next is asked for, so that it can be made from that.
        """
        yield from ()

    @abstractmethod
    def score(self, split: str, serve: Callable[[str, Stream], Arrays]) -> dict[str, float]:
        """The task's metrics on a split.

        Args:
            serve: (service name, stream) -> outputs of all records of the stream in order.
        """

    def search(
        self, split: str, serve: Callable[[str, Stream], Arrays], first: int | None
    ) -> dict[str, dict[str, float]]:
        """The metrics of both stages of retrieval on a split (``reranking``).

        Args:
            serve: as for ``score``.
            first: candidates of each query whose joint score is taken; None: all.
        """
        raise NotImplementedError(f"{type(self).__name__} has no two stages")

    def predictions(
        self, split: str, serve: Callable[[str, Stream], Arrays]
    ) -> list[dict[str, Any]]:
        """What is predicted of each record of a split, as JSON holds it; none: nothing is.

        Args:
            serve: as for ``score``.
        """
        return []

    def pictures(self, split: str, serve: Callable[[str, Stream], Arrays]) -> dict[str, np.ndarray]:
        """Images [H, W, 3] uint8 by name that show a person what the network does.

        Args:
            serve: as for ``score``; it knows the views too.
        """
        return {}
