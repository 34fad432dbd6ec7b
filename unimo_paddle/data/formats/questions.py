"""VQA v2: files of questions and of annotations with ten answers each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from unimo_paddle.data.formats.image_folder import ImageFolder
from unimo_paddle.data.formats.items import (
    Items,
    Record,
    one_line,
    parsed,
    read_list,
    read_value,
    value_of,
)
from unimo_paddle.data.records import Fault
from unimo_paddle.errors import UserError

TEST_IMAGES = "test2015"  # the images of test-dev2015 and the like

Answers = dict[int, tuple[tuple[str, ...], str] | Fault]


def read_vqa(questions: Path, annotations: Path | None, images: ImageFolder) -> Items:
    """``id``, ``image``, ``question``, ``answers`` and ``kind`` of each question.

    Args:
        annotations: none for questions to predict, which have neither answers nor kind.
    """
    images_of = read_value(questions, "data_subtype")
    if not isinstance(images_of, str):
        raise UserError(f"{questions} has no 'data_subtype' such as train2014; is it another file?")
    images_of = TEST_IMAGES if images_of.startswith("test") else images_of
    answers = None if annotations is None else read_answers(annotations)

    def parse(item: Any) -> Record:
        number = value_of(item, "question_id", int)
        name = f"COCO_{images_of}_{value_of(item, 'image_id', int):012d}.jpg"
        question = one_line(value_of(item, "question", str), "question")
        record = {"id": str(number), "image": images.find(f"{images_of}/{name}", name)}
        record["question"] = question
        if answers is None:
            return record
        if number not in answers:
            raise Fault(f"question {number} has no annotation in {annotations}")
        known = answers[number]
        if isinstance(known, Fault):
            raise known
        return record | {"answers": list(known[0]), "kind": known[1]}

    return parsed(read_list(questions, "questions"), parse)


def read_answers(path: Path) -> Answers:
    """Answers and kind of each annotation by its question, or what is wrong with it.

    An answer may be empty, for some people gave none: the official program counts it as another.
    """
    found: Answers = {}
    for where, item in read_list(path, "annotations"):
        try:
            number = value_of(item, "question_id", int)
        except Fault as fault:
            raise UserError(f"{where}: {fault}; mend the file") from None
        try:
            # The same few words, millions of times: one object of each is kept.
            texts = [value_of(one, "answer", str) for one in value_of(item, "answers", list)]
            answers = tuple(sys.intern(" ".join(text.split())) for text in texts)
            if not answers:
                raise Fault("'answers' is empty")
            found[number] = answers, sys.intern(value_of(item, "answer_type", str))
        except Fault as fault:
            found[number] = Fault(f"{where}: {fault}")
    return found
