"""Losses: tensors in, a scalar out, a mean over what is real and zero where nothing is.

A mean over a batch that is computed slice by slice is a sum of shares: with the ``total`` weight
of the whole batch, a loss returns the share of the rows that it is given.

The contrastive ones compose the four log-sum-exps of ``ops.contrastive``. Equation numbers refer
to "UNIMO: Towards Unified-Modal Understanding and Generation via Cross-Modal Contrastive
Learning" (arXiv 2012.15409).
"""

from __future__ import annotations

import paddle
from paddle.nn import functional as F

from unimo_paddle.distributed import mean_scalars

# Stands for minus infinity: finite, so that no gradient becomes NaN, and far below any score.
NOTHING = -1.0e30


def weighted_mean(
    values: paddle.Tensor, weights: paddle.Tensor, total: paddle.Tensor | None = None
) -> paddle.Tensor:
    """Return sum(values * weights) / sum(weights), and zero when no weight is positive.

    Of several ranks each divides by the mean of their sums, so that the mean of what they return
    is that of all rows together, however weights are spread.

    Args:
        values, weights: the same shape; weights are not negative.
        total: divides in place of that, where these are a slice of a batch's rows. Shape [], as
            all totals here.
    """
    weights = weights.astype(values.dtype)
    if total is None:
        total = mean_scalars({"total": weights.sum()})["total"]
    return (values * weights).sum() / (total + (total == 0).astype(values.dtype))


def token_cross_entropy(
    logits: paddle.Tensor,
    labels: paddle.Tensor,
    weights: paddle.Tensor,
    *,
    label_smoothing: float = 0.0,
    total: paddle.Tensor | None = None,
) -> paddle.Tensor:
    """Return the mean cross entropy of single labels.

    With smoothing e the target is (1 - e) one-hot + e / V, whose cross entropy is
    -log p(label) + e (logit(label) - mean logit): no [P, V] target is made.

    Args:
        logits: [P, V].
        labels: [P] int64, from 0 to V - 1 (where the weight is zero, too).
        weights: [P] float, 1 where a label is real.
        total: weight of the whole batch, where these are a slice of its rows.
    """
    losses = F.cross_entropy(logits, labels, reduction="none").flatten()
    if label_smoothing:
        label_logits = paddle.take_along_axis(logits, labels.unsqueeze(1), axis=1).flatten()
        losses = losses + label_smoothing * (label_logits - logits.mean(axis=1))
    return weighted_mean(losses, weights, total)


def distribution_cross_entropy(
    logits: paddle.Tensor,
    distribution: paddle.Tensor,
    weights: paddle.Tensor,
    *,
    total: paddle.Tensor | None = None,
) -> paddle.Tensor:
    """Return the mean cross entropy -sum_c p_c log q_c of target distributions.

    Args:
        logits, distribution: [P, C]; rows of the distribution sum to one.
        weights: [P] float, 1 where a row is real.
        total: weight of the whole batch, where these are a slice of its rows.
    """
    losses = F.cross_entropy(logits, distribution, soft_label=True, reduction="none").flatten()
    return weighted_mean(losses, weights, total)


def binary_cross_entropy(
    logits: paddle.Tensor,
    targets: paddle.Tensor,
    weights: paddle.Tensor,
    *,
    total: paddle.Tensor | None = None,
) -> paddle.Tensor:
    """Return the binary cross entropy, summed over the answers, mean over the rows.

    Args:
        logits, targets: [B, C]; targets from 0 to 1.
        weights: [B] float, 1 where a row is real.
        total: weight of the whole batch, where these are a slice of its rows.
    """
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(axis=1)
    return weighted_mean(losses, weights, total)


def mean_squared_error(
    predicted: paddle.Tensor,
    target: paddle.Tensor,
    weights: paddle.Tensor,
    *,
    total: paddle.Tensor | None = None,
) -> paddle.Tensor:
    """Return the squared error, mean over the last axis and over the real rows.

    Args:
        predicted, target: [..., F].
        weights: [...] float, 1 where a row is real.
        total: weight of the whole batch, where these are a slice of its rows.
    """
    difference = predicted - target
    return weighted_mean((difference * difference).mean(axis=-1), weights, total)


def region_regression(
    predicted: paddle.Tensor,
    target: paddle.Tensor,
    mask: paddle.Tensor,
    *,
    total: paddle.Tensor | None = None,
) -> paddle.Tensor:
    """Return the mean squared error of the features of masked regions.

    Args:
        predicted, target: [..., F].
        mask: [...] float, 1 where the region was masked.
        total: of the mask over the whole batch, where these are a slice of its rows.
    """
    return mean_squared_error(predicted, target, mask, total=total)


