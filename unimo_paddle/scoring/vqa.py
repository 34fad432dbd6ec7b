"""Score answers to questions about images as VQA's evaluation does, from its files.

    python tools/score.py vqa --results results.json \\
        --annotations v2_mscoco_val2014_annotations.json \\
        --questions v2_OpenEnded_mscoco_val2014_questions.json

Results are a list of {"question_id", "answer"}. Each question of the annotations needs an answer.
Accuracy is given of all questions and of each type of answer.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from unimo_paddle.errors import UserError
from unimo_paddle.metrics.vqa import answer_accuracy
from unimo_paddle.scoring.files import read_json, read_results, records
from unimo_paddle.scoring.report import Score, mean_score

QUESTION_FIELDS = {"question_id": (int, str), "image_id": (int, str), "answers": list}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--results", type=Path, required=True, help="JSON of predicted answers")
    parser.add_argument("--annotations", type=Path, required=True, help="JSON of people's answers")
    parser.add_argument(
        "--questions", type=Path, help="JSON of questions: checks that they are those annotated"
    )
    parser.add_argument(
        "--by_question_type", action="store_true", help="also by the first words of the question"
    )


def measure(arguments: argparse.Namespace) -> list[Score]:
    """Accuracy of all questions, of each type of answer and perhaps of question."""
    path = arguments.annotations
    annotations = read_json(path, "annotations")
    asked = [fields for _, fields in records(path, annotations, QUESTION_FIELDS)]
    if not asked:
        raise UserError(f"{path}: no questions; give the published annotations")
    if arguments.questions:
        _check_questions(arguments.questions, path, {question for question, _, _ in asked})
    predictions = _read_predictions(arguments.results, {question for question, _, _ in asked})
    values = np.array(
        [
            answer_accuracy(predictions[question], _answers(path, number, answers))
            for number, (question, _, answers) in enumerate(asked, 1)
        ]
    )
    images = np.array([str(image) for _, image, _ in asked])
    kinds = ["answer_type", *(["question_type"] if arguments.by_question_type else [])]
    print(f"{len(asked)} questions about {len(np.unique(images))} images")
    scores = [mean_score("vqa_accuracy", values, with_interval=arguments.intervals, groups=images)]
    for kind in kinds:
        types = np.array([str(item.get(kind, "")) for item in annotations])
        scores += [
            mean_score(
                f"vqa_accuracy {title}",
                values[types == title],
                with_interval=arguments.intervals,
                groups=images[types == title],
            )
            for title in np.unique(types[types != ""])
        ]
    return scores


def _answers(path: Path, number: int, answers: list[Any]) -> list[str]:
    where = Path(f"{path} record {number}, 'answers'")
    found = [answer for _, (answer,) in records(where, answers, {"answer": str})]
    if not found:
        raise UserError(f"{path} record {number}: 'answers' is empty; give what people answered")
    return found


def _read_predictions(path: Path, questions: set[int | str]) -> dict[int | str, str]:
    predictions = read_results(
        path,
        {"question_id": (int, str), "answer": str},
        questions,
        name="question {}",
        unknown="is not annotated; give the annotations of the same split",
    )
    missing = questions - predictions.keys()
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of {len(questions)} questions have no answer, such as "
            f"{min(missing, key=str)}; answer all of them"
        )
    return predictions


def _check_questions(path: Path, annotations: Path, annotated: set[int | str]) -> None:
    fields = {"question_id": (int, str)}
    asked = {question for _, (question,) in records(path, read_json(path, "questions"), fields)}
    if asked != annotated:
        raise UserError(
            f"{path} has {len(asked - annotated)} questions that {annotations} lacks, and lacks "
            f"{len(annotated - asked)} of its; give both of the same split"
        )
