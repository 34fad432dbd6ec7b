"""The contrastive loss in torch: stored scores, open_clip's, F.linear_cross_entropy, Inf-CL's."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F

from unimo_paddle.benchmarks.cases import TEMPERATURE, Inputs, Results

_TILE = 512  # rows and columns of a tile; of 128 to 2048 the quickest on a CPU with 1 MB of L2


class _Form(ABC):
    """Inputs as tensors; a subclass says how the loss comes from them."""

    def __init__(self, inputs: Inputs) -> None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.case = inputs.case
        self.rows = torch.from_numpy(inputs.rows)
        self.columns = torch.from_numpy(inputs.columns)
        self.temperature = torch.tensor([TEMPERATURE])
        self.labels = torch.arange(self.case.count)
        self.leaves = {
            "rows": self.rows,
            "columns": self.columns,
            "temperature": self.temperature,
        }
        if inputs.candidates is not None:
            self.candidates = torch.from_numpy(inputs.candidates)
            self.leaves["candidates"] = self.candidates
        for leaf in self.leaves.values():
            leaf.requires_grad_()

    @staticmethod
    def versions() -> dict[str, str]:
        """What the figures depend on."""
        return {"torch": torch.__version__}

    @abstractmethod
    def loss(self) -> torch.Tensor:
        """Return the scalar loss."""

    def run(self) -> None:
        """Forward and backward; the gradients are let go."""
        self.loss().backward()
        self._release_gradients()

    def results(self) -> Results:
        """Return the loss and the gradients as arrays."""
        loss = self.loss()
        loss.backward()
        gradients = {name: leaf.grad.numpy().copy() for name, leaf in self.leaves.items()}
        self._release_gradients()
        return Results(loss.item(), gradients)

    def _release_gradients(self) -> None:
        for leaf in self.leaves.values():
            leaf.grad = None


class StoredScores(_Form):
    """The usual form: the scores of all pairs, and a cross entropy each way.

    The temperature divides the rows, which saves a pass over the matrix.
    """

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.positive_indices = torch.from_numpy(inputs.positive_indices)

    def loss(self) -> torch.Tensor:
        """Cross entropies, corrected where a row has more than one positive column."""
        scaled = self.rows / self.temperature
        scores = scaled @ self.columns.t()
        if self.case.has_sets:
            return self._loss_of_sets(scaled, scores)
        ways = (F.cross_entropy(matrix, self.labels) for matrix in (scores, scores.t()))
        return sum(ways) / 2

    def _loss_of_sets(self, scaled: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """As in ``paddle_forms``: a cross entropy plus its label's score is a log-sum-exp."""
        first = self.positive_indices[:, 0]
        all_, positive = [], []
        for matrix in (scores, scores.t()):
            chosen = matrix.gather(1, self.positive_indices)
            all_.append(F.cross_entropy(matrix, first, reduction="none") + chosen[:, 0])
            positive.append(chosen.logsumexp(1))
        if self.case.negatives:
            own = torch.bmm(self.candidates, scaled.unsqueeze(2)).squeeze(2)
            all_[0] = torch.logaddexp(all_[0], own.logsumexp(1))
        return ((all_[0] - positive[0]).mean() + (all_[1] - positive[1]).mean()) / 2


