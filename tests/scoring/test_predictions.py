"""tools/score.py on what our own tools write of each record, as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.metrics.test_generation import HYPOTHESES, REFERENCES
from tests.scoring.conftest import Outcome, assert_one_error
from tests.scoring.test_score import ANNOTATIONS, ANSWERS, RESULTS, VQA, coqa_story
from unimo_paddle.evaluation import write_predictions


@pytest.fixture
def predict(tmp_path: Path):
    """Write predictions as tools/evaluate.py does: (items, name) -> the file."""

    def write(items: list[dict], name: str = "test.jsonl") -> Path:
        write_predictions(tmp_path / name, items)
        return tmp_path / name

    return write


# ---- texts


def written(texts: list[str], **more: object) -> list[dict]:
    """Predictions of a task that writes."""
    likely = {"log_likelihood": -3.0, "num_tokens": 4}
    return [
        {"index": n, "text": text, "score": -0.5, **more, **likely} for n, text in enumerate(texts)
    ]


@pytest.mark.parametrize("name", ["test.jsonl", "test.txt"])
def test_texts_of_a_run_score_as_the_same_lines(score, write, predict, name: str) -> None:
    """In any order, and whatever the file is called."""
    first, second = zip(*REFERENCES, strict=True)
    references = ["--references", write("a.txt", first), write("b.txt", second)]
    lines = write("h.txt", HYPOTHESES)
    expected = score("texts", "--hypotheses", lines, *references).scores
    items = written(HYPOTHESES)[::-1]
    assert score("texts", "--hypotheses", predict(items, name), *references).scores == expected


def test_texts_of_predict_are_in_the_order_of_their_items(score, write, predict) -> None:
    path = predict([{"text": text, "score": -0.5} for text in ("a dog", "a cat")])
    command = ["texts", "--hypotheses", path, "--metrics", "bleu", "--references"]
    assert score(*command, write("r.txt", ["a dog", "a cat"])).scores["bleu_2"] == 1.0
    assert score(*command, write("r.txt", ["a cat", "a dog"])).scores["bleu_2"] < 1.0


@pytest.mark.parametrize(
    ("items", "parts"),
    [
        ([{"index": 0, "label": "1"}], ["line 1: 'text' is missing", "the command labels"]),
        ([{"index": 0, "answer": "2"}], ["line 1: 'text' is missing", "the command vqa"]),
        ([{"index": 0, "score": 0.3}], ["line 1", "which tools/evaluate.py measures itself"]),
        ([{"log_likelihood": -1.0}], ["line 1", "likelihoods are measured by tools/evaluate.py"]),
        ([{"text": 3}], ["line 1: 'text' is 3; mend it"]),
        (["a"], ["line 1", "is no object"]),
        (written(["a", "b", "c"])[::2], ["record 1 (from 0) has no line, though record 2 has"]),
        ([*written(["a"]), *written(["a"])], ["line 2: 'index' is 0", "once"]),
        (written(["a", "b", "c"]), ["r.txt has 2 lines", "test.jsonl 3"]),
    ],
)
def test_predictions_that_are_no_texts_of_all_records(
    score, write, predict, items: list, parts: list[str]
) -> None:
    references = write("r.txt", ["a", "b"])
    outcome = score("texts", "--hypotheses", predict(items), "--references", references)
    assert_one_error(outcome, *parts)


def test_a_line_that_is_cut_off_is_named(score, write) -> None:
    path = write("test.jsonl", [json.dumps(written(["a"])[0]), '{"index": 1, "te'])
    outcome = score("texts", "--hypotheses", path, "--references", write("r.txt", ["a", "b"]))
    assert_one_error(outcome, "test.jsonl line 2: no JSON")


def test_texts_that_look_like_objects_stay_texts(score, write) -> None:
    lines = ['{"a": 1}', "{ dog"]
    files = write("h.txt", lines), write("r.txt", lines)
    command = ["texts", "--hypotheses", files[0], "--references", files[1], "--metrics", "bleu"]
    assert score(*command).scores["bleu_1"] == 1.0


# ---- captions, answers, conversations


def captions(**texts: str) -> list[dict]:
    """Predictions of captions: a line for each true caption of an image."""
    return [
        {"index": n, "image_id": image[1:], "text": text, "score": -0.5, "num_tokens": 3}
        for n, (image, text) in enumerate([item for item in texts.items() for _ in range(2)])
    ]


def score_captions(score, write, path: Path) -> Outcome:
    annotations = write("annotations.json", ANNOTATIONS)
    return score("coco", "--results", path, "--annotations", annotations)


def test_captions_of_a_run_score_as_the_published_layout(score, write, predict) -> None:
    expected = score_captions(score, write, write("results.json", RESULTS))
    texts = {f"i{item['image_id']}": item["caption"] for item in RESULTS}
    outcome = score_captions(score, write, predict(captions(**texts)))
    assert outcome.scores == expected.scores and outcome.out.startswith("2 of 3 images")


def test_captions_of_two_runs_and_of_other_images_are_refused(score, write, predict) -> None:
    items = captions(i7="A dog")
    items[1]["text"] = "A cat"
    outcome = score_captions(score, write, predict(items))
    assert_one_error(outcome, "line 2: image 7 has another text")
    outcome = score_captions(score, write, predict(captions(i8="A dog")))
    assert_one_error(outcome, "record 1: image 8 has no caption in")
    outcome = score_captions(score, write, predict([{"text": "A dog", "score": -0.5}]))
    assert_one_error(outcome, "line 1: 'image_id' is missing", "tools/predict.py name no records")


def test_answers_of_a_run_score_as_the_published_layout(score, write, predict) -> None:
    results = [{"question_id": question, "answer": answer} for question, answer in ANSWERS]
    annotations = write("annotations.json", {"annotations": VQA})
    command = ["vqa", "--annotations", annotations, "--results"]
    expected = score(*command, write("results.json", results)).scores
    items = [
        {"index": n, "id": str(question), "answer": answer, "probabilities": {answer: 0.9}}
        for n, (question, answer) in enumerate(ANSWERS)
    ]
    assert score(*command, predict(items)).scores == expected
    assert_one_error(score(*command, predict(items[:2])), "1 of 3 questions have no answer")
    del items[0]["id"]
    outcome = score(*command, predict(items))
    assert_one_error(outcome, "line 1: 'id' is missing", "tools/predict.py name no records")


def test_conversations_of_a_run_score_as_the_published_layout(score, write, predict) -> None:
    stories = [coqa_story("s_1", "mctest", ["a white cat", "no"], {"0": ["cat", "No."]})]
    data = write("data.json", {"version": "1.0", "data": stories})
    command = ["coqa", "--data", data, "--predictions"]
    given = [("s_1", 1, "the cat"), ("s_1", 2, "no")]
    published = [dict(zip(("id", "turn_id", "answer"), item, strict=True)) for item in given]
    expected = score(*command, write("pred.json", published)).scores
    items = [
        {"index": n, "id": f"{story}_{turn}", "text": answer, "score": -0.5}
        for n, (story, turn, answer) in enumerate(given)
    ]
    assert score(*command, predict(items)).scores == expected
    items[1]["id"] = "s_1_9"
    assert_one_error(score(*command, predict(items)), "line 2: 's_1_9' is no turn of the data")


# ---- labels, numbers, retrieval


def test_classes_of_a_run_score_as_the_same_lines(score, write, predict) -> None:
    items = [
        {"index": n, "id": f"q{n}", "label": label, "probabilities": {label: 0.9}}
        for n, label in enumerate("1011")
    ]
    command = ["labels", "--metrics", "accuracy", "f1", "--predictions", predict(items)]
    expected = {"accuracy": 0.75, "f1": 0.8}
    assert score(*command, "--labels", write("l.txt", "1001")).scores == pytest.approx(expected)
    records = [json.dumps({"id": f"q{n}", "label": label}) for n, label in enumerate("1001")]
    labels = write("dev.jsonl", records)
    assert score(*command, "--labels", labels).scores == pytest.approx(expected)


def test_numbers_of_a_run_score_as_the_same_lines(score, write, predict) -> None:
    labels = write("l.txt", [1, 2, 4])
    command = ["labels", "--labels", labels, "--metrics", "pearson", "--predictions"]
    expected = score(*command, write("p.txt", [0.5, 2, 3])).scores
    items = [{"index": n, "value": value} for n, value in enumerate((0.5, 2.0, 3.0))]
    assert score(*command, predict(items)).scores == expected
    items[0]["value"] = float("nan")
    assert_one_error(score(*command, predict(items)), "'value' is nan", "no number")
    items[0]["value"] = 10**400
    assert_one_error(score(*command, predict(items)), "'value' is 1000", "no number")
    outcome = score(*command, predict([{"index": 0, "label": "1"}]))
    assert_one_error(outcome, "'value' is missing", "scored by the command labels")


def test_predictions_tell_no_recall(score, predict) -> None:
    path = predict([{"index": 0, "score": 0.5}])
    outcome = score("recall", "--scores", path, "--texts_per_image", 1)
    assert_one_error(outcome, "test.jsonl: scores of right pairs tell no recall", "as .npy")
