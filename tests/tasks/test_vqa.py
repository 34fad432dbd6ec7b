"""Questions about images: the list of answers, the head, the metrics."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.metrics.test_intervals import ends, plain_bootstrap
from unimo_paddle.data.fields import collate
from unimo_paddle.data.images import ImageConfig
from unimo_paddle.data.loader import Loader
from unimo_paddle.data.records import Fault
from unimo_paddle.errors import UserError
from unimo_paddle.optimizer import OptimizerConfig, build_optimizer
from unimo_paddle.program import Runner, build_evaluation, build_service
from unimo_paddle.tasks.image_records import ImageDataConfig
from unimo_paddle.tasks.vqa import (
    ANSWERS_NAME,
    QuestionRecord,
    VqaConfig,
    VqaTask,
    accuracy_of,
    most_common,
    read_answers,
)
from unimo_paddle.updates import build_update

PADDING_TOLERANCE = 1e-5  # of a probability; the matrices are larger
TEN = ("yes",) * 6 + ("no",) * 2 + ("maybe",) * 2
# each input must tell in the outputs
LOUD = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "initializer_range": 0.2}

pytestmark = pytest.mark.usefixtures("static_graph")


@pytest.fixture(scope="module")
def make_task(on_scenes):
    """A prepared task on the built-in scenes: ({field of the data: value}, fields) -> task."""

    def make(
        data: dict[str, Any] | None = None, *, assets_dir: Path | None = None, **changes: Any
    ) -> VqaTask:
        return on_scenes(
            VqaConfig, ImageDataConfig, data, changes, model=LOUD, assets_dir=assets_dir
        )

    return make


@pytest.fixture(scope="module")
def task(make_task) -> VqaTask:
    return make_task()


@pytest.fixture(scope="module")
def scenes_folder(tiny_settings: dict[str, Any]) -> Path:
    return Path(tiny_settings["task"]["data"]["scenes_dir"])


@pytest.fixture(scope="module")
def image(scenes_folder: Path) -> str:
    return str(scenes_folder / "images" / "00000.png")


@pytest.fixture
def task_of_lines(make_task, scenes_folder: Path, tmp_path: Path):
    """A task that trains on these records, each of them the first picture's."""
    (tmp_path / "0.png").write_bytes((scenes_folder / "images" / "00000.png").read_bytes())

    def make(records: list[dict[str, Any]], **changes: Any) -> VqaTask:
        path = tmp_path / "questions.jsonl"
        lines = [json.dumps({"image": "0.png", "question": "what?"} | item) for item in records]
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        return make_task({"source": "files", "train": str(path)}, **changes)

    return make


# ---- the list of answers


def test_answers_are_the_frequent_ones_of_the_training_questions(task: VqaTask) -> None:
    counted = [record.answers[0] for record in task.read_split("train")]
    names = list(task.answers)
    assert counted.count(names[0]) >= counted.count(names[-1])
    assert set(names) <= set(counted) | {"0", "1", "2", "3", "4"}  # number words become digits


def test_list_is_no_longer_than_is_asked_for(make_task) -> None:
    assert len(make_task(num_answers=5).answers) == 5


def test_answers_come_from_a_file_in_its_order(make_task, tmp_path: Path) -> None:
    path = tmp_path / "answers.txt"
    path.write_text("Blue\nthe red\n\ntwo\nblue\n", "utf-8")
    assert make_task(answers=str(path)).answers == {"blue": 0, "red": 1, "2": 2}


def test_empty_list_of_answers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "answers.txt"
    path.write_text("\n", "utf-8")
    with pytest.raises(UserError, match=r"answers\.txt holds none; give one a line"):
        read_answers(path)


def test_list_is_an_asset_that_a_second_task_loads(make_task, tmp_path: Path) -> None:
    first = make_task(num_answers=7, assets_dir=tmp_path)
    data = replace(first.config.data, source="files", train="gone.jsonl")
    config = replace(first.config, data=data)
    second = VqaTask(config, first.model, tmp_path)
    assert second.answers == first.answers
    second.save_assets(tmp_path / "bundle")
    assert read_answers(tmp_path / "bundle" / ANSWERS_NAME) == first.answers


def test_most_common_answer_stands_for_a_question() -> None:
    assert most_common(["A dog", "cat", "the dog.", "cat", "dog"]) == "dog"


# ---- targets


def test_ten_answers_are_scored_by_how_many_people_gave_them(task_of_lines) -> None:
    task = task_of_lines([{"answers": list(TEN)}, {"answer": "no"}, {"answer": "maybe"}])
    scores = task.scores(QuestionRecord(None, "what?", TEN))
    assert {name: scores[place] for name, place in task.answers.items()} == pytest.approx(
        {"yes": 1.0, "no": 0.6, "maybe": 0.6}
    )


