"""Ranks and collectives on fleet: what Paddle 3.3 leaves to its user in static graph.

``fleet.distributed_optimizer`` fails in PIR, so gradients are reduced here: concatenated, summed
once over the ranks, split again. With one rank everything is the identity.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Sequence

import paddle
from paddle import Tensor, _C_ops
from paddle.distributed import ReduceOp, fleet

RING = 0
_SUM = int(ReduceOp.SUM)


def start() -> None:
    """Join the job and switch to static graph; call once, before any program is built."""
    if paddle.in_dynamic_mode():
        if not paddle.is_compiled_with_cuda():
            paddle.set_device("cpu")
        # Fleet greets with a page about groups and flags that nobody can act on.
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # In this order: fleet creates its ring in dynamic mode only.
            fleet.init(is_collective=True, log_level="WARNING")
        # Initial values are set through an interface that PIR only warns of.
        warnings.filterwarnings("ignore", message="Tensor do not have 'place' interface")
        paddle.enable_static()


def rank() -> int:
    """This process's number in the job."""
    return fleet.worker_index()


def num_ranks() -> int:
    """The processes of the job."""
    return fleet.worker_num()


def mean_gradients(params_grads: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Average every gradient over the ranks with one collective; sorted by parameter name."""
    pairs = sorted(params_grads, key=lambda pair: pair[0].name)
    count = num_ranks()
    if count == 1:
        return pairs
    flat = paddle.concat([gradient.reshape([-1]) for _, gradient in pairs])
    flat = _C_ops.all_reduce(paddle.scale(flat, 1.0 / count), RING, _SUM)
    sizes = [math.prod(parameter.shape) for parameter, _ in pairs]
    parts = paddle.split(flat, sizes)
    return [(p, part.reshape(p.shape)) for (p, _), part in zip(pairs, parts, strict=True)]


def gather_rows(rows: Tensor) -> Tensor:
    """Return the rows [n, F] of all ranks [ranks * n, F], with the gradient of every rank.

    ``all_gather`` itself has no gradient, silently: its backward is written here.
    """
    count = num_ranks()
    if count == 1:
        return rows
    width = rows.shape[1]  # the number of rows is open until the program runs
    return paddle.static.nn.static_pylayer(
        lambda value: _C_ops.all_gather(value, RING, count),
        [rows],
        lambda gradient: _own_rows(_C_ops.all_reduce(gradient, RING, _SUM), count, width),
    )


def _own_rows(rows: Tensor, count: int, width: int) -> Tensor:
    """This rank's part [n, F] of the rows of all ranks [ranks * n, F]."""
    return rows.reshape([count, -1, width])[rank()]


def gather_ids(ids: Tensor) -> Tensor:
    """Return the int64 ids [n] of all ranks [ranks * n]; they carry no gradient."""
    count = num_ranks()
    return ids if count == 1 else _C_ops.all_gather(ids, RING, count)
