"""Ranks and collectives on fleet: what Paddle 3.3 leaves to its user in static graph.

``fleet.distributed_optimizer`` fails in PIR, so gradients are reduced here: concatenated, summed
once over the ranks, split again. With one rank everything is the identity.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import math
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import paddle
from paddle import Tensor, _C_ops
from paddle.base import core
from paddle.distributed import ReduceOp, fleet
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes

RING = 0
STOP_VOTE = "stop_vote"  # a feed of 1 where a rank was told to stop, and its mean over all ranks
_SUM = int(ReduceOp.SUM)


@functools.cache
def _join() -> None:
    """Join the job, once in the life of a process."""
    if not paddle.is_compiled_with_cuda():
        paddle.set_device("cpu")
    # Fleet greets with a page about groups and flags that nobody can act on.
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not paddle.is_compiled_with_cuda() and paddle.distributed.get_world_size() > 1:
            _meet_over_gloo()
        else:
            fleet.init(is_collective=True, log_level="WARNING")
    # Initial values are set through an interface that PIR only warns of.
    warnings.filterwarnings("ignore", message="Tensor do not have 'place' interface")


def _meet_over_gloo() -> None:
    """Connect all ranks once, over gloo: ring 0, which is all that the programs here need.

    ``fleet.init`` makes two groups, and Paddle 3.3.1 connects all ranks of a group twice under the
    same keys of the store. Who comes to the second time early reads addresses of the first, and
    ends with "Connection refused" or waits for 30 seconds: every other start of 4 ranks.
    """
    store = core.create_or_get_global_tcp_store()
    ranks = paddle.distributed.get_rank(), paddle.distributed.get_world_size()
    core.CommContextManager.create_gloo_comm_context(store, str(RING), *ranks)


_ARRIVALS = "unimo_arrivals"  # of the store: how often ranks have come to ``meet``
_POLL_SECONDS = 0.01
_num_meetings = itertools.count(1)


def meet() -> None:
    """Wait for all ranks, however long it takes; every rank calls it equally often.

    Over gloo a collective fails where a rank comes 30 seconds after another, and Paddle offers no
    other limit: this goes before those to which ranks may come so late. A rank that hangs is for
    the launcher to notice.
    """
    if num_ranks() == 1 or paddle.is_compiled_with_cuda():
        return
    wanted = next(_num_meetings) * num_ranks()
    arrived = _arrive(1)
    while arrived < wanted:
        time.sleep(_POLL_SECONDS)
        arrived = _arrive(0)


def _arrive(count: int) -> int:
    """Add to the arrivals of all ranks; return them."""
    store = core.create_or_get_global_tcp_store()
    # A signal would break the store's connection: it is kept until the answer is there.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    try:
        return store.add(_ARRIVALS, count)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_is_alone = [False]  # innermost last


def _is_member() -> bool:
    return _join.cache_info().currsize > 0 and not _is_alone[-1]


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Build programs as a job of one process would: without collectives.

    What ranks run unequally often must have none.
    """
    _is_alone.append(True)
    try:
        yield
    finally:
        _is_alone.pop()


def start() -> None:
    """Join the job and switch to static graph; call once, before any program is built."""
    if paddle.in_dynamic_mode():
        _join()  # before the switch: Paddle creates its ring in dynamic mode only
        paddle.enable_static()


def rank() -> int:
    """This process's number in the job; 0 of one that has joined none."""
    return paddle.distributed.get_rank() if _is_member() else 0


def num_ranks() -> int:
    """The processes of the job; 1 without one."""
    return paddle.distributed.get_world_size() if _is_member() else 1


def device() -> paddle.CPUPlace | paddle.CUDAPlace:
    """Where this process computes: on a machine of several GPUs each rank has its own."""
    if not paddle.is_compiled_with_cuda():
        return paddle.CPUPlace()
    # Of what a launcher sets (FLAGS_selected_gpus); the first one without.
    return paddle.CUDAPlace(paddle.distributed.ParallelEnv().device_id)


def declare_votes() -> dict[str, Tensor]:
    """The feed by which each rank votes for an end of the run; none with one rank."""
    if num_ranks() == 1:
        return {}
    return {STOP_VOTE: paddle.static.data(STOP_VOTE, [], "float32")}


