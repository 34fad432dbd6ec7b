"""Measuring a trained run; that a served bundle gives the same is in the contract test."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from unimo_paddle.checkpoint import load_checkpoint
from unimo_paddle.config import load_evaluator
from unimo_paddle.data.loader import Stream
from unimo_paddle.errors import UserError
from unimo_paddle.evaluation import (
    EvaluationConfig,
    Evaluator,
    format_table,
    write_predictions,
    write_report,
)
from unimo_paddle.scoring.report import Score, write_scores

pytestmark = pytest.mark.usefixtures("static_graph")


@pytest.fixture(scope="module")
def evaluator(trained_run: Path) -> Evaluator:
    return load_evaluator(trained_run)


def image_stream(evaluator: Evaluator, images: list[Path]) -> Stream:
    encode = evaluator.task.encode_image
    fields = evaluator.task.services[0].inputs
    return Stream("images", images, lambda image, rng: encode(image), fields, 2)


@pytest.fixture
def images(scenes_dir: Path) -> list[Path]:
    return sorted((scenes_dir / "images").glob("*.png"))[:5]


def test_features_have_length_one(evaluator: Evaluator, images) -> None:
    features = evaluator.serve("embed_images", image_stream(evaluator, images))["image_features"]
    assert features.shape[0] == len(images)
    # A sum of few squares in float32.
    np.testing.assert_allclose((features**2).sum(axis=1), 1.0, rtol=1e-5)


def test_index_tells_which_records_were_usable(evaluator: Evaluator, images, tmp_path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(images[0].read_bytes()[:100])
    served = evaluator.serve(
        "embed_images", image_stream(evaluator, [images[0], broken, *images[1:]])
    )
    assert served["index"].tolist() == [0, 2, 3, 4, 5]
    whole = evaluator.serve("embed_images", image_stream(evaluator, images))
    np.testing.assert_allclose(served["image_features"], whole["image_features"], atol=1e-6)


def test_measuring_twice_gives_the_same(evaluator: Evaluator) -> None:
    assert evaluator.measure("test") == evaluator.measure("test")


def test_limit_of_batches_of_zero_measures_no_loss(evaluator: Evaluator) -> None:
    config = EvaluationConfig(max_loss_batches=0)
    quick = Evaluator(evaluator.task, evaluator.runner, config, seed=0)
    metrics = quick.measure("test")
    assert metrics and not [name for name in metrics if name.startswith("loss/")]


def test_step_selects_an_earlier_checkpoint(trained_run: Path) -> None:
    earlier = load_evaluator(trained_run, step=55)
    expected = load_checkpoint(trained_run / "checkpoints" / "step-55").arrays["word_embedding"]
    np.testing.assert_array_equal(earlier.runner.value("word_embedding"), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "evaluation.batch_size is 0; give at least 1"),
        ({"max_loss_batches": -1}, "evaluation.max_loss_batches is -1; give at least 0"),
    ],
)
def test_wrong_settings_are_named(change, message) -> None:
    with pytest.raises(UserError, match=message):
        EvaluationConfig(**change)


def test_run_without_a_checkpoint_is_told(trained_run: Path, tmp_path: Path) -> None:
    shutil.copy(trained_run / "config.yaml", tmp_path)
    with pytest.raises(UserError, match="has no checkpoint yet; train first"):
        load_evaluator(tmp_path)


METRICS = {
    f"{direction}_{name}": value
    for direction in ("image_retrieval", "text_retrieval")
    for name, value in {
        "recall@1": 0.125,
        "recall@5": 0.25,
        "recall@10": 0.5,
        "median_rank": 11.0,
    }.items()
} | {"loss/contrastive": 1.23456}


def test_table_shows_recall_both_ways_and_losses() -> None:
    rows = [line.split() for line in format_table("dev", METRICS).splitlines()]
    assert rows[0] == ["dev"]
    assert ["image", "retrieval", "0.125", "0.250", "0.500", "11.0"] in rows
    assert ["text", "retrieval", "0.125", "0.250", "0.500", "11.0"] in rows
    assert ["contrastive", "1.2346"] in rows


def test_report_is_read_back(tmp_path: Path) -> None:
    path = write_report(tmp_path, "dev", METRICS)
    assert path == tmp_path / "evaluation-dev.json"
    assert json.loads(path.read_text("utf-8")) == METRICS


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_predictions(folder / "x", [{"label": "1"}]),
        lambda folder: write_report(folder, "dev", METRICS),
        lambda folder: write_scores(folder / "x", [Score("f1", 0.5)]),
    ],
    ids=["predictions", "report", "scores"],
)
def test_what_a_failing_disk_cuts_off_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write
) -> None:
    write(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text("earlier")

    def fail(unfinished: Path, text: str, *encoding: str) -> None:
        with unfinished.open("w") as file:
            file.write(text[:5])
        raise OSError("no space left")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="no space left"):
        patched.setattr(Path, "write_text", fail)
        write(tmp_path)
    assert list(tmp_path.iterdir()) == [path] and path.read_text() == "earlier"


def test_predictions_are_written_into_a_new_folder(tmp_path: Path) -> None:
    write_predictions(tmp_path / "new" / "x.jsonl", [{"label": "1"}, {"label": "\u00e4"}])
    text = (tmp_path / "new" / "x.jsonl").read_text("utf-8")
    assert text == '{"label": "1"}\n{"label": "\u00e4"}\n'
