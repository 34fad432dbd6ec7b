"""One step of beam search, from logits to the next beams, for a whole batch.

``csrc/beam_search/beam_search.h`` states the two rules exactly. In short: ``original`` keeps
finished beams in the beam with their score frozen and scores are normalised by length all along;
``2k`` ranks 2 K candidates, those that end leave as hypotheses, and K live beams go on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import paddle

from unimo_paddle.errors import UserError
from unimo_paddle.ops.library import check_tensor, run_operator

RULES = ("original", "2k")

_END_TOKEN_LOGIT = np.float32(-1e18)
_BLOCKED_PENALTY = np.float32(65000)
_LOWEST = np.finfo(np.float32).min


class BeamSearchStep(NamedTuple):
    """The next beams of each sample, best first, and the hypotheses that ended in this step."""

    scores: paddle.Tensor  # [B, K] float32 running scores
    tokens: paddle.Tensor  # [B, K] int64; the end token for a beam that was finished before
    parents: paddle.Tensor  # [B, K] int64 beam each one continues, 0 .. K - 1 within its sample
    finished: paddle.Tensor  # [B, K] bool
    ended_scores: paddle.Tensor  # [B, K] float32, then -inf; "original" ends beams in their place
    ended_parents: paddle.Tensor  # [B, K] int64, then -1


def beam_search_step(
    logits: paddle.Tensor,
    scores: paddle.Tensor,
    finished: paddle.Tensor,
    step: paddle.Tensor,
    *,
    end_token: int,
    rule: str = "original",
    length_penalty: float = 0.0,
    min_length: int = 0,
    blocked_tokens: paddle.Tensor | None = None,
) -> BeamSearchStep:
    """Return the next beams. Has no gradient; works in the static and the dynamic graph.

    Start with scores 0 for beam 0 and -inf ("original") or -1e4 ("2k") for the others.

    Args:
        logits: [B, K, V] or [B * K, V] float32, float16 or bfloat16.
        scores: [B, K] float32 running scores.
        finished: [B, K] bool; under "2k" one finished beam freezes its sample.
        step: [1] int64, how many tokens were generated before this one.
        end_token: id of the token that ends a text.
        rule: "original" or "2k".
        length_penalty: exponent of the length; 0 leaves scores as sums.
        min_length: the end token cannot be chosen in the first so many steps.
        blocked_tokens: [B, K, n] int64 ids that a beam should not take, padded with -1.
    """
    _check_settings(end_token=end_token, rule=rule, min_length=min_length)
    logits = _check_tensors(logits, scores, finished, step, blocked_tokens, end_token=end_token)
    return BeamSearchStep(
        *run_operator(
            "unimo_beam_search_step",
            logits.astype("float32"),
            scores,
            finished,
            step,
            blocked_tokens,
            int(end_token),
            int(min_length),
            float(length_penalty),
            RULES.index(rule),
        )
    )


def beam_search_step_reference(
    logits: np.ndarray,
    scores: np.ndarray,
    finished: np.ndarray,
    step: int,
    *,
    end_token: int,
    rule: str = "original",
    length_penalty: float = 0.0,
    min_length: int = 0,
    blocked_tokens: np.ndarray | None = None,
) -> tuple[np.ndarray, ...]:
    """Return the arrays of ``BeamSearchStep``: every candidate written out, then sorted."""
    batch, beams, _ = logits.shape
    if blocked_tokens is None:
        blocked_tokens = np.full([batch, beams, 0], -1, np.int64)
    choose = _original_sample if rule == "original" else _two_k_sample
    settings = {"step": step, "end_token": end_token, "penalty": length_penalty}
    samples = [
        choose(
            logits[b].astype(np.float32),
            scores[b],
            finished[b],
            blocked_tokens[b],
            too_short=step < min_length,
            **settings,
        )
        for b in range(batch)
    ]
    return tuple(np.stack(arrays) for arrays in zip(*samples, strict=True))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-softmax of each row in float32, its sum in float64."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    total = np.exp(shifted, dtype=np.float64).sum(axis=-1, keepdims=True)
    return shifted - np.log(total).astype(np.float32)


def _length_factor(length: int, penalty: float) -> np.float32:
    """The divisor of a score of that length."""
    return np.float32((length / 6) ** penalty)


def _ranked(candidates: list[tuple], count: int | None = None) -> list[tuple]:
    """Candidates (score, beam, token) in rank order: NaN, then higher scores, then lower ids."""
    return sorted(candidates, key=lambda c: (not np.isnan(c[0]), -c[0], c[1], c[2]))[:count]


def _original_sample(logits, scores, finished, blocked, *, step, end_token, penalty, too_short):
    """One sample under the rule of the authors' program."""
    if too_short:
        logits[:, end_token] = _END_TOKEN_LOGIT
    log_probs = _log_softmax(logits)
    before, after = _length_factor(step + 5, penalty), _length_factor(step + 6, penalty)
    beams, vocabulary = log_probs.shape
    candidates = []
    for k in range(beams):
        if finished[k]:
            candidates.append((scores[k], k, end_token))
            continue
        best = _ranked([(log_probs[k, v], k, v) for v in range(vocabulary)], beams)
        for log_prob, _, token in best:
            value = log_prob - _BLOCKED_PENALTY if token in blocked[k] else log_prob
            candidates.append(((scores[k] * before + value) / after, k, token))
    chosen = _ranked(candidates, beams)
    return _as_arrays(chosen, [token == end_token for _, _, token in chosen], [])


