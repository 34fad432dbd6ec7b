"""What is hidden from the model and must be predicted: UNIMO (arXiv 2012.15409), section 2.3.

Text: spans of whole words (bidirectional) or fragments that leave the source and are generated
(seq2seq). Images: regions with all that overlap them, or blocks of grid cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unimo_paddle.data.text import CLS_ID, FIRST_SPECIALS, SEP_ID
from unimo_paddle.errors import UserError

# Blocks that do not fit under the largest share are drawn again, at most this often.
MAX_BLOCK_DRAWS = 100


@dataclass(frozen=True)
class TextMaskingConfig:
    """How much text is hidden and in what pieces; lengths count words, shares count tokens."""

    span_share: float = 0.15  # share of the tokens hidden in spans (bidirectional)
    span_probability: float = 0.2  # span lengths are geometric with this parameter
    max_span_words: int = 10  # longer draws are cut to it
    mask_share: float = 0.8  # of the hidden tokens, shown as [MASK]
    random_share: float = 0.1  # of the hidden tokens, shown as a random token; the rest are kept
    fragment_share: float = 0.25  # share of the tokens that become the target (seq2seq)
    min_fragment_words: int = 4  # fragment lengths are uniform from this
    max_fragment_words: int = 32  # to this
    max_fragments: int = 8  # bounds the sample: each fragment adds [CLS] and [SEP]

    def __post_init__(self) -> None:
        for name in ("span_share", "fragment_share"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(
                    f"text_masking.{name} is {getattr(self, name)}; give a share between 0 and 1"
                )
        if not 0 < self.span_probability <= 1:
            raise UserError(
                f"text_masking.span_probability is {self.span_probability}; give a share above 0, "
                "at most 1"
            )
        if not (self.mask_share >= 0 and self.random_share >= 0) or not (
            self.mask_share + self.random_share <= 1
        ):
            raise UserError(
                f"text_masking.mask_share is {self.mask_share}, random_share {self.random_share}; "
                "give shares of at least 0 and together at most 1"
            )
        for name in ("max_span_words", "min_fragment_words", "max_fragments"):
            if getattr(self, name) < 1:
                raise UserError(f"text_masking.{name} is {getattr(self, name)}; give at least 1")
        if self.max_fragment_words < self.min_fragment_words:
            raise UserError(
                f"text_masking.max_fragment_words {self.max_fragment_words} is below "
                f"min_fragment_words {self.min_fragment_words}; raise it"
            )


@dataclass(frozen=True)
class RegionMaskingConfig:
    """How much of an image is hidden: regions with their overlap, or blocks of grid cells."""

    anchor_share: float = 0.15  # share of the regions drawn as anchors (regions)
    overlap: float = 0.3  # an anchor takes regions of larger intersection over union (regions)
    min_block: int = 2  # shortest side of a block in cells (patches)
    max_block: int = 4  # longest side of a block in cells (patches)
    min_share: float = 0.3  # smallest share of the cells that is hidden (patches)
    max_share: float = 0.5  # largest share of the cells that is hidden (patches)

    def __post_init__(self) -> None:
        if not 0 < self.anchor_share <= 1:
            raise UserError(
                f"region_masking.anchor_share is {self.anchor_share}; give a share above 0, "
                "at most 1"
            )
        if not 0 <= self.overlap <= 1:
            raise UserError(f"region_masking.overlap is {self.overlap}; give a share from 0 to 1")
        if not 1 <= self.min_block <= self.max_block:
            raise UserError(
                f"region_masking.min_block is {self.min_block} and max_block {self.max_block}; "
                "give at least 1, the smaller first"
            )
        if not 0 < self.min_share <= self.max_share < 1:
            raise UserError(
                f"region_masking.min_share is {self.min_share} and max_share {self.max_share}; "
                "give shares between 0 and 1, the smaller first"
            )


@dataclass(frozen=True)
class MaskedText:
    """Text with hidden tokens.

    Args:
        input_ids: [T] as the model sees them, [CLS] .. [SEP].
        positions: [P] indices into ``input_ids`` of the tokens to predict.
        labels: [P] the ids that stood there.
    """

    input_ids: np.ndarray
    positions: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class FragmentedText:
    """Text whose fragments left the source and follow it as the target.

    Args:
        input_ids: [T] [CLS] source [SEP], then [CLS] fragment [SEP] for each fragment in order.
        position_ids: [T] counted from the first position, again for each fragment.
        text_order: [T] 0 in the source, 1, 2, 3 .. over the target.
        positions: [P] indices whose output predicts the next token of the target.
        labels: [P] the ids they predict, each fragment's [SEP] included.
    """

    input_ids: np.ndarray
    position_ids: np.ndarray
    text_order: np.ndarray
    positions: np.ndarray
    labels: np.ndarray


def mask_spans(
    ids: Sequence[int],
    opens_word: np.ndarray,
    rng: np.random.Generator,
    config: TextMaskingConfig,
    *,
    tokens: np.ndarray | None = None,
) -> MaskedText:
    """Hide spans of whole words; the result has [CLS] and [SEP] around it.

    Spans are drawn until the share of tokens is reached, at least one word and never all words of
    a text that has several. A span that would pass the share is shortened, so that captions do
    not lose a third of their words.

    Args:
        ids: [n] of a text, without special tokens, n >= 1.
        opens_word: [V] True where a token begins a word; the last row is [MASK].
        tokens: ids of which some stand for hidden tokens; by default all between the special ones.
    """
    if tokens is None:
        tokens = np.arange(len(FIRST_SPECIALS), len(opens_word) - 1)
    ids = np.asarray(ids, np.int64)
    sizes = _word_sizes(ids, opens_word)
    budget = max(1, round(config.span_share * len(ids)))
    hidden = np.zeros(len(sizes), bool)
    num_hidden = 0
    while num_hidden < budget and hidden.sum() < max(1, len(sizes) - 1):
        length = min(int(rng.geometric(config.span_probability)), config.max_span_words)
        free = max(1, len(sizes) - 1) - int(hidden.sum())
        missing = _num_words(budget - num_hidden, sizes)
        start, length = _place(hidden, min(length, missing, free), rng)
        for word in range(start, start + length):
            if num_hidden < budget:
                hidden[word] = True
                num_hidden += int(sizes[word])

    input_ids = np.concatenate([[CLS_ID], ids, [SEP_ID]])
    positions = 1 + np.flatnonzero(np.repeat(hidden, sizes))
    labels = input_ids[positions]
    input_ids[positions] = _replace(labels, tokens, len(opens_word) - 1, rng, config)
    return MaskedText(input_ids, positions, labels)


def _replace(
    labels: np.ndarray,
    tokens: np.ndarray,
    mask_id: int,
    rng: np.random.Generator,
    config: TextMaskingConfig,
) -> np.ndarray:
    draw = rng.random(len(labels))
    random_ids = tokens[rng.integers(0, len(tokens), len(labels))]
    shown = np.where(draw < config.mask_share + config.random_share, random_ids, labels)
    return np.where(draw < config.mask_share, mask_id, shown)


def fragment(
    ids: Sequence[int],
    opens_word: np.ndarray,
    rng: np.random.Generator,
    config: TextMaskingConfig,
    *,
    first_position: int = 2,
) -> FragmentedText:
    """Take fragments of whole words out of the text and make them the target.

    Fragments are drawn until the share of tokens is reached; the last is shortened to what is
    missing, but not below ``min_fragment_words``. The source keeps at least one word, unless the
    text is a single word. The result is at most n + 2 + 2 * ``max_fragments`` long and its
    positions never pass those of the whole text.

    Args:
        ids: [n] of a text, without special tokens, n >= 1.
        opens_word: [V] True where a token begins a word.
        first_position: position id of each [CLS].
    """
    ids = np.asarray(ids, np.int64)
    sizes = _word_sizes(ids, opens_word)
    budget = max(1, round(config.fragment_share * len(ids)))
    taken = np.zeros(len(sizes), bool)
    spans: list[tuple[int, int]] = []
    num_taken = 0
    while num_taken < budget and len(spans) < config.max_fragments:
        free = max(1, len(sizes) - 1) - int(taken.sum())
        if free < 1:
            break
        length = int(rng.integers(config.min_fragment_words, config.max_fragment_words + 1))
        missing = _num_words(budget - num_taken, sizes)
        length = min(length, max(config.min_fragment_words, missing), free)
        start, length = _place(taken, length, rng)
        taken[start : start + length] = True
        spans.append((start, start + length))
        num_taken += int(sizes[start : start + length].sum())
    return _assemble(ids, sizes, sorted(spans), first_position)


def _assemble(
    ids: np.ndarray, sizes: np.ndarray, spans: list[tuple[int, int]], first_position: int
) -> FragmentedText:
    begins = np.concatenate([[0], np.cumsum(sizes)])
    in_source = np.ones(len(ids), bool)
    pieces = []
    for start, stop in spans:
        in_source[begins[start] : begins[stop]] = False
        pieces.append(ids[begins[start] : begins[stop]])
    pieces.insert(0, ids[in_source])
    wrapped = [np.concatenate([[CLS_ID], piece, [SEP_ID]]) for piece in pieces]

    input_ids = np.concatenate(wrapped)
    source_size = len(wrapped[0])
    indices = np.arange(len(input_ids))
    ends = np.cumsum([len(piece) for piece in wrapped]) - 1
    # Every target token predicts its successor, except the [SEP] that ends a fragment.
    positions = np.setdiff1d(indices[source_size:], ends)
    return FragmentedText(
        input_ids=input_ids,
        position_ids=first_position + np.concatenate([np.arange(len(p)) for p in wrapped]),
        text_order=np.maximum(indices - source_size + 1, 0),
        positions=positions,
        labels=input_ids[positions + 1],
    )


def _word_sizes(ids: np.ndarray, opens_word: np.ndarray) -> np.ndarray:
    """Tokens in each word [W]; the first token opens a word whatever it is."""
    assert len(ids), "a text without tokens cannot be masked"
    opens = opens_word[ids]
    opens[0] = True
    return np.diff(np.flatnonzero(opens), append=len(ids))


def _num_words(num_tokens: int, sizes: np.ndarray) -> int:
    """Words of the text's average size that hold a number of tokens, rounded up."""
    return -(-num_tokens * len(sizes) // int(sizes.sum()))


def _place(used: np.ndarray, length: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw where a span of words stands among those that fit between the used ones.

    Returns:
        Start and length; the length is cut to the longest free run when none is long enough.
    """
    count = np.concatenate([[0], np.cumsum(used)])
    while True:
        starts = np.flatnonzero(count[length:] == count[: len(count) - length])
        if len(starts):
            return int(starts[rng.integers(len(starts))]), length
        length -= 1
        assert length, "no free word is left"


def mask_regions(
    boxes: np.ndarray, rng: np.random.Generator, config: RegionMaskingConfig
) -> np.ndarray:
    """Draw anchors and take every region that overlaps them; row 0, the whole image, stays.

    Args:
        boxes: [R, 5] (or [R, 4]) of an image, x1 y1 x2 y2 first, row 0 the whole image.

    Returns:
        [R] bool, at least one True when there is a region.
    """
    num_regions = len(boxes) - 1
    masked = np.zeros(len(boxes), bool)
    if num_regions < 1:
        return masked
    num_anchors = max(1, round(config.anchor_share * num_regions))
    anchors = 1 + rng.choice(num_regions, num_anchors, replace=False)
    masked[1:] = (overlaps(boxes[anchors], boxes[1:]) > config.overlap).any(axis=0)
    masked[anchors] = True
    return masked


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union [N, M] of boxes [N, 4+] and [M, 4+], x1 y1 x2 y2 first."""
    first, second = boxes[:, None, :4], others[None, :, :4]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(
        first[..., :2], second[..., :2]
    )
    intersection = np.prod(np.maximum(sides, 0), axis=-1)
    union = _areas(boxes)[:, None] + _areas(others)[None] - intersection
    return intersection / np.maximum(union, np.finfo(np.float32).tiny)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def mask_blocks(
    grid_size: int, rng: np.random.Generator, config: RegionMaskingConfig
) -> np.ndarray:
    """Hide blocks of grid cells: single cells could be read off their neighbours.

    Blocks are drawn until a share drawn between ``min_share`` and ``max_share`` is reached. On
    grids too small for them, blocks are at most half as wide as the grid.

    Returns:
        [1 + cells] bool, row 0 (the whole image) False.
    """
    num_cells = grid_size**2
    goal = max(1.0, rng.uniform(config.min_share, config.max_share) * num_cells)
    most = max(1, int(config.max_share * num_cells))
    longest = max(1, min(config.max_block, grid_size // 2))
    shortest = min(config.min_block, longest)
    grid = np.zeros((grid_size, grid_size), bool)
    for _ in range(MAX_BLOCK_DRAWS):
        height, width = rng.integers(shortest, longest + 1, 2)
        top, left = rng.integers(grid_size - height + 1), rng.integers(grid_size - width + 1)
        block = grid[top : top + height, left : left + width]
        if grid.sum() + block.size - block.sum() <= most:
            block[:] = True
        if grid.sum() >= min(goal, most):
            break
    return np.concatenate([[False], grid.ravel()])
