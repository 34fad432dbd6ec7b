"""One step of beam search in Paddle: our operator, and softmax, log and top-k."""

from __future__ import annotations

from abc import ABC, abstractmethod

import paddle
from paddle import Tensor

from unimo_paddle.benchmarks.beam import END_TOKEN, LENGTH_PENALTY, STEP, Inputs, Results
from unimo_paddle.ops.beam_search import beam_search_step


class _Form(ABC):
    """Inputs as tensors; a subclass says how the next beams come from them."""

    def __init__(self, inputs: Inputs) -> None:
        self.logits, self.scores, self.finished = map(paddle.to_tensor, inputs)

    @staticmethod
    def versions() -> dict[str, str]:
        """What the figures depend on."""
        return {"paddle": paddle.__version__}

    @abstractmethod
    def step(self) -> tuple[Tensor, ...]:
        """The fields of ``Results``."""

    def run(self) -> None:
        """One step."""
        with paddle.no_grad():
            self.step()

    def results(self) -> Results:
        """What is chosen."""
        return Results(*(value.numpy() for value in self.step()))


class Fused(_Form):
    """Our operator."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.count = paddle.to_tensor([STEP])

    def step(self) -> tuple[Tensor, ...]:
        """One call."""
        return beam_search_step(
            self.logits,
            self.scores,
            self.finished,
            self.count,
            end_token=END_TOKEN,
            length_penalty=LENGTH_PENALTY,
        )[:4]


class Plain(_Form):
    """Paddle's operations."""

    def step(self) -> tuple[Tensor, ...]:
        """Best tokens of each beam, then best beams; a finished beam offers itself."""
        beams = self.scores.shape[1]
        log_probs = paddle.log(paddle.nn.functional.softmax(self.logits))
        best, tokens = paddle.topk(log_probs, beams)
        before, after = (((STEP + n) / 6) ** LENGTH_PENALTY for n in (5, 6))
        totals = (self.scores.unsqueeze(-1) * before + best) / after
        finished = self.finished.unsqueeze(-1)
        itself = paddle.full_like(totals, -float("inf"))
        itself[..., 0] = self.scores
        totals = paddle.where(finished, itself, totals)
        tokens = paddle.where(finished, paddle.full_like(tokens, END_TOKEN), tokens)
        scores, chosen = paddle.topk(totals.flatten(1), beams)
        tokens = paddle.take_along_axis(tokens.flatten(1), chosen, 1)
        return scores, tokens, chosen // beams, tokens == END_TOKEN
