"""What each task brings to its contract: settings of a run of seconds, and what it serves."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unimo_paddle.data.fields import Sample
from unimo_paddle.data.loader import Stream

SPLIT = "test"
PREDICT = "predict"
GENERATE = "generate"


@dataclass(frozen=True)
class Served:
    """One service as evaluation feeds it and as a user calls it.

    Args:
        output: name of what is compared.
        stream: (task, split) -> the stream that evaluation sweeps.
        item: record of that stream -> what a user gives to the predictor, as JSON holds it.
        encode: (task, item) -> what the network is fed.
    """

    output: str
    stream: Callable[[Any, str], Stream]
    item: Callable[[Any], Any]
    encode: Callable[[Any, Any], Sample]


@dataclass(frozen=True)
class Case:
    """A task in the contract.

    Args:
        settings: (settings of a tiny run of pre-training, empty folder) -> those of its own run.
        metrics: some that evaluation must report.
        served: by the service's name, which is the predictor's method too.
        predict: (items by service) -> arguments of ``tools/predict.py`` beside the bundle.
        printed: (items by service) -> what ``tools/predict.py`` must print.
    """

    settings: Callable[[dict[str, Any], Path], dict[str, Any]]
    metrics: tuple[str, ...]
    served: dict[str, Served]
    predict: Callable[[dict[str, list]], Sequence[str]]
    printed: Callable[[dict[str, list]], Sequence[str]]


PRETRAINING = Case(
    settings=lambda tiny, folder: tiny,
    metrics=("image_retrieval_recall@1", "text_retrieval_recall@10", "loss/loss"),
    served={
        "embed_images": Served(
            "image_features",
            lambda task, split: task.encoder.image_stream(task.encoder.read_split(split)),
            lambda record: str(record.image),
            lambda task, image: task.encode_image(image),
        ),
        "embed_texts": Served(
            "text_features",
            lambda task, split: task.encoder.caption_stream(task.encoder.read_split(split)),
            lambda caption: caption,
            lambda task, text: task.encode_text(text),
        ),
    },
    predict=lambda items: [
        *("--images", *items["embed_images"]),
        *("--texts", *items["embed_texts"]),
    ],
    printed=lambda items: [*items["embed_images"][:5], *items["embed_texts"]],
)


def fine_tuned(
    type_name: str,
    task: Callable[[Path], dict[str, Any]],
    *,
    output: str,
    item: Callable[[Any], dict[str, Any]],
    metrics: tuple[str, ...],
    printed: Sequence[str],
    model: dict[str, Any] | None = None,
) -> Case:
    """The case of a task that predicts something of single records.

    Args:
        task: empty folder -> its settings beside ``type``.
        item: record -> what a user gives to the predictor.
        printed: what a prediction holds.
    """

    def settings(tiny: dict[str, Any], folder: Path) -> dict[str, Any]:
        merged = copy.deepcopy(tiny)
        own = task(folder)
        if own["data"].get("source") == "scenes":
            names = ("scenes_dir", "scenes", "tokenizer", "image", "max_text_length")
            given = {name: merged["task"]["data"][name] for name in names}
            own["data"] = given | own["data"]
        merged["task"] = {"type": type_name, **own}
        merged["model"] |= model or {}
        merged["train"] |= {"max_steps": 6, "checkpoint_interval": 6}
        return merged

    def arguments(items: dict[str, list]) -> list[str]:
        first = items[PREDICT][0]
        values = {key: x if isinstance(x, str) else json.dumps(x) for key, x in first.items()}
        return [part for key, value in values.items() for part in ("--item", f"{key}={value}")]

    return Case(
        settings=settings,
        metrics=metrics,
        served={
            PREDICT: Served(
                output,
                lambda task, split: task.input_stream(task.read_split(split)),
                item,
                lambda task, made: task.encode(task.parse(made)),
            )
        },
        predict=arguments,
        printed=lambda items: printed,
    )


WORDS = ["a", "the", "dog", "cat", "man", "sits", "runs", "red", "blue", "on", "under", "tree"]


def write_table(path: Path, columns: Sequence[str], rows: int, label: Callable[[int], str]) -> str:
    """A table of random words whose last column is a label or a target; returns its path."""
    rng = np.random.default_rng(len(columns) * 1000 + rows)
    lines = ["\t".join(columns)]
    for number in range(rows):
        texts = [" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in columns[:-1]]
        lines.append("\t".join([*texts, label(number)]))
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return str(path)


def table_task(
    columns: Sequence[str],
    label: Callable[[int], str],
    *,
    length: str = "max_text_length",
    **settings: Any,
) -> Callable[[Path], dict[str, Any]]:
    """Settings of a task on tables, which are written into the folder of the run."""

    def make(folder: Path) -> dict[str, Any]:
        data = {
            "train": write_table(folder / "train.tsv", columns, 24, label),
            "splits": {SPLIT: write_table(folder / "test.tsv", columns, 7, label)},
            "tokenizer": {"vocab_size": 300},
            length: 64,
        }
        return {"data": data, **settings}

    return make


OBJECTS = {"image": {"kind": "objects", "patch_size": 8}}


def scenes_task(
    data: dict[str, Any] | None = None, **settings: Any
) -> Callable[[Path], dict[str, Any]]:
    """Settings of a task on the built-in scenes."""
    return lambda folder: copy.deepcopy({"data": {"source": "scenes", **(data or {})}} | settings)


def texts_of(record: Any) -> dict[str, str]:
    """A record of one or two texts without its label."""
    pair = {"text_a": record.text_a, "text_b": record.text_b}
    return {name: text for name, text in pair.items() if text is not None}


def writing(
    type_name: str, task: Callable[[Path], dict], item: Callable[[Any], dict], **more: Any
) -> Case:
    """A task that writes text, and tells how likely the true one is."""
    case = fine_tuned(
        type_name,
        task,
        output="log_likelihood",
        item=item,
        metrics=("nats_per_token", "bleu_4", "written_texts", "loss/loss", "loss/cross_entropy"),
        printed=["text", "score"],
        **more,
    )
    written = Served(
        "scores",
        lambda task, split: Stream(
            "texts",
            task.read_split(split),
            lambda record, rng: task.begin(record),
            task.writing_inputs,
            32,
        ),
        item,
        lambda task, made: task.begin(task.parse(made)),
    )
    return replace(case, served={**case.served, GENERATE: written})


SHORT = {"language": {"max_target_length": 9}, "length": "max_source_length"}

CASES = {
    "pretraining": PRETRAINING,
    "classification": fine_tuned(
        "classification",
        table_task(
            ["text_a", "label"],
            lambda number: str(number % 2),
            adversarial={"steps": 2, "sides": "text"},
        ),
        output="probabilities",
        item=texts_of,
        metrics=("accuracy", "accuracy_low", "matthews", "f1", "loss/loss"),
        printed=["label", "probabilities"],
    ),
    "regression": fine_tuned(
        "regression",
        table_task(
            ["text_a", "text_b", "label"], lambda number: f"{number / 5:.1f}", pooling="mean"
        ),
        output="values",
        item=texts_of,
        metrics=("pearson", "spearman", "spearman_high", "loss/loss"),
        printed=["value"],
    ),
    "seq2seq": writing(
        "seq2seq",
        table_task(
            ["src", "tgt"],
            lambda number: f"dog {number}",
            adversarial={"steps": 1, "sides": "text", "with_clean": False},
            **SHORT,
        ),
        lambda record: {"src": record.sources[0], "tgt": record.target},
    ),
    "dialogue": writing(
        "dialogue",
        table_task(["knowledge", "src", "tgt"], lambda number: f"dog {number}", **SHORT),
        lambda record: {
            "knowledge": record.knowledge,
            "src": " [SEP] ".join(record.turns),
            "tgt": record.target,
        },
        model={"num_roles": 3, "num_turns": 4},
    ),
    "retrieval": fine_tuned(
        "retrieval",
        scenes_task(negatives=2, pooling="mean"),
        output="score",
        item=lambda pair: {"image": str(pair.image.image), "text": pair.text},
        metrics=("image_retrieval_recall@1", "text_retrieval_recall@10", "loss/loss"),
        printed=["score"],
    ),
    "visual_entailment": fine_tuned(
        "visual_entailment",
        scenes_task(OBJECTS, pooling="mask"),
        output="probabilities",
        item=lambda record: {
            "image": str(record.image.pixels),
            "objects": [{"box": list(x.box), "names": list(x.names)} for x in record.image.objects],
            "hypothesis": record.hypothesis,
        },
        model={"patch_grid": 1},
        metrics=("accuracy", "matthews_low", "loss/loss"),
        printed=["label", "probabilities", "entailment"],
    ),
    "captioning": writing(
        "captioning",
        scenes_task(language={"max_target_length": 20}, adversarial={"steps": 2}),
        lambda record: {"image": str(record.image), "caption": record.caption},
    ),
    "vqa": fine_tuned(
        "vqa",
        scenes_task(num_answers=30, pooling="mean"),
        output="scores",
        item=lambda record: {"image": str(record.image), "question": record.question},
        metrics=("accuracy", "accuracy_high", "loss/loss", "loss/score"),
        printed=["answer", "probabilities"],
    ),
}
