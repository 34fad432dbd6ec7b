"""Questions about passages: SQuAD, to write questions from, and CoQA's conversations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unimo_paddle.data.formats.items import Items, Record, one_line, read_list, value_of
from unimo_paddle.data.records import Fault, check_text

TURN_SEPARATOR = " [SEP] "


def read_squad(paths: Sequence[Path], titles: Mapping[str, str], split: str) -> Items:
    """``answer``, ``paragraph`` and ``tgt``, the question, of files of SQuAD 1.1 or 2.0.

    Questions that have no answer are passed over. Of several answers the first one counts.

    Args:
        titles: the split of articles that are told apart by their titles; without any, all count.
        split: whose articles are read.
    """
    for path in paths:
        for where, article in read_list(path, "data"):
            try:
                title = value_of(article, "title", str) if titles else ""
                paragraphs = value_of(article, "paragraphs", list)
            except Fault as fault:
                yield from [(where, fault)] * _num_questions(article, "paragraphs", "qas")
                continue
            if titles and titles.get(title) != split:
                continue
            for number, paragraph in enumerate(paragraphs):
                yield from _questions(paragraph, f"{where}.paragraphs[{number}]")


def _questions(paragraph: Any, where: str) -> Items:
    try:
        context = value_of(paragraph, "context", str)
        questions = value_of(paragraph, "qas", list)
    except Fault as fault:
        yield from [(where, fault)] * _num_questions(paragraph, "qas")
        return
    for number, item in enumerate(questions):
        place = f"{where}.qas[{number}]"
        try:
            record = _question(item, context)
        except Fault as fault:
            yield place, fault
            continue
        if record is not None:
            yield place, record


def _question(item: Any, context: str) -> Record | None:
    question = one_line(value_of(item, "question", str), "question")
    answers = value_of(item, "answers", list)
    if item.get("is_impossible"):
        return None
    if not answers:
        raise Fault("'answers' is empty, though the question is not marked as impossible")
    text = value_of(answers[0], "text", str)
    start = value_of(answers[0], "answer_start", int)
    if start < 0 or context[start : start + len(text)] != text:
        raise Fault(f"answer {text[:40]!r} does not stand at character {start} of the paragraph")
    return {
        "answer": one_line(text, "answer"),
        "paragraph": one_line(context, "context"),
        "tgt": question,
    }


def _num_questions(part: Any, *keys: str) -> int:
    """How many questions a damaged part of a file holds, each of which counts as a bad record.

    Args:
        keys: of the lists between the part and its questions; where one is damaged, too, it holds
            at least one.
    """
    if not keys:
        return 1
    inner = part.get(keys[0]) if isinstance(part, dict) else None
    found = inner if isinstance(inner, list) else []
    return max(1, sum(_num_questions(one, *keys[1:]) for one in found))


def read_coqa(path: Path) -> Items:
    """``qid``, ``knowledge``, ``src`` and ``tgt`` of every turn of CoQA's conversations.

    ``src`` holds all questions and answers up to the question, joined by ``[SEP]``. ``answers`` is
    JSON of all that people answered, ``tgt`` first: in files to measure on four each.
    """
    for where, story in read_list(path, "data"):
        try:
            name = value_of(story, "id", str)
            knowledge = one_line(value_of(story, "story", str), "story")
            questions = value_of(story, "questions", list)
            answers = value_of(story, "answers", list)
            if len(questions) != len(answers):
                raise Fault(f"{len(questions)} questions but {len(answers)} answers")
            others = _other_answers(story)
        except Fault as fault:
            yield from [(where, fault)] * _num_questions(story, "questions")
            continue
        for place, record in _turns(questions, answers, where):
            if isinstance(record, dict):
                turn = record.pop("turn")
                said = json.dumps([record["tgt"], *others.get(turn, [])], ensure_ascii=False)
                record = {"qid": f"{name}_{turn}", "knowledge": knowledge, **record}
                record["answers"] = said
            yield place, record


def _other_answers(story: Record) -> dict[int, list[str]]:
    """What further people answered, by turn; that may be nothing, which counts as an answer."""
    found: dict[int, list[str]] = {}
    people = value_of(story, "additional_answers", dict) if "additional_answers" in story else {}
    for person in people:
        for item in value_of(people, person, list):
            said = check_text(value_of(item, "input_text", str), "answer", may_be_empty=True)
            found.setdefault(value_of(item, "turn_id", int), []).append(" ".join(said.split()))
    return found


def _turns(questions: list, answers: list, where: str) -> Iterator[tuple[str, Record | Fault]]:
    """The turns of a conversation; after a bad one, those that would build on it are bad, too."""
    said: list[str] = []
    for number, (asked, told) in enumerate(zip(questions, answers, strict=True)):
        place = f"{where}.questions[{number}]"
        try:
            turn = value_of(asked, "turn_id", int)
            if turn != value_of(told, "turn_id", int):
                raise Fault(f"turn {turn} is answered as turn {told['turn_id']}")
            question = _turn(asked, "question")
            answer = _turn(told, "answer")
        except Fault as fault:
            for later in range(number, len(questions)):
                yield f"{where}.questions[{later}]", fault
            return
        yield place, {"turn": turn, "src": TURN_SEPARATOR.join([*said, question]), "tgt": answer}
        said += [question, answer]


def _turn(item: Any, name: str) -> str:
    text = one_line(value_of(item, "input_text", str), name)
    if TURN_SEPARATOR.strip() in text:
        raise Fault(f"{name} holds {TURN_SEPARATOR.strip()}, which separates turns")
    return text
