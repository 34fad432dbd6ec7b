"""Benchmark B3: one step of beam search, by our operator, by plain Paddle and by torch.

All of it counts: probabilities, length penalty, finished beams, parents, next tokens and scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from unimo_paddle.benchmarks import peer_report
from unimo_paddle.benchmarks.cases import BenchmarkError
from unimo_paddle.benchmarks.peer_report import PeerReport, PeerRow
from unimo_paddle.benchmarks.peers import OURS, TUNED_PADDLE, Peer
from unimo_paddle.benchmarks.targets import Target

SIZES = ((1, 4, 50265), (8, 5, 50265), (32, 4, 18000))  # B, K, V
END_TOKEN = 2
LENGTH_PENALTY = 0.6
STEP = 3
TORCH = "torch, top-k first"

_OF_READ = 0.6
_OVER_OURS = {TORCH: 8.0, TUNED_PADDLE: 30.0}
_TOLERANCE = 1e-4  # of a score


class Inputs(NamedTuple):
    """Of a step; every other sample has a beam that is finished."""

    logits: np.ndarray  # [B, K, V] float32
    scores: np.ndarray  # [B, K] float32
    finished: np.ndarray  # [B, K] bool


class Results(NamedTuple):
    """Of a step."""

    scores: np.ndarray  # [B, K] float32
    tokens: np.ndarray  # [B, K] int64
    parents: np.ndarray  # [B, K] int64
    finished: np.ndarray  # [B, K] bool


@dataclass(frozen=True)
class BeamCase:
    """The sizes of a step."""

    batch: int
    beams: int
    vocabulary: int

    @property
    def columns(self) -> dict[str, int]:
        """For the table."""
        return {"B": self.batch, "K": self.beams, "V": self.vocabulary}

    def make_inputs(self) -> Inputs:
        """The arrays, the same in every process."""
        generator = np.random.default_rng(0)
        shape = (self.batch, self.beams)
        finished = np.zeros(shape, bool)
        finished[1::2, 1] = True
        return Inputs(
            2 * generator.standard_normal((*shape, self.vocabulary), dtype="float32"),
            -np.sort(generator.random(shape, dtype="float32")),
            finished,
        )

    def needs(self, peer: str) -> int | None:
        """Bytes: the logits once; others than ours read them several times."""
        return 4 * self.batch * self.beams * self.vocabulary if peer == OURS else None


def run(num_rounds: int, *, command: str, sizes: Sequence[tuple[int, int, int]]) -> PeerReport:
    """Measure all sizes (B, K, V)."""
    return peer_report.measure(
        "A step of beam search",
        [BeamCase(*size) for size in sizes],
        peers(),
        num_rounds=num_rounds,
        command=command,
        check=check_results,
        targets=targets,
    )


def peers() -> list[Peer]:
    """Ours first."""
    return [
        Peer(
            OURS,
            "unimo_paddle.benchmarks.beam_paddle:Fused",
            "ops.beam_search in the dynamic graph",
        ),
        Peer(
            TORCH,
            "unimo_paddle.benchmarks.beam_torch:TopKFirst",
            "the best K logits of each beam, log-sum-exp for those alone, then the best of them",
            package="torch",
        ),
        Peer(
            TUNED_PADDLE,
            "unimo_paddle.benchmarks.beam_paddle:Plain",
            "softmax, log and top-k of Paddle (its log-softmax is quadratic in the vocabulary)",
        ),
    ]


def targets(rows: Sequence[PeerRow]) -> list[Target]:
    """What rows are held to."""
    return peer_report.ratio_targets(rows, _OVER_OURS, lambda row: _OF_READ)


def check_results(name: str, found: Results, expected: Results) -> None:
    """Raise where a peer chose otherwise."""
    difference = np.abs(found.scores - expected.scores).max()
    choices = zip(found[1:], expected[1:], strict=True)
    if all(np.array_equal(*pair) for pair in choices) and difference <= _TOLERANCE:
        return
    raise BenchmarkError(
        f"{name} chooses other tokens or scores (they differ by {difference:.2g}) than ours; times "
        "of different answers mean nothing"
    )