def mean_gradients(
    params_grads: Sequence[tuple[Tensor, Tensor]], scalars: Mapping[str, Tensor]
) -> tuple[list[tuple[Tensor, Tensor]], dict[str, Tensor]]:
    """Average every gradient and the scalars over the ranks with one collective.

    Returns:
        The pairs sorted by parameter name, and the scalars.
    """
    pairs = sorted(params_grads, key=lambda pair: pair[0].name)
    tensors = [gradient for _, gradient in pairs]
    means = _means([*tensors, *scalars.values()])
    reduced = [(p, mean) for (p, _), mean in zip(pairs, means, strict=False)]
    return reduced, dict(zip(scalars, means[len(pairs) :], strict=True))


def mean_scalars(scalars: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Average scalars over the ranks with one collective; no gradient goes through it.

    What divides a rank's sum so that the mean over the ranks is that of the whole batch, is the
    mean of what each rank counts.
    """
    return dict(zip(scalars, _means(list(scalars.values())), strict=True))


def _means(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Of float32 tensors, each of a known shape."""
    count = num_ranks()
    if count == 1 or not tensors:
        return list(tensors)
    shapes = [list(tensor.shape) for tensor in tensors]
    flat = paddle.concat([tensor.detach().reshape([-1]) for tensor in tensors])
    flat = _C_ops.all_reduce(paddle.scale(flat, 1.0 / count), RING, _SUM)
    parts = paddle.split(flat, [math.prod(shape) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


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


def gather_constants(values: Tensor) -> Tensor:
    """Return the values [n, ...] of all ranks [ranks * n, ...]; no gradient goes through it."""
    count = num_ranks()
    return values if count == 1 else _C_ops.all_gather(values, RING, count)


def gather_arrays(arrays: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """The arrays of every rank, by rank; every rank calls it, with any names and shapes."""
    if num_ranks() == 1:
        return [dict(arrays)]
    data = _to_bytes(arrays)
    gather = _gatherer()
    meet()  # shares of the work before may take unequally long
    sizes = gather(np.array([len(data)]))
    words = _to_words(data, int(sizes.max()))
    parts = gather(words).reshape(num_ranks(), -1).view(np.uint8)
    return [from_bytes(part[:size].tobytes()) for part, size in zip(parts, sizes, strict=True)]


def made_by_first(make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays that rank 0 makes, on every rank to the bit; every rank calls it.

    For what the same numbers give otherwise on another machine: solutions, clusters, draws.
    """
    if num_ranks() == 1:
        return dict(make())
    data = _to_bytes(make()) if rank() == 0 else b""
    add = _adder()
    meet()  # what rank 0 makes may take long
    size = int(add(np.array([len(data)]))[0])
    words = _to_words(data, size)  # zeros on all ranks but the first: the sum is what it sent
    for start in range(0, len(words), _PIECE):
        words[start : start + _PIECE] = add(words[start : start + _PIECE])
    return from_bytes(words.view(np.uint8)[:size].tobytes())


_WORD = 8  # bytes of the integers that carry them: gloo gathers no single bytes
_PIECE = 1 << 22  # of these integers that are added up at once


def _to_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    return to_bytes({name: np.asarray(value, order="C") for name, value in arrays.items()})


def _to_words(data: bytes, size: int) -> np.ndarray:
    """The data as int64, with zeros up to so many bytes."""
    words = np.zeros(-(-size // _WORD), np.int64)
    words.view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
    return words


@functools.cache
def _gatherer() -> Callable[[np.ndarray], np.ndarray]:
    """A function that gathers int64 [n], equally long on all ranks, to [ranks * n]."""
    return _on_words(gather_constants)


@functools.cache
def _adder() -> Callable[[np.ndarray], np.ndarray]:
    """A function that adds up int64 [n] of all ranks."""
    return _on_words(lambda words: _C_ops.all_reduce(words, RING, _SUM))


def _on_words(collective: Callable[[Tensor], Tensor]) -> Callable[[np.ndarray], np.ndarray]:
    """The collective as a function of int64 [n], equally long on all ranks."""
    program = paddle.static.Program()
    with paddle.static.program_guard(program):
        words = paddle.static.data("words", [-1], "int64")
        result = collective(words)
    executor = paddle.static.Executor(device())

    def run(value: np.ndarray) -> np.ndarray:
        (found,) = executor.run(program, feed={"words": value}, fetch_list=[result])
        return found

    return run
