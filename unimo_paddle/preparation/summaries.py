"""Import texts with summaries: CNN/DailyMail and Gigaword.

Reads parallel files, a text a line (train.source and train.target, or train.src and train.tgt, or
train.article.txt and train.title.txt; val, valid or dev; test), or CNN/DailyMail's .story files
with the lists of addresses that divide them (all_train.txt, all_val.txt, all_test.txt). Writes
tables with the columns src and tgt. docs/formats.md lists all sets.

examples:
    python tools/prepare_data.py summaries --set gigaword --input ggw_data
    python tools/prepare_data.py summaries --set cnndm --input cnn_dm
    python tools/prepare_data.py summaries --set cnndm --stories cnn/stories dailymail/stories \\
        --url_lists url_lists
"""

from __future__ import annotations

import argparse
import functools
from dataclasses import dataclass
from pathlib import Path

from unimo_paddle.data.formats.summaries import (
    find_parallel,
    find_stories,
    read_parallel,
    read_stories,
)
from unimo_paddle.errors import UserError
from unimo_paddle.preparation.importing import (
    SET_OUTPUT,
    ImportPlan,
    Part,
    add_import_arguments,
    run_import,
)
from unimo_paddle.preparation.measures import TextColumn
from unimo_paddle.preparation.splits import found_files

COLUMNS = ("src", "tgt")
URL_LISTS = {"train": "all_train.txt", "dev": "all_val.txt", "test": "all_test.txt"}


@dataclass(frozen=True)
class SummarySet:
    """A set by name, with what its recipes let the model see, in tokens."""

    title: str
    source_length: int
    target_length: int
    recipes: tuple[str, ...] = ()

    @property
    def texts(self) -> list[TextColumn]:
        """Sources with two marks, targets with one."""
        return [
            TextColumn("src", self.source_length, "task.data.max_source_length"),
            TextColumn("tgt", self.target_length, "task.language.max_target_length", num_marks=1),
        ]


SETS = {
    "cnndm": SummarySet(
        "CNN/DailyMail",
        512,
        128,
        ("configs/finetune/cnndm_base.yaml", "configs/finetune/cnndm_large.yaml"),
    ),
    "gigaword": SummarySet(
        "Gigaword",
        128,
        32,
        ("configs/finetune/gigaword_base.yaml", "configs/finetune/gigaword_large.yaml"),
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--set", choices=sorted(SETS), required=True, help="which of them")
    parser.add_argument("--input", type=Path, help="folder of parallel files")
    parser.add_argument("--stories", type=Path, nargs="+", help="folders of .story files")
    parser.add_argument("--url_lists", type=Path, help="folder of the lists of their addresses")
    add_import_arguments(parser, output=SET_OUTPUT)


def run(arguments: argparse.Namespace) -> None:
    """Import parallel files or stories."""
    run_import(_plan, arguments)


def _plan(arguments: argparse.Namespace) -> ImportPlan:
    if (arguments.input is None) == (arguments.stories is None):
        raise UserError("give --input with parallel files, or --stories with --url_lists")
    if (arguments.stories is None) != (arguments.url_lists is None):
        raise UserError("--stories and --url_lists belong together; give both")
    form = SETS[arguments.set]
    parts, sources = _parallel(arguments.input) if arguments.input else _stories(arguments)
    return ImportPlan(
        title=form.title,
        sources=sources,
        parts=parts,
        texts=form.texts,
        options={"command": f"summaries {arguments.set}"},
        recipes=form.recipes,
    )


def _parallel(folder: Path) -> tuple[list[Part], list[Path]]:
    found = find_parallel(folder)
    if not found:
        raise UserError(
            f"{folder} holds no parallel files such as train.source and train.target; "
            "prepare_data.py summaries --help lists their names"
        )
    parts = [
        Part(f"{split}.tsv", source, functools.partial(read_parallel, source, target), COLUMNS)
        for split, (source, target) in found.items()
    ]
    return parts, [path for pair in found.values() for path in pair]


def _stories(arguments: argparse.Namespace) -> tuple[list[Part], list[Path]]:
    stories = find_stories(arguments.stories)
    lists = found_files(arguments.url_lists, URL_LISTS, what="the lists of addresses")
    parts = [
        Part(f"{split}.tsv", path, functools.partial(read_stories, path, stories), COLUMNS)
        for split, path in lists.items()
    ]
    return parts, [*arguments.stories, *lists.values()]
