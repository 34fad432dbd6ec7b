"""Import VQA v2: questions about COCO's images, ten answers each.

Writes lines with id, image, question, answers and kind (yes/no, number, other), without the last
two for questions to predict, and answers.txt: the answers that most people gave to --min_count
questions or more, the list of the field for task.answers. Images are looked for as the archives
lay them (train2014/NAME) and by the name alone; those that lie outside the output folder get a hard
link in it. docs/formats.md lists all sets.

examples:
    python tools/prepare_data.py vqa --images coco_images \\
        --train v2_OpenEnded_mscoco_train2014_questions.json v2_mscoco_train2014_annotations.json \\
        --dev v2_OpenEnded_mscoco_val2014_questions.json v2_mscoco_val2014_annotations.json \\
        --test v2_OpenEnded_mscoco_test-dev2015_questions.json
"""

from __future__ import annotations

import argparse
import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from unimo_paddle.data.formats.image_folder import ImageFolder
from unimo_paddle.data.formats.items import Items
from unimo_paddle.data.formats.questions import read_vqa
from unimo_paddle.metrics.vqa import answer_vocabulary, normalise_answer
from unimo_paddle.preparation.importing import (
    ImportPlan,
    Part,
    add_import_arguments,
    image_folder,
    run_import,
)
from unimo_paddle.preparation.measures import TextColumn
from unimo_paddle.preparation.splits import given_files

ANSWERS = "answers.txt"
TEXTS = (TextColumn("question", 64, "task.data.max_text_length"),)
RECIPES = ("configs/finetune/vqa_base.yaml",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    pair = ("QUESTIONS", "ANNOTATIONS")
    parser.add_argument("--train", type=Path, nargs=2, metavar=pair, help="files to train on")
    parser.add_argument("--dev", type=Path, nargs=2, metavar=pair, help="files to measure on")
    parser.add_argument("--test", type=Path, metavar="QUESTIONS", help="questions to predict")
    parser.add_argument(
        "--min_count", type=int, default=9, help="questions that an answer of the list has (9)"
    )
    add_import_arguments(parser, output=Path("data/vqa"), with_images=True)


def run(arguments: argparse.Namespace) -> None:
    """Import the files that are given."""
    run_import(_plan, arguments)


def _plan(arguments: argparse.Namespace) -> ImportPlan:
    files = given_files(arguments, "train", "dev")
    if arguments.test is not None:
        files["test"] = (arguments.test, None)
    images = image_folder(arguments)
    said: dict[str, Counter] = {f"{split}.jsonl": Counter() for split in files if split != "test"}
    return ImportPlan(
        title="VQA v2",
        sources=[path for paths in files.values() for path in paths if path],
        parts=[
            Part(
                f"{split}.jsonl",
                paths[0],
                functools.partial(_read, *paths, images, said.get(f"{split}.jsonl")),
            )
            for split, paths in files.items()
        ],
        texts=TEXTS,
        label="kind",
        images=images,
        options={
            "command": "vqa",
            "min_count": arguments.min_count,
            "splits": {split: paths[0].name for split, paths in files.items()},
        },
        recipes=RECIPES,
        further=[ANSWERS],
        finish=functools.partial(_list_answers, said, arguments.min_count),
    )


def _read(
    questions: Path, annotations: Path | None, images: ImageFolder, said: Counter | None
) -> Items:
    """The questions, whose commonest answers are counted on the way."""
    for where, record in read_vqa(questions, annotations, images):
        if said is not None and isinstance(record, dict):
            said[_commonest(record["answers"])] += 1
        yield where, record


def _commonest(answers: Sequence[str]) -> str:
    return Counter(map(normalise_answer, answers)).most_common(1)[0][0]


def _list_answers(said: dict[str, Counter], min_count: int) -> tuple[dict[str, str], list[str]]:
    """The list of answers, and how many questions it serves."""
    total = sum(said.values(), Counter())
    listed = answer_vocabulary(total.elements(), min_count=min_count)
    shares = ", ".join(
        f"{sum(counts[answer] for answer in listed) / counts.total():.1%} of {name}"
        for name, counts in said.items()
    )
    remark = (
        f"{ANSWERS} lists {len(listed):,} answers that are the commonest of {min_count} questions "
        f"or more. The commonest answer is in the list for {shares}."
    )
    return {ANSWERS: "".join(f"{answer}\n" for answer in listed)}, [remark]
