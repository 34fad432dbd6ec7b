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
from unimo_paddle.errors import UserError
from unimo_paddle.preparation.importing import (
    ImportPlan,
    Part,
    add_import_arguments,
    run_import,
)
from unimo_paddle.preparation.measures import TextColumn

LIMIT = 512  # tokens of a text or of two together, marks included


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--set", choices=sorted(GLUE_SETS), required=True, help="which of them")
    parser.add_argument("--input", type=Path, required=True, help="folder of the published tables")
    add_import_arguments(parser, output="data/SET")


def run(arguments: argparse.Namespace) -> None:
    """Import the tables that are there."""
    name, form = arguments.set, GLUE_SETS[arguments.set]
    if arguments.output == Path("data/SET"):
        arguments.output = Path("data") / name
    found = {
        split: arguments.input / file
        for split, file in form.files.items()
        if (arguments.input / file).is_file()
    }
    if not found:
        raise UserError(
            f"{arguments.input} holds none of {', '.join(form.files.values())}; give the folder "
            f"{form.folder} of GLUE"
        )
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
    plan = ImportPlan(
        title=f"{form.folder} (GLUE)",
        sources=list(found.values()),
        parts=parts,
        texts=[TextColumn(column, LIMIT, "task.data.max_text_length") for column in columns],
        label="label" if form.labels else None,
        options={"command": f"glue {name}"},
    )
    run_import(plan, arguments)
