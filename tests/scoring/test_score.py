"""tools/score.py, as a user meets it: published layouts, values, mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.metrics.test_generation import HYPOTHESES, REFERENCES
from tests.scoring.conftest import Outcome, assert_one_error

# ---- texts


@pytest.fixture
def texts(write) -> list[object]:
    """nlg-eval's two sentences, in its layout."""
    first, second = zip(*REFERENCES, strict=True)
    files = write("hyp.txt", HYPOTHESES), write("ref1.txt", first), write("ref2.txt", second)
    return ["texts", "--hypotheses", files[0], "--references", *files[1:]]


def test_texts_score_what_is_published(score, texts) -> None:
    outcome = score(*texts)
    published = {
        "bleu_1": 0.55,
        "bleu_2": 0.428174,
        "bleu_3": 0.284043,
        "bleu_4": 0.201143,
        "rouge_l_coco": 0.522104,
        "cider_d": 1.242192,
    }
    found = {name: outcome.scores[name] for name in published}
    assert found == pytest.approx(published, abs=5e-7)
    assert "2 texts, references of each: 2" in outcome.out and "cider_d" in outcome.out


def test_intervals_hold_the_score(score, texts) -> None:
    outcome = score(*texts, "--intervals", "--metrics", "bleu", "rouge", "cider", "answers")
    names = [name for name in outcome.scores if not name.endswith(("_low", "_high"))]
    assert names == [
        *("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_1", "rouge_2", "rouge_l", "cider"),
        *("f1", "exact_match"),
    ]
    for name in names:
        value, low, high = (outcome.scores[f"{name}{end}"] for end in ("", "_low", "_high"))
        assert low - 1e-12 <= value <= high + 1e-12


def test_sentences_within_a_line_are_separated(score, write) -> None:
    hypotheses = write("h.txt", ["b c <q> a b"])
    references = write("r.txt", ["a b <q> b c"])
    command = ["texts", "--hypotheses", hypotheses, "--references", references]
    command += ["--metrics", "rouge"]
    assert score(*command).scores["rouge_l"] < 1.0
    assert score(*command, "--sentence_separator", "<q>").scores["rouge_l"] == 1.0


def test_a_separator_in_capitals_is_found_before_lower_case(score, write) -> None:
    files = write("h.txt", ["B C [SEP] a b"]), write("r.txt", ["a b [SEP] b c"])
    command = ["texts", "--hypotheses", files[0], "--references", files[1], "--metrics", "rouge"]
    command += ["--lowercase", "--sentence_separator", "[SEP]"]
    assert score(*command).scores["rouge_l"] == 1.0


def test_marks_of_bytes_and_carriage_returns_are_no_words(score, write, tmp_path: Path) -> None:
    references = write("r.txt", ["a dog", "a cat"])
    hypotheses = tmp_path / "h.txt"
    hypotheses.write_bytes(b"\xef\xbb\xbfa\rdog\r\na cat\r\n")
    command = ["texts", "--hypotheses", hypotheses, "--references", references]
    assert score(*command, "--metrics", "bleu").scores["bleu_2"] == 1.0
    results = tmp_path / "results.json"
    results.write_bytes(b"\xef\xbb\xbf" + json.dumps(RESULTS).encode())
    annotations = write("annotations.json", ANNOTATIONS)
    assert score("coco", "--results", results, "--annotations", annotations).code == 0


def test_treebank_words_and_lower_case_are_a_choice(score, write) -> None:
    files = write("h.txt", ["A dog ."]), write("r.txt", ["a dog"])
    command = ["texts", "--hypotheses", files[0], "--references", files[1], "--metrics", "bleu"]
    assert score(*command).scores["bleu_1"] == pytest.approx(1 / 3)
    assert score(*command, "--lowercase").scores["bleu_1"] == pytest.approx(2 / 3)
    assert score(*command, "--tokenizer", "ptb").scores["bleu_1"] == 1.0


@pytest.mark.parametrize("name", ["meteor", "METEOR", "spice"])
def test_what_is_not_available_is_told(score, texts, name: str) -> None:
    assert_one_error(score(*texts, "--metrics", name), f"{name} is not available", "leave it out")


def test_an_unknown_metric_is_refused(score, texts) -> None:
    assert_one_error(score(*texts, "--metrics", "blue"), "'blue' is unknown", "rouge_l_coco")


