"""The contract of every task: from training to a served bundle by the tools that a user types.

A task joins by an entry in ``contract_cases.CASES``.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tasks.contract_cases import CASES, GENERATE, PREDICT, SPLIT, Served
from unimo_paddle.config import load_evaluator
from unimo_paddle.data.fields import Sample, collate
from unimo_paddle.errors import UserError
from unimo_paddle.evaluation import Evaluator, write_predictions
from unimo_paddle.optimizer import OptimizerConfig, build_optimizer
from unimo_paddle.predictor import Predictor
from unimo_paddle.program import StaticProgram, build_evaluation, build_service, build_training
from unimo_paddle.scoring.files import in_order, read_predictions
from unimo_paddle.tasks.base import Service, Task

BATCH_SIZE = 7  # the smallest that gives each stream a sample
# Float32 of one small model, its sums in another order: the bundle's graph is optimised, and
# padding makes the matrices larger.
TOLERANCE = 1e-5
PADDED_LENGTH = 64  # longer than any sample, within the positions of the model

# The whole of what a user's own process does: nothing of the training is at hand.
SERVE = """
import json, sys
from unimo_paddle.predictor import Predictor

bundle, name, items, output = sys.argv[1:]
made = getattr(Predictor(bundle), name)(json.loads(items))
with open(output, "w") as file:
    json.dump(made if isinstance(made, list) else made.tolist(), file)
"""


SERVICES = [(name, service) for name, case in CASES.items() for service in case.served]

pytestmark = pytest.mark.usefixtures("static_graph")


@pytest.fixture(scope="module")
def runs(tiny_settings, trained_run, train_run, tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a task's trained run; made once."""

    @functools.cache
    def get(name: str) -> Path:
        settings = CASES[name].settings(tiny_settings, tmp_path_factory.mktemp(name))
        return trained_run if settings == tiny_settings else train_run(settings)

    return get


@pytest.fixture(scope="module")
def bundles(runs, export_run) -> Callable[[str], Path]:
    """The bundle of a task's trained run; made once."""
    return functools.cache(lambda name: export_run(runs(name)))


@pytest.fixture(scope="module")
def evaluators(runs) -> Callable[[str], Evaluator]:
    """The evaluator of a task's trained run, in this process; built once."""
    return functools.cache(lambda name: load_evaluator(runs(name)))


def items_of(task: Task, served: Served) -> list:
    return [served.item(record) for record in served.stream(task, SPLIT).records]


def service_of(task: Task, name: str) -> Service:
    return next(service for service in task.services if service.name == name)


# Tools and bundles know no task: in a hurry a few stand for all.
QUICK = ("pretraining", "vqa", "captioning")
QUICK_NAMES = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES
]
QUICK_SERVICES = [
    (name, service) if name in QUICK else pytest.param(name, service, marks=pytest.mark.slow)
    for name, service in SERVICES
]


@pytest.mark.parametrize("name", QUICK_NAMES)
def test_evaluation_by_the_tool_equals_that_in_process(
    runs, evaluators, run_tool, name: str
) -> None:
    run = runs(name)
    report = run / f"evaluation-{SPLIT}.json"
    report.unlink(missing_ok=True)  # training wrote its own
    done = run_tool("evaluate", "--run", run, "--split", SPLIT)
    assert done.returncode == 0, done.stderr
    reported = json.loads(report.read_text())
    assert set(CASES[name].metrics) <= set(reported)
    assert reported == pytest.approx(evaluators(name).measure(SPLIT), rel=TOLERANCE)


@pytest.mark.parametrize(("name", "service"), QUICK_SERVICES)
def test_fresh_process_serves_what_evaluation_computes(
    bundles, evaluators, tmp_path: Path, name: str, service: str
) -> None:
    evaluator, served = evaluators(name), CASES[name].served[service]
    expected = evaluator.serve(service, served.stream(evaluator.task, SPLIT))
    items = json.dumps(items_of(evaluator.task, served))
    bundle, output = bundles(name), tmp_path / "served.json"
    command = [sys.executable, "-c", SERVE, bundle, service, items, output]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = json.loads(output.read_text())
    task = evaluator.task
    if service not in (PREDICT, GENERATE):
        np.testing.assert_allclose(made, expected[served.output], atol=TOLERANCE)
        return
    decode = task.decode if service == PREDICT else task.decode_texts
    decoded = decode({k: x for k, x in expected.items() if k != "index"})
    for ours, theirs in zip(made, decoded, strict=True):
        assert ours.get("text") == theirs.get("text")
        assert flat_numbers(ours) == pytest.approx(flat_numbers(theirs), rel=1e-4, abs=TOLERANCE)


