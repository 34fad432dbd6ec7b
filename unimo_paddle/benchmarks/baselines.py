"""What simple models reach on a fine-tuned task's data: the least that a large one must beat.

- classes of texts: the most frequent class, and TF-IDF of words and pairs of words with logistic
  regression; of an image with a sentence, the same on the sentence alone;
- a number for two texts: the cosine of their TF-IDF vectors;
- written text: the frequencies of tokens in the training targets; for the captions of the built-in
  scenes also the exact likelihood, which bounds every model; for the captions of a trained run the
  first caption of the training image that its own features find most alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from unimo_paddle.benchmarks import Row
from unimo_paddle.checkpoint import latest_checkpoint
from unimo_paddle.config import RunConfig, load_evaluator
from unimo_paddle.data.loader import Stream
from unimo_paddle.data.scenes import first_caption_entropy
from unimo_paddle.errors import UserError
from unimo_paddle.evaluation import Evaluator
from unimo_paddle.metrics.classification import accuracy, matthews
from unimo_paddle.metrics.intervals import with_intervals
from unimo_paddle.metrics.regression import pearson, spearman
from unimo_paddle.tasks.captioning import EMBED_IMAGES, CaptioningTask
from unimo_paddle.tasks.classification import ClassificationTask
from unimo_paddle.tasks.finetuning import TRAIN_SPLIT, FineTuningTask
from unimo_paddle.tasks.regression import RegressionTask
from unimo_paddle.tasks.seq2seq import Seq2SeqTask
from unimo_paddle.tasks.visual_entailment import VisualEntailmentTask
from unimo_paddle.tasks.writing import words_of
from unimo_paddle.trainer import ASSETS_DIR, CHECKPOINT_DIR

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
        rows = _count(task, split)
        folder = Path(config.output_dir)
        if isinstance(task, CaptioningTask) and latest_checkpoint(folder / CHECKPOINT_DIR):
            rows.append(copy_nearest(load_evaluator(folder), split))
        return rows
    raise UserError(
        f"task {config.task.get_choice_name(type(config.task))} has no baseline; choose "
        "classification, regression, seq2seq, dialogue, visual_entailment or captioning"
    )


def _labelled(task: FineTuningTask, split: str) -> Sequence[Any]:
    """The records of a split, each of which must say what is right."""
    records = task.read_split(split)
    bare = sum(not task.is_labelled(record) for record in records)
    if bare:
        raise UserError(
            f"{bare} of {len(records)} records of split {split!r} have no label, so nothing can be "
            "measured or learnt from them; choose a split with labels, or add them"
        )
    return records


def _classify(task: FineTuningTask, split: str, text_of: Callable[[Any], str]) -> list[Row]:
    train, test = _labelled(task, TRAIN_SPLIT), _labelled(task, split)
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
    train, test = task.read_split(TRAIN_SPLIT), _labelled(task, split)
    vectors.fit([text for record in train for text in task.texts(record)])
    first = vectors.transform([record.text_a for record in test])
    second = vectors.transform([record.text_b or "" for record in test])
    cosines = np.asarray(first.multiply(second).sum(axis=1)).ravel()
    right = np.array([float(record.label) for record in test])
    return {"baseline": "cosine of TF-IDF", **with_intervals(NUMBERS, cosines, right)}


def _count(task: Seq2SeqTask | CaptioningTask, split: str) -> list[Row]:
    """Tokens by their frequency; of the built-in captions also what nobody can beat."""
    counts = np.ones(task.model.vocab_size)  # one each, so that nothing is impossible
    for ids in _targets(task, _labelled(task, TRAIN_SPLIT)):
        np.add.at(counts, ids, 1.0)
    nats = -np.log(counts / counts.sum())
    targets = np.concatenate(_targets(task, _labelled(task, split)))
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


def copy_nearest(evaluator: Evaluator, split: str) -> Row:
    """Captions of the most similar training images, for the images whose texts are measured."""
    task = evaluator.task
    train, test = (
        {r.image_id: r for r in reversed(task.read_split(x))} for x in (TRAIN_SPLIT, split)
    )
    records = task.read_split(split)
    references = task.references(records)
    chosen = list(references)[: task.language.written_records]
    known = list(train.values())
    serve = lambda records: evaluator.serve(EMBED_IMAGES, _image_stream(task, records))  # noqa: E731
    found, asked = serve(known), serve([test[records[index].image_id] for index in chosen])
    centre = found["image_features"].mean(axis=0)
    neighbours = NearestNeighbors(n_neighbors=1, metric="cosine", algorithm="brute")
    neighbours.fit(found["image_features"] - centre)
    nearest = neighbours.kneighbors(asked["image_features"] - centre, return_distance=False)[:, 0]
    captions = [task.target_text(known[found["index"][place]]) or "" for place in nearest]
    right = [references[chosen[place]] for place in asked["index"]]
    measured = task.compare(
        [words_of(caption) for caption in captions],
        [[words_of(text) for text in texts] for texts in right],
    )
    return {"baseline": "caption of the most similar training image", **measured}


def _image_stream(task: CaptioningTask, records: Sequence[Any]) -> Stream:
    return Stream("images", records, lambda record, rng: task.begin(record), task.image_inputs, 64)
