"""Score predicted classes or numbers, one a line, against what is right, line by line.

    python tools/score.py labels --predictions out.txt --labels dev.txt --metrics accuracy f1
    python tools/score.py labels --predictions out.txt --labels dev.txt --metrics pearson spearman
    python tools/score.py labels --predictions runs/x/dev.jsonl --labels data/snli_ve/dev.jsonl

Either file may also be JSON lines: of predictions that tools/evaluate.py --predictions or
tools/predict.py wrote, or of records, with a 'label' for classes and a 'value' for numbers.

Metrics: accuracy, f1 (of class 1) and matthews (0 where all predictions, or all labels, are one
class) of classes; pearson and spearman of numbers.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from unimo_paddle.errors import UserError
from unimo_paddle.metrics.classification import POSITIVE_CLASS, accuracy, f1, matthews
from unimo_paddle.metrics.regression import pearson, spearman
from unimo_paddle.scoring.files import in_order, read_lines, read_numbers, read_predictions
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
    parser.add_argument("--predictions", type=Path, required=True, help="one a line, or JSON lines")
    parser.add_argument("--labels", type=Path, required=True, help="one a line, or JSON lines")
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
        read = _numbers if name in OF_NUMBERS else _classes
        columns = [np.array(read(path)) for path in paths]
        _check_lengths(paths, [len(column) for column in columns])
        scores.append(whole_score(name, METRICS[name], *columns, with_interval=arguments.intervals))
    return scores


def _check_lengths(paths: Sequence[Path], lengths: Sequence[int]) -> None:
    if lengths[0] != lengths[1]:
        raise UserError(
            f"{paths[1]} has {lengths[1]} records and {paths[0]} {lengths[0]}; give the label of "
            "each prediction in its place"
        )
    if not lengths[0]:
        raise UserError(f"{paths[0]} holds no predictions; give one a line")


def _classes(path: Path) -> list[str]:
    items = read_predictions(path)
    return read_lines(path) if items is None else in_order(path, items, "label", str)


def _numbers(path: Path) -> list[float]:
    items = read_predictions(path)
    if items is None:
        return read_numbers(path)
    values = in_order(path, items, "value", (int, float))
    broken = next((value for value in values if not _is_finite(value)), None)
    if broken is not None:
        raise UserError(f"{path}: a 'value' is {broken!s:.40}, which is no number; mend it")
    return values


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the largest float
        return False


def _is_positive(classes: np.ndarray) -> np.ndarray:
    return (classes == str(POSITIVE_CLASS)).astype(np.int64)
