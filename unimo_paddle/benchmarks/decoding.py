"""Benchmark B4: captions written from regions, end to end, by our exported graph and by others.

Reading the image counts, and every step. All write by the rule 2k, which is Hugging Face's.
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
from unimo_paddle.benchmarks.peers import OURS, Peer
from unimo_paddle.benchmarks.targets import Target

NUM_REGIONS = (37, 101)
BATCHES = (1, 8, 32)
NUM_BEAMS = 5
NUM_TOKENS = 20
FIRST_POSITION = 2
WEIGHTS_NAME = "weights.safetensors"

STEPPED = "Paddle, stepped"
HUGGING_FACE = "Hugging Face"
CTRANSLATE2 = "CTranslate2"

_OF_READ = 0.7
_OVER_OURS = {STEPPED: 3.0, HUGGING_FACE: 2.0, CTRANSLATE2: 0.9}


@dataclass(frozen=True)
class Sizes:
    """Of the model; by default the base size."""

    vocab_size: int = 50265
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    feature_size: int = 2048

    @property
    def weights_of_a_token(self) -> int:
        """Numbers that are read to write a token: all but positions and what reads images."""
        hidden = self.hidden_size
        layer = 12 * hidden**2 + 13 * hidden
        return self.num_layers * layer + hidden**2 + (self.vocab_size + 3) * hidden


BASE = Sizes()


class Inputs(NamedTuple):
    """Images as regions."""

    case: DecodeCase
    features: np.ndarray  # [B, R, F] float32
    boxes: np.ndarray  # [B, R, 5] float32


@dataclass(frozen=True)
class DecodeCase:
    """The sizes of a batch.

    Attributes:
        folder: of the weights, which ours makes and others with equal weights read.
    """

    batch: int
    num_regions: int
    folder: str
    sizes: Sizes = BASE
    num_beams: int = NUM_BEAMS
    num_tokens: int = NUM_TOKENS

    @property
    def columns(self) -> dict[str, int]:
        """For the table."""
        return {"images": self.batch, "regions": self.num_regions}

    def make_inputs(self) -> Inputs:
        """The arrays, the same in every process."""
        generator = np.random.default_rng(0)
        shape = (self.batch, self.num_regions)
        features = generator.random((*shape, self.sizes.feature_size), dtype="float32")
        return Inputs(self, features, generator.random((*shape, 5), dtype="float32"))

    def needs(self, peer: str) -> int | None:
        """Bytes: every weight once a token."""
        if peer != OURS:
            return None
        return 4 * self.num_tokens * self.sizes.weights_of_a_token

    def smallest(self) -> DecodeCase:
        """A case that needs next to no memory of its own."""
        return replace(self, batch=1, num_regions=2)


def run(
    num_rounds: int,
    *,
    command: str,
    batches: Sequence[int] = BATCHES,
    num_regions: Sequence[int] = NUM_REGIONS,
    sizes: Sizes = BASE,
) -> PeerReport:
    """Measure all batches and numbers of regions."""
    with tempfile.TemporaryDirectory() as folder:
        cases = [
            DecodeCase(batch, regions, folder, sizes)
            for regions in num_regions
            for batch in batches
        ]
        return peer_report.measure(
            "Writing captions",
            cases,
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
            "unimo_paddle.benchmarks.decode_paddle:Exported",
            "one exported graph in Paddle Inference",
        ),
        Peer(
            STEPPED,
            "unimo_paddle.benchmarks.decode_paddle:Stepped",
            "the same weights in the dynamic graph, stepped from Python with Paddle's operations, "
            "caches of each beam concatenated and picked anew at every step; beams by our operator",
        ),
        Peer(
            HUGGING_FACE,
            "unimo_paddle.benchmarks.decode_torch:HuggingFace",
            "generate of BertLMHeadModel with the same weights, behind a cache of the regions",
            package="transformers",
        ),
        Peer(
            CTRANSLATE2,
            "unimo_paddle.benchmarks.decode_ctranslate2:EqualSize",
            "Generator of a decoder of equal size in float32, random weights, the regions as words "
            "of its prompt; its texts differ from ours",
            package="ctranslate2",
        ),
    ]


def targets(rows: Sequence[PeerRow]) -> list[Target]:
    """What rows are held to; with more than one image arithmetic is the limit, not memory."""
    return peer_report.ratio_targets(
        rows, _OVER_OURS, lambda row: _OF_READ if row.case["images"] == 1 else None
    )


def check_results(name: str, found: np.ndarray, expected: np.ndarray) -> None:
    """Raise where a peer writes other tokens [B, T]; where weights differ, only as many."""
    is_right = found.shape == expected.shape
    if name != CTRANSLATE2:
        is_right = is_right and np.array_equal(found, expected)
    if not is_right:
        raise BenchmarkError(
            f"{name} writes other tokens than ours (shapes {found.shape}, {expected.shape}); times "
            "of different answers mean nothing"
        )
