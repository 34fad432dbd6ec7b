"""How the time of a token grows with the text, and memory with beams and source.

A token must cost what the words before it add to attention and no more. What was encoded is kept
once for all beams of a sample, so memory must not grow with beams times source.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from tqdm import tqdm

from unimo_paddle.benchmarks.decoding import BASE, DecodeCase, Sizes, peers
from unimo_paddle.benchmarks.peer_report import Origin
from unimo_paddle.benchmarks.peers import READ_RATE
from unimo_paddle.benchmarks.resident import ENVIRONMENT
from unimo_paddle.benchmarks.rounds import PAUSE_SECONDS
from unimo_paddle.benchmarks.tables import Table
from unimo_paddle.benchmarks.targets import Target
from unimo_paddle.benchmarks.workers import running

BATCH = 8
NUM_REGIONS = 37
LENGTHS = (20, 40, 80, 160)  # tokens
MEMORY_BATCH = 4
BEAMS = (1, 4, 16)
SOURCES = (64, 256, 512)  # regions

# Of reading the words before at the rate of memory. Each of them lies elsewhere, and a text's
# scores and sums take their time, too.
_OVER_ATTENTION = 3.0
_OVER_ONE_BEAM = 1.25


@dataclass(frozen=True)
class LengthRow:
    """A token of a part of the text.

    Attributes:
        first, last: the words before the part and at its end.
        added: milliseconds that a token takes longer for each word more before it, in comparison
            with the part before; None of the first.
    """

    first: int
    last: int
    milliseconds: float
    added: float | None


@dataclass(frozen=True)
class GrowthReport:
    """Everything that one run measured.

    Attributes:
        attention: milliseconds that reading one word more of all texts takes.
        grown: bytes by beams and regions of the source.
    """

    origin: Origin
    lengths: list[LengthRow]
    attention: float
    grown: dict[tuple[int, int], int]

    @property
    def targets(self) -> list[Target]:
        """What is judged."""
        targets = []
        if len(self.lengths) > 1:
            whole = (self.lengths[-1].milliseconds - self.lengths[0].milliseconds) / (
                _middle(self.lengths[-1]) - _middle(self.lengths[0])
            )
            text = "what a word more adds to a token's time, over reading it"
            targets.append(Target(text, whole / self.attention, _OVER_ATTENTION, is_minimum=False))
        beams, sources = (sorted(set(values)) for values in zip(*self.grown, strict=True))
        if len(beams) > 1 and len(sources) > 1:
            by_source = {
                k: self.grown[k, sources[-1]] - self.grown[k, sources[0]]
                for k in (beams[0], beams[-1])
            }
            text = (
                f"memory that {sources[-1]} regions take beyond {sources[0]}, "
                f"{beams[-1]} beams over {beams[0]}"
            )
            value = by_source[beams[-1]] / by_source[beams[0]]
            targets.append(Target(text, value, _OVER_ONE_BEAM, is_minimum=False))
        return targets

    @property
    def note(self) -> str:
        """How to read the tables."""
        return f"Reading is counted at {self.origin.shown_read_rate}"

    def tables(self) -> dict[str, Table]:
        """By title."""
        lengths = [
            [
                f"{row.first} to {row.last}",
                f"{row.milliseconds:.1f}",
                "" if row.added is None else f"{row.added:.3f}",
            ]
            for row in self.lengths
        ]
        beams, sources = (sorted(set(values)) for values in zip(*self.grown, strict=True))
        memory = [
            [str(k), *(f"{self.grown[k, source] / 1e6:.0f}" for source in sources)] for k in beams
        ]
        added = f"added by a word, ms (reading it: {self.attention:.3f})"
        return {
            f"Time of a token ({BATCH} images of {NUM_REGIONS} regions, 5 beams)": Table(
                ["words", "ms a token", added], lengths, text_columns=(0,)
            ),
            f"Memory beyond the weights, MB ({MEMORY_BATCH} images)": Table(
                ["beams", *(f"{source} regions" for source in sources)], memory
            ),
        }

    def as_json(self) -> dict[str, Any]:
        """Everything, for the file."""
        return self.origin.as_json() | {
            "lengths": [vars(row) for row in self.lengths],
            "attention_ms": self.attention,
            "grown_bytes": [
                {"beams": k, "regions": source, "bytes": value}
                for (k, source), value in self.grown.items()
            ],
            "targets": [vars(target) | {"is_met": target.is_met} for target in self.targets],
        }


def run(
    num_rounds: int,
    *,
    command: str,
    lengths: Sequence[int] = LENGTHS,
    beams: Sequence[int] = BEAMS,
    sources: Sequence[int] = SOURCES,
    sizes: Sizes = BASE,
) -> GrowthReport:
    """Measure our exported graph at all lengths, then its memory."""
    ours = peers()[0]
    origin = Origin.of("Growth of time and memory", command=command, num_rounds=num_rounds)
    total = (len(lengths) + 1) * (num_rounds + 2) + len(beams) * len(sources)
    form = "{desc}: {percentage:3.0f}% |{bar:20}| {elapsed} gone, {remaining} left"
    with tempfile.TemporaryDirectory() as folder, tqdm(total=total, bar_format=form) as progress:
        case = DecodeCase(BATCH, NUM_REGIONS, folder, sizes)
        # All lengths take turns, each in a process of its own: what is wanted is how they differ.
        with running([ours] * len(lengths) + [READ_RATE], threads=origin.threads) as workers:
            versions = workers[0].versions
            for length, worker in zip([*lengths, 1], workers, strict=True):
                progress.set_description_str(f"{length} tokens")
                worker.prepare(replace(case, num_tokens=length))
                progress.update(2)
            measured = []
            for number in range(num_rounds):
                progress.set_description_str(f"round {number + 1}")
                for worker in workers:
                    time.sleep(PAUSE_SECONDS)
                    measured.append(worker.measure())
                    progress.update()
        shape = (num_rounds, len(workers))
        seconds = np.array([taken for taken, _ in measured]).reshape(shape)[:, :-1]
        rate = float(np.median([value for _, value in measured[len(lengths) :: len(workers)]]))
        grown = {}
        for count in beams:
            for source in sources:
                progress.set_description_str(f"memory of {count} beams, {source} regions")
                whole = replace(case, batch=MEMORY_BATCH, num_beams=count, num_regions=source)
                with running([ours], threads=origin.threads, environment=ENVIRONMENT) as workers:
                    grown[count, source], _ = workers[0].growth(whole)
                progress.update()
    parts = list(pairwise(lengths))
    # The differences of each round, so that a slow moment does not stand between two lengths.
    taken = 1e3 * np.median(np.diff(seconds, axis=1), axis=0) / np.diff(lengths)
    rows = [LengthRow(*part, float(x), None) for part, x in zip(parts, taken, strict=True)]
    rows = [rows[0], *(_compare(*pair) for pair in pairwise(rows))]
    read = 4 * 2 * case.sizes.num_layers * case.sizes.hidden_size * case.num_beams * case.batch
    return GrowthReport(origin.measured(versions, rate), rows, 1e3 * read / rate, grown)


def _compare(before: LengthRow, row: LengthRow) -> LengthRow:
    added = (row.milliseconds - before.milliseconds) / (_middle(row) - _middle(before))
    return replace(row, added=added)


def _middle(row: LengthRow) -> float:
    return (row.first + row.last) / 2