def test_files_of_different_lengths_are_refused(score, write) -> None:
    files = write("h.txt", ["a", "b"]), write("r.txt", ["a"])
    outcome = score("texts", "--hypotheses", files[0], "--references", files[1])
    assert_one_error(outcome, "r.txt has 1 lines", "h.txt 2")
    missing = score("texts", "--hypotheses", files[0], "--references", "no.txt")
    assert_one_error(missing, "cannot read no.txt")


# ---- COCO


ANNOTATIONS = {
    "images": [{"id": 7}, {"id": 9}, {"id": 11}],
    "annotations": [
        {"id": 1, "image_id": 7, "caption": "A dog runs."},
        {"id": 2, "image_id": 7, "caption": "Two men aren't here"},
        {"id": 3, "image_id": 9, "caption": "A cat sits on a mat."},
        {"id": 4, "image_id": 11, "caption": "Nobody is asked."},
    ],
}
RESULTS = [{"image_id": 9, "caption": "a cat sits on a mat"}, {"image_id": 7, "caption": "A dog"}]


def score_captions(score, write, results, annotations=ANNOTATIONS) -> Outcome:
    files = write("results.json", results), write("annotations.json", annotations)
    return score("coco", "--results", files[0], "--annotations", files[1])


def test_captions_of_the_results_are_scored_without_case_and_punctuation(score, write) -> None:
    outcome = score_captions(score, write, RESULTS)
    assert outcome.out.startswith("2 of 3 images")
    assert outcome.scores["bleu_1"] == pytest.approx(np.exp(1 - 9 / 8))
    assert outcome.scores["rouge_l_coco"] == pytest.approx((1 + 2.44 * 2 / 3 / (2 / 3 + 1.44)) / 2)
    assert outcome.scores["cider_d"] > 0.0


@pytest.mark.parametrize(
    ("results", "parts"),
    [
        ([*RESULTS, RESULTS[0]], ["results.json record 3", "image 9 again"]),
        ([{"image_id": 8, "caption": "a"}], ["record 1", "image 8 has no caption"]),
        ([{"image_id": 7}], ["results.json record 1", "'caption' is missing"]),
        ([{"image_id": 7, "caption": 3}], ["record 1", "'caption' is 3"]),
        (["a"], ["record 1", "is no object"]),
        ([], ["no captions"]),
        ({}, ["it holds no list"]),
    ],
)
def test_spoilt_results_are_named(score, write, results, parts) -> None:
    assert_one_error(score_captions(score, write, results), *parts)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[" * 200_000, "its JSON is nested too deeply"),
        ('[{"image_id": ' + "1" * 5000 + "}]", "its JSON holds a number of too many digits"),
    ],
)
def test_json_that_python_cannot_hold_is_told(score, write, tmp_path, text, part) -> None:
    (tmp_path / "results.json").write_text(text)
    annotations = write("annotations.json", ANNOTATIONS)
    outcome = score("coco", "--results", tmp_path / "results.json", "--annotations", annotations)
    assert_one_error(outcome, f"results.json: {part}")


def test_spoilt_annotations_are_named(score, write, tmp_path: Path) -> None:
    outcome = score_captions(score, write, RESULTS, {"images": []})
    assert_one_error(outcome, "annotations.json", "no object with 'annotations'")
    (tmp_path / "cut.json").write_text('[{"image_id": 7,\n "capt')
    arguments = ["--results", tmp_path / "cut.json", "--annotations", tmp_path / "annotations.json"]
    (tmp_path / "annotations.json").write_text(json.dumps(ANNOTATIONS))
    assert_one_error(score("coco", *arguments), "cut.json line 2", "no JSON")


# ---- VQA


def vqa_annotation(question: int, image: int, kind: str, answers: list[str]) -> dict:
    """One record of VQA v2's annotations."""
    listed = [
        {"answer": answer, "answer_confidence": "yes", "answer_id": number}
        for number, answer in enumerate(answers, 1)
    ]
    return {
        "question_type": "what is",
        "multiple_choice_answer": answers[0],
        "answers": listed,
        "image_id": image,
        "answer_type": kind,
        "question_id": question,
    }


VQA = [
    vqa_annotation(70, 7, "yes/no", ["yes"] * 10),
    vqa_annotation(71, 7, "number", ["two"] * 2 + ["3"] * 8),
    vqa_annotation(90, 9, "other", ["a red car"] * 5 + ["car"] * 5),
]
ANSWERS = [(70, "Yes"), (71, "2"), (90, "the red car.")]


