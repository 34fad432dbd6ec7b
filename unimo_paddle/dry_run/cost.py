"""What an update costs: operations and memory counted from its shapes, seconds by rates.

Of a position and layer the counting is that of ``scaling.Work``. Logits are counted three times
(themselves, their softmax, their gradient). Every branch of an adversarial step is a pass of its
own. What Paddle, the program and the data take beside this is ``PROCESS_BYTES``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from unimo_paddle.config import RunConfig
from unimo_paddle.data.fields import Sample
from unimo_paddle.data.loader import Stream
from unimo_paddle.errors import BadSample, UserError
from unimo_paddle.scaling import CAPTION_TOKENS, FLOAT, MACHINES, Work, count_parameters, work_of
from unimo_paddle.tasks.pretraining import PretrainingConfig

PROCESS_BYTES = 600 << 20  # measured: docs/finetuning.md
SHARE = 0.5  # of the rate of products that updates reach here; measured: docs/finetuning.md
MOST_OBJECTS = 5  # labelled in a built-in scene, the ground among them
NUM_SAMPLES = 128  # records whose lengths are looked at
_STATE_BYTES = 16  # a parameter: itself, its gradient, two moments
_LOGITS = 3
_SECONDS = 0.2  # of products that are timed
_ACCELERATED = 1e11  # operations of an update; of fewer an accelerator mostly waits
_MOST_ROWS = 512  # of such a product; more are no faster


@dataclass(frozen=True)
class Lengths:
    """Rows of one encoded sequence, by segment, and the words that are learnt of it.

    Args:
        source: where the numbers are from, for people.
    """

    text: float
    regions: float = 0.0
    tags: float = 0.0
    targets: float = 0.0
    source: str = ""

    @property
    def positions(self) -> int:
        """Of all segments."""
        return round(self.text + self.regions + self.tags)


@dataclass(frozen=True)
class Cost:
    """Of one update of one process.

    Attributes:
        work: a pass of one branch.
        branches: of a pass, held at once.
        steps: how often a pass is run.
        has_accumulators: gradients are added up before they are applied.
    """

    work: Work
    branches: int = 1
    steps: int = 1
    has_accumulators: bool = False
    recompute: bool = False

    @property
    def operations(self) -> float:
        """Floating-point operations."""
        return self.work.operations * self.branches * self.steps

    @property
    def state_bytes(self) -> float:
        """Weights, gradients and moments."""
        return self.work.num_parameters * (_STATE_BYTES + FLOAT * self.has_accumulators)

    @property
    def activation_bytes(self) -> float:
        """What the forward pass keeps for the backward pass, and the logits."""
        work, kept = self.work, self.work.kept_bytes
        if self.recompute:  # what enters each layer, and one layer whole
            kept = kept / work.num_layers
            kept += FLOAT * work.positions * work.hidden_size * work.num_layers
        logits = _LOGITS * FLOAT * work.hidden_words * work.vocab_size
        return self.branches * (kept + logits)

    @property
    def memory_bytes(self) -> float:
        """All that a process holds."""
        return PROCESS_BYTES + self.state_bytes + self.activation_bytes


def cost_of(config: RunConfig, lengths: Lengths) -> Cost:
    """Count an update; the network is built, not filled.

    Raises:
        UserError: pre-training of a kind that is not counted.
    """
    task, passes = config.task, config.train.gradient_accumulation
    if isinstance(task, PretrainingConfig):
        chunked = task.contrastive_chunk_size > 0
        return Cost(
            work_of(config),
            has_accumulators=passes > 1 or chunked,
            recompute=config.train.recompute,
        )
    adversarial = getattr(task, "adversarial", None)
    steps = adversarial.steps if adversarial else 0
    model = config.model
    count = config.train.batch_size * (1 + 2 * getattr(task, "negatives", 0))
    work = Work(
        num_parameters=count_parameters(config),
        hidden_size=model.hidden_size,
        num_layers=model.num_layers,
        num_heads=model.num_heads,
        vocab_size=model.vocab_size,
        sequences=((count, lengths.positions),),
        hidden_words=count * lengths.targets,
        regions=round(count * lengths.regions),
        region_size=model.region_feature_size,
        pairs=0,
        captions=0,
        feature_size=0,
        passes=passes,
    )
    return Cost(
        work,
        branches=len(adversarial.perturbed) + adversarial.with_clean if steps else 1,
        steps=max(1, steps),
        has_accumulators=passes > 1 or steps > 0,
        recompute=config.train.recompute,
    )


def assumed_lengths(task: Any) -> Lengths:
    """What the settings allow, or for sentences what is usual; for data that are not there."""
    data = task.data
    language = getattr(task, "language", None)
    regions = 0
    if hasattr(data, "image"):
        image = data.image
        regions = 1 + (image.grid_size**2 if image.kind == "patches" else image.max_regions)
        if image.kind == "objects" and data.source == "scenes":
            regions = 1 + min(MOST_OBJECTS, image.max_regions)
    if language is not None:
        target = language.max_target_length
        if hasattr(data, "max_source_length"):
            text = data.max_source_length + target
            return Lengths(text, targets=target, source="the most that the settings allow")
        words = min(target, CAPTION_TOKENS)
        tags = data.max_tags if data.with_tags else 0
        source = f"{CAPTION_TOKENS} tokens a caption assumed, the most of the rest"
        return Lengths(words, regions, tags, words, source)
    sentences = 1 if regions else 2
    text = min(data.max_text_length, sentences * CAPTION_TOKENS)
    return Lengths(text, regions, source=f"{CAPTION_TOKENS} tokens a sentence assumed")


def measured_lengths(stream: Stream, *, longest: bool = False) -> Lengths:
    """The mean lengths of records of a stream, or the longest of each segment.

    Records that cannot be used are left out, as in training.

    Raises:
        UserError: none of those that were looked at can be used.
    """
    # Of one epoch: a sequence of all epochs would shuffle again for every later one.
    chosen = np.unique(np.linspace(0, stream.epoch_size - 1, NUM_SAMPLES).astype(int))
    samples, bad_samples = _encode(stream, chosen)
    if not samples:
        raise UserError(
            f"none of {len(chosen)} records that were looked at can be used, first "
            f"{bad_samples[0]}; mend the data"
        )
    reduce = np.max if longest else np.mean
    source = f"of {len(samples)} records"
    if bad_samples:
        source += f"; {len(bad_samples)} skipped, first {bad_samples[0]}"

    def length(name: str) -> float:
        return float(reduce([_length(sample, name) for sample in samples]))

    return Lengths(
        length("text_mask"),
        length("region_mask"),
        length("tag_mask"),
        length("target_weights"),
        source,
    )


def _encode(stream: Stream, numbers: Iterable[int]) -> tuple[list[Sample], list[BadSample]]:
    """The samples of some records, and what is wrong with those that give none."""
    samples, bad_samples = [], []
    for number in numbers:
        try:
            rng = np.random.default_rng(0)
            samples.append(stream.encode(stream.records[int(number)], rng))
        except BadSample as bad:
            bad_samples.append(bad)
    return samples, bad_samples


def _length(sample: Sample, name: str) -> float:
    """Rows of a segment of a sample, or of the longest of its candidates."""
    found: Iterable[np.ndarray] = (x for key, x in sample.items() if key.endswith(name))
    return max((float(x.sum(axis=-1).max()) for x in found), default=0.0)


def product_rate(hidden_size: int, num_rows: int) -> float:
    """Operations a second of a product of the model's size, by this process's threads."""
    import paddle

    rows = max(16, min(num_rows, _MOST_ROWS))
    main = paddle.static.Program()
    with paddle.static.program_guard(main, paddle.static.Program()):
        left = paddle.static.data("left", [rows, hidden_size], "float32")
        right = paddle.static.data("right", [hidden_size, 4 * hidden_size], "float32")
        total = paddle.matmul(left, right).sum()
    rng = np.random.default_rng(0)
    feed = {
        "left": rng.standard_normal((rows, hidden_size)).astype(np.float32),
        "right": rng.standard_normal((hidden_size, 4 * hidden_size)).astype(np.float32),
    }
    executor = paddle.static.Executor()
    executor.run(main, feed=feed, fetch_list=[total])
    end, fastest = time.perf_counter() + _SECONDS, math.inf
    while time.perf_counter() < end:
        start = time.perf_counter()
        executor.run(main, feed=feed, fetch_list=[total])
        fastest = min(fastest, time.perf_counter() - start)
    return 8.0 * rows * hidden_size**2 / fastest


def fills_accelerator(cost: Cost) -> bool:
    """Whether an update is large enough for such a rate to be believed."""
    return cost.operations >= _ACCELERATED


def accelerator_rate() -> float:
    """Operations a second that updates are taken to reach on one H100: ``scaling.SOURCES``."""
    return MACHINES[0].product_rate * MACHINES[0].share
