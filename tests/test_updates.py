"""Updates in chunks: the losses and gradients of the whole batch, the same masks both times."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unimo_paddle import settings
from unimo_paddle.config import RunConfig, build_trainer
from unimo_paddle.data.loader import Loader
from unimo_paddle.errors import UserError
from unimo_paddle.optimizer import OptimizerConfig, build_optimizer
from unimo_paddle.program import (
    ACCUMULATOR_SUFFIX,
    Runner,
    StaticProgram,
    build_application,
    build_pass,
)
from unimo_paddle.tasks.base import Task
from unimo_paddle.tasks.pretraining_slices import cut
from unimo_paddle.updates import CachedPass, Update, WholePass

# Float32 sums of the same numbers in another order, relative to the largest entry.
TOLERANCE = 1e-5
BATCH_SIZE = 16  # 11 pairs, 2 texts and 2 images by the default mixture
PLACE = (3, 0, 0)
NO_DROPOUT = {"model.hidden_dropout": 0.0, "model.attention_dropout": 0.0}
CHUNK_SIZE = "task.contrastive_chunk_size"
STATEMENTS = "task.data.statements"  # files of the built-in scenes

pytestmark = pytest.mark.usefixtures("static_graph")

Changes = Mapping[str, Any]
MakeTask = Callable[[Changes], Task]


@pytest.fixture(scope="module")
def load_config(
    write_run_file, scenes_dir: Path, candidates, tmp_path_factory: pytest.TempPathFactory
):
    """The settings of a tiny run: {dotted key: value} -> RunConfig."""

    def load(changes: Changes) -> RunConfig:
        folder = tmp_path_factory.mktemp("run")
        files = [str(scenes_dir / name) for name in changes.get(STATEMENTS, ())]
        changes = {**changes, STATEMENTS: files}
        prepared = {f"task.data.{name}": str(candidates[name]) for name in ("rewrites", "mined")}
        changes = prepared | changes
        path = write_run_file(folder / "run.yaml", {"train.batch_size": BATCH_SIZE} | changes)
        return replace(settings.load(RunConfig, path), output_dir=str(folder / "run"))

    return load


@pytest.fixture(scope="module")
def make_task(load_config) -> MakeTask:
    def make(changes: Changes) -> Task:
        config = load_config(changes)
        task = config.task.build(config.model, Path(config.output_dir))
        task.prepare(config.seed)
        return task

    return make


@pytest.mark.parametrize("changes", [{"train.gradient_accumulation": 2}, {CHUNK_SIZE: 4}])
def test_a_loss_that_is_no_number_changes_nothing_whatever_its_gradients(
    load_config, monkeypatch, changes: Changes
) -> None:
    trainer = build_trainer(load_config(changes))
    update, runner = trainer.update, trainer.runner
    learn = update._pass.run
    monkeypatch.setattr(update._pass, "run", lambda *x: learn(*x) | {"loss": np.float32("nan")})
    before = runner.state(update.programs)
    values = update.run(runner, trainer.loader.batches(0, update.num_passes), 0)
    assert np.isfinite(values["gradient_norm"])
    after = runner.state(update.programs)
    assert [name for name in before if not np.array_equal(before[name], after[name])] == []


class Learner:
    """A pass over a runner of its own, and what it adds to the accumulators."""

    def __init__(self, task: Task, runner: Runner | None = None) -> None:
        streams = task.training_streams(BATCH_SIZE)
        self.batch = Loader(streams, seed=0).batch(0)
        cached = task.cached_loss(BATCH_SIZE)
        if cached is None:
            fields = [item for stream in streams for item in stream.fields]
            self.pass_ = WholePass(build_pass(task, fields, task.loss, seed=0, share=1.0))
        else:
            self.pass_ = CachedPass(task, cached, seed=0, share=1.0)
        optimizer = build_optimizer(OptimizerConfig(), 10)
        application = build_application(self.pass_.programs, optimizer, seed=0)
        self.parameter_names = application.parameter_names
        self.runner = runner or Runner()
        Update(self.pass_, application, num_passes=1, seed=0).start(self.runner)

    def learn(self, place: tuple[int, int, int] = PLACE) -> dict[str, float]:
        """The terms of the batch."""
        terms = self.pass_.run(self.runner, self.batch, place)
        return {name: float(value) for name, value in terms.items()}

    def gradients(self) -> dict[str, np.ndarray]:
        """What was added up for each parameter."""
        names = self.parameter_names
        return {name: self.runner.value(name + ACCUMULATOR_SUFFIX) for name in names}


def assert_same_gradients(
    actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> None:
    assert list(actual) == list(expected)
    largest = max(np.abs(value).max() for value in expected.values())
    for name, value in expected.items():
        # No choice depends on the biases of the keys and of joint scores: rounding alone.
        is_idle = name.endswith("key_fc.b_0") or name == "match_fc.b_0"
        scale = largest if is_idle else np.abs(value).max()
        assert scale > 0, name
        np.testing.assert_allclose(
            actual[name], value, rtol=0, atol=TOLERANCE * scale, err_msg=name
        )


# ---- equal to the whole batch


CASES: dict[str, tuple[int, Changes]] = {
    "all objectives": (4, {}),
    "fewer texts and images than chunks": (
        1,
        {"task.data.captions_per_image": 3, "task.pooling": "places"},
    ),
    "some pairs jointly": (3, {"task.masked_pair_share": 0.3}),
    "no pair jointly": (10, {"task.masked_pair_share": 0.0}),
    "names of objects": (4, {"task.weights.object_names": 1.0, "task.masked_pair_share": 0.7}),
    "statements": (
        2,
        {STATEMENTS: ["questions_train.jsonl"], "task.mixture.statements": 3.0},
    ),
    "candidates": (
        4,
        {
            # Joint scores of a new network are nearly equal, and their gradients nearly nothing.
            "model.initializer_range": 0.3,
            "task.data.captions_per_image": 2,
            "task.contrast.rewrites_per_pair": 2,
            "task.contrast.paraphrases_per_pair": 1,
            "task.contrast.images_per_pair": 1,
            "task.contrast.texts_per_pair": 2,
        },
    ),
    "some pairs read jointly": (
        5,  # in whole threes
        {
            "model.initializer_range": 0.3,
            "task.contrast.rewrites_per_pair": 2,
            "task.contrast.joint_every": 3,
        },
    ),
    "candidates read alone": (
        3,
        {"task.contrast.rewrites_per_pair": 3, "task.contrast.joint_scores": False},
    ),
    "language only": (5, {f"task.weights.region_{x}": 0 for x in ("regression", "classification")}),
    "regions only": (5, {f"task.weights.{x}_language": 0 for x in ("masked", "seq2seq")}),
}


@pytest.fixture(scope="module")
def learners(make_task: MakeTask) -> Callable[[str], tuple[Learner, Learner]]:
    """Learners of whole batches and of chunks that have learnt nothing yet; made once a case."""

    @functools.cache
    def make(case: str) -> tuple[Learner, Learner]:
        chunk_size, changes = CASES[case]
        whole = Learner(make_task(NO_DROPOUT | changes))
        chunked = Learner(make_task(NO_DROPOUT | changes | {CHUNK_SIZE: chunk_size}))
        assert isinstance(whole.pass_, WholePass) and isinstance(chunked.pass_, CachedPass)
        return whole, chunked

    return make


def test_chunks_begin_with_the_weights_of_the_whole_batch(learners) -> None:
    whole, chunked = learners("all objectives")
    for name in whole.parameter_names:
        np.testing.assert_array_equal(chunked.runner.value(name), whole.runner.value(name))


QUICK = ("candidates", "some pairs read jointly", "regions only")  # the others take minutes


@pytest.mark.parametrize(
    "case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CASES]
)
def test_terms_and_gradients_in_chunks_are_those_of_the_whole_batch(learners, case: str) -> None:
    whole, chunked = learners(case)
    expected = whole.learn()
    assert chunked.learn() == pytest.approx(expected, rel=TOLERANCE)
    assert_same_gradients(chunked.gradients(), whole.gradients())


def first_update(config: RunConfig) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """What the first update logs, and the first moments after it: the clipped gradient."""
    trainer = build_trainer(config)
    passes = config.train.gradient_accumulation
    values = trainer.update.run(trainer.runner, trainer.loader.batches(0, passes), 0)
    names = trainer.update.parameter_names
    moments = {name: trainer.runner.value(f"{name}_moment1_0") for name in names}
    return {name: float(value) for name, value in values.items()}, moments


@pytest.mark.parametrize("passes", [1, 2])
def test_update_in_chunks_logs_and_learns_what_one_of_whole_batches_does(
    load_config, passes: int
) -> None:
    common = NO_DROPOUT | {"train.gradient_accumulation": passes, "optimizer.clip_norm": 0.5}
    expected_values, expected = first_update(load_config(common))
    values, moments = first_update(load_config(common | {CHUNK_SIZE: 4}))
    assert expected_values["gradient_norm"] > 0.5  # it is clipped
    assert list(values) == list(expected_values)
    assert values == pytest.approx(expected_values, rel=TOLERANCE)
    assert_same_gradients(moments, expected)


@pytest.mark.parametrize("chunk_size", [0, 4])
def test_an_update_logs_the_mean_of_its_passes(load_config, chunk_size: int) -> None:
    changes = {"train.gradient_accumulation": 3, CHUNK_SIZE: chunk_size}
    trainer = build_trainer(load_config(NO_DROPOUT | changes))
    update, runner, batches = trainer.update, trainer.runner, trainer.loader.batches
    passes = [update._pass.run(runner, batch, PLACE) for batch in batches(0, 3)]
    logged = update.run(runner, batches(0, 3), 0)
    assert len({float(terms["loss"]) for terms in passes}) == 3
    for name in passes[0]:
        mean = np.mean([float(terms[name]) for terms in passes])
        assert float(logged[name]) == pytest.approx(mean, rel=1e-6), name


@pytest.mark.parametrize(
    "changes",
    [{}, {"train.gradient_accumulation": 2}, {CHUNK_SIZE: 4}],
    ids=["at once", "accumulated", "in chunks"],
)
def test_parameters_that_no_pass_of_an_update_reaches_are_refused(load_config, changes) -> None:
    with pytest.raises(UserError, match="does not use role_embedding; set what makes it to 0"):
        build_trainer(load_config(changes | {"model.num_roles": 3}))


@pytest.mark.parametrize("chunk_size", [0, 11, 1000])
def test_chunk_that_holds_all_pairs_changes_nothing(make_task: MakeTask, chunk_size: int) -> None:
    assert make_task({CHUNK_SIZE: chunk_size}).cached_loss(BATCH_SIZE) is None


@pytest.mark.parametrize(("size", "num_slices"), [(11, 3), (12, 3), (5, 5), (1, 1), (4096, 128)])
def test_slices_hold_every_row_once_and_are_even(size: int, num_slices: int) -> None:
    rows = [list(range(size)[piece]) for piece in cut(size, num_slices)]
    assert [row for piece in rows for row in piece] == list(range(size))
    sizes = {len(piece) for piece in rows}
    assert len(rows) == num_slices and max(sizes) - min(sizes) <= 1 and min(sizes) > 0


def test_slices_begin_with_a_step() -> None:
    assert cut(11, 2, 3) == (slice(0, 6), slice(6, 11))
    assert cut(8, 3, 3) == (slice(0, 3), slice(3, 6), slice(6, 8))


# ---- dropout


class Recorder(Runner):
    """A runner that keeps all outputs of every run."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[tuple[StaticProgram, dict[str, np.ndarray]]] = []

    def run(
        self,
        program: StaticProgram,
        batch: Mapping[str, np.ndarray],
        names: Sequence[str] | None = None,
    ) -> dict[str, np.ndarray]:
        values = super().run(program, batch)
        self.runs.append((program, values))
        return values if names is None else {name: values[name] for name in names}

    def outputs(self, program: StaticProgram, name: str) -> np.ndarray:
        return np.concatenate([values[name] for ran, values in self.runs if ran is program])


