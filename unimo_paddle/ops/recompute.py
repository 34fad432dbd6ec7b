"""Parts of a network that are computed again when their gradients are made, to save memory.

Paddle's ``fleet.utils.recompute`` changes nothing in PIR. Here the operations of a part are marked
while a program is built; once its gradients are there, they are copied in front of those that use
what they computed, which then use the copies. The first results die as soon as the part is done
("Training deep nets with sublinear memory cost", arXiv 1604.06174, section 4). What is drawn at
random is drawn once and kept: dropout keeps a seed, not a mask.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import paddle
from paddle import pir

_DRAWS = ("pd_op.randint",)  # dropout's seeds, the one thing that a part draws


@dataclass
class Parts:
    """The parts of a program under construction that will be computed again.

    Args:
        spans: of the operations of each part in the program's block.
        end: of all operations that are no gradients.
    """

    spans: list[tuple[int, int]] = field(default_factory=list)
    end: int = 0

    def recompute(self) -> None:
        """Change the program, which holds its gradients by now."""
        block = _block()
        operations = list(block.ops)
        backward = set(operations[self.end :])
        places = {operation.id(): i for i, operation in enumerate(operations)}
        # All before any: afterwards copies are among the users.
        plans = [_plan(operations, span, backward, places) for span in self.spans]
        for span, (inputs, lost) in zip(self.spans, plans, strict=True):
            if lost:
                pir.set_insertion_point(operations[min(place for _, place in lost)])
                _copy(operations[slice(*span)], inputs, [value for value, _ in lost], backward)
        pir.set_insertion_point_to_block_end(block)


_open: list[Parts] = []  # those being recorded; one at most


@contextlib.contextmanager
def recording(is_on: bool) -> Iterator[Parts]:
    """Collect the parts of what is built meanwhile, all of it before its gradients are."""
    parts = Parts()
    if not is_on:
        yield parts
        return
    _open.append(parts)
    try:
        yield parts
    finally:
        _open.pop()
    parts.end = len(_block().ops)


@contextlib.contextmanager
def part() -> Iterator[None]:
    """Mark what is built meanwhile as one part; nothing happens where none are collected."""
    if not _open:
        yield
        return
    start = len(_block().ops)
    yield
    _open[-1].spans.append((start, len(_block().ops)))


def _block() -> Any:
    return paddle.static.default_main_program().global_block()


def _plan(
    operations: Sequence[Any], span: tuple[int, int], backward: set, places: dict[int, int]
) -> tuple[list[Any], list[tuple[Any, int]]]:
    """The values that come into a part, and those that only gradients use after it.

    Results that operations behind the part use, too, are there anyway and stay in use. A value
    that is used by gradients comes with the place of the first of them.
    """
    part_places = range(*span)
    inputs, lost = [], []
    for operation in operations[slice(*span)]:
        for value in operation.operands_source():
            if places[value.get_defining_op().id()] not in part_places:
                inputs.append(value)
        for value in operation.results():
            users = value.all_used_ops()
            goes_on = any(u not in backward and places[u.id()] not in part_places for u in users)
            gradients = [places[user.id()] for user in users if user in backward]
            if gradients and not goes_on and operation.name() not in _DRAWS:
                lost.append((value, min(gradients)))
    return inputs, lost


def _copy(part: Sequence[Any], inputs: Sequence[Any], lost: Sequence[Any], backward: set) -> None:
    """Copy the operations of a part to the point of insertion; gradients use the copies."""
    copies = pir.IrMapping()
    for value in inputs:
        copies.add(value, value)
    for operation in part:
        if operation.name() in _DRAWS:
            for value in operation.results():
                copies.add(value, value)
        else:
            operation.clone(copies, pir.CloneOptions(False, True, True))
    for value in lost:
        value.replace_grad_users_with(copies.look_up(value), backward)