def region_classification(
    logits: paddle.Tensor,
    targets: paddle.Tensor,
    mask: paddle.Tensor,
    *,
    total: paddle.Tensor | None = None,
) -> paddle.Tensor:
    """Return the mean cross entropy of the classes of masked regions.

    Args:
        logits: [P, C].
        targets: [P] int64 classes (visual words), or [P, C] float: the detector's distribution.
        mask: [P] float, 1 where the region was masked.
        total: of the mask over the whole batch, where these are a slice of its rows.
    """
    if len(targets.shape) == len(logits.shape):
        return distribution_cross_entropy(logits, targets, mask, total=total)
    return token_cross_entropy(logits, targets, mask, total=total)


def symmetric_kl(
    logits_p: paddle.Tensor,
    logits_q: paddle.Tensor,
    weights: paddle.Tensor,
    *,
    total: paddle.Tensor | None = None,
) -> paddle.Tensor:
    """Return the mean over real rows of KL(p || q) + KL(q || p), of two softmax distributions.

    It is sum_c (p_c - q_c) (log p_c - log q_c): no term is negative, so nothing cancels. The
    gradient flows into both.

    Args:
        logits_p, logits_q: [P, C].
        weights: [P] float, 1 where a row is real.
        total: weight of the whole batch, where these are a slice of its rows.
    """
    # Not log_softmax, whose time on a CPU grows with the square of C.
    log_p = logits_p - paddle.logsumexp(logits_p, axis=1, keepdim=True)
    log_q = logits_q - paddle.logsumexp(logits_q, axis=1, keepdim=True)
    divergences = ((paddle.exp(log_p) - paddle.exp(log_q)) * (log_p - log_q)).sum(axis=1)
    return weighted_mean(divergences, weights, total)


def circle_loss(
    positive: paddle.Tensor,
    negative: paddle.Tensor,
    margin: float,
    scale: float,
    *,
    weights: paddle.Tensor | None = None,
    total: paddle.Tensor | None = None,
) -> paddle.Tensor:
    """Return the mean circle loss of scores (Sun et al., 2020, equations 6 and 8).

    With positives s and negatives t, margin m and scale g it is log(1 + sum exp(a) sum exp(b)):

        a = g [t + m]+ (t - m),    b = -g [1 + m - s]+ (s - (1 - m))

    where the weights in brackets carry no gradient. The sums stay logarithms, so no scale
    overflows; the original computes them in float64.

    Args:
        positive, negative: [N, 1] (or more columns) and [N, K].
        margin: m, from 0 to 1.
        scale: g, above 0.
        weights: [N] float, 1 where a row is real; none means all are.
        total: weight of the whole batch, where these are a slice of its rows.
    """
    positive_weight = F.relu(1.0 + margin - positive).detach()
    negative_weight = F.relu(negative + margin).detach()
    log_positive = -scale * positive_weight * (positive - (1.0 - margin))
    log_negative = scale * negative_weight * (negative - margin)
    log_product = paddle.logsumexp(log_positive, axis=1) + paddle.logsumexp(log_negative, axis=1)
    losses = F.softplus(log_product)
    weights = paddle.ones_like(losses) if weights is None else weights
    return weighted_mean(losses, weights, total)


def retrieval_loss(
    scores: paddle.Tensor,
    margin: float,
    scale: float,
    *,
    weights: paddle.Tensor | None = None,
    total: paddle.Tensor | None = None,
) -> paddle.Tensor:
    """Return the circle loss of matching scores, mean over image and caption negatives.

    Args:
        scores: [N, 1 + K]: of a pair, of its caption with K // 2 other images, and of its image
            with the remaining captions (of 21 scores 1, 10 and 10).
        margin, scale, weights, total: as of ``circle_loss``.
    """
    num_negatives = scores.shape[1] - 1
    assert num_negatives >= 2, "a pair needs an image and a caption that are not its own"
    num_images = num_negatives // 2
    positive, images, captions = paddle.split(
        scores, [1, num_images, num_negatives - num_images], axis=1
    )
    by_image = circle_loss(positive, images, margin, scale, weights=weights, total=total)
    by_caption = circle_loss(positive, captions, margin, scale, weights=weights, total=total)
    return 0.5 * (by_image + by_caption)


def one_way_contrastive(all_: paddle.Tensor, positive: paddle.Tensor) -> paddle.Tensor:
    """Return the mean of -log(sum over positives / sum over all), in one direction.

    Args:
        all_, positive: [N] log-sum-exps; a row without positives (-inf) carries no loss.
    """
    has_positive = positive > 0.1 * NOTHING
    losses = _finite(all_) - _finite(positive)
    return _mean_where(losses, has_positive)