def score_answers(score, write, answers, *arguments: object) -> Outcome:
    results = [{"question_id": question, "answer": answer} for question, answer in answers]
    files = write("results.json", results), write("annotations.json", {"annotations": VQA})
    return score("vqa", "--results", files[0], "--annotations", files[1], *arguments)


def test_answers_are_scored_by_type(score, write) -> None:
    questions = [{"question_id": item["question_id"], "image_id": 7} for item in VQA]
    path = write("questions.json", {"questions": questions})
    outcome = score_answers(score, write, ANSWERS, "--questions", path, "--by_question_type")
    # Two of ten: 2/3 in the eight sets that hold both, 1/3 in the two that lack one.
    number = (8 * 2 / 3 + 2 * 1 / 3) / 10
    assert outcome.scores == pytest.approx(
        {
            "vqa_accuracy": (2 + number) / 3,
            "vqa_accuracy number": number,
            "vqa_accuracy other": 1.0,
            "vqa_accuracy yes/no": 1.0,
            "vqa_accuracy what is": (2 + number) / 3,
        }
    )
    assert "3 questions about 2 images" in outcome.out


@pytest.mark.parametrize(
    ("answers", "parts"),
    [
        (ANSWERS[:2], ["1 of 3 questions have no answer, such as 90"]),
        ([*ANSWERS, (70, "no")], ["record 4", "question 70 again"]),
        ([(5, "no")], ["record 1", "question 5 is not annotated"]),
    ],
)
def test_answers_to_other_questions_are_refused(score, write, answers, parts) -> None:
    assert_one_error(score_answers(score, write, answers), *parts)


def test_questions_of_another_split_are_refused(score, write) -> None:
    path = write("questions.json", {"questions": [{"question_id": 70}]})
    outcome = score_answers(score, write, ANSWERS, "--questions", path)
    assert_one_error(outcome, "questions.json has 0 questions", "lacks 2 of its")


# ---- CoQA


def coqa_story(story: str, source: str, answers: list[str], others: dict) -> dict:
    """One passage of CoQA's files."""
    turns = range(1, len(answers) + 1)
    person = lambda texts: [  # noqa: E731
        {"span_text": text, "input_text": text, "turn_id": turn}
        for turn, text in zip(turns, texts, strict=True)
    ]
    return {
        "source": source,
        "id": story,
        "story": "Once there was a cat.",
        "questions": [{"input_text": "What?", "turn_id": turn} for turn in turns],
        "answers": person(answers),
        "additional_answers": {name: person(texts) for name, texts in others.items()},
    }


def score_conversations(score, write, predictions: list[tuple], *arguments: object) -> Outcome:
    stories = [
        coqa_story(
            "s1", "mctest", ["a white cat", "no"], {"0": ["cat", "No."], "1": ["dog", "no"]}
        ),
        coqa_story("s2", "reddit", ["blue"], {"0": ["red"]}),
    ]
    names = ("id", "turn_id", "answer")
    made = [dict(zip(names, prediction, strict=True)) for prediction in predictions]
    files = write("pred.json", made), write("data.json", {"version": "1.0", "data": stories})
    return score("coqa", "--predictions", files[0], "--data", files[1], *arguments)


def test_conversations_are_scored_by_domain_and_missing_answers_are_wrong(score, write) -> None:
    predictions = [("s1", 1, "the cat"), ("s1", 2, "no")]
    outcome = score_conversations(score, write, predictions, "--intervals")
    first = (1.0 + 2 / 3 + 1.0) / 3
    expected = {
        "f1 children_stories": (first + 1) / 2,
        "f1 reddit": 0.0,
        "f1 in_domain": (first + 1) / 2,
        "f1 out_domain": 0.0,
        "f1 overall": (first + 1) / 3,
        "exact_match overall": (2 / 3 + 1) / 3,
    }
    assert {name: outcome.scores[name] for name in expected} == pytest.approx(expected)
    assert "not answered, scored 0: 1, such as turn 1 of s2" in outcome.out
    assert "f1 overall_low" in outcome.scores


