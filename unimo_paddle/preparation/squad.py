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
from collections.abc import Sequence
from pathlib import Path

from unimo_paddle.data.formats.items import read_entries, read_list
from unimo_paddle.data.formats.reading import read_squad
from unimo_paddle.errors import UserError
from unimo_paddle.preparation.importing import (
    ImportPlan,
    Part,
    add_import_arguments,
    run_import,
)
from unimo_paddle.preparation.measures import TextColumn
from unimo_paddle.preparation.splits import add_split_arguments, given_files, names_of

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
    add_split_arguments(
        parser,
        train="JSON file to train on",
        dev="JSON file to measure on",
        test="JSON file to measure on in the end",
    )
    parser.add_argument(
        "--titles",
        nargs="+",
        default=[],
        metavar="SPLIT=FILE",
        help="titles of articles that belong to a split, whichever file holds them",
    )
    add_import_arguments(parser, output=Path("data/squad_questions"))


def run(arguments: argparse.Namespace) -> None:
    """Import the splits that are given."""
    run_import(_plan, arguments)


def _plan(arguments: argparse.Namespace) -> ImportPlan:
    files = given_files(arguments, *SPLITS)
    lists = _title_lists(arguments.titles)
    titles = _split_of_titles(files, lists)
    parts = []
    for split in SPLITS:
        paths = list(files.values()) if lists else [files[split]] if split in files else []
        if paths and (split in files or split in lists):
            read = functools.partial(read_squad, paths, titles, split)
            parts.append(Part(f"{split}.tsv", files.get(split, paths[0]), read, COLUMNS))
    return ImportPlan(
        title="SQuAD, to write questions",
        sources=[*files.values(), *lists.values()],
        parts=parts,
        texts=TEXTS,
        options={"command": "squad", "splits": names_of(files)},
        recipes=RECIPES,
    )


def _title_lists(texts: Sequence[str]) -> dict[str, Path]:
    lists: dict[str, Path] = {}
    for text in texts:
        split, mark, path = text.partition("=")
        if not mark or split not in SPLITS:
            raise UserError(f"--titles {text!r} is not SPLIT=FILE with one of {', '.join(SPLITS)}")
        if split in lists:
            raise UserError(f"--titles has two lists for {split}; put them into one file")
        lists[split] = Path(path)
    return lists


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
        listed = read_entries(path)
        unknown = [title for title in listed if title not in found]
        if unknown:
            raise UserError(f"{path}: there is no article {unknown[0]!r}; check the list")
        found |= dict.fromkeys(listed, split)
    return found