def _two_k_sample(logits, scores, finished, blocked, *, step, end_token, penalty, too_short):
    """One sample under the rule of PaddleNLP and Hugging Face."""
    beams, vocabulary = logits.shape
    if finished.any():
        return _as_arrays([(scores[k], k, end_token) for k in range(beams)], finished, [])
    log_probs = _log_softmax(logits)
    for k in range(beams):
        log_probs[k, blocked[k][blocked[k] >= 0]] = _LOWEST
    if too_short:
        log_probs[:, end_token] = _LOWEST
    totals = scores[:, None] + log_probs
    candidates = [(totals[k, v], k, v) for k in range(beams) for v in range(vocabulary)]
    best = _ranked(candidates, 2 * beams)
    factor = _length_factor(step + 5, penalty)
    with np.errstate(over="ignore"):  # a forbidden end token may fall to -inf
        ended = [(score / factor, k) for score, k, token in best[:beams] if token == end_token]
    live = [candidate for candidate in best if candidate[2] != end_token][:beams]
    return _as_arrays(live, [False] * beams, ended)


def _as_arrays(chosen: list[tuple], finished, ended: list[tuple]) -> tuple[np.ndarray, ...]:
    """The six arrays of one sample."""
    scores, parents, tokens = zip(*chosen, strict=True)
    padding = len(chosen) - len(ended)
    return (
        np.array(scores, np.float32),
        np.array(tokens, np.int64),
        np.array(parents, np.int64),
        np.array(finished, bool),
        np.array([score for score, _ in ended] + [-np.inf] * padding, np.float32),
        np.array([parent for _, parent in ended] + [-1] * padding, np.int64),
    )


def _check_settings(*, end_token: int, rule: str, min_length: int) -> None:
    """Refuse settings that mean nothing."""
    if rule not in RULES:
        raise UserError(f"beam_search_step: rule is {rule!r}; choose one of {', '.join(RULES)}")
    if end_token < 0:
        raise UserError(f"beam_search_step: end_token is {end_token}; give the id of a token")
    if min_length < 0:
        raise UserError(f"beam_search_step: min_length is {min_length}; give 0 or more")


def _check_tensors(
    logits: paddle.Tensor,
    scores: paddle.Tensor,
    finished: paddle.Tensor,
    step: paddle.Tensor,
    blocked_tokens: paddle.Tensor | None,
    *,
    end_token: int,
) -> paddle.Tensor:
    """Refuse tensors that do not fit together; return the logits as [B, K, V]."""
    operator = "beam_search_step"
    check_tensor(operator, "scores", scores, shape=(-1, -1), dtypes=("float32",))
    batch, beams = scores.shape
    if beams < 1:
        raise UserError(f"{operator}: scores has shape {list(scores.shape)}; K must be fixed")
    vocabulary = logits.shape[-1]
    if vocabulary < 2 or end_token >= vocabulary:
        raise UserError(f"{operator}: end_token {end_token} is not one of the {vocabulary} tokens")
    if len(logits.shape) == 2:
        logits = logits.reshape([-1, beams, vocabulary])
    floats = ("float32", "float16", "bfloat16")
    check_tensor(operator, "logits", logits, shape=(batch, beams, vocabulary), dtypes=floats)
    check_tensor(operator, "finished", finished, shape=(batch, beams), dtypes=("bool",))
    check_tensor(operator, "step", step, shape=(1,), dtypes=("int64",))
    if blocked_tokens is not None:
        shape = (batch, beams, -1)
        check_tensor(operator, "blocked_tokens", blocked_tokens, shape=shape, dtypes=("int64",))
    return logits