@pytest.mark.parametrize(
    ("predictions", "parts"),
    [
        ([("s1", 9, "cat")], ["pred.json record 1", "turn 9 of s1 is not asked"]),
        ([("s1", 1, "cat")] * 2, ["pred.json record 2", "turn 1 of s1 again"]),
        ([("s1", "1", "cat")], ["pred.json record 1", "'turn_id' is '1'"]),
    ],
)
def test_answers_in_other_conversations_are_refused(score, write, predictions, parts) -> None:
    assert_one_error(score_conversations(score, write, predictions), *parts)


# ---- labels and retrieval


def test_labels_are_scored(score, write) -> None:
    files = write("p.txt", [1, 0, 1, 1]), write("l.txt", [1, 0, 0, 1])
    command = ["labels", "--predictions", files[0], "--labels", files[1], "--metrics"]
    names = ["accuracy", "f1", "matthews", "pearson", "spearman"]
    correlation = 1 / np.sqrt(3)
    expected = [0.75, 0.8, correlation, correlation, correlation]
    assert score(*command, *names).scores == pytest.approx(dict(zip(names, expected)))
    assert_one_error(score(*command, "mse"), "metric 'mse' is unknown")


@pytest.mark.parametrize("metric", ["accuracy", "pearson"])
def test_labels_of_other_predictions_are_refused(score, write, metric: str) -> None:
    files = write("p.txt", [1, 0, 1]), write("l.txt", [1, 0]), write("none.txt", [])
    command = ["labels", "--metrics", metric, "--predictions"]
    outcome = score(*command, files[0], "--labels", files[1])
    assert_one_error(outcome, "l.txt has 2 records and", "p.txt 3; give the label of each")
    outcome = score(*command, files[2], "--labels", files[2])
    assert_one_error(outcome, "none.txt holds no predictions")


def test_undefined_correlations_are_zero(score, write) -> None:
    files = write("p.txt", [1, 1, 1]), write("l.txt", [1, 0, 0])
    command = ["labels", "--predictions", files[0], "--labels", files[1], "--metrics"]
    assert score(*command, "matthews", "pearson").scores == {"matthews": 0.0, "pearson": 0.0}


def test_what_is_no_number_is_named(score, write) -> None:
    files = write("p.txt", [1, "x"]), write("l.txt", [1, 0])
    command = ["labels", "--predictions", files[0], "--labels", files[1], "--metrics", "pearson"]
    assert_one_error(score(*command), "p.txt line 2", "'x' is no number")


def test_retrieval_is_scored_from_all_pairs(score, write) -> None:
    path = write("s.npy", np.eye(6).repeat(2, axis=1))
    outcome = score("recall", "--scores", path, "--texts_per_image", 2, "--intervals")
    assert outcome.scores["image_retrieval_recall@1"] == 1.0
    assert outcome.scores["text_retrieval_recall@1_low"] == 1.0
    owners = write("o.npy", np.arange(12)[::-1] // 2)
    turned = score("recall", "--scores", path, "--image_of_text", owners)
    assert turned.scores["image_retrieval_recall@1"] == 0.0


def test_owners_of_other_scores_are_refused(score, write) -> None:
    path, owners = write("s.npy", np.eye(3)), write("o.npy", np.arange(2))
    outcome = score("recall", "--scores", path, "--texts_per_image", 2)
    assert_one_error(outcome, "--texts_per_image is 2", "3 images and 3 texts")
    outcome = score("recall", "--scores", path, "--image_of_text", owners)
    assert_one_error(outcome, "o.npy: give 3 rows from 0 to 2")
    outcome = score("recall", "--scores", owners, "--texts_per_image", 2)
    assert_one_error(outcome, "o.npy has shape [2]; give 2 dimensions")


@pytest.mark.parametrize("kind", ["<U3", "<M8[s]", "c16"])
def test_scores_that_are_no_numbers_are_refused(score, write, kind: str) -> None:
    path = write("s.npy", np.zeros((2, 2), kind))
    outcome = score("recall", "--scores", path, "--texts_per_image", 1)
    assert_one_error(outcome, "s.npy holds values of type", "give numbers")


@pytest.mark.parametrize("content", [b"", b"no array", b"PK\x03\x04 no archive"])
def test_a_file_that_holds_no_array_is_told(score, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scores.npy"
    path.write_bytes(content)
    outcome = score("recall", "--scores", path, "--texts_per_image", 2)
    assert outcome.code == 2 and "scores.npy is no array of NumPy" in outcome.err
