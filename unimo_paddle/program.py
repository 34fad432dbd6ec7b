"""Static programs of a task, and the one Executor and scope that they share.

The same network is built anew for every program; parameters carry their own names, so programs
share weights through the scope.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paddle
from paddle import Tensor

from unimo_paddle import distributed
from unimo_paddle.data.fields import Field
from unimo_paddle.errors import UserError
from unimo_paddle.loss_scale import LossScale
from unimo_paddle.ops.products import products_in
from unimo_paddle.ops.recompute import Parts, recording
from unimo_paddle.optimizer import Optimizer
from unimo_paddle.tasks.base import Service, Task, Tensors

ACCUMULATOR_SUFFIX = "_accumulated"
GRADIENT_SUFFIX = "_gradient"
LOSS_OF_PASSES = "loss_of_passes"  # a feed of what applies their gradients

Compute = Callable[[Any, Tensors], Mapping[str, Tensor]]  # (network, tensors) -> named outputs


@dataclass(frozen=True)
class StaticProgram:
    """A program with what goes in and what comes out.

    ``trained`` holds the shapes of the parameters that it makes gradients of, sorted by name,
    ``idle`` the names of those that could be trained but that its loss does not reach, and ``kept``
    the names of those that are never changed.
    """

    main: paddle.static.Program
    startup: paddle.static.Program
    feeds: dict[str, Tensor]
    fetches: dict[str, Tensor]
    trained: dict[str, tuple[int, ...]] = field(default_factory=dict)
    idle: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The parameters that it makes gradients of."""
        return tuple(self.trained)


@dataclass(frozen=True)
class Execution:
    """How the programs of training compute; what they learn is the same up to rounding."""

    precision: str = "float32"  # of matrix products
    recompute: bool = False  # whether layers are computed again for their gradients

    def check_device(self) -> None:
        """Refuse what this device computes more slowly than float32, or not at all."""
        if self.precision != "float32" and not paddle.is_compiled_with_cuda():
            raise UserError(
                f"train.precision is {self.precision}, which needs a GPU: on CPUs float32 is "
                "faster; leave it out"
            )

    @property
    def scales_loss(self) -> bool:
        """Whether gradients would fall below the smallest numbers without a scale."""
        return self.precision == "float16"

    def loss_scale(self) -> LossScale | None:
        """The scale, in the program under construction; None where none is needed."""
        return LossScale() if self.scales_loss else None

    @contextlib.contextmanager
    def computing(self) -> Iterator[Parts]:
        """Build a forward pass; the parts are for ``recompute`` once its gradients are there."""
        with recording(self.recompute) as parts, products_in(self.precision):
            yield parts


PLAIN = Execution()


@contextlib.contextmanager
def _building(seed: int) -> Iterator[tuple[paddle.static.Program, paddle.static.Program]]:
    main, startup = paddle.static.Program(), paddle.static.Program()
    paddle.seed(seed)
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
        yield main, startup


def _declare(fields: Sequence[Field], scalars: Sequence[str] = ()) -> dict[str, Tensor]:
    """A feed for each field, the batch dimension first and open, and for each float of shape []."""
    feeds = {
        item.name: paddle.static.data(
            item.name, [-1, *(-1 if size is None else size for size in item.shape)], item.dtype
        )
        for item in fields
    }
    return feeds | {name: paddle.static.data(name, [], "float32") for name in scalars}


def build_training(
    task: Task,
    fields: Sequence[Field],
    optimizer: Optimizer,
    *,
    seed: int,
    execution: Execution = PLAIN,
) -> StaticProgram:
    """Build the one program of an update: the loss, its gradients, the new weights."""
    with _building(seed) as (main, startup):
        network = task.build_network()
        network.train()
        feeds, votes = _declare(fields), distributed.declare_votes()
        # Before what is computed again: its variables go to the beginning of the program.
        scale = execution.loss_scale()
        with execution.computing() as parts:
            fetches = dict(task.loss(network, feeds))
        loss = fetches["loss"] if scale is None else scale.of(fetches["loss"])
        pairs = paddle.static.append_backward(loss, _trained(network))
        parts.recompute()
        _check_reached(_idle(network, pairs))
        pairs, means = distributed.mean_gradients(pairs, _scalars(fetches) | votes)
        fetches |= {**means, **optimizer.apply(pairs, means["loss"], scale)}
    kept = _kept(network)
    return StaticProgram(main, startup, feeds | votes, fetches, _shapes(pairs), kept=kept)


