"""The update rule: schedule of the learning rate, clipping by global norm, AdamW.

``form: original`` is the rule of the authors' released program, whose epsilon is not corrected
for the bias of the second moment: p -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import paddle
from paddle import Tensor
from paddle.optimizer.lr import LRScheduler

from unimo_paddle.errors import UserError
from unimo_paddle.loss_scale import SCALE_NAME, LossScale

FORMS = ("adamw", "original")
UNDECAYED_SUFFIXES = ("_bias", "_b", ".b_0")
STEP_NAME = "optimizer_step"


@dataclass(frozen=True)
class OptimizerConfig:
    """How parameters follow their gradients."""

    learning_rate: float = 1e-4  # highest value of the schedule
    schedule: str = "linear"  # linear or cosine to 0 after warm-up, constant, noam, or steps
    warmup_steps: int | None = None  # updates of linear warm-up; none means by warmup_ratio
    warmup_ratio: float = 0.06  # warm-up as a share of all updates; no warm-up, no linear decay
    milestone_steps: list[int] | None = None  # updates where schedule steps changes the rate
    milestone_ratios: list[float] = field(
        default_factory=list
    )  # milestones as shares of all updates, such as [0.6, 0.8]; counts without milestone_steps
    milestone_factors: list[float] = field(
        default_factory=list
    )  # share of learning_rate from each milestone on, such as [0.1, 0.01]
    weight_decay: float = 0.01  # decoupled decay, not on biases and layer norms
    beta1: float = 0.9  # memory of the first moment
    beta2: float = 0.98  # memory of the second moment
    epsilon: float = 1e-6  # added to the root of the second moment
    clip_norm: float = 1.0  # largest global norm of the gradient; 0 means no clipping
    form: str = "adamw"  # adamw (standard), or original: epsilon without bias correction
    learning_rate_factors: dict[str, float] = field(
        default_factory=dict
    )  # part of a parameter's name: factor on its learning rate, such as {cls_out: 10}

    def __post_init__(self) -> None:
        for name, (accepts, remedy) in _RULES.items():
            value = getattr(self, name)
            if not accepts(value):
                raise UserError(f"optimizer.{name} is {value!r}; give {remedy}")
        for part, factor in self.learning_rate_factors.items():
            if not (math.isfinite(factor) and factor >= 0.0):
                key = f"optimizer.learning_rate_factors.{part}"
                raise UserError(f"{key} is {factor}; give a finite number of at least 0")
        self._check_milestones()

    def num_warmup_steps(self, max_steps: int) -> int:
        """The updates of warm-up in a run of ``max_steps`` updates."""
        if self.warmup_steps is None:
            return int(self.warmup_ratio * max_steps)
        return self.warmup_steps

    def milestones(self, max_steps: int) -> list[tuple[int, float]]:
        """The updates at which schedule ``steps`` changes the rate, with the factors from there."""
        steps = self.milestone_steps
        if steps is None:
            steps = [round(ratio * max_steps) for ratio in self.milestone_ratios]
        return list(zip(steps, self.milestone_factors, strict=True))

    def _check_milestones(self) -> None:
        by_ratio = self.milestone_steps is None
        name = "milestone_ratios" if by_ratio else "milestone_steps"
        places = self.milestone_ratios if by_ratio else self.milestone_steps
        if self.schedule != "steps" and (places or self.milestone_factors):
            raise UserError(
                f"optimizer.{name if places else 'milestone_factors'} has no effect on schedule "
                f"{self.schedule}; leave it out, or give schedule steps"
            )
        if self.schedule == "steps" and not places:
            raise UserError(
                f"optimizer.{name} is empty; give the milestones of schedule steps, or schedule "
                "constant"
            )
        if len(places) != len(self.milestone_factors):
            raise UserError(
                f"optimizer.milestone_factors has {len(self.milestone_factors)} entries for "
                f"{len(places)} of {name}; give one for each"
            )


def linear_factor(step: int, *, warmup_steps: int, max_steps: int) -> float:
    """The original's ``linear_warmup_decay``: the first update has rate 0.

    The decay is counted from step 0, so it meets the warm-up a little below its top. As in the
    original, no warm-up means no decay either.
    """
    if warmup_steps == 0:
        return 1.0
    if step < warmup_steps:
        return step / warmup_steps
    return max(0.0, 1.0 - step / max_steps)


def cosine_factor(step: int, *, warmup_steps: int, max_steps: int) -> float:
    """Half a cosine from the end of the warm-up to 0 at ``max_steps``."""
    if step < warmup_steps:
        return step / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, max_steps - warmup_steps))
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def constant_factor(step: int, *, warmup_steps: int, max_steps: int) -> float:
    """One after the warm-up, whatever ``max_steps``."""
    return step / warmup_steps if step < warmup_steps else 1.0


def noam_factor(step: int, *, warmup_steps: int, max_steps: int) -> float:
    """A linear rise, then a fall with the root of the updates, whatever ``max_steps``.

    As "Attention is all you need" (2017), equation 3, with a top of one in update
    ``warmup_steps``. Updates count from 1: the first one has a rate above 0.
    """
    update = step + 1
    return min(update / warmup_steps, math.sqrt(warmup_steps / update))


def steps_factor(
    step: int, *, warmup_steps: int, max_steps: int, milestones: Sequence[tuple[int, float]]
) -> float:
    """One after the warm-up; from each milestone on the factor that belongs to it.

    Args:
        milestones: (updates before it, factor) in ascending order.
    """
    if step < warmup_steps:
        return step / warmup_steps
    reached = [factor for milestone, factor in milestones if step >= milestone]
    return reached[-1] if reached else 1.0


SCHEDULES: dict[str, Callable[..., float]] = {
    "linear": linear_factor,
    "cosine": cosine_factor,
    "constant": constant_factor,
    "noam": noam_factor,
    "steps": steps_factor,
}


def _is_from(low: float, high: float = math.inf) -> Callable[[float], bool]:
    return lambda value: low <= value < high


def _ascend(values: Sequence[float], low: float, high: float = math.inf) -> bool:
    """Whether each value is larger than the one before, and all are above low, up to high."""
    rising = all(a < b for a, b in pairwise(values))
    return rising and all(low < value <= high for value in values)


_RULES: dict[str, tuple[Callable[..., bool], str]] = {
    "learning_rate": (_is_from(0.0), "a finite number of at least 0"),
    "schedule": (lambda value: value in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
    "warmup_steps": (
        lambda value: value is None or value >= 0,
        "a number of updates of at least 0, or null",
    ),
    "warmup_ratio": (lambda value: 0.0 <= value <= 1.0, "a share from 0 to 1"),
    "milestone_steps": (
        lambda value: value is None or _ascend(value, 0),
        "ascending numbers of updates above 0, or null",
    ),
    "milestone_ratios": (
        lambda value: _ascend(value, 0.0, 1.0),
        "ascending shares above 0, up to 1",
    ),
    "milestone_factors": (
        lambda value: all(0.0 <= factor < math.inf for factor in value),
        "finite numbers of at least 0",
    ),
    "weight_decay": (_is_from(0.0), "a finite number of at least 0"),
    "beta1": (_is_from(0.0, 1.0), "a number from 0 to below 1"),
    "beta2": (lambda value: 0.0 < value < 1.0, "a number between 0 and 1"),
    "epsilon": (lambda value: 0.0 < value < math.inf, "a finite number above 0"),
    "clip_norm": (_is_from(0.0), "a finite number of at least 0; 0 means no clipping"),
    "form": (lambda value: value in FORMS, f"one of {', '.join(FORMS)}"),
}


class Schedule(LRScheduler):
    """The learning rate as a pure function of the step, so ``step(n)`` resumes it exactly."""

    def __init__(self, config: OptimizerConfig, max_steps: int) -> None:
        self._factor = partial(
            SCHEDULES[config.schedule],
            warmup_steps=config.num_warmup_steps(max_steps),
            max_steps=max_steps,
        )
        if config.schedule == "steps":
            self._factor = partial(self._factor, milestones=config.milestones(max_steps))
        super().__init__(config.learning_rate)

    def get_lr(self) -> float:
        """The learning rate of the update after ``last_epoch`` earlier ones."""
        return self.base_lr * self._factor(self.last_epoch)


def is_decayed(name: str) -> bool:
    """Whether weight decay applies to the parameter of this name, as in the original."""
    return "layer_norm" not in name and not name.endswith(UNDECAYED_SUFFIXES)


def global_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of all gradients taken together. Shape []."""
    squares = [paddle.sum(gradient * gradient) for gradient in gradients]
    return paddle.sqrt(paddle.add_n(squares))


