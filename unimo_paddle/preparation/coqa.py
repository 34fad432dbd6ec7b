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

from unimo_paddle.data.formats.reading import read_coqa
from unimo_paddle.errors import UserError
from unimo_paddle.preparation.importing import (
    ImportPlan,
    Part,
    add_import_arguments,
    run_import,
)
from unimo_paddle.preparation.measures import TextColumn

COLUMNS = ("qid", "knowledge", "src", "tgt")
TEXTS = (
    TextColumn("knowledge", 480, "task.data.max_source_length"),
    TextColumn("src", 480, "task.data.max_source_length"),
    TextColumn("tgt", 32, "task.language.max_target_length", num_marks=1),
)
RECIPES = ("configs/finetune/coqa_base.yaml", "configs/finetune/coqa_large.yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--train", type=Path, help="JSON file to train on")
    parser.add_argument("--dev", type=Path, help="JSON file to measure on")
    parser.add_argument("--test", type=Path, help="JSON file to measure on in the end")
    add_import_arguments(parser, output="data/coqa")


def run(arguments: argparse.Namespace) -> None:
    """Import the splits that are given."""
    files = {split: getattr(arguments, split) for split in ("train", "dev", "test")}
    files = {split: path for split, path in files.items() if path is not None}
    if not files:
        raise UserError("nothing to import: give --train, --dev, --test or several of them")
    plan = ImportPlan(
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
        options={"command": "coqa", "splits": {k: path.name for k, path in files.items()}},
        recipes=RECIPES,
    )
    run_import(plan, arguments)
