"""Benchmark B5: an update of pre-training, ours and that of an equal model in PyTorch.

Masked words of image and caption read together, images and captions contrasted that are read each
alone, and AdamW. Nothing is padded, nothing drops out; all begin with the same weights. In the end
Paddle's profiler says where the time of ours goes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from unimo_paddle.benchmarks import peer_report
from unimo_paddle.benchmarks.cases import BenchmarkError
from unimo_paddle.benchmarks.peer_report import PeerReport, PeerRow
from unimo_paddle.benchmarks.peers import OURS, PEAK_LIMIT, Peer
from unimo_paddle.benchmarks.tables import Table
from unimo_paddle.benchmarks.targets import Target
from unimo_paddle.benchmarks.workers import running

BATCH, NUM_REGIONS, NUM_TOKENS = 16, 37, 64
NUM_HIDDEN = 10  # words of a caption
FIRST_POSITION = 2
PROJECTION_SIZE = 256
TEMPERATURE = 0.07
LEARNING_RATE, WEIGHT_DECAY, BETAS, EPSILON = 1e-4, 0.01, (0.9, 0.98), 1e-6
CLIP_NORM = 1.0
INITIALIZER_RANGE = 0.02
WEIGHTS_NAME = "weights.safetensors"
NUM_PROFILED = 3  # updates, of which the quickest is shown
NUM_LISTED = 14  # operations
PRODUCTS = ("matmul", "matmul_grad")
NUM_COMPARED = 2  # updates whose losses must be equal

EAGER, COMPILED = "torch", "torch.compile"

_OVER_OURS = {EAGER: 1.0, COMPILED: 0.95}
_OF_PEAK = 0.6
_TOLERANCE = 1e-3  # of a loss after an update: sums are in another order


@dataclass(frozen=True)
class StepSizes:
    """Of a model."""

    num_layers: int
    hidden_size: int
    num_heads: int
    vocab_size: int
    feature_size: int


SMALL = StepSizes(6, 384, 6, vocab_size=8192, feature_size=768)
BASE = StepSizes(12, 768, 12, vocab_size=50265, feature_size=2048)


class Operation(NamedTuple):
    """All calls of an operation in an update."""

    name: str
    calls: int
    milliseconds: float


class Inputs(NamedTuple):
    """A batch."""

    case: StepCase
    features: np.ndarray  # [B, R, F] float32
    boxes: np.ndarray  # [B, R, 5] float32
    ids: np.ndarray  # [B, T] int64
    hidden_ids: np.ndarray  # [B, T] int64: the same with words hidden
    positions: np.ndarray  # [B, P] int64: of hidden words


@dataclass(frozen=True)
class StepCase:
    """A model and a batch.

    Attributes:
        folder: of the first weights, which ours makes and others read.
    """

    sizes: StepSizes
    folder: str
    batch: int = BATCH
    num_regions: int = NUM_REGIONS
    num_tokens: int = NUM_TOKENS
    num_hidden: int = NUM_HIDDEN

    @property
    def columns(self) -> dict[str, int]:
        """For the table."""
        return {"layers": self.sizes.num_layers, "width": self.sizes.hidden_size}

    def make_inputs(self) -> Inputs:
        """The arrays, the same in every process."""
        generator = np.random.default_rng(0)
        sizes, batch = self.sizes, self.batch
        ids = generator.integers(4, sizes.vocab_size - 1, (batch, self.num_tokens))
        order = generator.permuted(np.tile(np.arange(1, self.num_tokens - 1), (batch, 1)), axis=1)
        positions = np.sort(order[:, : self.num_hidden], axis=1)
        hidden_ids = ids.copy()
        np.put_along_axis(hidden_ids, positions, sizes.vocab_size - 1, axis=1)
        shape = (batch, self.num_regions)
        return Inputs(
            self,
            generator.random((*shape, sizes.feature_size), dtype="float32"),
            generator.random((*shape, 5), dtype="float32"),
            ids,
            hidden_ids,
            positions,
        )

    def needs(self, peer: str) -> float | None:
        """GFLOP of all matrix products, forward and backward; of others it is the same."""
        if peer != OURS:
            return None
        sizes, width = self.sizes, self.sizes.hidden_size
        lengths = (self.num_regions + self.num_tokens, self.num_regions, self.num_tokens)
        layer = sum(length * (24 * width**2 + 4 * length * width) for length in lengths)
        head = self.num_hidden * (2 * width**2 + 2 * width * sizes.vocab_size)
        embedding = 2 * self.num_regions * 2 * sizes.feature_size * width
        # Each product has two more backward; that of the features has no gradient to hand on.
        total = 3 * (sizes.num_layers * layer + head) + 2 * embedding
        return 1e-9 * self.batch * total


def run(num_rounds: int, *, command: str, sizes: Sequence[StepSizes] = (SMALL, BASE)) -> PeerReport:
    """Measure models of all sizes, and where the time of ours goes."""
    with tempfile.TemporaryDirectory() as folder:
        cases = [StepCase(size, folder) for size in sizes]
        report = peer_report.measure(
            "An update of pre-training",
            cases,
            peers(),
            num_rounds=num_rounds,
            command=command,
            check=check_results,
            targets=targets,
            limit=PEAK_LIMIT,
        )
        profiles = [profile(case, threads=report.origin.threads) for case in cases]
    ours = [row for row in report.rows if row.peer == OURS]
    shown = [profile_table(row, found) for row, found in zip(ours, profiles, strict=True)]
    return replace(report, further=dict(shown))


def profile(case: StepCase, *, threads: int) -> list[Operation]:
    """The operations of an update of ours, in a process of its own; the longest first."""
    peer = Peer(OURS, "unimo_paddle.benchmarks.step_profile:ProfiledUpdates", "ours, observed")
    with running([peer], threads=threads) as (worker,):
        worker.prepare(case)
        for _ in range(NUM_PROFILED - 1):
            worker.measure()
        return [Operation(*values) for values in worker.results()]


def profile_table(row: PeerRow, operations: Sequence[Operation]) -> tuple[str, Table]:
    """A title and a table of the longest operations, with the share of the peak of products."""
    total = sum(operation.milliseconds for operation in operations)
    products = sum(x.milliseconds for x in operations if x.name in PRODUCTS) / total
    of_peak = row.of_limit.median / products if row.of_limit else float("nan")
    title = (
        f"Where the time of {' x '.join(map(str, row.case.values()))} goes: {products:.0%} to "
        f"matrix products, which run at {of_peak:.0%} of the rate of multiply-adds"
    )
    rest = operations[NUM_LISTED:]
    listed = [
        *operations[:NUM_LISTED],
        Operation("all others", sum(x.calls for x in rest), sum(x.milliseconds for x in rest)),
    ]
    rows = [
        [x.name, str(x.calls), f"{x.milliseconds:.1f}", f"{x.milliseconds / total:.1%}"]
        for x in listed
    ]
    return title, Table(["operation", "calls", "ms", "share"], rows, text_columns=(0,))


def peers() -> list[Peer]:
    """Ours first."""
    return [
        Peer(
            OURS,
            "unimo_paddle.benchmarks.step_paddle:Updates",
            "the program of tools/train.py, fed with arrays",
        ),
        Peer(
            EAGER,
            "unimo_paddle.benchmarks.step_torch:Eager",
            "an equal model, op by op: fused attention, one product for queries, keys and values, "
            "fused AdamW",
            package="torch",
        ),
        Peer(
            COMPILED,
            "unimo_paddle.benchmarks.step_torch:Compiled",
            "the same through torch.compile (inductor), whole graph",
            package="torch",
        ),
    ]


def targets(rows: Sequence[PeerRow]) -> list[Target]:
    """What rows are held to."""
    share = "share of the rate of multiply-adds"
    return peer_report.ratio_targets(rows, _OVER_OURS, lambda row: _OF_PEAK, share=share)


def check_results(name: str, found: np.ndarray, expected: np.ndarray) -> None:
    """Raise where losses [updates, 2] (words, contrast) differ: it would be other work."""
    error = np.abs(found - expected).max() if found.shape == expected.shape else np.inf
    if not error <= _TOLERANCE * np.abs(expected).max():
        raise BenchmarkError(
            f"{name} has losses {found.tolist()} in its first updates and ours "
            f"{expected.tolist()}; times of different work mean nothing"
        )
