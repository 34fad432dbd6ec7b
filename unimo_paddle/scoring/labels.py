"""Score predicted classes or numbers, one a line, against what is right, line by line.

    python tools/score.py labels --predictions out.txt --labels dev.txt --metrics accuracy f1
    python tools/score.py labels --predictions out.txt --labels dev.txt --metrics pearson spearman

Metrics: accuracy, f1 (of class 1) and matthews (0 where all predictions, or all labels, are one
class) of classes; pearson and spearman of numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from unimo_paddle.errors import UserError
from unimo_paddle.metrics.classification import POSITIVE_CLASS, accuracy, f1, matthews
from unimo_paddle.metrics.regression import pearson, spearman
from unimo_paddle.scoring.files import read_lines, read_numbers
from unimo_paddle.scoring.report import Score, whole_score

OF_CLASSES: dict[str, Callable[..., float]] = {
    "accuracy": accuracy,
    "f1": lambda predictions, labels: f1(_is_positive(predictions), _is_positive(labels)),
    "matthews": matthews,
}
OF_NUMBERS: dict[str, Callable[..., float]] = {"pearson": pearson, "spearman": spearman}
METRICS = OF_CLASSES | OF_NUMBERS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--predictions", type=Path, required=True, help="one a line")
    parser.add_argument("--labels", type=Path, required=True, help="one a line")
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=["accuracy"],
        metavar="NAME",
        help=f"of {', '.join(METRICS)}",
    )


def measure(arguments: argparse.Namespace) -> list[Score]:
    """The scores of two files."""
    paths = arguments.predictions, arguments.labels
    scores = []
    for name in dict.fromkeys(arguments.metrics):
        if name not in METRICS:
            raise UserError(f"metric {name!r} is unknown; give some of {', '.join(METRICS)}")
        read = read_numbers if name in OF_NUMBERS else read_lines
        columns = [np.array(read(path)) for path in paths]
        scores.append(whole_score(name, METRICS[name], *columns, with_interval=arguments.intervals))
    return scores


def _is_positive(classes: np.ndarray) -> np.ndarray:
    return (classes == str(POSITIVE_CLASS)).astype(np.int64)
