"""Import CoQA's conversations about passages.

Writes tables with the columns qid (conversation and turn), knowledge (the passage), src (all turns
up to the question, joined by [SEP]), tgt (the answer), and in files to measure on answers (JSON of
all that people answered). docs/formats.md lists all sets.

examples:
    python tools/prepare_data.py coqa --train coqa-train-v1.0.json --dev coqa-dev-v1.0.json
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from unimo_paddle.data.formats.reading import TURN_SEPARATOR, read_coqa
from unimo_paddle.preparation.importing import (
    ImportPlan,
    Part,
    add_import_arguments,
    run_import,
)
from unimo_paddle.preparation.measures import TextColumn
from unimo_paddle.preparation.splits import add_split_arguments, given_files, names_of

COLUMNS = ("qid", "knowledge", "src", "tgt")
TEXTS = (
    TextColumn("knowledge", 480, "task.data.max_source_length"),
    TextColumn("src", 480, "task.data.max_source_length", separator=TURN_SEPARATOR),
    TextColumn("tgt", 32, "task.language.max_target_length", num_marks=1),
)
RECIPES = ("configs/finetune/coqa_base.yaml", "configs/finetune/coqa_large.yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_split_arguments(
        parser,
        train="JSON file to train on",
        dev="JSON file to measure on",
        test="JSON file to measure on in the end",
    )
    add_import_arguments(parser, output=Path("data/coqa"))


def run(arguments: argparse.Namespace) -> None:
    """Import the splits that are given."""
    run_import(_plan, arguments)


def _plan(arguments: argparse.Namespace) -> ImportPlan:
    files = given_files(arguments, "train", "dev", "test")
    return ImportPlan(
        title="CoQA",
        sources=list(files.values()),
        parts=[
            Part(
                f"{split}.tsv",
                path,
                functools.partial(read_coqa, path),
                COLUMNS if split == "train" else (*COLUMNS, "answers"),
            )
            for split, path in files.items()
        ],
        texts=TEXTS,
        options={"command": "coqa", "splits": names_of(files)},
        recipes=RECIPES,
    )
