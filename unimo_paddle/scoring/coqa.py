"""Score answers in conversations as CoQA's evaluation does, from its files.

    python tools/score.py coqa --predictions predictions.json --data coqa-dev-v1.0.json
    python tools/score.py coqa --predictions runs/coqa/dev.jsonl --data coqa-dev-v1.0.json

Predictions are a list of {"id", "turn_id", "answer"}, or what tools/evaluate.py --predictions wrote
(JSON lines). F1 and exact match are given of each domain, of both sides and of all; what is not
answered scores 0, as in the official program.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unimo_paddle.errors import UserError
from unimo_paddle.metrics.coqa import answer_scores, domain_members
from unimo_paddle.scoring.files import predictions, read_json, read_predictions, records
from unimo_paddle.scoring.report import Score, mean_score

Turn = tuple[str, int]
STORY_FIELDS = {"id": str, "source": str, "questions": list, "answers": list}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--predictions", type=Path, required=True, help="JSON or JSON lines of answers"
    )
    parser.add_argument("--data", type=Path, required=True, help="CoQA's JSON, the development set")


def measure(arguments: argparse.Namespace) -> list[Score]:
    """F1 and exact match of each domain."""
    answers, source_of = read_conversations(arguments.data)
    given = _read_predictions(arguments.predictions, answers)
    missing = [turn for turn in answers if turn not in given]
    print(f"{len(answers)} questions about {len(source_of)} passages")
    if missing:
        story, number = missing[0]
        print(f"not answered, scored 0: {len(missing)}, such as turn {number} of {story}")
    known = np.array([turn in given for turn in answers])
    found = answer_scores([given.get(turn, "") for turn in answers], list(answers.values()))
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


def _read_predictions(path: Path, asked: dict[Turn, list[str]]) -> dict[Turn, str]:
    given: dict[Turn, str] = {}
    for number, (story, turn), answer in _read_answers(path, asked):
        if (story, turn) in given:
            raise UserError(f"{path} record {number}: turn {turn} of {story} again; give it once")
        if (story, turn) not in asked:
            raise UserError(
                f"{path} record {number}: turn {turn} of {story} is not asked; give the data of "
                "the same split"
            )
        given[story, turn] = answer
    return given


def _read_answers(path: Path, asked: Iterable[Turn]) -> Iterator[tuple[int, Turn, str]]:
    """Number of the record, turn and answer; predictions call a turn as the imported table does."""
    items = read_predictions(path)
    if items is None:
        fields = {"id": str, "turn_id": int, "answer": str}
        for number, (story, turn, answer) in records(path, read_json(path), fields):
            yield number, (story, turn), answer
        return
    turns = {f"{story}_{turn}": (story, turn) for story, turn in asked}
    for number, (name, text) in predictions(path, items, {"id": str, "text": str}):
        if name not in turns:
            raise UserError(
                f"{path} line {number}: {name!r} is no turn of the data; give the data of the "
                "split that was predicted"
            )
        yield number, turns[name], text
