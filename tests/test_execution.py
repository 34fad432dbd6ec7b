"""Programs may compute otherwise; what is learnt stays, for recomputation to the bit."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from unimo_paddle import loss_scale, settings
from unimo_paddle.config import RunConfig, build_trainer
from unimo_paddle.data.fields import Batch
from unimo_paddle.data.loader import Loader
from unimo_paddle.errors import UserError
from unimo_paddle.ops import _core
from unimo_paddle.optimizer import OptimizerConfig, build_optimizer
from unimo_paddle.program import PLAIN, Execution, Runner
from unimo_paddle.updates import Update, build_update

BATCH_SIZE = 16
NUM_UPDATES = 3
FORMS: dict[str, tuple[int, dict[str, Any]]] = {  # passes of an update, settings
    "plain": (1, {}),
    "accumulating": (2, {}),
    "in chunks": (1, {"task.contrastive_chunk_size": 4}),
}
RECOMPUTED = Execution(recompute=True)
OF_LAYERS = tuple(
    f"custom_op.unimo_{name}" for name in ("add_norm", "bias_gelu", "masked_softmax", "split_heads")
)

pytestmark = pytest.mark.usefixtures("static_graph")


@dataclass(frozen=True)
class Scaled(Execution):
    """Float32 with the scale of float16, which no CPU computes."""

    @property
    def scales_loss(self) -> bool:
        return True


@dataclass
class Run:
    """Some updates from the same start, batches and dropout."""

    update: Update
    logged: list[dict[str, float]]
    state: dict[str, np.ndarray]


Change = Callable[[int, Batch], Batch]


def unchanged(step: int, batch: Batch) -> Batch:
    return batch


@pytest.fixture(scope="module")
def run(write_run_file, tmp_path_factory: pytest.TempPathFactory):
    """Learn a little: (form, execution, what is done to batches) -> Run; once for each."""

    @functools.cache
    def learn(form: str, execution: Execution, change: Change = unchanged) -> Run:
        num_passes, changes = FORMS[form]
        folder = tmp_path_factory.mktemp("run")
        config = settings.load(RunConfig, write_run_file(folder / "run.yaml", changes))
        task = config.task.build(config.model, folder / "assets")
        task.prepare(config.seed)
        streams = task.training_streams(BATCH_SIZE)
        fields = [item for stream in streams for item in stream.fields]
        optimizer = build_optimizer(OptimizerConfig(warmup_steps=0, learning_rate=1e-3), 10)
        update = build_update(
            task,
            BATCH_SIZE,
            fields,
            optimizer,
            seed=0,
            num_passes=num_passes,
            execution=execution,
        )
        runner = Runner()
        update.start(runner)
        loader = Loader(streams, seed=0)
        logged = []
        for step in range(NUM_UPDATES):
            passes = range(step * num_passes, (step + 1) * num_passes)
            batches = iter([change(step, loader.batch(index)) for index in passes])
            values = update.run(runner, batches, step)
            optimizer.schedule.step(step + 1)
            logged.append({name: float(np.mean(value)) for name, value in values.items()})
        return Run(update, logged, runner.state(update.programs))

    return learn


def assert_same_bits(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    different = [n for n in expected if actual[n].tobytes() != expected[n].tobytes()]
    assert different == []


def assert_same_but_for_the_smallest(
    actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]
) -> None:
    """What a scale keeps is lost without it, near the smallest numbers; all else is the same."""
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=0, atol=1e-30, err_msg=name)


def operations(run: Run) -> list[str]:
    return [op.name() for op in run.update.programs[0].main.global_block().ops]


# ---- recomputation


@pytest.mark.parametrize(
    "form", ["plain", *(pytest.param(x, marks=pytest.mark.slow) for x in FORMS if x != "plain")]
)
def test_layers_computed_again_change_no_bit(run, form: str) -> None:
    plain, recomputed = run(form, PLAIN), run(form, RECOMPUTED)
    assert recomputed.logged == plain.logged
    assert_same_bits(recomputed.state, plain.state)


def test_layers_are_computed_again_with_the_seeds_of_their_dropout(run) -> None:
    plain, recomputed = operations(run("plain", PLAIN)), operations(run("plain", RECOMPUTED))
    for name in (*OF_LAYERS, "pd_op.dropout"):
        assert recomputed.count(name) > plain.count(name) > 0, name
    assert recomputed.count("pd_op.randint") == plain.count("pd_op.randint") > 0


_MEMORY = """
import sys
import numpy as np
import paddle
from unimo_paddle import distributed
distributed.start()
from paddle.base import core
from unimo_paddle.models.transformer import TransformerLayer, TransformerStack
from unimo_paddle.program import Execution

main, startup = paddle.static.Program(), paddle.static.Program()
with paddle.static.program_guard(main, startup):
    hidden = paddle.static.data("hidden", [-1, 128, 64], "float32")
    bias = paddle.static.data("bias", [-1, 128, 128], "float32")
    with Execution(recompute=sys.argv[1] == "yes").computing() as parts:
        options = dict(ffn_size=256, activation="gelu", hidden_dropout=0.1, attention_dropout=0.1)
        layers = [
            TransformerLayer(f"layer_{i}", 64, 4, scale=0.02, epsilon=1e-5, **options)
            for i in range(8)
        ]
        loss = (TransformerStack(layers)(hidden, bias)[-1].hidden ** 2).mean()
    pairs = paddle.static.append_backward(loss)
    parts.recompute()
executor = paddle.static.Executor()
executor.run(startup)
rng = np.random.default_rng(0)
feed = {"hidden": rng.normal(size=(16, 128, 64)).astype("float32"),
        "bias": np.zeros((16, 128, 128), "float32")}