class Optimizer:
    """One update rule; ``apply`` writes it into the program under construction.

    Moments and powers of the betas are persistable variables named after their parameter, so the
    program's state holds them and a restored state continues exactly.
    """

    def __init__(self, config: OptimizerConfig, max_steps: int) -> None:
        self.config = config
        self.schedule = Schedule(config, max_steps)

    def apply(
        self,
        params_grads: Sequence[tuple[Tensor, Tensor]],
        loss: Tensor | None = None,
        loss_scale: LossScale | None = None,
    ) -> dict[str, Tensor]:
        """Append the update of every parameter.

        Where the norm or the loss is no number, nothing changes: no parameter, no moment, no
        count of updates.

        Args:
            params_grads: parameters with their complete gradients, reduced over ranks and
                accumulated over passes.
            loss: whose gradients they are, reduced over ranks, or that of all passes; None where
                there is none.
            loss_scale: of the gradients, which is taken out and moved on.

        Returns:
            What is logged: ``gradient_norm``, the global norm before clipping, and the scale.
        """
        assert params_grads, "no parameter has a gradient"
        params_grads = sorted(params_grads, key=lambda pair: pair[0].name)
        parameters = [parameter for parameter, _ in params_grads]
        gradients = [gradient for _, gradient in params_grads]
        if loss_scale is not None:
            gradients = loss_scale.unscale(gradients)
        norm = global_norm(gradients)
        is_broken = ~paddle.isfinite(norm if loss is None else norm + loss)
        if self.config.clip_norm:
            limit = paddle.full([], self.config.clip_norm, dtype=norm.dtype)
            # Never above one: a gradient within the limit passes unchanged, to the bit.
            share = limit / paddle.maximum(norm, limit)
            gradients = [gradient * share for gradient in gradients]
        self._set_learning_rate_factors(parameters)
        rule = paddle.optimizer.AdamW(
            learning_rate=self.schedule,
            beta1=self.config.beta1,
            beta2=self.config.beta2,
            epsilon=self._epsilon(is_broken),
            parameters=parameters,
            weight_decay=self.config.weight_decay,
            apply_decay_param_fun=is_decayed,
        )
        rule._set_auxiliary_var("found_inf", is_broken.reshape([1]))  # what AMP would find
        rule.apply_gradients(list(zip(parameters, gradients, strict=True)))
        if loss_scale is None:
            return {"gradient_norm": norm}
        loss_scale.follow(is_broken)
        return {"gradient_norm": norm, SCALE_NAME: loss_scale.scale.reshape([])}

    def _set_learning_rate_factors(self, parameters: Sequence[Tensor]) -> None:
        """Mark parameters by name: Paddle reads the factor from the parameter itself."""
        used = set()
        for parameter in parameters:
            for part, factor in self.config.learning_rate_factors.items():
                if part in parameter.name:
                    parameter.optimize_attr["learning_rate"] = factor
                    used.add(part)
        unused = sorted(set(self.config.learning_rate_factors) - used)
        if unused:
            raise UserError(
                f"optimizer.learning_rate_factors.{unused[0]} is part of no parameter's name; "
                f"names look like {parameters[0].name}, {parameters[-1].name}"
            )

    def _epsilon(self, is_broken: Tensor) -> float | Tensor:
        """Epsilon for Paddle's rule, which multiplies it by the root of the bias correction.

        For the original form that factor is divided out beforehand, from an own count of updates.
        """
        if self.config.form == "adamw":
            return self.config.epsilon
        step = paddle.pir.core.create_persistable_value(
            "float32", [1], STEP_NAME, initializer=paddle.nn.initializer.Constant(0.0)
        )
        paddle.assign(step + (~is_broken).astype("float32"), step)
        correction = -paddle.expm1(step * math.log(self.config.beta2))
        return paddle.rsqrt(correction) * self.config.epsilon


