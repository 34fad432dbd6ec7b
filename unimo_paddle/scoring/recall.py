"""Score retrieval by the scores of all pairs of images and texts: recall at 1, 5 and 10 both ways.

    python tools/score.py recall --scores scores.npy --texts_per_image 5
    python tools/score.py recall --scores scores.npy --image_of_text owners.npy

The scores are an array of N images (rows) and M texts (columns), higher is better. Predictions of
tools/evaluate.py are of right pairs only and tell no recall; it measures recall itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from unimo_paddle.errors import ARCHIVE_DAMAGES, UserError
from unimo_paddle.metrics.retrieval import recall_of_scores
from unimo_paddle.scoring.files import JSON_LINES, PREDICTED
from unimo_paddle.scoring.report import SEED, Score

NUMBER_KINDS = "fiub"  # of NumPy: floats, whole numbers, truth values


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--scores", type=Path, required=True, help=".npy of shape [N, M]")
    owners = parser.add_mutually_exclusive_group(required=True)
    owners.add_argument("--texts_per_image", type=int, help="texts follow each other by image")
    owners.add_argument("--image_of_text", type=Path, help=".npy of [M] rows of the scores")


def measure(arguments: argparse.Namespace) -> list[Score]:
    """Recall both ways, with mean and median ranks."""
    scores = _read(arguments.scores, num_dimensions=2)
    num_images, num_texts = scores.shape
    if arguments.image_of_text:
        owners = _read(arguments.image_of_text, num_dimensions=1)
        if len(owners) != num_texts or not np.isin(owners, np.arange(num_images)).all():
            raise UserError(
                f"{arguments.image_of_text}: give {num_texts} rows from 0 to {num_images - 1}, one "
                "for each column of the scores"
            )
    else:
        size = arguments.texts_per_image
        if size < 1 or num_images * size != num_texts:
            raise UserError(
                f"--texts_per_image is {size}, but {arguments.scores} has {num_images} images and "
                f"{num_texts} texts; give --image_of_text"
            )
        owners = np.arange(num_texts) // size
    image_ids, text_ids = np.divmod(np.arange(scores.size), num_texts)
    found = recall_of_scores(
        scores.reshape(-1),
        image_ids,
        text_ids,
        dict(enumerate(owners.tolist())),
        interval_seed=SEED if arguments.intervals else None,
    )
    print(f"{num_images} images, {num_texts} texts")
    return [
        Score(name, value, found.get(f"{name}_low"), found.get(f"{name}_high"))
        for name, value in found.items()
        if not name.endswith(("_low", "_high"))
    ]


def _read(path: Path, *, num_dimensions: int) -> np.ndarray:
    try:
        array = np.load(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; check it") from None
    except ARCHIVE_DAMAGES:
        if path.suffix.lower() == JSON_LINES:
            raise UserError(f"{path}: {PREDICTED['score']}; give all pairs as .npy") from None
        raise UserError(f"{path} is no array of NumPy; write it with numpy.save") from None
    if not isinstance(array, np.ndarray) or array.ndim != num_dimensions or not array.size:
        raise UserError(
            f"{path} has shape {list(getattr(array, 'shape', []))}; give {num_dimensions} "
            "dimensions, none of them empty"
        )
    if array.dtype.kind not in NUMBER_KINDS:
        raise UserError(f"{path} holds values of type {array.dtype}; give numbers")
    return array
