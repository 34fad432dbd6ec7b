"""One step of beam search in torch."""

from __future__ import annotations

import os

import torch

from unimo_paddle.benchmarks.beam import END_TOKEN, LENGTH_PENALTY, STEP, Inputs, Results


class TopKFirst:
    """No log-probability is computed but those of the best tokens of each beam."""

    def __init__(self, inputs: Inputs) -> None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.logits, self.scores, self.finished = map(torch.from_numpy, inputs)

    @staticmethod
    def versions() -> dict[str, str]:
        """What the figures depend on."""
        return {"torch": torch.__version__}

    def run(self) -> None:
        """One step."""
        with torch.inference_mode():
            self._step()

    def results(self) -> Results:
        """What is chosen."""
        return Results(*(value.numpy() for value in self._step()))

    def _step(self) -> tuple[torch.Tensor, ...]:
        beams = self.scores.shape[1]
        best, tokens = torch.topk(self.logits, beams)
        best = best - torch.logsumexp(self.logits, dim=-1, keepdim=True)
        before, after = (((STEP + n) / 6) ** LENGTH_PENALTY for n in (5, 6))
        totals = (self.scores[..., None] * before + best) / after
        itself = torch.full_like(totals, -torch.inf)
        itself[..., 0] = self.scores
        totals = torch.where(self.finished[..., None], itself, totals)
        tokens = torch.where(self.finished[..., None], END_TOKEN, tokens)
        scores, chosen = torch.topk(totals.flatten(1), beams)
        tokens = torch.gather(tokens.flatten(1), 1, chosen)
        return scores, tokens, chosen // beams, tokens == END_TOKEN