def test_one_answer_is_right_for_itself_alone(task: VqaTask) -> None:
    scores = task.scores(QuestionRecord(None, "what?", ("Yes.",)))
    assert scores.sum() == scores[task.answers["yes"]] == 1.0


def test_question_without_an_answer_of_the_list_is_left_out_of_training(
    task_of_lines, caplog
) -> None:
    records = [{"answer": "yes"}, {"answer": "yes"}, {"answer": "no"}, {"answer": "rarely"}]
    task = task_of_lines([*records, {"answer": "no"}], num_answers=2)
    (stream,) = task.training_streams(2)
    assert [record.answers[0] for record in stream.records] == ["yes", "yes", "no", "no"]
    assert "1 of 5 training questions are left out" in caplog.text


def test_questions_of_one_kind_are_not_batched_together(make_task) -> None:
    """Sorted by length they would be: a batch would teach places, the next colours."""
    (stream,) = make_task().training_streams(4)
    assert stream.lengths is None


def test_question_without_an_answer_of_the_list_stays_in_evaluation(make_task) -> None:
    task = make_task(num_answers=2)
    records = task.evaluation_stream("test", 2).records
    assert len(records) == 6 * 4
    outside = [record for record in records if not task.scores(record).any()]
    predictions = [{"answer": next(iter(task.answers))}] * len(outside)
    assert task.measure(predictions, outside)["accuracy"] == 0.0


def test_question_to_which_people_said_nothing_is_measured_but_not_learnt(task_of_lines) -> None:
    nothing = [{"answers": ["a", "", "The."]}, {"answers": ["", "yes", "yes"]}]
    task = task_of_lines([{"answer": "yes"}, *nothing])
    records = list(task.read_split("train"))
    assert [len(record.answers) for record in records] == [1, 3, 3]
    assert list(task.answers) == ["yes"]  # nothing is no answer of the list
    (stream,) = task.training_streams(1)
    assert list(stream.records) == records[::2]
    predictions = [{"answer": "yes"}] * 3
    assert task.measure(predictions, records)["accuracy"] == pytest.approx((1 + 0 + 4 / 9) / 3)


def test_list_that_answers_no_question_is_refused(task_of_lines, tmp_path: Path) -> None:
    (tmp_path / "answers.txt").write_text("blue\n", "utf-8")
    task = task_of_lines([{"answer": "yes"}], answers=str(tmp_path / "answers.txt"))
    with pytest.raises(UserError, match="none of the 1 answers"):
        task.training_streams(1)


# ---- records


DAMAGE = [
    ({"answer": 5}, "'answer' must be text, not '5'"),
    ({"answers": ["yes", 5]}, "'answers[1]' must be text, not '5'"),
    ({"answers": [" "]}, "answer '' is empty after normalisation"),
    ({"answers": "yes"}, "'answers' must be a list of texts"),
    ({"answer": "the"}, "answer 'the' is empty after normalisation"),
    ({"question": ""}, "'question' is empty"),
    ({"image": "none.png"}, "file 'none.png' does not exist"),
    ({"id": "a"}, "id 'a' occurred before"),
    ({"kind": 3}, "'kind' must be text, not '3'"),
]


@pytest.mark.parametrize(("changes", "message"), DAMAGE)
def test_damaged_line_is_left_out_with_its_place_and_reason(
    task_of_lines, caplog, changes: dict[str, Any], message: str
) -> None:
    right = {"answer": "yes"} if "answers" not in changes else {}
    task = task_of_lines([{"answer": "yes", "id": "a"}, right | changes])
    assert len(task.read_split("train")) == 1
    told = [x.getMessage() for x in caplog.records if x.getMessage().startswith("skipped ")]
    assert any("questions.jsonl:2: " in line and message in line for line in told)


def test_item_without_a_question_is_refused(task: VqaTask, image: str) -> None:
    with pytest.raises(Fault, match="key 'question' is missing; found image"):
        task.parse({"image": image})