before = core.host_memory_stat_current_value("Allocated", 0)
executor.run(main, feed=feed, fetch_list=[gradient for _, gradient in pairs])
print(core.host_memory_stat_peak_value("Allocated", 0) - before)
"""


@pytest.mark.slow
def test_layers_computed_again_take_less_memory() -> None:
    def peak(recompute: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _MEMORY, recompute], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout.split()[-1])

    # Of eight layers the inside of one, and what goes between them: less than a third.
    assert 3 * peak("yes") < peak("no")


def test_recomputation_is_refused_where_it_would_do_nothing(write_run_file, tmp_path) -> None:
    class Perturbed:
        def cached_loss(self, batch_size: int) -> None:
            return None

        def perturbed_loss(self) -> object:
            return object()

    optimizer = build_optimizer(OptimizerConfig(), 10)
    with pytest.raises(UserError, match=r"^train.recompute does nothing for adversarial") as error:
        build_update(Perturbed(), 4, [], optimizer, seed=0, num_passes=1, execution=RECOMPUTED)
    assert "\n" not in str(error.value)


# ---- precision


needs_bfloat16 = pytest.mark.skipif(
    "avx512" not in _core.instruction_sets(),
    reason="Paddle multiplies bfloat16 through oneDNN, which needs AVX-512 for it",
)


@needs_bfloat16
def test_bfloat16_rounds_products_and_learns_alike(run) -> None:
    plain, rounded = run("plain", PLAIN), run("plain", Execution("bfloat16"))
    casts = operations(rounded).count("pd_op.cast") - operations(plain).count("pd_op.cast")
    assert casts > 3 * operations(plain).count("custom_op.unimo_masked_softmax") > 0
    for expected, values in zip(plain.logged, rounded.logged, strict=True):
        assert values["loss"] != expected["loss"]
        assert values["loss"] == pytest.approx(expected["loss"], rel=0.02)
    parameters = rounded.update.parameter_names
    assert {str(rounded.state[name].dtype) for name in parameters} == {"float32"}
    for name in parameters:
        moved = np.abs(rounded.state[name] - plain.state[name]).mean()
        assert moved <= NUM_UPDATES * 1e-3, name


def test_a_scale_and_recomputation_go_together(run) -> None:
    plain, both = run("plain", RECOMPUTED), run("plain", Scaled(recompute=True))
    assert_same_but_for_the_smallest(both.state, plain.state)
    for name in (*OF_LAYERS, "pd_op.dropout", "pd_op.layer_norm"):
        assert operations(both).count(name) == operations(plain).count(name), name


@needs_bfloat16
@pytest.mark.slow
def test_bfloat16_and_recomputation_go_together(run) -> None:
    rounded, both = (run("plain", Execution("bfloat16", recompute=x)) for x in (False, True))
    assert_same_bits(both.state, rounded.state)


@pytest.mark.parametrize("form", ["plain", pytest.param("accumulating", marks=pytest.mark.slow)])
def test_a_scale_changes_no_bit(run, form: str) -> None:
    plain, scaled = run(form, PLAIN), run(form, Scaled())
    assert [x["gradient_norm"] for x in scaled.logged] == [x["gradient_norm"] for x in plain.logged]
    assert_same_but_for_the_smallest(scaled.state, plain.state)
    assert scaled.state[loss_scale.SCALE_NAME] == loss_scale.FIRST_SCALE
    assert scaled.logged[-1]["loss_scale"] == loss_scale.FIRST_SCALE


def poison(step: int, batch: Batch) -> Batch:
    if step != 1:
        return batch
    return batch | {"region_features": np.full_like(batch["region_features"], np.nan)}


def test_a_scale_is_halved_where_gradients_are_no_numbers(run) -> None:
    scaled = run("plain", Scaled(), poison)
    scales = [values["loss_scale"] for values in scaled.logged]
    assert scales == [loss_scale.FIRST_SCALE / 2**i for i in (0, 1, 1)]
    assert scaled.state[loss_scale.COUNT_NAME] == 1.0
    assert all(np.isfinite(value).all() for value in scaled.state.values())


def test_a_scale_is_doubled_after_enough_good_updates(run, monkeypatch) -> None:
    monkeypatch.setattr(loss_scale, "GOOD_UPDATES", 2)
    learn = run.__wrapped__  # built anew, with that number
    scales = [values["loss_scale"] for values in learn("plain", Scaled()).logged]
    assert scales == [loss_scale.FIRST_SCALE * factor for factor in (1, 2, 2)]


@pytest.mark.skipif(paddle.is_compiled_with_cuda(), reason="GPUs compute it")
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_precision_of_gpus_is_refused_on_cpus(write_run_file, tmp_path: Path, precision) -> None:
    run_file = write_run_file(tmp_path / "run.yaml", {"train.precision": precision})
    config = replace(settings.load(RunConfig, run_file), output_dir=str(tmp_path / "run"))
    with pytest.raises(UserError, match=f"train.precision is {precision}, which needs a GPU"):
        build_trainer(config)


def test_unknown_precision_is_refused(write_run_file, tmp_path: Path) -> None:
    run_file = write_run_file(tmp_path / "run.yaml", {"train.precision": "half"})
    with pytest.raises(UserError, match=r"train.precision is 'half'; choose one of float32"):
        settings.load(RunConfig, run_file)


def test_float16_of_several_losses_is_refused(run) -> None:
    with pytest.raises(UserError, match=r"train.precision float16 scales one loss"):
        run("in chunks", Scaled())
