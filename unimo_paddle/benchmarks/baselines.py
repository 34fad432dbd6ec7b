"""What simple models reach on a fine-tuned task's data: the least that a large one must beat.

- classes of texts: the most frequent class, and TF-IDF of words and pairs of words with logistic
  regression; of an image with a sentence, the same on the sentence alone;
- a number for two texts: the cosine of their TF-IDF vectors;
- written text: the frequencies of tokens in the training targets; for the captions of the built-in
  scenes also the exact likelihood, which bounds every model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from unimo_paddle.benchmarks import Row
from unimo_paddle.config import RunConfig
from unimo_paddle.data.scenes import first_caption_entropy
from unimo_paddle.errors import UserError
from unimo_paddle.metrics.classification import accuracy, matthews
from unimo_paddle.metrics.regression import pearson, spearman
from unimo_paddle.tasks.captioning import CaptioningTask
from unimo_paddle.tasks.classification import ClassificationTask
from unimo_paddle.tasks.finetuning import TRAIN_SPLIT, FineTuningTask, with_intervals
from unimo_paddle.tasks.regression import RegressionTask
from unimo_paddle.tasks.seq2seq import Seq2SeqTask
from unimo_paddle.tasks.visual_entailment import VisualEntailmentTask
from unimo_paddle.trainer import ASSETS_DIR

Metrics = dict[str, Callable[..., float]]

CLASSES: Metrics = {"accuracy": accuracy, "matthews": matthews}
NUMBERS: Metrics = {"pearson": pearson, "spearman": spearman}
WORDS = r"(?u)[^\s]+"  # the data sets come tokenized: punctuation tells something


def run(config: RunConfig, split: str) -> list[Row]:
    """One row for each baseline of the task's data on a split: metrics with their intervals."""
    task = config.task.build(config.model, Path(config.output_dir) / ASSETS_DIR)
    if isinstance(task, ClassificationTask):
        return _classify(task, split, lambda record: " ".join(task.texts(record)))
    if isinstance(task, VisualEntailmentTask):
        return _classify(task, split, lambda record: record.hypothesis)
    if isinstance(task, RegressionTask):
        return [_compare(task, split)]
    if isinstance(task, Seq2SeqTask | CaptioningTask):
        task.prepare(config.seed)
        return _count(task, split)
    raise UserError(
        f"task {config.task.get_choice_name(type(config.task))} has no baseline; choose "
        "classification, regression, seq2seq, dialogue, visual_entailment or captioning"
    )


def _classify(task: FineTuningTask, split: str, text_of: Callable[[Any], str]) -> list[Row]:
    train, test = task.read_split(TRAIN_SPLIT), task.read_split(split)
    names = sorted({record.label for record in (*train, *test)})
    labels, right = (
        np.array([names.index(record.label) for record in records]) for records in (train, test)
    )
    frequent = np.full(len(right), np.bincount(labels).argmax())
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORDS)
    model = LogisticRegression(C=10.0, max_iter=1000)
    model.fit(vectors.fit_transform([text_of(record) for record in train]), labels)
    predicted = model.predict(vectors.transform([text_of(record) for record in test]))
    return [
        {"baseline": "most frequent class", **with_intervals(CLASSES, frequent, right)},
        {
            "baseline": "TF-IDF and logistic regression",
            **with_intervals(CLASSES, predicted, right),
        },
    ]


def _compare(task: RegressionTask, split: str) -> Row:
    vectors = TfidfVectorizer(sublinear_tf=True, token_pattern=WORDS)
    train, test = task.read_split(TRAIN_SPLIT), task.read_split(split)
    vectors.fit([text for record in train for text in task.texts(record)])
    first = vectors.transform([record.text_a for record in test])
    second = vectors.transform([record.text_b or "" for record in test])
    cosines = np.asarray(first.multiply(second).sum(axis=1)).ravel()
    right = np.array([float(record.label) for record in test])
    return {"baseline": "cosine of TF-IDF", **with_intervals(NUMBERS, cosines, right)}


def _count(task: Seq2SeqTask | CaptioningTask, split: str) -> list[Row]:
    """Tokens by their frequency; of the built-in captions also what nobody can beat."""
    counts = np.ones(task.model.vocab_size)  # one each, so that nothing is impossible
    for ids in _targets(task, task.read_split(TRAIN_SPLIT)):
        np.add.at(counts, ids, 1.0)
    nats = -np.log(counts / counts.sum())
    targets = np.concatenate(_targets(task, task.read_split(split)))
    rows: list[Row] = [
        {"baseline": "frequencies of tokens", "nats_per_token": float(nats[targets].mean())}
    ]
    if isinstance(task, CaptioningTask) and task.data.source == "scenes":
        folder = Path(task.data.scenes_dir)
        entropy = first_caption_entropy(folder, split, task.tokenizer.encode)
        rows.append({"baseline": "the generator itself", "nats_per_token_of_first": entropy})
    return rows


def _targets(task: Seq2SeqTask | CaptioningTask, records: Sequence[Any]) -> list[np.ndarray]:
    """The ids that are predicted in each record, the end token among them."""
    if isinstance(task, CaptioningTask):
        return [task.encode_caption(record.caption)["target_ids"] for record in records]
    return [task.encode(record)["target_ids"] for record in records]
