"""The update rule: schedule of the learning rate, clipping by global norm, AdamW.

``form: original`` is the rule of the authors' released program, whose epsilon is not corrected
for the bias of the second moment: p -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import paddle
from paddle import Tensor
from paddle.optimizer.lr import LRScheduler

from unimo_paddle.errors import UserError

FORMS = ("adamw", "original")
UNDECAYED_SUFFIXES = ("_bias", "_b", ".b_0")
STEP_NAME = "optimizer_step"


@dataclass(frozen=True)
class OptimizerConfig:
    """How parameters follow their gradients."""

    learning_rate: float = 1e-4  # highest value of the schedule
    schedule: str = "linear"  # after warm-up: linear or cosine decay to 0, or constant
    warmup_steps: int | None = None  # updates of linear warm-up; none means by warmup_ratio
    warmup_ratio: float = 0.06  # warm-up as a share of all updates; no warm-up, no linear decay
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

    def num_warmup_steps(self, max_steps: int) -> int:
        """The updates of warm-up in a run of ``max_steps`` updates."""
        if self.warmup_steps is None:
            return int(self.warmup_ratio * max_steps)
        return self.warmup_steps


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


SCHEDULES: dict[str, Callable[..., float]] = {
    "linear": linear_factor,
    "cosine": cosine_factor,
    "constant": constant_factor,
}


def _is_from(low: float, high: float = math.inf) -> Callable[[float], bool]:
    return lambda value: low <= value < high


_RULES: dict[str, tuple[Callable[..., bool], str]] = {
    "learning_rate": (_is_from(0.0), "a finite number of at least 0"),
    "schedule": (lambda value: value in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
    "warmup_steps": (
        lambda value: value is None or value >= 0,
        "a number of updates of at least 0, or null",
    ),
    "warmup_ratio": (lambda value: 0.0 <= value <= 1.0, "a share from 0 to 1"),
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
        self._factor = SCHEDULES[config.schedule]
        self._warmup_steps = config.num_warmup_steps(max_steps)
        self._max_steps = max_steps
        super().__init__(config.learning_rate)

    def get_lr(self) -> float:
        """The learning rate of the update after ``last_epoch`` earlier ones."""
        factor = self._factor(
            self.last_epoch, warmup_steps=self._warmup_steps, max_steps=self._max_steps
        )
        return self.base_lr * factor


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

    def apply(self, params_grads: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Append the update of every parameter; return the global norm before clipping.

        Args:
            params_grads: parameters with their complete gradients, reduced over ranks and
                accumulated over passes.
        """
        assert params_grads, "no parameter has a gradient"
        params_grads = sorted(params_grads, key=lambda pair: pair[0].name)
        parameters = [parameter for parameter, _ in params_grads]
        gradients = [gradient for _, gradient in params_grads]
        norm = global_norm(gradients)
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
            epsilon=self._epsilon(),
            parameters=parameters,
            weight_decay=self.config.weight_decay,
            apply_decay_param_fun=is_decayed,
        )
        rule.apply_gradients(list(zip(parameters, gradients, strict=True)))
        return norm

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

    def _epsilon(self) -> float | Tensor:
        """Epsilon for Paddle's rule, which multiplies it by the root of the bias correction.

        For the original form that factor is divided out beforehand, from an own step counter.
        """
        if self.config.form == "adamw":
            return self.config.epsilon
        step = paddle.pir.core.create_persistable_value(
            "float32", [1], STEP_NAME, initializer=paddle.nn.initializer.Constant(0.0)
        )
        paddle.assign(step + 1.0, step)
        correction = -paddle.expm1(step * math.log(self.config.beta2))
        return paddle.rsqrt(correction) * self.config.epsilon


def build_optimizer(config: OptimizerConfig, max_steps: int) -> Optimizer:
    """Make the optimizer of a run of ``max_steps`` updates."""
    if config.num_warmup_steps(max_steps) > max_steps:
        raise UserError(
            f"optimizer.warmup_steps {config.warmup_steps} exceeds the {max_steps} steps of the "
            "run; lower it or raise train.max_steps"
        )
    return Optimizer(config, max_steps)
