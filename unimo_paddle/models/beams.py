"""Beam search by the rule of the authors' program, and by that of PaddleNLP and Hugging Face.

``ops.beam_search`` states both exactly. The texts are ranked by the fused operator.
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import Tensor

from unimo_paddle.models.search import (
    NO_TOKEN,
    NOTHING,
    Choice,
    Search,
    Texts,
    append,
    both,
    nothing_yet,
)
from unimo_paddle.ops.beam_search import BeamSearchStep, beam_search_step
from unimo_paddle.ops.pick_rows import pick_rows


class BeamSearch(Search):
    """What both rules share. The state begins with history, step scores, scores, finished."""

    other_score: float  # of all beams but the first, which have nothing to say yet

    def start(self, context: Tensor) -> list[Tensor]:
        """All beams with the context; only the first counts."""
        history = self._history(context)
        nothing = paddle.zeros_like(history[..., 0])
        is_first = paddle.cumsum(paddle.ones_like(nothing), axis=1) == 1
        first = nothing.astype("float32")
        scores = paddle.where(is_first, first, paddle.full_like(first, self.other_score))
        step_scores = nothing_yet(history).astype("float32")
        return [history, step_scores, scores, nothing > 0]

    def rank(
        self,
        logits: Tensor,
        step: Tensor,
        state: Sequence[Tensor],
        *,
        length_factor: Tensor,
        excluded: Tensor | None,
        blocked: Tensor | None,
    ) -> BeamSearchStep:
        """Let the operator choose; what was taken from a row's sum is given back to its score.

        Args:
            length_factor: [1], what the operator multiplies the scores of before with.
            excluded: tokens [B, K, n] that are out of the question.
            blocked: tokens that the operator blocks by its rule.
        """
        history, _, scores, finished = state[:4]
        logits, excess = self._adjusted(self._allowed(logits), history, excluded)
        if excess is not None:
            scores = paddle.where(finished, scores, scores + excess / length_factor)
        return beam_search_step(
            logits,
            scores,
            finished,
            step,
            end_token=self.vocabulary.end_token,
            rule=self.config.rule,
            length_penalty=self.config.length_penalty,
            min_length=self.config.min_length,
            blocked_tokens=blocked,
        )

    def length_factor(self, length: Tensor) -> Tensor:
        """What the score of a text of so many tokens and five more is divided by."""
        return (length.astype("float32") / 6.0) ** self.config.length_penalty


class OriginalBeams(BeamSearch):
    """Finished texts stay among the beams; scores are divided by a length all along.

    A word that would repeat others loses 65000 after the choice, as in the original, so it comes
    where all that a beam offers would; a token that would repeat others never comes.
    """

    other_score = -float("inf")

    def choose(self, logits: Tensor, step: Tensor, state: Sequence[Tensor]) -> Choice:
        """The best words of all live beams; a finished one repeats its end."""
        history = state[0]
        best = self.rank(
            logits,
            step,
            state,
            length_factor=self.length_factor(step + 5),
            excluded=self._repeated_ngrams(history),
            blocked=self._repeated_words(history),
        )
        moved = [
            pick_rows(state[0], best.parents, best.tokens),
            pick_rows(state[1], best.parents, best.scores),
            best.scores,
            best.finished,
        ]
        return Choice(best.tokens, best.parents, moved)

    def is_done(self, state: Sequence[Tensor]) -> Tensor:
        """Whether all beams are finished."""
        return state[3].all()

    def finish(self, state: Sequence[Tensor], num_context: Tensor) -> Texts:
        """The best beams."""
        history, step_scores, scores = (value[:, : self.config.num_texts] for value in state[:3])
        return Texts(history[..., num_context:], scores, step_scores)


class TwoKBeams(BeamSearch):
    """Ended texts leave the beams; of each sample the best so many are kept.

    To the state of beams come those texts: their histories, step scores and scores.
    """

    other_score = -1.0e4

    def start(self, context: Tensor) -> list[Tensor]:
        """Beams with the context, and no texts."""
        state = super().start(context)
        history, step_scores, scores, _ = state
        return [*state, history, step_scores, paddle.full_like(scores, NOTHING)]

    def choose(self, logits: Tensor, step: Tensor, state: Sequence[Tensor]) -> Choice:
        """The best words that do not end a text; those that do leave as texts."""
        history, step_scores, _, finished, *texts = state
        best = self.rank(
            logits,
            step,
            state,
            length_factor=paddle.ones([1]),
            excluded=None,
            blocked=both(self._repeated_ngrams(history), self._repeated_words(history)),
        )
        divisor = self.length_factor(step + 5)
        parents, end_token = best.ended_parents.clip(min=0), self.vocabulary.end_token
        ended = [
            pick_rows(history, parents, paddle.full_like(parents, end_token)),
            pick_rows(step_scores, parents, best.ended_scores),
            best.ended_scores,
        ]
        padded = [
            append(texts[0], paddle.full_like(best.tokens, NO_TOKEN)),
            append(texts[1], texts[2]),
            texts[2],
        ]
        texts = self._best_of(padded, ended)
        # A sample is finished when no beam can become better than the worst of its texts.
        leading = paddle.maximum(best.scores[:, :1], best.ended_scores[:, :1] * divisor) / divisor
        worst = texts[2][:, -1:]
        is_full = worst > 0.5 * NOTHING
        if not self.config.early_stopping:
            is_full = is_full & (worst >= leading)
        finished = finished | is_full
        moved = [
            pick_rows(history, best.parents, best.tokens),
            pick_rows(step_scores, best.parents, best.scores),
            best.scores,
            finished,
        ]
        return Choice(best.tokens, best.parents, [*moved, *texts])

    def is_done(self, state: Sequence[Tensor]) -> Tensor:
        """Whether all samples are finished."""
        return state[3].all()

    def finish(self, state: Sequence[Tensor], num_context: Tensor) -> Texts:
        """The best texts; of a sample that is not finished, its beams are texts as well."""
        history, step_scores, scores, finished, *texts = state
        divisor = self.length_factor(paddle.full([1], self.config.max_length + 5, "int64"))
        open_scores = paddle.where(finished, paddle.full_like(scores, NOTHING), scores / divisor)
        history, step_scores, scores = self._best_of(texts, [history, step_scores, open_scores])
        count = self.config.num_texts
        tokens = history[:, :count, num_context:]
        ends = paddle.full_like(tokens, self.vocabulary.end_token)
        return Texts(
            paddle.where(tokens == NO_TOKEN, ends, tokens),
            scores[:, :count],
            step_scores[:, :count],
        )

    def _best_of(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
        """The K texts with the highest scores; a text is a history, step scores and a score."""
        joined = [paddle.concat(pair, axis=1) for pair in zip(first, second, strict=True)]
        scores, places = paddle.topk(joined[2], self.config.beam_size, axis=1)
        return [pick_rows(joined[0], places), pick_rows(joined[1], places), scores]
