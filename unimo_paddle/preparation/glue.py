"""Import GLUE's tables: CoLA, SST-2, STS-B, MNLI.

Reads the folder of a task as GLUE's archive has it (CoLA/train.tsv, dev.tsv, test.tsv and so on)
and writes tables with the columns label, text_a and text_b. Tables to predict have qid instead of
a label. docs/formats.md lists all sets.

examples:
    python tools/prepare_data.py glue --set cola --input GLUE/CoLA
    python tools/prepare_data.py glue --set mnli --input GLUE/MNLI --output data/mnli
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from unimo_paddle.data.formats.glue import GLUE_SETS, is_to_predict, read_glue
from unimo_paddle.preparation.importing import (
    SET_OUTPUT,
    ImportPlan,
    Part,
    add_import_arguments,
    run_import,
)
from unimo_paddle.preparation.measures import TextColumn
from unimo_paddle.preparation.splits import found_files

LIMIT = 512  # tokens of a text or of two together, marks included


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--set", choices=sorted(GLUE_SETS), required=True, help="which of them")
    parser.add_argument("--input", type=Path, required=True, help="folder of the published tables")
    add_import_arguments(parser, output=SET_OUTPUT)


def run(arguments: argparse.Namespace) -> None:
    """Import the tables that are there."""
    run_import(_plan, arguments)


def _plan(arguments: argparse.Namespace) -> ImportPlan:
    form = GLUE_SETS[arguments.set]
    found = found_files(arguments.input, form.files, what=f"{form.folder} in GLUE")
    columns = [column for column in form.columns if column != "label"]
    parts = [
        Part(
            f"{split}.tsv",
            path,
            functools.partial(read_glue, path, form, with_labels=not is_to_predict(split)),
            ("qid", *columns) if is_to_predict(split) else form.columns,
        )
        for split, path in found.items()
    ]
    return ImportPlan(
        title=f"{form.folder} (GLUE)",
        sources=list(found.values()),
        parts=parts,
        texts=[TextColumn(column, LIMIT, "task.data.max_text_length") for column in columns],
        label="label" if form.labels else None,
        options={"command": f"glue {arguments.set}"},
    )