def build_optimizer(config: OptimizerConfig, max_steps: int) -> Optimizer:
    """Make the optimizer of a run of ``max_steps`` updates."""
    if config.num_warmup_steps(max_steps) > max_steps:
        raise UserError(
            f"optimizer.warmup_steps {config.warmup_steps} exceeds the {max_steps} steps of the "
            "run; lower it or raise train.max_steps"
        )
    if config.schedule == "noam" and config.num_warmup_steps(max_steps) == 0:
        raise UserError(
            "optimizer.schedule noam has 0 updates of warm-up, which its rate is divided by; give "
            "optimizer.warmup_steps of at least 1"
        )
    return Optimizer(config, max_steps)


def schedule_settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``OptimizerConfig`` settings of a schedule in the original program's arguments.

    Its number of updates, ``num_train_steps``, is that of the run: the ``max_steps`` of
    ``build_optimizer``.

    Args:
        arguments: ``scheduler``, ``learning_rate`` and ``warmup_steps``; of
            ``scale_by_epoch_decay`` also ``boundaries`` (updates) and ``values`` (rates, one more
            than boundaries). That one knows no warm-up, whatever ``warmup_steps`` says.
    """
    scheduler = arguments["scheduler"]
    if scheduler == "scale_by_epoch_decay":
        first, *others = arguments["values"]
        return {
            "schedule": "steps",
            "learning_rate": first,
            "warmup_steps": 0,
            "milestone_steps": list(arguments["boundaries"]),
            "milestone_factors": [rate / first for rate in others],
        }
    names = {"linear_warmup_decay": "linear", "noam_decay": "noam"}
    if scheduler not in names:
        known = ", ".join([*names, "scale_by_epoch_decay"])
        raise UserError(f"scheduler is {scheduler!r}; give one of the original's: {known}")
    return {
        "schedule": names[scheduler],
        "learning_rate": arguments["learning_rate"],
        "warmup_steps": arguments["warmup_steps"],
    }
