"""A baseline that sees colours only: it tells how much of retrieval needs no understanding."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np

_BINS = (12, 4, 4)  # of hue, saturation and brightness


def histogram_recall(folder: Path, split: str = "test", *, ridge: float = 1.0) -> float:
    """Return recall@1, captions to images, of ridge regression from colour histograms to words.

    The regression learns on the training split which words go with which colours. An image is found
    by the cosine of the words it predicts with those of the caption, both weighted by rarity.

    Args:
        folder: of the scenes.
        split: the pairs to search in, all of them.
        ridge: share of the mean feature variance added to the diagonal.
    """
    train, test = (_read(Path(folder) / f"{name}.jsonl") for name in ("train", split))
    vocabulary = sorted(
        {word for record in train for text in record["captions"] for word in _words(text)}
    )
    index = {word: i for i, word in enumerate(vocabulary)}
    train_words = np.stack([_bag(record["captions"], index) for record in train])
    # Words as standard scores: rare words count more, words of every caption not at all.
    mean, spread = train_words.mean(axis=0), train_words.std(axis=0) + 1e-6

    train_colours = _histograms(folder, train)
    centre = train_colours.mean(axis=0)
    x, y = train_colours - centre, (train_words - mean) / spread
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += ridge * np.trace(gram) / len(gram) + 1e-9
    weights = np.linalg.solve(gram, x.T @ y)

    images = _normalised((_histograms(folder, test) - centre) @ weights)
    hits = [
        int(np.argmax(images @ ((_bag([text], index) - mean) / spread))) == i
        for i, record in enumerate(test)
        for text in record["captions"]
    ]
    return float(np.mean(hits))


def _read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _bag(captions: list[str], index: dict[str, int]) -> np.ndarray:
    """Return the mean number of each known word [V] in the captions."""
    bag = np.zeros(len(index))
    for text in captions:
        for word in _words(text):
            if word in index:
                bag[index[word]] += 1
    return bag / len(captions)


def _histograms(folder: Path, records: list[dict]) -> np.ndarray:
    """Return the square roots of the colour histograms [N, bins] of the records' images."""
    rows = []
    for record in records:
        hsv = cv2.cvtColor(cv2.imread(str(Path(folder) / record["image"])), cv2.COLOR_BGR2HSV)
        counts = cv2.calcHist([hsv], [0, 1, 2], None, list(_BINS), [0, 180, 0, 256, 0, 256])
        rows.append(np.sqrt(counts.ravel() / counts.sum()))
    return np.stack(rows)


def _normalised(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
