"""Sequences of ids as the original builds them: texts, pairs of texts, sources with targets.

A sequence carries its positions and its order of generation: a position sees another if that
one's order is not greater, so a source has order 0 and the target counts from 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from unimo_paddle.data.fields import Sample
from unimo_paddle.data.text import CLS_ID, SEP_ID

KNOWLEDGE_ROLE = 2  # of a dialogue; the speakers are 0, who answers, and 1


def mark_text(
    ids: Sequence[int], max_length: int, *, first_position: int, last: Sequence[int] = ()
) -> Sample:
    """``[CLS] ids last [SEP]``, the ids cut so that at most ``max_length`` remain in all."""
    room = max_length - 2 - len(last)
    return _text([CLS_ID, *ids[:room], *last, SEP_ID], first_position)


def mark_ids(
    ids: Sequence[int], max_length: int, *, first_position: int, last: Sequence[int] = ()
) -> Sample:
    """Ids with their ``[CLS]`` and ``[SEP]``, cut in front of ``last`` and the [SEP]."""
    room = max_length - len(last)
    if len(ids) > room:
        ids = [*ids[: room - 1], SEP_ID]
    return _text([*ids[:-1], *last, ids[-1]], first_position)


def mark_pair(
    first: Sequence[int],
    second: Sequence[int],
    max_length: int,
    *,
    first_position: int,
    last: Sequence[int] = (),
) -> Sample:
    """``[CLS] first [SEP] second last [SEP]``.

    What is too long loses its last id again and again, the longer text first, on a tie the second.
    """
    first, second = list(first), list(second)
    while len(first) + len(second) > max_length - 3 - len(last):
        (first if len(first) > len(second) else second).pop()
    return _text([CLS_ID, *first, SEP_ID, *second, *last, SEP_ID], first_position)


def _text(ids: Sequence[int], first_position: int) -> Sample:
    ids = np.array(ids, np.int64)
    return {
        "input_ids": ids,
        "position_ids": np.arange(len(ids)) + first_position,
        "text_mask": np.ones(len(ids), np.float32),
    }


def mark_source(
    pieces: Iterable[Sequence[int]],
    max_length: int,
    *,
    first_position: int,
    is_continuous: bool,
) -> Sample:
    """``[CLS] piece [SEP] piece [SEP] ...``: what a target is generated from.

    Args:
        pieces: texts, each cut with its [SEP] to ``max_length`` - 1 ids.
        is_continuous: positions go on over all pieces, and the whole is cut to its last
            ``max_length`` ids. Else each piece begins at the second position again.
    """
    ids, positions = [CLS_ID], [first_position]
    for piece in pieces:
        marked = _mark_piece(piece, max_length)
        ids += marked
        positions += range(first_position + 1, first_position + 1 + len(marked))
    if is_continuous:
        ids = ids[-max_length:]
        positions = list(range(first_position, first_position + len(ids)))
    return {
        "input_ids": np.array(ids, np.int64),
        "position_ids": np.array(positions, np.int64),
        "text_mask": np.ones(len(ids), np.float32),
        "text_order": np.zeros(len(ids), np.int64),
    }


def _mark_piece(ids: Sequence[int], max_length: int) -> list[int]:
    return [*ids[: max_length - 2], SEP_ID]


def mark_dialogue(
    knowledge: Sequence[int], turns: Sequence[Sequence[int]], max_length: int, **choices: int
) -> Sample:
    """The source of an answer: what is known, then the last turns, each with role and turn.

    The turn before the answer is number 1 and spoken by role 1; roles alternate. What is known
    has role 2 and turn 0; [CLS] belongs to the first turn.

    Args:
        knowledge: empty where nothing is known.
        turns: oldest first.
        choices: ``first_position`` and ``is_continuous``, as for ``mark_source``.
    """
    pieces = [*([knowledge] if knowledge else []), *turns]
    sample = mark_source(pieces, max_length, **choices)
    count = len(turns)
    roles, numbers = [count % 2], [count]
    if knowledge:
        roles += [KNOWLEDGE_ROLE] * len(_mark_piece(knowledge, max_length))
        numbers += [0] * len(_mark_piece(knowledge, max_length))
    for number, turn in zip(range(count, 0, -1), turns, strict=True):
        roles += [number % 2] * len(_mark_piece(turn, max_length))
        numbers += [number] * len(_mark_piece(turn, max_length))
    length = len(sample["input_ids"])
    return sample | {
        "role_ids": np.array(roles[-length:], np.int64),
        "turn_ids": np.array(numbers[-length:], np.int64),
    }


def append_target(
    source: Sample,
    ids: Sequence[int],
    max_length: int,
    *,
    end_id: int,
    first_position: int,
) -> Sample:
    """The source with ``[CLS] ids end`` behind it, and what is predicted where.

    A target that is too long loses its end: then its end token is never predicted. Role and turn
    of the target are 0.

    Args:
        source: of ``mark_source`` or ``mark_dialogue``; may hold nothing (captions).
        max_length: ids of the target, [CLS] included.
        first_position: of the target's [CLS].
    """
    marked = [CLS_ID, *[*ids, end_id][: max_length - 1]]
    length, start = len(marked), len(source["input_ids"])
    behind = {
        "input_ids": np.array(marked, np.int64),
        "position_ids": np.arange(length) + first_position,
        "text_mask": np.ones(length, np.float32),
        "text_order": np.arange(1, length + 1),
        "role_ids": np.zeros(length, np.int64),
        "turn_ids": np.zeros(length, np.int64),
    }
    whole = {name: np.concatenate([value, behind[name]]) for name, value in source.items()}
    return whole | {
        "target_positions": np.arange(start, start + length - 1),
        "target_ids": behind["input_ids"][1:],
        "target_weights": np.ones(length - 1, np.float32),
    }
