"""Import SQuAD 1.1 or 2.0, to write questions from passages and answers.

Writes tables with the columns answer, paragraph and tgt, the question. The division of the field
for this task has a test split, which SQuAD's own files have not: name the articles of a split in
files of titles, one a line, and all others stay in the split of their file. docs/formats.md lists
all sets.

examples:
    python tools/prepare_data.py squad --train train-v1.1.json --dev dev-v1.1.json
    python tools/prepare_data.py squad --train train-v1.1.json --dev dev-v1.1.json \\
        --titles test=doclist-test.txt
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from unimo_paddle.data.formats.items import read_list
from unimo_paddle.data.formats.reading import read_squad
from unimo_paddle.data.records import read_lines
from unimo_paddle.errors import UserError
from unimo_paddle.preparation.importing import (
    ImportPlan,
    Part,
    add_import_arguments,
    run_import,
)
from unimo_paddle.preparation.measures import TextColumn

COLUMNS = ("answer", "paragraph", "tgt")
SPLITS = ("train", "dev", "test")
TEXTS = (
    TextColumn("answer", 416, "task.data.max_source_length"),
    TextColumn("paragraph", 416, "task.data.max_source_length"),
    TextColumn("tgt", 96, "task.language.max_target_length", num_marks=1),
)
RECIPES = (
    "configs/finetune/squad_questions_base.yaml",
    "configs/finetune/squad_questions_large.yaml",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--train", type=Path, help="JSON file to train on")
    parser.add_argument("--dev", type=Path, help="JSON file to measure on")
    parser.add_argument("--test", type=Path, help="JSON file to measure on in the end")
    parser.add_argument(
        "--titles",
        nargs="+",
        default=[],
        metavar="SPLIT=FILE",
        help="titles of articles that belong to a split, whichever file holds them",
    )
    add_import_arguments(parser, output="data/squad_questions")


def run(arguments: argparse.Namespace) -> None:
    """Import the splits that are given."""
    files = {split: getattr(arguments, split) for split in SPLITS}
    files = {split: path for split, path in files.items() if path is not None}
    if not files:
        raise UserError("nothing to import: give --train, --dev, --test or several of them")
    lists = dict(_title_list(text) for text in arguments.titles)
    titles = _split_of_titles(files, lists)
    parts = []
    for split in SPLITS:
        paths = list(files.values()) if lists else [files[split]] if split in files else []
        if paths and (split in files or split in lists):
            read = functools.partial(read_squad, paths, titles, split)
            parts.append(Part(f"{split}.tsv", files.get(split, paths[0]), read, COLUMNS))
    plan = ImportPlan(
        title="SQuAD, to write questions",
        sources=[*files.values(), *lists.values()],
        parts=parts,
        texts=TEXTS,
        options={"command": "squad", "splits": {k: path.name for k, path in files.items()}},
        recipes=RECIPES,
    )
    run_import(plan, arguments)


def _title_list(text: str) -> tuple[str, Path]:
    split, mark, path = text.partition("=")
    if not mark or split not in SPLITS:
        raise UserError(f"--titles {text!r} is not SPLIT=FILE with one of {', '.join(SPLITS)}")
    return split, Path(path)


def _split_of_titles(files: dict[str, Path], lists: dict[str, Path]) -> dict[str, str]:
    """The split of every article, where lists of titles move some of them."""
    if not lists:
        return {}
    found = {}
    for split, path in files.items():
        for _, article in read_list(path, "data"):
            if isinstance(article, dict) and isinstance(article.get("title"), str):
                found[article["title"]] = split
    for split, path in lists.items():
        listed = [line.strip() for _, line in read_lines(path) if isinstance(line, str)]
        unknown = [title for title in listed if title and title not in found]
        if unknown:
            raise UserError(f"{path}: there is no article {unknown[0]!r}; check the list")
        found |= {title: split for title in listed if title}
    return found
