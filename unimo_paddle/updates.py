"""Updates: from batches to new weights, in one of four forms with one interface.

- plain: one program does it all;
- accumulating: passes add their gradients to accumulators, and one program applies them;
- cached: a pass encodes its batch slice by slice (``tasks.base.CachedLoss``), in several programs
  that add to the same accumulators. Between them only features and their gradients are kept;
- adversarial: a pass runs one program several times, each time with other perturbations
  (``adversarial``).

Dropout is reseeded before everything that draws, from its place in the run alone, never from what
ran before. So a resumed run draws what the run would have drawn, and a slice is encoded twice with
the same masks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import paddle
from paddle import Tensor

from unimo_paddle import distributed
from unimo_paddle.adversarial import PerturbedLoss
from unimo_paddle.data.fields import Batch, Field
from unimo_paddle.errors import UserError
from unimo_paddle.optimizer import Optimizer
from unimo_paddle.program import (
    GRADIENT_SUFFIX,
    LOSS_OF_PASSES,
    PLAIN,
    Execution,
    Runner,
    StaticProgram,
    build_application,
    build_forward,
    build_pass,
    build_training,
)
from unimo_paddle.tasks.base import Arrays, CachedLoss, Task, Tensors

Place = tuple[int, int, int]  # seed of the run, number of the pass in it, rank


class Pass(Protocol):
    """What is done with one batch. ``programs[0]`` holds every parameter of the network."""

    programs: tuple[StaticProgram, ...]

    def run(self, runner: Runner, batch: Batch, place: Place) -> dict[str, np.ndarray]:
        """Learn from the batch; return the named terms of its loss."""


class Update:
    """One update of the weights.

    Args:
        pass_: what is done with each batch.
        application: applies and clears what the passes added up; None where a pass does it.
        num_passes: batches of an update.
        seed: of the run.
    """

    def __init__(
        self, pass_: Pass, application: StaticProgram | None, *, num_passes: int, seed: int
    ) -> None:
        self.num_passes = num_passes
        self._pass = pass_
        self._application = application
        self._seed = seed
        self._rank = distributed.rank()

    @property
    def programs(self) -> tuple[StaticProgram, ...]:
        """The programs that hold everything a checkpoint keeps, between them."""
        applications = () if self._application is None else (self._application,)
        return (self._pass.programs[0], *applications)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """All parameters that are trained."""
        return self.programs[-1].parameter_names

    @property
    def kept_names(self) -> tuple[str, ...]:
        """All parameters that are never changed."""
        return self.programs[0].kept

    def start(self, runner: Runner) -> None:
        """Give all variables their initial values, which depend on the seed alone."""
        for program in self.programs[::-1]:
            paddle.seed(self._seed)
            runner.start(program)

    def run(
        self, runner: Runner, batches: Iterator[Batch], step: int, *, wants_stop: bool = False
    ) -> dict[str, np.ndarray]:
        """Take the batches of an update and change the weights; return what is logged.

        ``distributed.STOP_VOTE`` is above 0 where any rank wants an end.

        Args:
            step: updates before this one.
            wants_stop: this rank's vote for an end of the run.
        """
        votes = {distributed.STOP_VOTE: np.array(wants_stop, np.float32)}
        passes = []
        for index in range(self.num_passes):
            place = (self._seed, step * self.num_passes + index, self._rank)
            # No name holds the batch: while the next one is made this one must be gone.
            passes.append(self._pass.run(runner, {**next(batches), **votes}, place))
        values = _mean(passes)
        if self._application is not None:
            distributed.meet()  # several programs lie behind, on each rank its own
            loss = np.array(values["loss"], np.float32).reshape([])  # of all ranks
            values |= runner.run(self._application, {**votes, LOSS_OF_PASSES: loss})
        return {**votes, **values}


def _mean(passes: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The terms of all passes, which have the same names, averaged as their gradients are."""
    if len(passes) == 1:
        return passes[0]
    # In float64: numbers that are equal in all passes, such as a temperature, stay what they are.
    return {
        name: np.mean([terms[name] for terms in passes], axis=0, dtype=np.float64)
        for name in passes[0]
    }


def build_update(
    task: Task,
    batch_size: int,
    fields: Sequence[Field],
    optimizer: Optimizer,
    *,
    seed: int,
    num_passes: int,
    execution: Execution = PLAIN,
) -> Update:
    """Build the form of update that the task and the number of passes ask for.

    Args:
        batch_size: samples of the batches, of all streams.
        fields: of the batches.
        execution: how the programs compute.
    """
    cached, perturbed = task.cached_loss(batch_size), task.perturbed_loss()
    assert cached is None or perturbed is None, "no task is both cached and perturbed"
    share = 1.0 / num_passes
    if execution.scales_loss and (cached or perturbed):
        raise UserError(
            "train.precision float16 scales one loss, and this task takes gradients of several "
            "(chunks, or perturbations); give bfloat16"
        )
    if execution.recompute and perturbed:
        raise UserError(
            "train.recompute does nothing for adversarial training, whose gradients are made "
            "within the forward pass; leave it out, or lower train.batch_size"
        )
    if perturbed is not None:
        pass_ = AdversarialPass(
            task, perturbed, fields, seed=seed, share=share, execution=execution
        )
    elif cached is not None:
        pass_ = CachedPass(task, cached, seed=seed, share=share, execution=execution)
    elif num_passes == 1:
        whole = build_training(task, fields, optimizer, seed=seed, execution=execution)
        return Update(WholePass(whole), None, num_passes=1, seed=seed)
    else:
        program = build_pass(task, fields, task.loss, seed=seed, share=share, execution=execution)
        pass_ = WholePass(program)
    application = build_application(pass_.programs, optimizer, seed=seed, execution=execution)
    return Update(pass_, application, num_passes=num_passes, seed=seed)


