"""Who is measured: our operator, the other forms of the same loss, and the processor's peak.

Nothing here imports a framework: each form is built in a process of its own (``workers``) from the
class that ``factory`` names.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import NamedTuple

from unimo_paddle.benchmarks.cases import Case

OURS = "ours"
TUNED_PADDLE = "Paddle, tuned"
DEFAULT_PADDLE = "Paddle, default"
INF_CL = "Inf-CL in tiles"
PEAK = "peak"
READ = "read"
LIMITS = (PEAK, READ)  # what the machine can do; they take part in the rounds

# Copies of the score matrix at the highest point of a form that stores it: scores, two
# probabilities, two gradients and a sum. Paddle's allocator keeps them for the next time.
_STORED_COPIES = 6

_PADDLE_FORMS = "unimo_paddle.benchmarks.paddle_forms"
_TORCH_FORMS = "unimo_paddle.benchmarks.torch_forms"


@dataclass(frozen=True)
class Peer:
    """One way to compute the loss.

    Attributes:
        name: as the tables show it.
        factory: ``module:Class`` whose instances, built from ``Inputs``, have ``run()`` and
            ``results()``.
        about: what it computes, one line for the tables.
        package: what must be installed.
        environment: variables of its process, set (None: removed) before its framework is imported.
        products: matrix products of N M D numbers, forward and backward.
        takes_sets: whether it can express several positives and candidates of a row's own.
        stores_scores: whether its memory grows with N M.
    """

    name: str
    factory: str
    about: str
    products: int = 0
    package: str = "paddle"
    environment: dict[str, str | None] = field(default_factory=dict)
    takes_sets: bool = False
    stores_scores: bool = False

    def operations(self, case: Case) -> int:
        """The floating-point operations that this form does; those of a row's own candidates too.

        Ours does not compute again what it has kept.
        """
        pairs = self.products * case.count**2
        if self.name == OURS:
            from unimo_paddle.ops import _core

            pairs -= _core.kept_pairs(case.count, case.count)
        return 2 * pairs * case.size + case.own_operations


PEAK_RATE = Peer(
    PEAK,
    "unimo_paddle.benchmarks.peak:Peak",
    "fused multiply-adds in registers only, GFLOP/s",
    takes_sets=True,
)

READ_RATE = Peer(
    READ,
    "unimo_paddle.benchmarks.peak:ReadRate",
    "memory that is read once and added up, bytes a second",
)


class Limit(NamedTuple):
    """What the machine can do at most, and how rows are held against it.

    Attributes:
        peer: measures it in every round.
        heading: of the column.
        note: what the column holds.
    """

    peer: Peer
    heading: str
    note: str


READ_LIMIT = Limit(
    READ_RATE,
    "of read rate",
    "what must be read at least, over the time and over the rate at which memory was read in the "
    "same round; above 100 % where it was read from a cache",
)
PEAK_LIMIT = Limit(
    PEAK_RATE,
    "of peak",
    "the operations of all matrix products, over the time and over the rate of multiply-adds in "
    "registers in the same round",
)


def all_peers(*, is_amd: bool) -> list[Peer]:
    """Return ours first, then the others in the order of the tables."""
    tuned = Peer(
        TUNED_PADDLE,
        f"{_PADDLE_FORMS}:StoredScores",
        "score matrix and two cross entropies, on AMD with MKL_DEBUG_CPU_TYPE=5",
        products=3,
        environment={"MKL_DEBUG_CPU_TYPE": "5"} if is_amd else {},
        takes_sets=True,
        stores_scores=True,
    )
    return [
        Peer(
            OURS,
            f"{_PADDLE_FORMS}:Fused",
            "ops.contrastive through losses.py in the dynamic graph, less for scores that are kept",
            products=4,
            takes_sets=True,
        ),
        tuned,
        Peer(
            DEFAULT_PADDLE,
            tuned.factory,
            "the same without the variable, as Paddle comes",
            products=3,
            environment={"MKL_DEBUG_CPU_TYPE": None},
            takes_sets=True,
            stores_scores=True,
        ),
        Peer(
            "torch",
            f"{_TORCH_FORMS}:StoredScores",
            "score matrix and two cross entropies",
            products=3,
            package="torch",
            takes_sets=True,
            stores_scores=True,
        ),
        Peer(
            "open_clip",
            f"{_TORCH_FORMS}:OpenClip",
            "a score matrix for either direction, as open_clip.loss.ClipLoss",
            products=6,
            package="torch",
            stores_scores=True,
        ),
        Peer(
            "linear_cross_entropy",
            f"{_TORCH_FORMS}:LinearCrossEntropy",
            "torch's F.linear_cross_entropy by chunks, once for either direction",
            products=6,
            package="torch",
        ),
        Peer(
            INF_CL,
            f"{_TORCH_FORMS}:InfCL",
            "the algorithm of arXiv 2410.17243 written in torch",
            products=10,
            package="torch",
        ),
    ]


def split_by_presence(peers: list[Peer], *, is_amd: bool) -> tuple[list[Peer], dict[str, str]]:
    """Return the peers that can be measured here, and why each of the others cannot."""
    present, absent = [], {}
    for peer in peers:
        if peer.name == DEFAULT_PADDLE and not is_amd:
            absent[peer.name] = "the same as tuned Paddle on a processor that is not AMD's"
        elif importlib.util.find_spec(peer.package) is None:
            absent[peer.name] = f"{peer.package} is not installed"
        else:
            present.append(peer)
    return present, absent


def stored_bytes(count: int) -> int:
    """Return about what a peer that stores the scores of [N, N] pairs needs for them."""
    return _STORED_COPIES * 4 * count * count