@pytest.fixture(scope="module")
def recorded(make_task: MakeTask) -> Learner:
    """A learner with dropout that has learnt once in chunks."""
    learner = Learner(make_task({CHUNK_SIZE: 4}), Recorder())
    learner.learn()
    return learner


@pytest.mark.parametrize("name", ["image_features", "text_features"])
def test_both_encodings_of_a_chunk_agree_to_the_bit(recorded: Learner, name: str) -> None:
    runner, pass_ = recorded.runner, recorded.pass_
    first = runner.outputs(pass_.encode, name)
    assert len(first) == 11
    assert runner.outputs(pass_.descend, name).tobytes() == first.tobytes()


def test_every_chunk_draws_masks_of_its_own(make_task: MakeTask) -> None:
    learner = Learner(make_task({CHUNK_SIZE: 1}), Recorder())
    for name in learner.pass_.encode.feeds:
        learner.batch[name][:] = learner.batch[name][:1]  # the same pair in every chunk
    learner.learn()
    features = learner.runner.outputs(learner.pass_.encode, "image_features")
    assert len(np.unique(features.round(4), axis=0)) == 11


def test_masks_depend_on_the_place_in_the_run(recorded: Learner) -> None:
    again = [recorded.learn(place)["contrastive"] for place in (PLACE, (3, 1, 0), PLACE)]
    assert again[0] == again[2] != again[1]
