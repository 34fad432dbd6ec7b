"""Masking of text, regions and patches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from unimo_paddle.data.masking import (
    RegionMaskingConfig,
    TextMaskingConfig,
    fragment,
    mask_blocks,
    mask_regions,
    mask_spans,
    overlaps,
)
from unimo_paddle.errors import UserError

TEXT = TextMaskingConfig()
REGION = RegionMaskingConfig()
VOCAB_SIZE = 1000
CLS, SEP, MASK = 0, 2, VOCAB_SIZE - 1
# Even ids open a word, odd ids continue one; special ids count as words of their own.
OPENS_WORD = np.arange(VOCAB_SIZE) % 2 == 0
OPENS_WORD[[1, 3, MASK]] = True


def random_text(length: int, rng: np.random.Generator) -> np.ndarray:
    """Ids of words with 4 tokens to 3 words on average."""
    words = 2 * rng.integers(2, VOCAB_SIZE // 2 - 1, length)
    return np.where(rng.random(length) < 0.25, words + 1, words)


def word_numbers(ids: np.ndarray) -> np.ndarray:
    """Number of the word that each token belongs to."""
    opens = OPENS_WORD[ids]
    opens[0] = True
    return np.cumsum(opens) - 1


def draws(length: int, count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    return [(random_text(length, rng), rng) for _ in range(count)]


LENGTHS = [1, 2, 3, 5, 12, 50, 300]


@pytest.mark.parametrize("length", LENGTHS)
def test_masked_text_holds_the_text_outside_the_positions(length):
    for ids, rng in draws(length, 50):
        masked = mask_spans(ids, OPENS_WORD, rng, TEXT)
        restored = masked.input_ids.copy()
        restored[masked.positions] = masked.labels
        assert restored.tolist() == [CLS, *ids.tolist(), SEP]


@pytest.mark.parametrize("length", LENGTHS)
def test_only_whole_words_are_masked(length):
    for ids, rng in draws(length, 50):
        words = word_numbers(ids)
        hidden = mask_spans(ids, OPENS_WORD, rng, TEXT).positions - 1
        assert set(np.flatnonzero(np.isin(words, words[hidden]))) == set(hidden)


@pytest.mark.parametrize("length", LENGTHS)
def test_at_least_one_token_is_masked_and_one_word_of_several_stays(length):
    for ids, rng in draws(length, 50):
        words = word_numbers(ids)
        hidden = mask_spans(ids, OPENS_WORD, rng, TEXT).positions - 1
        assert len(hidden) >= 1
        assert len(set(words[hidden])) <= max(1, words[-1])


def test_the_share_of_masked_tokens_is_met():
    shares = [
        len(mask_spans(ids, OPENS_WORD, rng, TEXT).positions) / 300 for ids, rng in draws(300, 200)
    ]
    assert 0.15 <= np.mean(shares) < 0.155  # only the last word may pass the share
    assert max(shares) < 0.17


def test_captions_of_ten_words_lose_two():
    ids = np.arange(4, 24, 2)
    rng = np.random.default_rng(0)
    counts = {len(mask_spans(ids, OPENS_WORD, rng, TEXT).positions) for _ in range(100)}
    assert counts == {2}


def test_span_lengths_are_geometric():
    # A long text with few hidden tokens: spans hardly ever touch, and only the last is shortened.
    config = TextMaskingConfig(span_share=0.02, max_span_words=100, span_probability=0.5)
    ids, rng = np.full(1000, 4), np.random.default_rng(0)
    lengths = []
    for _ in range(300):
        places = mask_spans(ids, OPENS_WORD, rng, config).positions
        runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
        lengths.extend(len(run) for run in runs)
    assert abs(np.mean(lengths) - 2) < 0.15
    assert abs(np.mean(np.array(lengths) == 1) - 0.5) < 0.05


def test_rows_that_are_no_tokens_stand_for_no_word():
    tokens = np.array([5, 9, 11])
    shown = set()
    for ids, rng in draws(300, 30):
        masked = mask_spans(ids, OPENS_WORD, rng, TEXT, tokens=tokens)
        at = masked.input_ids[masked.positions]
        shown |= set(at[(at != masked.labels) & (at != MASK)].tolist())
    assert shown == set(tokens.tolist())


def test_four_fifths_become_mask_a_tenth_random_and_a_tenth_stays():
    kinds = {"mask": 0, "random": 0, "kept": 0}
    for ids, rng in draws(300, 300):
        masked = mask_spans(ids, OPENS_WORD, rng, TEXT)
        shown = masked.input_ids[masked.positions]
        kinds["mask"] += np.sum(shown == MASK)
        kinds["kept"] += np.sum(shown == masked.labels)
        kinds["random"] += np.sum((shown != MASK) & (shown != masked.labels))
        assert not np.isin(shown, [0, 1, 2, 3]).any()
    total = sum(kinds.values())
    assert total > 10_000
    assert abs(kinds["mask"] / total - 0.8) < 0.02
    assert abs(kinds["random"] / total - 0.1) < 0.02


def test_every_word_of_a_caption_is_masked_at_times():
    ids, rng = np.arange(4, 28, 2), np.random.default_rng(0)
    places = [mask_spans(ids, OPENS_WORD, rng, TEXT).positions for _ in range(500)]
    share = np.bincount(np.concatenate(places), minlength=14)[1:13] / 500
    assert share.min() > 0.05
    assert share.max() < 0.35


@pytest.mark.parametrize("hide", [mask_spans, fragment])
def test_the_same_generator_masks_the_same(hide):
    ids = random_text(60, np.random.default_rng(5))
    first, again, other = (
        hide(ids, OPENS_WORD, np.random.default_rng(seed), TEXT) for seed in (1, 1, 2)
    )
    assert first.input_ids.tolist() == again.input_ids.tolist()
    assert first.input_ids.tolist() != other.input_ids.tolist()


@pytest.mark.parametrize("hide", [mask_spans, fragment])
def test_the_text_given_is_not_changed(hide):
    ids = random_text(60, np.random.default_rng(5))
    before = ids.copy()
    hide(ids, OPENS_WORD, np.random.default_rng(0), TEXT)
    assert (ids == before).all()


def pieces_of(result) -> list[list[int]]:
    """Source and fragments between their [CLS] and [SEP]."""
    pieces, ids = [], result.input_ids.tolist()
    while ids:
        end = ids.index(SEP)
        assert ids[0] == CLS
        pieces.append(ids[1:end])
        ids = ids[end + 1 :]
    return pieces


def test_a_fragment_worked_out_by_hand():
    # Seven words of one token, fragments of exactly four words: the share is met by the first.
    config = TextMaskingConfig(min_fragment_words=4, max_fragment_words=4)
    ids = [10, 12, 14, 16, 18, 20, 22]
    result = fragment(ids, OPENS_WORD, np.random.default_rng(0), config)
    start = result.labels[0] // 2 - 5
    taken, source = ids[start : start + 4], ids[:start] + ids[start + 4 :]
    assert result.input_ids.tolist() == [CLS, *source, SEP, CLS, *taken, SEP]
    assert result.position_ids.tolist() == [2, 3, 4, 5, 6, 2, 3, 4, 5, 6, 7]
    assert result.text_order.tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6]
    assert result.positions.tolist() == [5, 6, 7, 8, 9]
    assert result.labels.tolist() == [*taken, SEP]


@pytest.mark.parametrize("length", LENGTHS)
def test_source_and_fragments_hold_every_token_once(length):
    for ids, rng in draws(length, 50):
        pieces = pieces_of(fragment(ids, OPENS_WORD, rng, TEXT))
        assert len(pieces) >= 2
        assert sorted(itertools.chain(*pieces)) == sorted(ids.tolist())


@pytest.mark.parametrize("length", LENGTHS)
def test_fragments_are_whole_words_in_the_order_of_the_text(length):
    rng = np.random.default_rng(0)
    ids = np.arange(4, 4 + length)  # different ids; words of two tokens
    for _ in range(50):
        pieces = pieces_of(fragment(ids, OPENS_WORD, rng, TEXT))
        assert [piece[0] for piece in pieces[1:]] == sorted(piece[0] for piece in pieces[1:])
        for piece in pieces[1:]:
            assert piece == list(range(piece[0], piece[-1] + 1))
            assert piece[0] % 2 == 0
            assert piece[-1] % 2 == 1 or piece[-1] == ids[-1]


@pytest.mark.parametrize("length", [2, 3, 5, 12, 50])
def test_the_source_keeps_a_word(length):
    ids, rng = np.full(length, 4), np.random.default_rng(0)
    assert all(pieces_of(fragment(ids, OPENS_WORD, rng, TEXT))[0] for _ in range(50))


def test_a_text_of_one_word_becomes_the_target():
    result = fragment([4, 5], OPENS_WORD, np.random.default_rng(0), TEXT)
    assert pieces_of(result) == [[], [4, 5]]


def test_the_share_of_fragments_is_met():
    counts = [
        sum(map(len, pieces_of(fragment(ids, OPENS_WORD, rng, TEXT))[1:]))
        for ids, rng in draws(300, 200)
    ]
    assert 0.25 <= np.mean(counts) / 300 < 0.28
    assert max(counts) / 300 < 0.33


def test_fragments_are_between_four_and_thirty_two_words_long():
    lengths = []
    for ids, rng in draws(500, 100):
        pieces = pieces_of(fragment(ids, OPENS_WORD, rng, TEXT))[1:]
        lengths.extend(np.count_nonzero(OPENS_WORD[piece]) for piece in pieces)
    # Without its space the first token of a text is part of no even id: one word may go unseen.
    assert min(lengths) >= 3
    assert max(lengths) <= 33
    assert np.mean(lengths) > 12  # the last of each text is shortened, the others average 18


def test_the_number_of_fragments_is_bounded():
    config = TextMaskingConfig(max_fragments=2, max_fragment_words=5)
    for ids, rng in draws(300, 20):
        assert len(pieces_of(fragment(ids, OPENS_WORD, rng, config))) == 3


def test_every_target_token_and_each_end_is_predicted_from_the_one_before():
    for ids, rng in draws(100, 30):
        result = fragment(ids, OPENS_WORD, rng, TEXT)
        expected = [token for piece in pieces_of(result)[1:] for token in [*piece, SEP]]
        assert result.labels.tolist() == expected
        assert (result.input_ids[result.positions + 1] == result.labels).all()
        assert (result.text_order[result.positions] > 0).all()


def test_positions_restart_in_every_fragment_at_the_first_position():
    for ids, rng in draws(200, 20):
        result = fragment(ids, OPENS_WORD, rng, TEXT, first_position=7)
        assert (result.position_ids[result.input_ids == CLS] == 7).all()
        assert result.position_ids.max() < 7 + 202


def boxes_of(*boxes) -> np.ndarray:
    return np.array([(0, 0, 1, 1), *boxes], np.float32)


def test_overlap_is_intersection_over_union():
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6]], np.float32)
    np.testing.assert_allclose(overlaps(boxes[:1], boxes), [[1, 1 / 7, 0]], rtol=1e-6)


@pytest.mark.parametrize(("overlap", "expected"), [(0.3, {2}), (0.4, {1})])
def test_an_anchor_takes_the_regions_that_overlap_it(overlap, expected):
    # The two boxes share a third of their union.
    boxes = boxes_of((0, 0, 0.5, 1), (0.25, 0, 0.75, 1))
    config = RegionMaskingConfig(overlap=overlap)
    rng = np.random.default_rng(0)
    assert {int(mask_regions(boxes, rng, config).sum()) for _ in range(20)} == expected


def test_an_anchor_is_masked_whatever_the_overlap():
    boxes = boxes_of((0, 0, 0.5, 1), (0, 0, 0.5, 1))
    masked = mask_regions(boxes, np.random.default_rng(0), RegionMaskingConfig(overlap=1.0))
    assert masked.sum() == 1


def test_every_masked_region_is_an_anchor_or_overlaps_one():
    rng = np.random.default_rng(0)
    config = RegionMaskingConfig(anchor_share=0.02)  # one anchor of 36 regions
    for _ in range(50):
        corner = rng.random((36, 2))
        boxes = boxes_of(*np.hstack([corner, corner + 0.1 + rng.random((36, 2))]))
        masked = mask_regions(boxes, rng, config)
        overlap = overlaps(boxes[1:], boxes[1:]) > 0.3
        assert any((masked[1:] == row).all() for row in overlap)


def test_the_share_of_anchors_is_met():
    boxes = boxes_of(*((i, 0, i + 1, 1) for i in range(100)))  # nothing overlaps
    masked = mask_regions(boxes, np.random.default_rng(0), REGION)
    assert masked.sum() == 15


def test_the_whole_image_is_never_masked():
    boxes = boxes_of((0, 0, 1, 1), (0, 0, 1, 1))
    assert mask_regions(boxes, np.random.default_rng(0), REGION).tolist() == [False, True, True]


def test_an_image_without_regions_masks_nothing():
    assert mask_regions(boxes_of(), np.random.default_rng(0), REGION).tolist() == [False]


@pytest.mark.parametrize("grid_size", [7, 10, 14])
def test_blocks_hide_three_to_five_tenths_of_the_cells(grid_size):
    rng = np.random.default_rng(0)
    masks = np.array([mask_blocks(grid_size, rng, REGION) for _ in range(300)])
    shares = masks[:, 1:].mean(1)
    assert masks.shape == (300, 1 + grid_size**2)
    assert not masks[:, 0].any()
    assert shares.min() >= 0.3 - 1 / grid_size**2
    assert shares.max() <= 0.5
    assert 0.37 < shares.mean() < 0.46


def test_no_hidden_cell_stands_alone():
    rng = np.random.default_rng(0)
    for _ in range(100):
        grid = mask_blocks(10, rng, REGION)[1:].reshape(10, 10)
        squares = grid[1:, 1:] & grid[:-1, 1:] & grid[1:, :-1] & grid[:-1, :-1]
        covered = np.zeros_like(grid)
        for top, left in np.argwhere(squares):
            covered[top : top + 2, left : left + 2] = True
        assert (covered == grid).all()


@pytest.mark.parametrize("grid_size", [1, 2, 3])
def test_tiny_grids_hide_something(grid_size):
    rng = np.random.default_rng(0)
    counts = [mask_blocks(grid_size, rng, REGION).sum() for _ in range(50)]
    assert min(counts) >= 1
    assert max(counts) <= max(1, grid_size**2 // 2)


@pytest.mark.parametrize(
    ("config", "setting"),
    [
        (TextMaskingConfig, {"span_share": 0.0}),
        (TextMaskingConfig, {"span_share": float("nan")}),
        (TextMaskingConfig, {"fragment_share": 1.0}),
        (TextMaskingConfig, {"span_probability": 1.5}),
        (TextMaskingConfig, {"mask_share": 0.95}),
        (TextMaskingConfig, {"mask_share": -0.1}),
        (TextMaskingConfig, {"max_span_words": 0}),
        (TextMaskingConfig, {"max_fragments": 0}),
        (TextMaskingConfig, {"max_fragment_words": 3}),
        (RegionMaskingConfig, {"anchor_share": 0.0}),
        (RegionMaskingConfig, {"overlap": 1.1}),
        (RegionMaskingConfig, {"min_block": 5}),
        (RegionMaskingConfig, {"min_share": 0.6}),
        (RegionMaskingConfig, {"max_share": float("nan")}),
    ],
)
def test_bad_settings_are_named(config, setting):
    with pytest.raises(UserError, match=next(iter(setting))):
        config(**setting)
