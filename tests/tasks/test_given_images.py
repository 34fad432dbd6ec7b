"""Bundles of pre-training on labelled boxes take images with them, as evaluation reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from unimo_paddle.config import RunConfig, build_trainer
from unimo_paddle.data.image_files import read_image
from unimo_paddle.data.sources import PairRecord
from unimo_paddle.errors import UserError
from unimo_paddle.export import export_bundle
from unimo_paddle.predictor import Predictor
from unimo_paddle.settings import load
from unimo_paddle.tasks.bundle import BundleSettings
from unimo_paddle.trainer import Trainer

# Float32, and matrices of another number of rows.
TOLERANCE = 1e-6
OBJECTS = {
    "model.patch_grid": 1,
    "task.data.image.kind": "objects",
    "task.contrast.others_per_pair": 1,  # with joint scores
}

pytestmark = pytest.mark.usefixtures("static_graph")


class Exported(NamedTuple):
    """An untrained run and its bundle."""

    trainer: Trainer
    bundle: Path


@pytest.fixture(scope="module")
def exported(write_run_file, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("objects")
    config = load(RunConfig, write_run_file(folder / "run.yaml", OBJECTS))
    trainer = build_trainer(replace(config, output_dir=str(folder / "run")))
    settings = BundleSettings(config.model, config.task)
    bundle = export_bundle(trainer.task, trainer.runner, settings, folder / "bundle")
    return Exported(trainer, bundle)


@pytest.fixture(scope="module")
def records(exported: Exported) -> Sequence[PairRecord]:
    return exported.trainer.task.encoder.read_split("test")


def item_of(record: PairRecord) -> dict[str, Any]:
    """What a line of the file holds of the image."""
    objects = [{"box": list(each.box), "names": list(each.names)} for each in record.objects]
    return {"image": str(record.image), "objects": objects}


def test_labelled_images_are_embedded_as_evaluation_embeds_them(exported, records) -> None:
    trainer, predictor = exported.trainer, Predictor(exported.bundle)
    stream = trainer.task.encoder.image_stream(records)
    expected = trainer.evaluator.serve("embed_images", stream)["image_features"]
    items = [item_of(record) for record in records]
    np.testing.assert_allclose(predictor.embed_images(items), expected, atol=TOLERANCE)
    pixels = [{**item, "image": read_image(Path(item["image"]))} for item in items]
    np.testing.assert_allclose(predictor.embed_images(pixels), expected, atol=TOLERANCE)


def test_labelled_images_are_found_in_two_stages(exported, records) -> None:
    predictor, text = Predictor(exported.bundle), "a red star"
    items = [item_of(record) for record in records]
    scores = predictor.score_pairs(items, [text] * len(items))
    found = predictor.find_images(text, items)
    assert [index for index, _ in found] == list(np.argsort(-scores, kind="stable"))


def test_a_file_of_labelled_images_is_ranked(exported, records, run_tool, tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    path.write_text("".join(json.dumps(item_of(record)) + "\n" for record in records))
    texts = ["a red star", "a blue heart"]
    done = run_tool("predict", "--bundle", exported.bundle, "--items", path, "--texts", *texts)
    assert done.returncode == 0, done.stderr
    assert all(text in done.stdout for text in texts)
    assert sum(str(record.image) in done.stdout for record in records) >= 5


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("{image}", "embed_images: item 1: 'objects' is missing; give them, or"),
        ({"image": "{image}", "objects": []}, "embed_images: item 1: 'objects' is missing"),
        ({"image": "{image}", "objects": [{}]}, r"item 1: 'objects\[0\]' must be an object with"),
        ({"image": "nowhere.png", "objects": []}, "nowhere.png: there is no such image file"),
        ({"objects": []}, "embed_images: item 1: key 'image' is missing"),
        ({"image": None}, "embed_images: None is no path and no pixels"),
    ],
)
def test_what_lacks_in_an_image_is_told_in_one_line(exported, records, item, message) -> None:
    path = str(records[0].image)
    given = json.loads(json.dumps(item).replace("{image}", path))
    with pytest.raises(UserError, match=message) as raised:
        Predictor(exported.bundle).embed_images([item_of(records[0]), given])
    assert "\n" not in str(raised.value)
