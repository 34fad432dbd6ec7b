"""Every form computes the loss and the gradients of formulas in float64, in its own process."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import numpy as np
import pytest

from unimo_paddle.benchmarks.cases import TEMPERATURE, Case, Inputs, Results, make_inputs
from unimo_paddle.benchmarks.peers import all_peers
from unimo_paddle.benchmarks.workers import Worker, running

# 1100 rows: the tiles of Inf-CL's form have 512, so the last one is not full.
PLAIN = Case(1100, 8)
SETS = Case(64, 8, positives=4, negatives=3)


def softmax(scores: np.ndarray, axis: int) -> np.ndarray:
    return np.exp(scores) / np.exp(scores).sum(axis=axis, keepdims=True)


def reference(inputs: Inputs) -> Results:
    """The mean over rows and columns of log sum over all - log sum over positives."""
    count, negatives = inputs.case.count, inputs.case.negatives
    rows, columns = inputs.rows.astype("float64"), inputs.columns.astype("float64")
    candidates = np.zeros((count, 0, inputs.case.size))
    if negatives:
        candidates = inputs.candidates.astype("float64")
    scores = rows @ columns.T / TEMPERATURE
    own = np.einsum("nd,nkd->nk", rows, candidates) / TEMPERATURE
    positive = np.where(inputs.groups[:, None] == inputs.groups, scores, -np.inf)

    loss = 0.0
    gradient = np.zeros((count, count + negatives))
    for axis, all_ in ((1, np.concatenate([scores, own], axis=1)), (0, scores)):
        sums = [np.log(np.exp(x).sum(axis=axis)) for x in (all_, positive)]
        loss += (sums[0] - sums[1]).mean() / 2
        gradient[:, : all_.shape[1]] += softmax(all_, axis) / (2 * count)
        gradient[:, :count] -= softmax(positive, axis) / (2 * count)
    paired, alone = gradient[:, :count], gradient[:, count:]
    gradients = {
        "rows": (paired @ columns + np.einsum("nk,nkd->nd", alone, candidates)) / TEMPERATURE,
        "columns": paired.T @ rows / TEMPERATURE,
        "temperature": [-((paired * scores).sum() + (alone * own).sum()) / TEMPERATURE],
    }
    if negatives:
        gradients["candidates"] = alone[:, :, None] * rows[:, None] / TEMPERATURE
    return Results(loss, {name: np.asarray(value) for name, value in gradients.items()})


@pytest.fixture(scope="module", params=all_peers(is_amd=True), ids=lambda peer: peer.name)
def worker(request) -> Iterator[Worker]:
    """A worker of each peer that is installed."""
    peer = request.param
    if importlib.util.find_spec(peer.package) is None:
        pytest.skip(f"{peer.package} is not installed")
    with running([peer], threads=1) as (worker,):
        if worker.absence:
            pytest.skip(worker.absence)
        yield worker


@pytest.mark.parametrize("case", [PLAIN, SETS], ids=["one positive", "several"])
def test_a_form_computes_the_loss_and_its_gradients(worker, case):
    if case.has_sets and not worker.peer.takes_sets:
        pytest.skip("this form cannot express several positives")
    worker.prepare(case)
    found = worker.results()
    expected = reference(make_inputs(case))
    # float32 knows exp(score), with scores up to 14, to about 14 * 2^-23 = 2e-6.
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert found.gradients.keys() == expected.gradients.keys()
    for name, gradient in expected.gradients.items():
        tolerance = 2e-5 * np.abs(gradient).max()
        np.testing.assert_allclose(found.gradients[name], gradient, rtol=0, atol=tolerance)