def symmetric_contrastive(
    row_all: paddle.Tensor,
    row_positive: paddle.Tensor,
    column_all: paddle.Tensor,
    column_positive: paddle.Tensor,
) -> paddle.Tensor:
    """Return the mean of the two one-way losses: rows choose columns, and columns rows.

    Args:
        row_all, row_positive: [N]; column_all, column_positive: [M].
    """
    rows = one_way_contrastive(row_all, row_positive)
    columns = one_way_contrastive(column_all, column_positive)
    return 0.5 * (rows + columns)


def joint_contrastive(
    row_all: paddle.Tensor,
    row_positive: paddle.Tensor,
    column_all: paddle.Tensor,
    column_positive: paddle.Tensor,
    *,
    pair_scores: paddle.Tensor,
    pair_rows: paddle.Tensor | None = None,
    pair_columns: paddle.Tensor | None = None,
) -> paddle.Tensor:
    """Return the paper's loss (equation 1): one logarithm a pair, over both its sides.

    A pair p is an image r (a row) and one of its texts c (a column). Its candidates are the
    columns met by r and the rows met by c. The pair itself, score s, is among both and is
    counted once:

        loss_p = log(exp(row_all_r) + exp(column_all_c) - exp(s))
               - log(exp(row_positive_r) + exp(column_positive_c) - exp(s))

    Neither sum cancels: each exponential is at least exp(s). Candidates from elsewhere join with
    ``add_candidates`` before.

    Args:
        row_all, row_positive: [N]; column_all, column_positive: [M].
        pair_scores: [P], the scores <r, c> / temperature of the pairs themselves.
        pair_rows, pair_columns: [P] int64, the pairs; None: pair p is row p and column p. Rows
            and columns of an image with several captions differ in number: name its pairs.
    """
    sums = [row_all, row_positive, column_all, column_positive]
    has_positive = [row_positive > 0.1 * NOTHING, column_positive > 0.1 * NOTHING]
    if pair_rows is not None:
        sums[:2] = [paddle.gather(x, pair_rows) for x in sums[:2]]
        has_positive[0] = paddle.gather(has_positive[0], pair_rows)
    if pair_columns is not None:
        sums[2:] = [paddle.gather(x, pair_columns) for x in sums[2:]]
        has_positive[1] = paddle.gather(has_positive[1], pair_columns)
    row_all, row_positive, column_all, column_positive = (_finite(x) for x in sums)
    numerator = _log_sum_without(row_positive, column_positive, pair_scores)
    denominator = _log_sum_without(row_all, column_all, pair_scores)
    return _mean_where(denominator - numerator, paddle.logical_and(*has_positive))


def _log_sum_without(a: paddle.Tensor, b: paddle.Tensor, shared: paddle.Tensor) -> paddle.Tensor:
    """Return log(exp(a) + exp(b) - exp(shared)), where neither a nor b is below shared."""
    largest = paddle.maximum(a, b).detach()
    # Rounding may leave a sum a little below the share that it contains.
    shared = paddle.minimum(shared, paddle.minimum(a, b))
    total = paddle.exp(a - largest) + paddle.exp(b - largest) - paddle.exp(shared - largest)
    return largest + paddle.log(total)


def add_candidates(
    log_sum_exp: paddle.Tensor, scores: paddle.Tensor, mask: paddle.Tensor
) -> paddle.Tensor:
    """Return the log-sum-exp [N] after each row's own extra candidates have joined it.

    Hard negatives join the sum over all; extra positives join both sums.

    Args:
        log_sum_exp: [N]; -inf where it holds nothing.
        scores: [N, K], already divided by the temperature.
        mask: [N, K] float or bool, 1 where a candidate is real.
    """
    extra = paddle.where(mask.astype("bool"), scores, paddle.full_like(scores, NOTHING))
    together = paddle.concat([_finite(log_sum_exp).unsqueeze(1), extra], axis=1)
    largest = together.max(axis=1, keepdim=True).detach()
    is_empty = largest <= 0.1 * NOTHING
    largest = paddle.where(is_empty, paddle.zeros_like(largest), largest)
    # Of a row that holds nothing the sum is zero; one added keeps its logarithm's gradient finite.
    total = paddle.exp(together - largest).sum(axis=1, keepdim=True)
    total = total + is_empty.astype(total.dtype)
    joined = paddle.where(is_empty, paddle.full_like(total, NOTHING), largest + paddle.log(total))
    return joined.squeeze(1)


def _finite(log_sum_exp: paddle.Tensor) -> paddle.Tensor:
    """Replace -inf by a finite number; no gradient flows back into what was -inf."""
    return paddle.maximum(log_sum_exp, paddle.full_like(log_sum_exp, NOTHING))


def _mean_where(losses: paddle.Tensor, is_real: paddle.Tensor) -> paddle.Tensor:
    """Return the mean of the losses that are real; the others may be huge, and are not touched."""
    safe = paddle.where(is_real, losses, paddle.zeros_like(losses))
    return weighted_mean(safe, is_real.astype(losses.dtype))