class OpenClip(_Form):
    """open_clip's loss, with its own code where it is installed and the same form where not."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.clip_loss = _installed_clip_loss() or self._clip_loss

    @staticmethod
    def versions() -> dict[str, str]:
        """Whose code runs."""
        if importlib.util.find_spec("open_clip") is None:
            return {"torch": torch.__version__, "open_clip": "not installed, its form written here"}
        version = importlib.metadata.version("open_clip_torch")
        return {"torch": torch.__version__, "open_clip": version}

    def loss(self) -> torch.Tensor:
        """open_clip multiplies by a scale where we divide by the temperature."""
        return self.clip_loss(self.rows, self.columns, 1 / self.temperature)

    def _clip_loss(
        self, rows: torch.Tensor, columns: torch.Tensor, scale: torch.Tensor
    ) -> torch.Tensor:
        """One product for either direction."""
        row_logits = scale * rows @ columns.t()
        column_logits = scale * columns @ rows.t()
        ways = (F.cross_entropy(logits, self.labels) for logits in (row_logits, column_logits))
        return sum(ways) / 2


def _installed_clip_loss() -> Callable[..., torch.Tensor] | None:
    """open_clip's ``ClipLoss``, None where it is not installed.

    The file is loaded by its path: importing the package needs torchvision, whose usual wheels do
    not load beside a torch built for CPUs.
    """
    package = importlib.util.find_spec("open_clip")
    if package is None:
        return None
    path = Path(package.origin).with_name("loss.py")
    spec = importlib.util.spec_from_file_location("open_clip_loss", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ClipLoss(cache_labels=True)


class LinearCrossEntropy(_Form):
    """torch's fused projection and cross entropy, the columns as classes and then the rows.

    With options it works through chunks of rows, never stores all scores, and computes the
    gradients in the forward pass: 3 products a direction. Without options it is the reference,
    a projection and a cross entropy, which ``OpenClip`` already measures.
    """

    @staticmethod
    def absent() -> str | None:
        """Why this torch cannot take part, None if it can."""
        if hasattr(F, "linear_cross_entropy") and hasattr(torch.nn, "LinearCrossEntropyOptions"):
            return None
        return f"torch {torch.__version__} has no chunked F.linear_cross_entropy"

    def loss(self) -> torch.Tensor:
        """Two calls: that the second has the same scores, transposed, is nothing it could know."""
        options = torch.nn.LinearCrossEntropyOptions()
        ways = (
            F.linear_cross_entropy(a / self.temperature, b, self.labels, options=options)
            for a, b in ((self.rows, self.columns), (self.columns, self.rows))
        )
        return sum(ways) / 2


class InfCL(_Form):
    """Inf-CL's algorithm (Cheng et al., "Breaking the Memory Barrier", arXiv 2410.17243) in tiles.

    The loss of one direction is computed by row tiles with a running log-sum-exp (its algorithm 2);
    the symmetric one is two such losses. Matrix products of N M D: forward one a direction.
    Backward, each gradient has a pass of its own, as its kernels have: scores again and P K for the
    rows, scores again and P^T Q for the columns, so four a direction. Two and eight make ten.
    """

    def loss(self) -> torch.Tensor:
        """The mean of the two directions."""
        ways = (
            _InfCLOneWay.apply(a, b, self.temperature)
            for a, b in ((self.rows, self.columns), (self.columns, self.rows))
        )
        return sum(ways) / 2


class _InfCLOneWay(torch.autograd.Function):
    """Mean over i of log sum_j exp(s_ij) - s_ii, by tiles in both passes."""

    @staticmethod
    def forward(ctx, q, k, temperature):  # q, k: [N, D]
        scaled = q / temperature
        log_sums = torch.empty(len(q))
        for i in range(0, len(q), _TILE):
            running = torch.full((len(scaled[i : i + _TILE]),), float("-inf"))
            for j in range(0, len(k), _TILE):
                tile = scaled[i : i + _TILE] @ k[j : j + _TILE].t()
                running = torch.logaddexp(running, tile.logsumexp(1))
            log_sums[i : i + _TILE] = running
        diagonal = torch.linalg.vecdot(scaled, k)
        ctx.save_for_backward(q, k, temperature, scaled, log_sums, diagonal)
        return (log_sums - diagonal).mean()

    @staticmethod
    def backward(ctx, upstream):
        q, k, temperature, scaled, log_sums, diagonal = ctx.saved_tensors
        dq, dk = torch.zeros_like(q), torch.zeros_like(k)
        for i in range(0, len(q), _TILE):
            for j in range(0, len(k), _TILE):
                tile = _probabilities(scaled, k, log_sums, (i, j))
                dq[i : i + _TILE].addmm_(tile, k[j : j + _TILE])
        for j in range(0, len(k), _TILE):
            for i in range(0, len(q), _TILE):
                tile = _probabilities(scaled, k, log_sums, (i, j))
                dk[j : j + _TILE].addmm_(tile.t(), scaled[i : i + _TILE])
        # sum_ij P_ij s_ij is also <scaled, P K>: the temperature's gradient needs no tile.
        mean_score = torch.dot(scaled.flatten(), dq.flatten())
        share = upstream / len(q)
        dq.sub_(k).mul_(share / temperature)
        dk.sub_(scaled).mul_(share)
        return dq, dk, (diagonal.sum() - mean_score) * share / temperature


def _probabilities(
    scaled: torch.Tensor, k: torch.Tensor, log_sums: torch.Tensor, corner: tuple[int, int]
) -> torch.Tensor:
    """exp(score - log-sum-exp of its row) of the tile at (row, column)."""
    i, j = corner
    tile = scaled[i : i + _TILE] @ k[j : j + _TILE].t()
    return tile.sub_(log_sums[i : i + _TILE, None]).exp_()
