"""Baselines on small tables: what they find, and what has none."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from unimo_paddle.benchmarks import baselines
from unimo_paddle.config import RunConfig
from unimo_paddle.errors import UserError
from unimo_paddle.evaluation import EvaluationConfig, Evaluator
from unimo_paddle.program import Runner, build_service
from unimo_paddle.settings import build

MODEL = {"vocab_size": 300, "max_positions": 66, "region_feature_size": 192}
SMALL = {"hidden_size": 16, "num_layers": 1, "num_heads": 2}


def write(path: Path, rows: list[str]) -> str:
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return str(path)


def config_of(tmp_path: Path, task: dict, columns: list[str], rows: list[str]) -> RunConfig:
    path = write(tmp_path / "rows.tsv", rows)
    data = {"train": path, "splits": {"dev": path}, "columns": columns}
    data["tokenizer"] = {"vocab_size": 300}
    task = task | {"data": data | task.get("data", {})}
    return build(RunConfig, {"output_dir": str(tmp_path), "model": MODEL, "task": task})


def test_words_tell_classes_apart(tmp_path: Path) -> None:
    rows = [f"{'good' if n % 2 else 'bad'} film {n}\t{n % 2}" for n in range(40)]
    task = {"type": "classification", "data": {"max_text_length": 32}}
    frequent, words = baselines.run(config_of(tmp_path, task, ["text_a", "label"], rows), "dev")
    assert frequent["accuracy"] == 0.5 and frequent["matthews"] == 0.0
    assert words["accuracy"] == 1.0
    assert words["accuracy_low"] <= words["accuracy"] <= words["accuracy_high"]


def test_common_words_make_texts_alike(tmp_path: Path) -> None:
    rows = ["a red dog\ta red dog\t5", "a red dog\ta blue dog\t3", "a red dog\tno cats here\t0"]
    task = {"type": "regression", "data": {"max_text_length": 32}}
    (row,) = baselines.run(config_of(tmp_path, task, ["text_a", "text_b", "label"], rows), "dev")
    assert row["pearson"] > 0.9


def test_frequencies_of_tokens_are_those_of_the_targets(tmp_path: Path) -> None:
    task = {
        "type": "seq2seq",
        "data": {"max_source_length": 32},
        "language": {"max_target_length": 16},
    }
    config = config_of(tmp_path, task, ["src", "tgt"], ["x\taaaa"] * 10)
    (row,) = baselines.run(config, "dev")
    made = config.task.build(config.model, tmp_path / "assets")
    ids = made.encode(made.read_split("dev")[0])["target_ids"]
    counts = np.ones(300)
    np.add.at(counts, ids, 10.0)
    expected = -np.log(counts[ids] / counts.sum()).mean()
    assert row["nats_per_token"] == pytest.approx(expected)


def test_built_in_captions_have_a_bound(tmp_path: Path, tiny_settings: dict) -> None:
    names = ("scenes_dir", "scenes", "tokenizer", "image")
    data = {name: tiny_settings["task"]["data"][name] for name in names} | {"source": "scenes"}
    settings = {
        "output_dir": str(tmp_path),
        "model": tiny_settings["model"],
        "task": {"type": "captioning", "data": data | {"max_tags": 9}},
    }
    frequencies, bound = baselines.run(build(RunConfig, settings), "test")
    assert 0.0 < bound["nats_per_token_of_first"] < frequencies["nats_per_token"]


@pytest.mark.parametrize(
    ("task", "table"),
    [
        ({"type": "classification"}, ["text_a\tlabel", "a film\t1"]),
        ({"type": "regression"}, ["text_a\ttext_b\tlabel", "a dog\tthe dog\t3"]),
        (
            {"type": "seq2seq", "language": {"max_target_length": 16}},
            ["src\ttgt", "a question\tan answer"],
        ),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_a_split_without_labels_is_refused(tmp_path: Path, task: dict, table: list[str]) -> None:
    bare = write(tmp_path / "bare.tsv", [line.rpartition("\t")[0] for line in table])
    length = "max_source_length" if task["type"] == "seq2seq" else "max_text_length"
    task = task | {"data": {length: 32, "splits": {"test": bare}}}
    config = config_of(tmp_path, task, [], table)
    with pytest.raises(UserError, match=r"1 of 1 records of split 'test' have no label.*choose a"):
        baselines.run(config, "test")


def test_a_task_without_a_baseline_is_refused(tiny_settings: dict, tmp_path: Path) -> None:
    settings = tiny_settings | {"output_dir": str(tmp_path)}
    with pytest.raises(UserError, match="task pretraining has no baseline; choose"):
        baselines.run(build(RunConfig, settings), "test")


def test_the_most_similar_image_lends_its_caption(tmp_path: Path, static_graph: None) -> None:
    rng = np.random.default_rng(0)
    names = ["a red dog sits on a mat", "two men play chess at night", "the sea lies quiet today"]
    for count, split in ((3, "train"), (2, "dev")):
        lines = []
        for number in range(count):
            path = tmp_path / f"{split}-{number}.png"
            colour = np.zeros((16, 16, 3)) + 80 * np.eye(3)[number]
            pixels = colour + rng.integers(0, 20, (16, 16, 3))
            cv2.imwrite(str(path), pixels.astype(np.uint8))
            lines.append(json.dumps({"image": path.name, "captions": [names[number], "x y"]}))
        write(tmp_path / f"{split}.jsonl", lines)
    data = {
        "train": str(tmp_path / "train.jsonl"),
        "splits": {"dev": str(tmp_path / "dev.jsonl")},
        "tokenizer": {"vocab_size": 300},
        "image": {"image_size": 16, "patch_size": 8},
        "with_tags": False,
    }
    settings = {"output_dir": str(tmp_path), "model": MODEL | SMALL}
    config = build(RunConfig, settings | {"task": {"type": "captioning", "data": data}})
    task = config.task.build(config.model, tmp_path / "assets")
    task.prepare(0)
    runner = Runner()
    runner.start(build_service(task, task.services[0]))
    row = baselines.copy_nearest(Evaluator(task, runner, EvaluationConfig(), seed=0), "dev")
    assert row["bleu_4"] == pytest.approx(1.0) and row["cider_d"] > 2.0
