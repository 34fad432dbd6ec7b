"""GLUE's tables: CoLA, SST-2, STS-B and MNLI, tab separated and without quoting.

CoLA's tables for training have no header (source, label, mark, sentence); all others have one.
Tables to predict have an index and no label. See gluebenchmark.com.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unimo_paddle.data.formats.items import Items, one_line, parsed, read_text
from unimo_paddle.data.records import Fault
from unimo_paddle.errors import UserError

MNLI_LABELS = ("entailment", "neutral", "contradiction")
INDEX = "index"


@dataclass(frozen=True)
class GlueSet:
    """How a set of GLUE is published.

    Args:
        folder: in GLUE's archive.
        files: published name of each split's table by the name of ours.
        texts: names of the columns with ``text_a`` and ``text_b``.
        label: name of the column with the label.
        labels: the names of the classes; none where the label is a number.
        bare_columns: of tables for training that have no header.
    """

    folder: str
    files: Mapping[str, str]
    texts: tuple[str, ...]
    label: str
    labels: tuple[str, ...] = ()
    bare_columns: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of our tables."""
        return ("label", "text_a", "text_b")[: 1 + len(self.texts)]


SPLITS = {"train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv"}
GLUE_SETS = {
    "cola": GlueSet(
        "CoLA",
        SPLITS,
        ("sentence",),
        "label",
        ("0", "1"),
        bare_columns=("source", "label", "mark", "sentence"),
    ),
    "sst2": GlueSet("SST-2", SPLITS, ("sentence",), "label", ("0", "1")),
    "stsb": GlueSet("STS-B", SPLITS, ("sentence1", "sentence2"), "score"),
    "mnli": GlueSet(
        "MNLI",
        {
            "train": "train.tsv",
            "dev_matched": "dev_matched.tsv",
            "dev_mismatched": "dev_mismatched.tsv",
            "test_matched": "test_matched.tsv",
            "test_mismatched": "test_mismatched.tsv",
        },
        ("sentence1", "sentence2"),
        "gold_label",
        MNLI_LABELS,
    ),
}
MAX_SCORE = 5.0  # of STS-B


def is_to_predict(split: str) -> bool:
    """Whether GLUE keeps the labels of a split to itself."""
    return split.startswith("test")


def read_glue(path: Path, form: GlueSet, *, with_labels: bool) -> Items:
    """The rows of a table; one to predict has ``qid`` instead of ``label``."""
    lines = ((where, line) for where, line in read_text(path) if line != "")
    names = form.bare_columns if with_labels else ()
    if not names:
        _, header = next(lines, (path, ""))
        names = tuple(str(header).split("\t"))
    wanted = (*form.texts, form.label if with_labels else INDEX)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise UserError(
            f"{path}:1: no column {missing[0]} in the header {', '.join(names)[:80]!r}; is this "
            f"the table of {form.folder}?"
        )

    def parse(line: str) -> dict[str, str]:
        cells = line.split("\t")
        if len(cells) != len(names):
            raise Fault(f"{len(cells)} cells for the {len(names)} columns {', '.join(names)}")
        row = dict(zip(names, cells, strict=True))
        record = {"label": _label(row[form.label].strip(), form)} if with_labels else {}
        for ours, theirs in zip(("text_a", "text_b"), form.texts, strict=False):
            record[ours] = one_line(row[theirs], theirs)
        return record if with_labels else {"qid": one_line(row[INDEX], INDEX), **record}

    return parsed(lines, parse)


def _label(label: str, form: GlueSet) -> str:
    if form.labels:
        if label not in form.labels:
            raise Fault(f"label {label!r} is none of {', '.join(form.labels)}")
        return label
    try:
        is_score = 0.0 <= float(label) <= MAX_SCORE
    except ValueError:
        is_score = False
    if not is_score:
        raise Fault(f"score {label!r} is no number from 0 to {MAX_SCORE:g}")
    return label
