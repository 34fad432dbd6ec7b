"""What is computed: the shapes, the inputs made from a seed, and the check that answers agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unimo_paddle.errors import UserError

TEMPERATURE = 0.07
# Largest difference of a loss or a gradient, relative to its largest number. Scores reach
# 1 / 0.07, so float32 knows exp(score) to some 2e-6, and sums over a row keep that; 1e-4 leaves
# room for any order of sums, while one wrong mask or factor is off by far more.
TOLERANCE = 1e-4
# The gradient of the temperature is one sum over all N M pairs, large terms of both signs: forms
# that add them up in float32 lose a digit that ours, in double, keeps.
TEMPERATURE_TOLERANCE = 1e-3


class BenchmarkError(UserError):
    """What makes a comparison worthless or impossible: different answers, a worker that died."""


@dataclass(frozen=True)
class Case:
    """One contrastive loss, forward and backward.

    Attributes:
        count: N = M, rows and columns.
        size: D, numbers in a row.
        positives: columns that are positive for each row (and the other way round).
        negatives: K, candidates that each row has for itself, beside the columns.
    """

    count: int
    size: int
    positives: int = 1
    negatives: int = 0

    @property
    def has_sets(self) -> bool:
        """Whether it takes more than one positive a row and no candidates of a row's own."""
        return self.positives > 1 or self.negatives > 0

    @property
    def operations(self) -> int:
        """Four products of N M D, as a measure of how long the case takes."""
        return 8 * self.count * self.count * self.size + self.own_operations

    @property
    def own_operations(self) -> int:
        """Those of the own candidates: few enough to be kept, so their products are three."""
        return 6 * self.count * self.negatives * self.size

    def smallest(self) -> Case:
        """A case that needs next to no memory of its own."""
        return Case(64, self.size)

    def make_inputs(self) -> Inputs:
        """The arrays, the same in every process."""
        return make_inputs(self)

    def __str__(self) -> str:
        shape = f"N = M = {self.count}, D = {self.size}"
        if self.has_sets:
            shape += f", {self.positives} positives, {self.negatives} hard negatives a row"
        return shape


@dataclass(frozen=True)
class Inputs:
    """The arrays of a case; row i and column j are positive when i // positives == j // positives.

    Attributes:
        rows, columns: [N, D] float32 of length one.
        candidates: [N, K, D] float32 of length one, or None where the case has none.
    """

    case: Case
    rows: np.ndarray
    columns: np.ndarray
    candidates: np.ndarray | None

    @property
    def groups(self) -> np.ndarray:
        """[N] int64: rows and columns of equal number are positive."""
        return np.arange(self.case.count, dtype=np.int64) // self.case.positives

    @property
    def positive_indices(self) -> np.ndarray:
        """[N, positives] int64: for each row its positive columns, and for each column its rows."""
        first = self.groups * self.case.positives
        return first[:, None] + np.arange(self.case.positives, dtype=np.int64)


@dataclass(frozen=True)
class Results:
    """A loss and its gradients by the names of the inputs."""

    loss: float
    gradients: dict[str, np.ndarray]


def make_inputs(case: Case, *, seed: int = 0) -> Inputs:
    """Return the same inputs in every process: columns that resemble their rows, all length one."""
    if case.count % case.positives:
        raise UserError(
            f"{case.count} rows cannot form groups of {case.positives}; "
            f"choose --sizes that {case.positives} divides"
        )
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((case.count, case.size), dtype=np.float32)
    columns = generator.standard_normal((case.count, case.size), dtype=np.float32)
    columns += 0.5 * rows
    arrays = [rows, columns]
    if case.negatives:
        shape = (case.count, case.negatives, case.size)
        candidates = generator.standard_normal(shape, dtype=np.float32)
        candidates += 0.3 * rows[:, None]
        arrays.append(candidates)
    for array in arrays:
        array /= np.linalg.norm(array, axis=-1, keepdims=True)
    return Inputs(case, rows, columns, arrays[2] if case.negatives else None)


def check_results(name: str, case: Case, *, found: Results, expected: Results) -> None:
    """Raise ``BenchmarkError`` unless the loss and every gradient agree within ``TOLERANCE``."""
    pairs = {"the loss": (np.asarray(found.loss), np.asarray(expected.loss))}
    if found.gradients.keys() != expected.gradients.keys():
        raise BenchmarkError(
            f"{name} has gradients of {sorted(found.gradients)}, "
            f"ours of {sorted(expected.gradients)} ({case})"
        )
    for key, gradient in found.gradients.items():
        pairs[f"the gradient of {key}"] = (gradient, expected.gradients[key])
    for what, (theirs, ours) in pairs.items():
        if theirs.shape != ours.shape:
            raise BenchmarkError(
                f"{what} of {name} has shape {theirs.shape}, ours {ours.shape} ({case})"
            )
        difference = np.abs(theirs - ours).max() / np.abs(ours).max()
        tolerance = TEMPERATURE_TOLERANCE if what.endswith("temperature") else TOLERANCE
        # Not `>`: NaN must not pass.
        if not difference <= tolerance:
            raise BenchmarkError(
                f"{what} of {name} differs from ours by {difference:.2g} of its largest number, "
                f"more than {tolerance:g} ({case}); times of different answers mean nothing"
            )
