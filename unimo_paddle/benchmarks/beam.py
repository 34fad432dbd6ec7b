"""One step of beam search: the fused operator against softmax, log and top-k of plain Paddle."""

from __future__ import annotations

import numpy as np
import paddle

from unimo_paddle.benchmarks import Row, interleave
from unimo_paddle.ops.beam_search import beam_search_step

SIZES = ((1, 4, 50265), (8, 5, 50265), (32, 4, 18000))  # B, K, V
_END_TOKEN = 2
_LENGTH_PENALTY = 0.6
_STEP = 3


def run(num_rounds: int) -> list[Row]:
    """One row of the table for each size; raises if the two choose different tokens."""
    return [_measure(*size, num_rounds=num_rounds) for size in SIZES]


def _measure(batch: int, beams: int, vocabulary: int, *, num_rounds: int) -> Row:
    generator = np.random.default_rng(0)
    logits = 2 * generator.normal(size=(batch, beams, vocabulary)).astype(np.float32)
    logits = paddle.to_tensor(logits)
    scores = paddle.to_tensor(-generator.random((batch, beams)).astype(np.float32))
    finished = paddle.zeros([batch, beams], "bool")
    step = paddle.to_tensor([_STEP])

    def ours() -> paddle.Tensor:
        result = beam_search_step(
            logits, scores, finished, step, end_token=_END_TOKEN, length_penalty=_LENGTH_PENALTY
        )
        return result.tokens

    def plain() -> paddle.Tensor:
        """Live beams only. Not log_softmax, which is quadratic in the vocabulary on a CPU."""
        log_probs = paddle.log(paddle.nn.functional.softmax(logits))
        best, tokens = paddle.topk(log_probs, beams)
        before, after = ((_STEP + n) / 6 for n in (5, 6))
        totals = scores.unsqueeze(-1) * before**_LENGTH_PENALTY + best
        totals = (totals / after**_LENGTH_PENALTY).reshape([batch, beams * beams])
        chosen = paddle.topk(totals, beams)[1]
        return paddle.take_along_axis(tokens.reshape([batch, beams * beams]), chosen, 1)

    with paddle.no_grad():
        np.testing.assert_array_equal(ours().numpy(), plain().numpy())
        times = interleave(ours, plain, num_rounds=num_rounds)
    read = logits.size * 4 / times["ours_ms"] / 1e6
    return {"B": batch, "K": beams, "V": vocabulary, **times, "GB/s": read}
