"""Static programs of a task, and the one Executor and scope that they share.

The same network is built anew for every program; parameters carry their own names, so programs
share weights through the scope.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import Tensor

from unimo_paddle import distributed
from unimo_paddle.data.fields import Field
from unimo_paddle.optimizer import Optimizer
from unimo_paddle.tasks.base import Service, Task

ACCUMULATOR_SUFFIX = "_accumulated"


@dataclass(frozen=True)
class StaticProgram:
    """A program with what goes in and what comes out."""

    main: paddle.static.Program
    startup: paddle.static.Program
    feeds: dict[str, Tensor]
    fetches: dict[str, Tensor]
    parameter_names: tuple[str, ...] = ()


@contextlib.contextmanager
def _building(seed: int) -> Iterator[tuple[paddle.static.Program, paddle.static.Program]]:
    main, startup = paddle.static.Program(), paddle.static.Program()
    paddle.seed(seed)
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
        yield main, startup


def _declare(fields: Sequence[Field]) -> dict[str, Tensor]:
    """A feed for each field, the batch dimension first and open."""
    return {
        item.name: paddle.static.data(
            item.name, [-1, *(-1 if size is None else size for size in item.shape)], item.dtype
        )
        for item in fields
    }


def build_training(
    task: Task, fields: Sequence[Field], optimizer: Optimizer, *, seed: int, accumulation: int = 1
) -> tuple[StaticProgram, StaticProgram | None]:
    """Build the program of a pass and, with accumulation, the one that applies the update.

    With ``accumulation`` 1 one program does both. Otherwise the first adds its gradients to
    accumulators, and the second, run after every ``accumulation`` passes, updates and clears them.
    """
    with _building(seed) as (main, startup):
        network = task.build_network()
        network.train()
        feeds = _declare(fields)
        fetches = dict(task.loss(network, feeds))
        pairs = paddle.static.append_backward(fetches["loss"])
        pairs = distributed.mean_gradients(pairs)
        names = tuple(parameter.name for parameter, _ in pairs)
        if accumulation == 1:
            fetches["gradient_norm"] = optimizer.apply(pairs)
            return StaticProgram(main, startup, feeds, fetches, names), None
        shapes = [(p.name, p.shape, str(p.dtype).rpartition(".")[2].lower()) for p, _ in pairs]
        for parameter, gradient in pairs:
            total = _accumulator(parameter.name, parameter.shape)
            paddle.assign(total + gradient / accumulation, total)
    step = StaticProgram(main, startup, feeds, fetches, names)
    with _building(seed) as (main, startup):
        pairs = []
        for name, shape, _ in shapes:
            # Zeros until the pass is started: random numbers would shift those that it draws.
            parameter = _zeros(name, shape)
            pairs.append((parameter, _accumulator(name, shape)))
        norm = optimizer.apply([(parameter, total * 1.0) for parameter, total in pairs])
        for _, total in pairs:
            paddle.assign(paddle.zeros(total.shape), total)
    return step, StaticProgram(main, startup, {}, {"gradient_norm": norm}, names)


def _accumulator(name: str, shape: Sequence[int]) -> Tensor:
    total = _zeros(name + ACCUMULATOR_SUFFIX, shape)
    total.stop_gradient = True
    return total


def _zeros(name: str, shape: Sequence[int]) -> Tensor:
    zero = paddle.nn.initializer.Constant(0.0)
    return paddle.create_parameter(shape, "float32", name=name, default_initializer=zero)


def build_evaluation(task: Task, fields: Sequence[Field]) -> StaticProgram:
    """Build the forward pass with the losses, without dropout."""
    with _building(0) as (main, startup):
        network = task.build_network()
        network.eval()
        feeds = _declare(fields)
        fetches = dict(task.loss(network, feeds))
    return StaticProgram(main, startup, feeds, fetches)


def build_service(task: Task, service: Service) -> StaticProgram:
    """Build one served function, without dropout and without labels."""
    with _building(0) as (main, startup):
        network = task.build_network()
        network.eval()
        feeds = _declare(service.inputs)
        fetches = dict(service.compute(network, feeds))
    return StaticProgram(main, startup, feeds, fetches)


class Runner:
    """One Executor over one scope of its own: weights live here."""

    def __init__(self) -> None:
        self.scope = paddle.static.Scope()
        on_gpu = paddle.is_compiled_with_cuda()
        self.place = paddle.CUDAPlace(0) if on_gpu else paddle.CPUPlace()
        self.executor = paddle.static.Executor(self.place)

    def start(self, program: StaticProgram) -> None:
        """Give every variable of the program its initial value."""
        with paddle.static.scope_guard(self.scope):
            self.executor.run(program.startup)

    def run(
        self,
        program: StaticProgram,
        batch: Mapping[str, np.ndarray],
        names: Sequence[str] | None = None,
    ) -> dict[str, np.ndarray]:
        """Run once and return the named outputs (all when none is named)."""
        names = list(program.fetches) if names is None else list(names)
        with paddle.static.scope_guard(self.scope):
            values = self.executor.run(
                program.main,
                feed={name: batch[name] for name in program.feeds},
                fetch_list=[program.fetches[name] for name in names],
            )
        return dict(zip(names, values, strict=True))

    def state(self, programs: Sequence[StaticProgram]) -> dict[str, np.ndarray]:
        """Copies of all persistable variables: parameters, moments, accumulators."""
        arrays: dict[str, np.ndarray] = {}
        with paddle.static.scope_guard(self.scope):
            for program in programs:
                for name, value in program.main.state_dict("all", self.scope).items():
                    arrays[name] = np.array(value)
        return arrays

    def value(self, name: str) -> np.ndarray:
        """A copy of one persistable variable."""
        return np.array(self.scope.find_var(name).get_tensor())

    def restore(self, program: StaticProgram, arrays: Mapping[str, np.ndarray]) -> None:
        """Set those of the program's variables that ``arrays`` names."""
        # Not `paddle.pir.core.set_state_dict`: it makes its tensors by `paddle.to_tensor`, which
        # in static graph appends operations instead.
        for name in program.main.state_dict("all", self.scope):
            if name in arrays:
                self.scope.find_var(name).get_tensor().set(arrays[name], self.place)

    def shapes(self, program: StaticProgram) -> dict[str, tuple[int, ...]]:
        """Shapes of all persistable variables of the program."""
        with paddle.static.scope_guard(self.scope):
            state = program.main.state_dict("all", self.scope)
            return {name: np.asarray(value).shape for name, value in state.items()}
