"""The contrastive loss in Paddle: our operator, and the form that stores the score matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod

import paddle
from paddle.nn import functional as F

from unimo_paddle.benchmarks.cases import TEMPERATURE, Inputs, Results
from unimo_paddle.losses import add_candidates, symmetric_contrastive
from unimo_paddle.ops.contrastive import contrastive_logsumexp


class _Form(ABC):
    """Inputs as tensors; a subclass says how the loss comes from them."""

    def __init__(self, inputs: Inputs) -> None:
        self.case = inputs.case
        self.rows = paddle.to_tensor(inputs.rows)
        self.columns = paddle.to_tensor(inputs.columns)
        self.temperature = paddle.to_tensor([TEMPERATURE], dtype="float32")
        self.leaves = {
            "rows": self.rows,
            "columns": self.columns,
            "temperature": self.temperature,
        }
        if inputs.candidates is not None:
            self.candidates = paddle.to_tensor(inputs.candidates)
            self.leaves["candidates"] = self.candidates
        for leaf in self.leaves.values():
            leaf.stop_gradient = False

    @staticmethod
    def versions() -> dict[str, str]:
        """What the figures depend on."""
        return {"paddle": paddle.__version__}

    @abstractmethod
    def loss(self) -> paddle.Tensor:
        """Return the scalar loss."""

    def run(self) -> None:
        """Forward and backward; the gradients are let go."""
        self.loss().backward()
        self._release_gradients()

    def results(self) -> Results:
        """Return the loss and the gradients as arrays."""
        loss = self.loss()
        loss.backward()
        gradients = {name: leaf.grad.numpy() for name, leaf in self.leaves.items()}
        self._release_gradients()
        return Results(float(loss), gradients)

    def _candidate_scores(self) -> paddle.Tensor:
        """[N, K] scores of each row's own candidates."""
        scaled = (self.rows / self.temperature).unsqueeze(2)
        return paddle.matmul(self.candidates, scaled).squeeze(2)

    def _release_gradients(self) -> None:
        for leaf in self.leaves.values():
            leaf.clear_gradient(set_to_zero=False)  # zeroing would write them once more


class Fused(_Form):
    """Our operator as the tasks use it, through ``losses``.

    In the dynamic graph: its overhead, 0.6 ms for forward and backward, is a little less than that
    of running a static program whose gradients are fetched.
    """

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.groups = paddle.to_tensor(inputs.groups)
        self.no_duplicates = paddle.full([self.case.count], -1, "int64")

    def loss(self) -> paddle.Tensor:
        """Four log-sum-exps without a score matrix; own candidates join by ``add_candidates``."""
        ids = (self.groups, self.groups, self.no_duplicates, self.no_duplicates)
        sums = contrastive_logsumexp(self.rows, self.columns, self.temperature, *ids)
        if self.case.negatives:
            scores = self._candidate_scores()
            sums = sums._replace(
                row_all=add_candidates(sums.row_all, scores, paddle.ones_like(scores))
            )
        return symmetric_contrastive(*sums)


class StoredScores(_Form):
    """The usual form: the scores of all pairs, and a cross entropy each way.

    The temperature divides the rows, which saves a pass over the matrix.
    """

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.positive_indices = paddle.to_tensor(inputs.positive_indices)
        self.labels = self.positive_indices[:, 0]

    def loss(self) -> paddle.Tensor:
        """Cross entropies, corrected where a row has more than one positive column."""
        scores = paddle.matmul(self.rows / self.temperature, self.columns, transpose_y=True)
        if self.case.has_sets:
            return self._loss_of_sets(scores)
        ways = (F.cross_entropy(matrix, self.labels) for matrix in (scores, scores.t()))
        return sum(ways) / 2

    def _loss_of_sets(self, scores: paddle.Tensor) -> paddle.Tensor:
        """The positives are few and their places known: gathering them is the cheapest way.

        A cross entropy plus its label's score is a log-sum-exp, in two thirds of the time that
        ``paddle.logsumexp`` and its gradient take.
        """
        all_, positive = [], []
        for matrix in (scores, scores.t()):
            chosen = paddle.take_along_axis(matrix, self.positive_indices, 1)
            cross_entropy = F.cross_entropy(matrix, self.labels, reduction="none").flatten()
            all_.append(cross_entropy + chosen[:, 0])
            positive.append(paddle.logsumexp(chosen, 1))
        if self.case.negatives:
            all_[0] = paddle.logaddexp(all_[0], paddle.logsumexp(self._candidate_scores(), 1))
        return ((all_[0] - positive[0]).mean() + (all_[1] - positive[1]).mean()) / 2
