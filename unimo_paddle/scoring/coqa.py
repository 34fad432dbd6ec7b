"""Score answers in conversations as CoQA's evaluation does, from its files.

    python tools/score.py coqa --predictions predictions.json --data coqa-dev-v1.0.json

Predictions are a list of {"id", "turn_id", "answer"}. F1 and exact match are given of each domain,
of both sides and of all; what is not answered scores 0, as in the official program.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from unimo_paddle.errors import UserError
from unimo_paddle.metrics.coqa import answer_scores, domain_members
from unimo_paddle.scoring.files import read_json, read_results, records
from unimo_paddle.scoring.report import Score, mean_score

Turn = tuple[str, int]
STORY_FIELDS = {"id": str, "source": str, "questions": list, "answers": list}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--predictions", type=Path, required=True, help="JSON of answers")
    parser.add_argument("--data", type=Path, required=True, help="CoQA's JSON, the development set")


def measure(arguments: argparse.Namespace) -> list[Score]:
    """F1 and exact match of each domain."""
    answers, source_of = read_conversations(arguments.data)
    predictions = read_results(
        arguments.predictions,
        {"id": str, "turn_id": int, "answer": str},
        answers,
        name="turn {1} of {0}",
        unknown="is not asked; give the data of the same split",
    )
    missing = [turn for turn in answers if turn not in predictions]
    print(f"{len(answers)} questions about {len(source_of)} passages")
    if missing:
        story, number = missing[0]
        print(f"not answered, scored 0: {len(missing)}, such as turn {number} of {story}")
    known = np.array([turn in predictions for turn in answers])
    found = answer_scores([predictions.get(turn, "") for turn in answers], list(answers.values()))
    stories = np.array([story for story, _ in answers])
    members = domain_members([source_of[story] for story in stories.tolist()])
    return [
        mean_score(
            f"{name} {domain}",
            (values * known)[is_member],
            with_interval=arguments.intervals,
            groups=stories[is_member],
        )
        for name, values in found.items()
        for domain, is_member in members.items()
    ]


def read_conversations(path: Path) -> tuple[dict[Turn, list[str]], dict[str, str]]:
    """What people answered in each turn, and the source of each passage."""
    items = read_json(path, "data")
    answers: dict[Turn, list[str]] = {}
    source_of: dict[str, str] = {}
    for number, (story, source, questions, first) in records(path, items, STORY_FIELDS):
        others = items[number - 1].get("additional_answers") or {}
        if not isinstance(others, dict):
            raise UserError(f"{path} record {number}: 'additional_answers' is no object; mend it")
        people = [_turns(path, number, person) for person in (first, *others.values())]
        for _, (turn,) in records(_inside(path, number), questions, {"turn_id": int}):
            given = [person[turn] for person in people if turn in person]
            if len(given) < len(people):
                raise UserError(f"{path} record {number}: turn {turn} lacks an answer; mend it")
            answers[story, turn] = given
        source_of[story] = source
    if not answers:
        raise UserError(f"{path}: no questions; give CoQA's development set")
    return answers, source_of


def _turns(path: Path, number: int, answers: Any) -> dict[int, str]:
    if not isinstance(answers, list):
        raise UserError(f"{path} record {number}: answers are no list; mend it")
    fields = {"turn_id": int, "input_text": str}
    return dict(turn for _, turn in records(_inside(path, number), answers, fields))


def _inside(path: Path, number: int) -> Path:
    return Path(f"{path} record {number},")
