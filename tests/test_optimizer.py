"""The update rule against the original's recordings and against NumPy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import paddle
import pytest

from unimo_paddle import losses, settings
from unimo_paddle.errors import UserError
from unimo_paddle.models import ClassificationHead, ModelConfig, UnifiedTransformer
from unimo_paddle.optimizer import (
    OptimizerConfig,
    build_optimizer,
    is_decayed,
    schedule_settings,
)

NAMES = ("encoder_fc.w_0", "encoder_fc.b_0", "layer_norm_scale", "cls_out_2_w")
MAX_STEPS = 20


@contextmanager
def static_programs() -> Iterator[tuple]:
    paddle.enable_static()
    main, startup = paddle.static.Program(), paddle.static.Program()
    try:
        with (
            paddle.static.scope_guard(paddle.static.Scope()),
            paddle.static.program_guard(main, startup),
            paddle.utils.unique_name.guard(),
        ):
            yield main, startup, paddle.static.Executor(paddle.CPUPlace())
    finally:
        paddle.disable_static()


def state_of(program) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in program.state_dict("all").items()}


def restore(arrays: dict[str, np.ndarray]) -> None:
    for name, value in arrays.items():
        tensor = paddle.static.global_scope().find_var(name).get_tensor()
        tensor.set(value, paddle.CPUPlace())


def gradients_of(step: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng((5, step))
    return {f"{name}@grad": generator.normal(size=4).astype("float32") * 0.05 for name in NAMES}


def updates(config: OptimizerConfig, *, steps: range, state: dict | None = None) -> tuple:
    """Apply recorded gradients for ``steps``; return the state after them and the norms."""
    with static_programs() as (main, startup, executor):
        pairs = []
        for name in reversed(NAMES):  # the order of the pairs must not matter
            value = paddle.create_parameter(
                [4], "float32", name=name, default_initializer=paddle.nn.initializer.Constant(0.5)
            )
            pairs.append((value, paddle.static.data(f"{name}@grad", [4], "float32") * 1.0))
        optimizer = build_optimizer(config, MAX_STEPS)
        norm = optimizer.apply(pairs)["gradient_norm"]
        executor.run(startup)
        if state is not None:
            restore(state)
        optimizer.schedule.step(steps.start)
        norms = []
        for step in steps:
            norms += executor.run(main, feed=gradients_of(step), fetch_list=[norm])
            optimizer.schedule.step()
        return state_of(main), [float(value) for value in norms]


def reference(config: OptimizerConfig, num_steps: int, *, factors: dict | None = None) -> dict:
    """The same updates in float64, as the formulas of the two forms say."""
    weights = {name: np.full(4, 0.5) for name in NAMES}
    first = {name: np.zeros(4) for name in NAMES}
    second = {name: np.zeros(4) for name in NAMES}
    for t in range(1, num_steps + 1):
        gradients = {
            key.removesuffix("@grad"): value.astype("float64")
            for key, value in gradients_of(t - 1).items()
        }
        norm = np.sqrt(sum(np.square(value).sum() for value in gradients.values()))
        share = 1.0 if config.clip_norm == 0 else min(1.0, config.clip_norm / norm)
        schedule = build_optimizer(config, MAX_STEPS).schedule
        schedule.step(t - 1)
        for name, weight in weights.items():
            rate = schedule() * (factors or {}).get(name, 1.0)
            gradient = gradients[name] * share
            first[name] = config.beta1 * first[name] + (1 - config.beta1) * gradient
            second[name] = config.beta2 * second[name] + (1 - config.beta2) * gradient**2
            correction = np.sqrt(1 - config.beta2**t)
            step = rate * correction / (1 - config.beta1**t) * first[name]
            if config.form == "original":
                step = step / (np.sqrt(second[name]) + config.epsilon)
            else:
                step = step / (np.sqrt(second[name]) + config.epsilon * correction)
            decay = rate * config.weight_decay * weight if is_decayed(name) else 0.0
            weights[name] = weight - decay - step
    return weights


def rates_of(config: OptimizerConfig, max_steps: int, num_rates: int) -> list[float]:
    schedule = build_optimizer(config, max_steps).schedule
    rates = []
    for _ in range(num_rates):
        rates.append(schedule())
        schedule.step()
    return rates


@pytest.mark.parametrize(
    "name",
    [
        "linear_warmup_decay_w6_t30_lr1e-3",
        "linear_warmup_decay_w1_t10",
        "constant_w0",
        "noam_w5",
        "scale_by_epoch_b4_8",
    ],
)
def test_schedule_is_the_recorded_one(shared_dir: Path, name: str) -> None:
    path = shared_dir / "reference" / "official" / "lr_schedules.json"
    recorded = json.loads(path.read_text())[name]
    config = OptimizerConfig(**schedule_settings(recorded["args"]))
    rates = rates_of(config, recorded["args"]["num_train_steps"], len(recorded["lr"]))
    # The recording is float32: 1 - step / T was rounded there.
    np.testing.assert_allclose(rates, recorded["lr"], rtol=0, atol=config.learning_rate * 2e-7)


def test_rates_of_the_original_need_not_fall_by_equal_factors() -> None:
    arguments = {
        "scheduler": "scale_by_epoch_decay",
        "learning_rate": 1.0,  # the original takes the first of the values
        "warmup_steps": 3,
        "boundaries": [1, 2, 4],
        "values": [5e-6, 2e-6, 3e-6, 1e-8],
    }
    rates = rates_of(OptimizerConfig(**schedule_settings(arguments)), 6, 6)
    assert rates == pytest.approx([5e-6, 2e-6, 3e-6, 3e-6, 1e-8, 1e-8], rel=1e-12)


def test_unknown_schedule_of_the_original_is_refused() -> None:
    with pytest.raises(UserError, match="scheduler is 'noam'; give one of the original's: linear"):
        schedule_settings({"scheduler": "noam", "learning_rate": 1.0, "warmup_steps": 0})


@pytest.mark.parametrize("step", [0, 1, 9, 500])
def test_linear_schedule_without_warmup_is_constant(step: int) -> None:
    schedule = build_optimizer(OptimizerConfig(learning_rate=2e-5, warmup_steps=0), 10).schedule
    schedule.step(step)
    assert schedule() == 2e-5


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("cosine", 0, 0.0),
        ("cosine", 2, 0.5),
        ("cosine", 4, 1.0),
        ("cosine", 12, 0.5),
        ("cosine", 20, 0.0),
        ("cosine", 25, 0.0),
        ("constant", 2, 0.5),
        ("constant", 4, 1.0),
        ("constant", 99, 1.0),
        ("noam", 0, 0.25),  # updates count from 1
        ("noam", 2, 0.75),
        ("noam", 3, 1.0),
        ("noam", 15, 0.5),
        ("noam", 399, 0.1),  # it falls for ever
    ],
)
def test_schedule_has_the_value_of_its_formula(schedule: str, step: int, expected: float) -> None:
    config = OptimizerConfig(learning_rate=1.0, schedule=schedule, warmup_steps=4)
    built = build_optimizer(config, 20).schedule
    built.step(step)
    assert built() == pytest.approx(expected, abs=1e-12)


MILESTONES = {"schedule": "steps", "milestone_factors": [0.1, 0.02]}


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.0), (2, 0.5), (4, 1.0), (11, 1.0), (12, 0.1), (15, 0.1), (16, 0.02), (99, 0.02)],
)
@pytest.mark.parametrize(
    "places", [{"milestone_steps": [12, 16]}, {"milestone_ratios": [0.6, 0.8]}], ids=list
)
def test_steps_change_the_rate_at_their_milestones(
    places: dict, step: int, expected: float
) -> None:
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=4, **MILESTONES, **places)
    schedule = build_optimizer(config, 20).schedule
    schedule.step(step)
    assert schedule() == pytest.approx(expected, abs=1e-12)


def test_milestone_steps_go_before_the_ratios() -> None:
    config = OptimizerConfig(milestone_steps=[3, 5], milestone_ratios=[0.5], **MILESTONES)
    assert config.milestones(100) == [(3, 0.1), (5, 0.02)]


def test_recipe_by_ratios_is_that_by_epochs() -> None:
    # The original's Flickr30k recipe: of 40 epochs a tenth after the 24th, and again the 32nd.
    config = OptimizerConfig(
        schedule="steps", milestone_ratios=[0.6, 0.8], milestone_factors=[0.1, 0.01]
    )
    assert config.milestones(40 * 36_250) == [(24 * 36_250, 0.1), (32 * 36_250, 0.01)]


def test_milestones_survive_a_file() -> None:
    config = OptimizerConfig(milestone_steps=[3, 5], **MILESTONES)
    assert settings.build(OptimizerConfig, settings.dump(config)) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "steps"}, "milestone_ratios is empty; give the milestones"),
        ({"schedule": "steps", "milestone_steps": []}, "milestone_steps is empty"),
        ({"schedule": "steps", "milestone_ratios": [0.5]}, "has 0 entries for 1 of"),
        ({**MILESTONES, "milestone_steps": [3]}, "has 2 entries for 1 of milestone_steps"),
        ({"milestone_ratios": [0.5]}, "milestone_ratios has no effect on schedule linear"),
        ({"milestone_factors": [0.5]}, "milestone_factors has no effect on schedule linear"),
    ],
)
def test_milestones_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        OptimizerConfig(**changes)


def test_noam_without_a_warmup_is_refused() -> None:
    with pytest.raises(UserError, match="noam has 0 updates of warm-up"):
        build_optimizer(OptimizerConfig(schedule="noam", warmup_steps=0), 20)


def test_warmup_ratio_counts_whole_updates() -> None:
    assert OptimizerConfig(warmup_ratio=0.06).num_warmup_steps(150) == 9


def test_warmup_steps_go_before_the_ratio() -> None:
    assert OptimizerConfig(warmup_steps=0, warmup_ratio=0.5).num_warmup_steps(10) == 0


def test_decay_excludes_what_the_original_excluded(shared_dir: Path) -> None:
    path = shared_dir / "reference" / "official" / "weight_decay_excluded.json"
    excluded = json.loads(path.read_text())
    assert {name: not is_decayed(name) for name in excluded} == excluded


@pytest.mark.parametrize("form", ["adamw", "original"])
@pytest.mark.parametrize("clip_norm", [0.0, 0.1, 100.0])
def test_update_follows_its_formula(form: str, clip_norm: float) -> None:
    config = OptimizerConfig(
        learning_rate=0.05, weight_decay=0.1, epsilon=1e-3, form=form, clip_norm=clip_norm
    )
    state, _ = updates(config, steps=range(6))
    for name, expected in reference(config, 6).items():
        np.testing.assert_allclose(state[name], expected, rtol=2e-6, err_msg=name)


def test_forms_differ_where_epsilon_counts() -> None:
    settings = {"learning_rate": 0.05, "epsilon": 1e-2}
    standard, _ = updates(OptimizerConfig(form="adamw", **settings), steps=range(3))
    original, _ = updates(OptimizerConfig(form="original", **settings), steps=range(3))
    assert np.abs(standard["cls_out_2_w"] - original["cls_out_2_w"]).max() > 1e-3


def test_norm_is_that_of_all_gradients_before_clipping() -> None:
    _, norms = updates(OptimizerConfig(clip_norm=0.01), steps=range(2))
    expected = [np.linalg.norm(np.concatenate(list(gradients_of(s).values()))) for s in range(2)]
    np.testing.assert_allclose(norms, expected, rtol=1e-6)


def test_factor_scales_the_learning_rate_of_the_named_parameters() -> None:
    config = OptimizerConfig(learning_rate=0.01, learning_rate_factors={"cls_out": 10.0})
    state, _ = updates(config, steps=range(4))
    for name, expected in reference(config, 4, factors={"cls_out_2_w": 10.0}).items():
        np.testing.assert_allclose(state[name], expected, rtol=2e-6, err_msg=name)


def test_factor_that_names_no_parameter_is_refused() -> None:
    config = OptimizerConfig(learning_rate_factors={"cls_uot": 10.0})
    with pytest.raises(UserError, match="cls_uot is part of no parameter's name"):
        updates(config, steps=range(1))


@pytest.mark.parametrize("form", ["adamw", "original"])
def test_restored_state_continues_to_the_bit(form: str) -> None:
    config = OptimizerConfig(learning_rate=0.05, form=form, schedule="cosine")
    straight, _ = updates(config, steps=range(8))
    half, _ = updates(config, steps=range(3))
    resumed, _ = updates(config, steps=range(3, 8), state=half)
    assert {name: value.tobytes() for name, value in resumed.items()} == {
        name: value.tobytes() for name, value in straight.items()
    }


def test_state_is_named_after_its_parameter() -> None:
    state, _ = updates(OptimizerConfig(form="original"), steps=range(1))
    kinds = ("moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc")
    expected = {f"{name}_{kind}_0" for name in NAMES for kind in kinds}
    assert set(state) == {*NAMES, *expected, "optimizer_step", "learning_rate_0"}


def test_six_steps_of_training_match_the_original(shared_dir: Path) -> None:
    folder = shared_dir / "reference" / "official"
    with np.load(folder / "train_cls_wd0.npz") as arrays:
        recorded = {name: arrays[name] for name in arrays.files}
    weight_decay, learning_rate, warmup_steps, max_steps = recorded["cfg"]
    config = OptimizerConfig(
        learning_rate=float(learning_rate),
        warmup_steps=int(warmup_steps),
        weight_decay=float(weight_decay),
        form="original",
    )
    model_config = ModelConfig(
        vocab_size=1000,
        hidden_size=64,
        num_layers=3,
        num_heads=4,
        max_positions=130,
        hidden_dropout=0.0,
        attention_dropout=0.0,
    )
    with static_programs() as (main, startup, executor):
        ids, positions, labels = (
            paddle.static.data(name, [4, 12], "int64") for name in ("ids", "positions", "labels")
        )
        mask = paddle.static.data("mask", [4, 12], "float32")
        model = UnifiedTransformer(model_config, with_images=False, poolers=("text",))
        encoding = model(input_ids=ids, position_ids=positions, text_mask=mask)
        logits = ClassificationHead(model_config, 2, dropout=0.0)(model.pooled_text(encoding))
        loss = losses.token_cross_entropy(logits, labels[:, 0], mask[:, 0])
        optimizer = build_optimizer(config, int(max_steps))
        norm = optimizer.apply(paddle.static.append_backward(loss))["gradient_norm"]
        executor.run(startup)
        with np.load(folder / "tiny_params.npz") as arrays:
            wanted = [name for name in main.state_dict("param") if name in arrays.files]
            restore({name: arrays[name] for name in wanted})
        values = []
        for step in range(6):
            feed = {
                "ids": recorded[f"in{step}/src_ids"][..., 0],
                "positions": recorded[f"in{step}/pos_ids"][..., 0],
                "mask": recorded[f"in{step}/input_mask"].diagonal(axis1=1, axis2=2).copy(),
                "labels": np.repeat(recorded[f"in{step}/labels"], 12, axis=1),
            }
            values.append(executor.run(main, feed=feed, fetch_list=[loss, norm]))
            optimizer.schedule.step()
        state = state_of(main)
    trained = {name.removeprefix("step6/"): value for name, value in recorded.items()}
    np.testing.assert_allclose([v[0] for v in values], recorded["loss"], rtol=1e-5)
    np.testing.assert_allclose([v[1] for v in values], recorded["global_grad_norm"], rtol=1e-5)
    for name in (name for name in trained if name in state):
        # Six updates of a rate of 1e-3 moved each weight by up to 6e-3.
        np.testing.assert_allclose(state[name], trained[name], rtol=0, atol=5e-6, err_msg=name)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("learning_rate", float("nan")),
        ("learning_rate", -1e-4),
        ("learning_rate", float("inf")),
        ("schedule", "linaer"),
        ("warmup_steps", -1),
        ("warmup_ratio", 1.5),
        ("milestone_steps", [5, 5]),
        ("milestone_steps", [0, 5]),
        ("milestone_ratios", [0.8, 0.6]),
        ("milestone_ratios", [0.5, 1.1]),
        ("milestone_factors", [float("nan")]),
        ("milestone_factors", [-0.1]),
        ("weight_decay", -0.1),
        ("beta1", 1.0),
        ("beta2", 0.0),
        ("epsilon", 0.0),
        ("clip_norm", float("nan")),
        ("form", "adam"),
        ("learning_rate_factors", {"head": -1.0}),
    ],
)
def test_impossible_setting_is_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(UserError, match=f"optimizer.{setting}.*; give"):
        OptimizerConfig(**{setting: value})


def test_warmup_longer_than_the_run_is_refused() -> None:
    with pytest.raises(UserError, match="warmup_steps 30 exceeds the 20 steps"):
        build_optimizer(OptimizerConfig(warmup_steps=30), 20)
