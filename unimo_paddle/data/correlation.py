"""Projections of two views of the same things to where they correlate, in closed form.

Canonical correlation analysis (Hotelling, 1936). Contrastive learning finds such directions too,
but by the order of their variance: what is small beside colour or brightness, like the place of
an object, waits for thousands of steps. Whitening both views first makes all directions equal.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

RIDGE = 0.1
POWER = 2.0
WEIGHT_SCALE = 0.2  # root mean square of the weights: steps of the optimizer are small beside it


class Projection(NamedTuple):
    """x W + b, with W [F, K] and b [K]."""

    weight: np.ndarray
    bias: np.ndarray


def correlated_projections(
    first: np.ndarray,
    second: np.ndarray,
    size: int,
    *,
    ridge: tuple[float, float] = (RIDGE, RIDGE),
    power: float = POWER,
    scales_columns: bool = True,
) -> tuple[Projection, Projection]:
    """Return for each view a projection to ``size`` directions that correlate with the other's.

    Args:
        first, second: [N, F] and [N, G]; row i of both describes the same thing.
        size: K; directions beyond the smaller of F and G are zero.
        ridge: added to the variances of each view, as a share of their mean.
        power: of a direction's correlation, its weight: what hardly correlates hardly counts.
        scales_columns: whether all columns count alike before the ridge is added, or by how much
            they vary.
    """
    first, second = first.astype(np.float64), second.astype(np.float64)
    views = [_standardise(rows, scales=scales_columns) for rows in (first, second)]
    whitenings = [
        _whitening(rows.T @ rows / len(rows), share)
        for (rows, _, _), share in zip(views, ridge, strict=True)
    ]
    cross = views[0][0].T @ views[1][0] / len(first)
    left, correlations, right = np.linalg.svd(
        whitenings[0] @ cross @ whitenings[1], full_matrices=False
    )
    directions = [whitenings[0] @ left, whitenings[1] @ right.T]
    return tuple(
        _fold(direction * correlations**power, mean, spread, size)
        for direction, (_, mean, spread) in zip(directions, views, strict=True)
    )


def _standardise(rows: np.ndarray, *, scales: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows with mean zero and, where it scales, spread one in each column; the mean; the spread."""
    mean = rows.mean(axis=0)
    if not scales:
        return rows - mean, mean, np.ones(rows.shape[1])
    spread = rows.std(axis=0)
    spread = np.maximum(spread, 1e-3 * spread.mean() + 1e-12)  # constant columns stay quiet
    return (rows - mean) / spread, mean, spread


def _whitening(covariance: np.ndarray, ridge: float) -> np.ndarray:
    """The symmetric inverse root of a covariance with the ridge added."""
    size = len(covariance)
    variances, vectors = np.linalg.eigh(
        covariance + ridge * np.trace(covariance) / size * np.eye(size)
    )
    return (vectors / np.sqrt(variances)) @ vectors.T


def _fold(directions: np.ndarray, mean: np.ndarray, spread: np.ndarray, size: int) -> Projection:
    """The projection of rows as they come: centring and scaling become part of it."""
    weight = np.zeros((len(directions), size))
    count = min(size, directions.shape[1])
    weight[:, :count] = directions[:, :count] / spread[:, None]
    weight *= WEIGHT_SCALE / np.sqrt((weight**2).mean())
    return Projection(weight.astype(np.float32), (-mean @ weight).astype(np.float32))