class WholePass:
    """A batch in one run of one program."""

    def __init__(self, program: StaticProgram) -> None:
        self.programs = (program,)

    def run(self, runner: Runner, batch: Batch, place: Place) -> dict[str, np.ndarray]:
        """See ``Pass``."""
        _seed_dropout(*place)
        return runner.run(self.programs[0], batch)


class CachedPass:
    """A batch encoded slice by slice, its features twice (see ``CachedLoss``).

    All ranks run the same programs equally often, for their batches have equal sizes: the terms
    that each of them logs are averaged over the ranks.
    """

    def __init__(
        self,
        task: Task,
        cached: CachedLoss,
        *,
        seed: int,
        share: float,
        execution: Execution = PLAIN,
    ) -> None:
        self._cached = cached
        encode, names = cached.encode, [item.name for item in cached.features]
        gradients = [replace(item, name=item.name + GRADIENT_SUFFIX) for item in cached.features]

        def descend(network: Any, tensors: Tensors) -> dict[str, Tensor]:
            """The features, and a loss with the gradient of the terms that see all of them."""
            features = encode.compute(network, tensors)
            products = [(features[x] * tensors[x + GRADIENT_SUFFIX]).sum() for x in names]
            return {"loss": paddle.add_n(products), **features}

        build = functools.partial(build_pass, task, seed=seed, share=share, execution=execution)
        self.encode = build_forward(
            task,
            encode.fields,
            encode.compute,
            seed=seed,
            is_training=True,
            precision=execution.precision,
        )
        self.combine = build((*cached.features, *cached.fields), cached.combine, by=names)
        self.descend = build((*encode.fields, *gradients), descend)
        self.shares = tuple(
            build(item.fields, item.compute, scalars=cached.totals) for item in cached.shares
        )
        self.programs = (self.combine, self.descend, *self.shares)

    def run(self, runner: Runner, batch: Batch, place: Place) -> dict[str, np.ndarray]:
        """See ``Pass``."""
        encode, shares = self._cached.encode, self._cached.shares
        features = self._features(runner, batch, place)
        distributed.meet()
        values = runner.run(self.combine, {**batch, **features})
        gradients = {x + GRADIENT_SUFFIX: values.pop(x + GRADIENT_SUFFIX) for x in features}
        totals = {name: values.pop(name) for name in self._cached.totals}
        for index, rows in enumerate(encode.slices):
            _seed_dropout(*place, 0, index)
            runner.run(self.descend, _cut({**batch, **gradients}, self.descend, rows), names=[])
        for number, (share, program) in enumerate(zip(shares, self.shares, strict=True), 1):
            for index, rows in enumerate(share.slices):
                _seed_dropout(*place, number, index)
                terms = runner.run(program, _cut(batch, program, rows) | totals)
                for name, term in terms.items():
                    values[name] = values.get(name, 0.0) + term
        return values

    def _features(self, runner: Runner, batch: Batch, place: Place) -> dict[str, np.ndarray]:
        """All slices encoded without gradient, with the masks that ``descend`` will draw."""
        parts = []
        for index, rows in enumerate(self._cached.encode.slices):
            _seed_dropout(*place, 0, index)
            parts.append(runner.run(self.encode, _cut(batch, self.encode, rows)))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class AdversarialPass:
    """A batch learnt from as often as its perturbations take steps (see ``PerturbedLoss``)."""

    def __init__(
        self,
        task: Task,
        perturbed: PerturbedLoss,
        fields: Sequence[Field],
        *,
        seed: int,
        share: float,
        execution: Execution = PLAIN,
    ) -> None:
        self._perturbed = perturbed
        fields = (*fields, *perturbed.fields)
        program = build_pass(
            task, fields, perturbed.step, seed=seed, share=share, execution=execution
        )
        self.programs = (program,)

    def run(self, runner: Runner, batch: Batch, place: Place) -> dict[str, np.ndarray]:
        """See ``Pass``."""
        rng = np.random.default_rng(np.random.SeedSequence((*place, 0)))
        start = self._perturbed.start(batch, rng)
        values: dict[str, np.ndarray] = {}
        for outputs in self.steps(runner, batch, start, place):
            for name, value in outputs.items():
                if name not in start:
                    values[name] = values.get(name, 0.0) + value
        # The loss is a sum over the steps, its parts are means.
        count = self._perturbed.config.steps
        return {name: x if name == "loss" else x / count for name, x in values.items()}

    def steps(
        self, runner: Runner, batch: Batch, perturbations: Arrays, place: Place
    ) -> Iterator[dict[str, np.ndarray]]:
        """Learn from each step in turn; yield its loss, the parts of it, and what moved."""
        for index in range(self._perturbed.config.steps):
            _seed_dropout(*place, 0, index)
            outputs = runner.run(self.programs[0], {**batch, **perturbations})
            perturbations = {name: outputs[name] for name in perturbations}
            yield outputs


def _cut(arrays: Arrays, program: StaticProgram, rows: slice) -> dict[str, np.ndarray]:
    """Views of these rows of what the program is fed, as far as the arrays hold it."""
    return {name: arrays[name][rows] for name in program.feeds if name in arrays}


def _seed_dropout(*place: int) -> None:
    """Seed what a program draws by its place in the run."""
    paddle.seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