def flat_numbers(prediction: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """All numbers of a prediction, however deep, by their path."""
    flat: dict[str, float] = {}
    for key, value in prediction.items():
        if isinstance(value, dict):
            flat |= flat_numbers(value, f"{prefix}{key}/")
        elif isinstance(value, float | int):
            flat[prefix + key] = value
    return flat


# Whose draws would sort everything again; counts; means over batches.
WITHOUT_INTERVAL = ("_median_rank", "written_texts", "loss/")


@pytest.mark.parametrize("name", CASES)
def test_every_measure_has_an_interval(evaluators, name: str) -> None:
    metrics = evaluators(name).measure(SPLIT)
    for metric in metrics:
        if metric.endswith(("_low", "_high")) or any(x in metric for x in WITHOUT_INTERVAL):
            continue
        low, high = metrics[f"{metric}_low"], metrics[f"{metric}_high"]
        assert low <= high, metric


# What tools/score.py reads of a line.
SCORED = {"label": str, "value": float, "text": str, "answer": str}


@pytest.mark.parametrize("name", [name for name in CASES if name != "pretraining"])
def test_predictions_are_what_the_scorer_reads(evaluators, tmp_path: Path, name: str) -> None:
    made = evaluators(name).predictions(SPLIT)
    path = tmp_path / "predictions"
    write_predictions(path, made)
    items = read_predictions(path)
    assert items is not None
    if name == "retrieval":
        with pytest.raises(UserError, match="scores of right pairs tell no recall"):
            in_order(path, items, "text", str)
        return
    (field,) = SCORED.keys() & made[0].keys()
    assert in_order(path, items, field, SCORED[field]) == [item[field] for item in made]


@pytest.mark.parametrize("name", QUICK_NAMES)
def test_predict_prints_a_line_about_every_item(bundles, evaluators, run_tool, name: str) -> None:
    case, task = CASES[name], evaluators(name).task
    items = {service: items_of(task, served)[:3] for service, served in case.served.items()}
    bundle = bundles(name)
    done = run_tool("predict", "--bundle", bundle, *case.predict(items))
    assert done.returncode == 0, done.stderr
    assert [item for item in case.printed(items) if item not in done.stdout] == []


def test_messages_count_items_from_the_first_of_all(bundles) -> None:
    with pytest.raises(UserError, match=r"predict: item 300: .*; mend or remove it"):
        Predictor(bundles("vqa")).predict([{}], first=300)
    with pytest.raises(UserError, match=r"generate: item 300: .*; mend or remove it"):
        Predictor(bundles("captioning")).generate([{}], first=300)


def test_a_bundle_of_beams_draws_nothing_and_seeds_have_a_bound(bundles) -> None:
    predictor = Predictor(bundles("captioning"))
    assert not predictor.draws
    with pytest.raises(UserError, match=r"generate: seed is 4294967296; give 0 to 4294967295"):
        predictor.generate([{}], seed=2**32)


def parameter_names(program: StaticProgram) -> list[str]:
    operations = program.main.global_block().ops
    parameters = [item for item in operations if item.name() == "builtin.parameter"]
    return sorted(item.attrs()["parameter_name"] for item in parameters)


@pytest.fixture
def evaluated_names(evaluators, name: str) -> list[str]:
    """The parameters of the program that measures the losses, which holds nothing else."""
    task = evaluators(name).task
    return parameter_names(build_evaluation(task, task.evaluation_stream(SPLIT, 2).fields))


@pytest.mark.parametrize("name", CASES)
def test_training_has_a_gradient_for_every_parameter(
    evaluators, evaluated_names, name: str
) -> None:
    task = evaluators(name).task
    fields = [item for stream in task.training_streams(BATCH_SIZE) for item in stream.fields]
    optimizer = build_optimizer(OptimizerConfig(), 10)
    program = build_training(task, fields, optimizer, seed=0)
    assert sorted(program.parameter_names) == evaluated_names


@pytest.mark.parametrize(("name", "service"), SERVICES)
def test_service_has_the_parameters_of_training(
    evaluators, evaluated_names, name: str, service: str
) -> None:
    task = evaluators(name).task
    program = build_service(task, service_of(task, service))
    assert parameter_names(program) == evaluated_names


@pytest.mark.parametrize(("name", "service"), SERVICES)
def test_padding_is_invisible(evaluators, name: str, service: str) -> None:
    evaluator, served = evaluators(name), CASES[name].served[service]
    sample = served.encode(evaluator.task, items_of(evaluator.task, served)[0])
    alone, padded = (
        serve_sample(evaluator, service, sample, multiple_of=multiple_of)[served.output]
        for multiple_of in (1, PADDED_LENGTH)
    )
    np.testing.assert_allclose(padded, alone, atol=TOLERANCE)


def serve_sample(
    evaluator: Evaluator, name: str, sample: Sample, *, multiple_of: int
) -> dict[str, np.ndarray]:
    """The outputs for one sample whose open axes are padded as beside a longer one."""
    service = service_of(evaluator.task, name)
    batch = collate([sample], service.inputs, multiple_of=multiple_of)
    return evaluator.runner.run(build_service(evaluator.task, service), batch)


@pytest.mark.parametrize(("name", "service"), SERVICES)
def test_encoding_needs_no_label(evaluators, name: str, service: str) -> None:
    task, served = evaluators(name).task, CASES[name].served[service]
    sample = served.encode(task, items_of(task, served)[0])
    assert set(sample) == {field.name for field in service_of(task, service).inputs}


# ---- writing, through a bundle


def written_items(evaluators, name: str) -> list[dict[str, Any]]:
    task = evaluators(name).task
    return items_of(task, CASES[name].served[GENERATE])


@pytest.mark.parametrize(
    "name",
    ["captioning", *(pytest.param(x, marks=pytest.mark.slow) for x in ("seq2seq", "dialogue"))],
)
def test_texts_do_not_depend_on_their_batch(bundles, evaluators, name: str) -> None:
    items = written_items(evaluators, name)
    items = (items * 8)[:8]
    predictors = [Predictor(bundles(name), batch_size=size) for size in (8, 3, 1)]
    whole = predictors[0].generate(items)
    for predictor in predictors:
        for some in (items, items[5:], items[:1], items[::-1]):  # one predictor, other shapes
            expected = [whole[items.index(item)] for item in some]
            made = predictor.generate(some)
            assert [x["text"] for x in made] == [x["text"] for x in expected]
            scores = [x["score"] for x in expected]
            assert [x["score"] for x in made] == pytest.approx(scores, abs=1e-4)


def test_captions_of_images_can_begin_as_asked(bundles, evaluators) -> None:
    predictor = Predictor(bundles("captioning"))
    items = written_items(evaluators, "captioning")[:2]
    images = [item["image"] for item in items]
    assert predictor.caption(images) == [made["text"] for made in predictor.generate(items)]
    begun = predictor.caption(images, prefix="a red star")
    assert all(text.startswith("a red star") for text in begun)
    assert begun == [x["text"] for x in predictor.generate(items, prefix="a red star")]


def test_a_text_alone_is_a_source(bundles) -> None:
    predictor = Predictor(bundles("seq2seq"))
    assert predictor.generate(["the dog runs"]) == predictor.generate([{"src": "the dog runs"}])


def test_a_question_is_answered(bundles, evaluators) -> None:
    task = evaluators("vqa").task
    item = items_of(task, CASES["vqa"].served[PREDICT])[0]
    predictor = Predictor(bundles("vqa"))
    (prediction,) = predictor.predict([item])
    assert predictor.answer(item["image"], item["question"]) == prediction["answer"]


@pytest.mark.parametrize(
    ("name", "call", "message"),
    [
        ("vqa", lambda p: p.generate(["x"]), "this bundle has no generate; it serves predict"),
        ("captioning", lambda p: p.generate(["x"]), "generate: item 0: key 'image' is missing"),
        ("captioning", lambda p: p.generate([7]), "generate: item 0 is 7; give a dictionary"),
        ("captioning", lambda p: p.generate("x"), "generate needs a list of at least one item"),
    ],
)
def test_what_cannot_be_written_is_told(bundles, name: str, call, message: str) -> None:
    with pytest.raises(UserError) as error:
        call(Predictor(bundles(name)))
    assert message in str(error.value)