def _trained(network: Any) -> list[Tensor]:
    """The parameters that updates change; others are kept as they start."""
    return [parameter for parameter in network.parameters() if not parameter.stop_gradient]


def _kept(network: Any) -> tuple[str, ...]:
    """The names of the parameters that are kept as they start."""
    return tuple(sorted(each.name for each in network.parameters() if each.stop_gradient))


def _idle(network: Any, pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[str, ...]:
    """The names of the parameters that a loss with these gradients does not reach."""
    reached = {parameter.name for parameter, gradient in pairs if gradient is not None}
    return tuple(sorted({parameter.name for parameter in _trained(network)} - reached))


def _check_reached(idle: Sequence[str]) -> None:
    """Raise for parameters that an update does not reach: a setting asks for what no one uses."""
    if idle:
        raise UserError(
            f"this task does not use {', '.join(idle)}; set what makes it to 0: a size in the "
            "model section (such as num_roles, num_turns), or the weight of an objective"
        )


def build_pass(
    task: Task,
    fields: Sequence[Field],
    compute: Compute,
    *,
    seed: int,
    share: float,
    scalars: Sequence[str] = (),
    by: Sequence[str] = (),
    execution: Execution = PLAIN,
) -> StaticProgram:
    """Build a program that adds the gradients of a loss, times ``share``, to the accumulators.

    Args:
        compute: its outputs hold ``loss``.
        scalars: names of feeds that are single floats.
        by: names of fields. The gradients by them are outputs too, their names with a suffix.
    """
    with _building(seed) as (main, startup):
        network = task.build_network()
        network.train()
        feeds = _declare(fields, scalars)
        for name in by:
            feeds[name].stop_gradient = False
        scale = execution.loss_scale()
        with execution.computing() as parts:
            fetches = dict(compute(network, feeds))
        inputs = [feeds[name] for name in by]
        loss = fetches["loss"] if scale is None else scale.of(fetches["loss"])
        found = paddle.static.append_backward(loss, [*_trained(network), *inputs])
        parts.recompute()
        split = len(found) - len(inputs)
        for name, (_, gradient) in zip(by, found[split:], strict=True):
            fetches[name + GRADIENT_SUFFIX] = gradient
        # What this loss does not reach has none; another program of the update does.
        pairs = [pair for pair in found[:split] if pair[1] is not None]
        for parameter, gradient in pairs:
            total = _accumulator(parameter.name, parameter.shape)
            paddle.assign(total + gradient * share, total)
        fetches |= distributed.mean_scalars(_scalars(fetches))
    idle, kept = _idle(network, pairs), _kept(network)
    return StaticProgram(main, startup, feeds, fetches, _shapes(pairs), idle, kept)


def build_application(
    passes: Sequence[StaticProgram],
    optimizer: Optimizer,
    *,
    seed: int,
    execution: Execution = PLAIN,
) -> StaticProgram:
    """Build the program that updates the weights by what all passes added, and clears it.

    The gradients are averaged over the ranks here: once, however many passes there were. What no
    pass reaches is refused. The loss of the passes is fed, for one that is no number may have
    gradients that are.
    """
    _check_reached(sorted(set.intersection(*(set(program.idle) for program in passes))))
    shapes = {name: shape for program in passes for name, shape in program.trained.items()}
    with _building(seed) as (main, startup):
        # Zeros until a pass is started: random numbers would shift those that it draws.
        totals = {name: _accumulator(name, shape) for name, shape in sorted(shapes.items())}
        pairs = [(_zeros(name, shapes[name]), total * 1.0) for name, total in totals.items()]
        losses, votes = _declare((), [LOSS_OF_PASSES]), distributed.declare_votes()
        reduced, agreed = distributed.mean_gradients(pairs, votes)
        outputs = optimizer.apply(reduced, losses[LOSS_OF_PASSES], execution.loss_scale())
        for total in totals.values():
            paddle.assign(paddle.zeros(total.shape), total)
    return StaticProgram(main, startup, losses | votes, {**outputs, **agreed}, _shapes(pairs))


def _shapes(pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, tuple[int, ...]]:
    shapes = {parameter.name: tuple(parameter.shape) for parameter, _ in pairs}
    return dict(sorted(shapes.items()))


def _scalars(fetches: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is logged: of shape [], and to be that of all ranks."""
    return {name: value for name, value in fetches.items() if not value.shape}


def _accumulator(name: str, shape: Sequence[int]) -> Tensor:
    total = _zeros(name + ACCUMULATOR_SUFFIX, shape)
    total.stop_gradient = True
    return total


def _zeros(name: str, shape: Sequence[int]) -> Tensor:
    zero = paddle.nn.initializer.Constant(0.0)
    return paddle.create_parameter(list(shape), "float32", name=name, default_initializer=zero)


def build_forward(
    task: Task,
    fields: Sequence[Field],
    compute: Compute,
    *,
    seed: int = 0,
    is_training: bool = False,
    precision: str = "float32",
) -> StaticProgram:
    """Build a program without gradients, and without dropout unless it is one of training."""
    alone = contextlib.nullcontext() if is_training else distributed.alone()
    with alone, products_in(precision), _building(seed) as (main, startup):
        network = task.build_network()
        network.train() if is_training else network.eval()
        feeds = _declare(fields)
        fetches = dict(compute(network, feeds))
    return StaticProgram(main, startup, feeds, fetches)


def build_evaluation(task: Task, fields: Sequence[Field]) -> StaticProgram:
    """Build the forward pass with the losses, without dropout."""
    return build_forward(task, fields, task.loss)


def build_service(task: Task, service: Service) -> StaticProgram:
    """Build one served function, without dropout and without labels."""
    return build_forward(task, service.inputs, service.compute)


class Runner:
    """One Executor over one scope of its own: weights live here."""

    def __init__(self) -> None:
        self.scope = paddle.static.Scope()
        self.place = distributed.device()
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
        """Run once and return the named outputs (all when ``names`` is None)."""
        names = list(program.fetches) if names is None else list(names)
        with paddle.static.scope_guard(self.scope):
            values = self.executor.run(
                program.main,
                feed={name: batch[name] for name in program.feeds},
                fetch_list=[program.fetches[name] for name in names],
            )
        return dict(zip(names, values, strict=True))

    def state(self, programs: Sequence[StaticProgram]) -> dict[str, np.ndarray]:
        """Copies of all parameters and moments; accumulators are zero between updates."""
        return {
            name: np.array(value)
            for program in programs
            for name, value in self._persistent(program).items()
        }

    def _persistent(self, program: StaticProgram) -> dict[str, Tensor]:
        """What a program keeps from update to update, by name: live views."""
        with paddle.static.scope_guard(self.scope):
            state = program.main.state_dict("all", self.scope)
        return {name: x for name, x in state.items() if not name.endswith(ACCUMULATOR_SUFFIX)}

    def value(self, name: str) -> np.ndarray:
        """A copy of one persistable variable."""
        return np.array(self.scope.find_var(name).get_tensor())

    def restore(self, program: StaticProgram, arrays: Mapping[str, np.ndarray]) -> None:
        """Set those of the program's variables that ``arrays`` names."""
        # Not `paddle.pir.core.set_state_dict`: it makes its tensors by `paddle.to_tensor`, which
        # in static graph appends operations instead.
        for name in self._persistent(program):
            if name in arrays:
                self.scope.find_var(name).get_tensor().set(arrays[name], self.place)

    def shapes(self, program: StaticProgram) -> dict[str, tuple[int, ...]]:
        """Shapes of all parameters and moments of the program."""
        return {name: np.asarray(x).shape for name, x in self._persistent(program).items()}