def test_answer_that_names_a_side_forbids_the_mirror(
    task: VqaTask, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(
        task, "encode_image", lambda image, rng=None, texts=(): said.extend(texts) or {}
    )
    item = {"image": image, "question": "where is it?", "answer": "left"}
    task.encode(task.parse(item), np.random.default_rng(0))
    assert said == ["where is it?", "left"]


def test_questions_of_the_original_are_refused() -> None:
    with pytest.raises(UserError, match="released no questions"):
        VqaConfig(data=ImageDataConfig(source="original", image=ImageConfig(kind="regions")))
    with pytest.raises(UserError, match="no program for questions; choose standard"):
        VqaConfig(data=ImageDataConfig(compatibility="original"))


# ---- predictions and metrics


@pytest.mark.parametrize(
    ("answer", "answers", "expected"),
    [
        ("yes", TEN, 1.0),
        ("no", TEN, 0.6),  # two of ten: 8 sets of nine with two and 2 sets with one
        ("never", TEN, 0.0),
        ("Two.", ("2",), 1.0),
        ("three", ("2",), 0.0),
    ],
)
def test_answer_is_scored_by_the_rule_for_its_question(
    answer: str, answers: tuple[str, ...], expected: float
) -> None:
    assert accuracy_of(answer, answers) == pytest.approx(expected)


def test_each_kind_of_question_has_its_accuracy(task: VqaTask) -> None:
    records = [
        QuestionRecord(None, "?", ("red",), kind="colour"),
        QuestionRecord(None, "?", ("blue",), kind="colour"),
        QuestionRecord(None, "?", ("2",), kind="count"),
    ]
    predictions = [{"answer": "red"}, {"answer": "red"}, {"answer": "two"}]
    metrics = task.measure(predictions, records)
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert (metrics["accuracy_colour"], metrics["accuracy_count"]) == (0.5, 1.0)
    assert metrics["accuracy_low"] <= metrics["accuracy"] <= metrics["accuracy_high"]


def test_questions_about_an_image_are_drawn_together(task_of_lines) -> None:
    lines = [{"answer": answer, "kind": "count"} for answer in ("yes", "yes", "no", "yes")]
    task = task_of_lines(lines)
    records = [
        replace(record, image_name=name)
        for record, name in zip(task.read_split("train"), "aabb", strict=True)
    ]
    metrics = task.measure([{"answer": "yes"}] * 4, records)
    scores = np.array([1.0, 1.0, 0.0, 1.0])
    expected = plain_bootstrap(lambda items: scores[items].mean(), "aabb")
    assert expected == (0.5, 1.0)
    for name in ("accuracy", "accuracy_count"):
        assert ends(metrics, name) == pytest.approx(expected)


def test_a_question_knows_its_image_by_name(task: VqaTask) -> None:
    assert len({record.image_name for record in task.read_split("test")}) > 1


def test_prediction_names_the_best_answers(task: VqaTask) -> None:
    names = list(task.answers)
    outputs = {"answers": np.array([[2, 0]]), "scores": np.array([[0.9, 0.25]])}
    expected = {"answer": names[2], "probabilities": {names[2]: 0.9, names[0]: 0.25}}
    assert task.decode(outputs) == [expected]


def test_predictions_keep_the_id_of_the_input(task_of_lines) -> None:
    task = task_of_lines([{"answer": "yes", "id": 17}, {"answer": "no"}])
    outputs = {"answers": np.array([[0], [1]]), "scores": np.ones((2, 1)), "index": np.arange(2)}
    predictions = task.predictions("train", lambda name, stream: outputs)
    assert [item.get("id") for item in predictions] == ["17", None]


# ---- the network


def test_padding_is_invisible(task: VqaTask) -> None:
    sample, runner = task.encode(task.read_split("test")[0]), Runner()
    program = build_service(task, task.services[0])
    runner.start(program)
    alone, padded = (
        runner.run(program, collate([sample], task.inputs, multiple_of=size))["scores"]
        for size in (1, 60)
    )
    np.testing.assert_allclose(padded, alone, atol=PADDING_TOLERANCE)


def test_score_of_the_loss_is_that_of_the_best_answer(task: VqaTask) -> None:
    records = list(task.evaluation_stream("test", 8).records)[:8]
    samples = [task.encode(record) | task.encode_targets(record) for record in records]
    fields = (*task.inputs, *task.targets)
    runner, evaluation = Runner(), build_evaluation(task, fields)
    runner.start(evaluation)
    batch = collate(samples, fields)
    terms = runner.run(evaluation, batch)
    best = runner.run(build_service(task, task.services[0]), batch)["answers"][:, 0]
    expected = batch["answer_scores"][np.arange(8), best].mean()
    assert float(terms["score"]) == pytest.approx(expected)


def test_updates_lower_the_loss(make_task) -> None:
    task = make_task(head_dropout=0.0)
    (stream,) = task.training_streams(16)
    optimizer = build_optimizer(OptimizerConfig(learning_rate=3e-3, schedule="constant"), 40)
    update = build_update(task, 16, stream.fields, optimizer, seed=0, num_passes=1)
    runner = Runner()
    update.start(runner)
    batches = Loader([stream], seed=0).batches(0, 40)
    losses = []
    for step in range(40):
        losses.append(float(update.run(runner, batches, step)["loss"]))
        optimizer.schedule.step(step + 1)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
