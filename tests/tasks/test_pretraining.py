"""What pre-training starts from, contrasts and shows, on a few scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unimo_paddle.config import RunConfig, build_trainer, load_evaluator
from unimo_paddle.data.loader import Loader
from unimo_paddle.pictures import TILE
from unimo_paddle.program import StaticProgram
from unimo_paddle.settings import load
from unimo_paddle.trainer import Trainer

pytestmark = pytest.mark.usefixtures("static_graph")


@pytest.fixture
def make_trainer(write_run_file, tmp_path: Path):
    def make(name: str = "run", *, changes: dict[str, Any]) -> Trainer:
        path = write_run_file(tmp_path / f"{name}.yaml", changes)
        return build_trainer(with_output(load(RunConfig, path), tmp_path / name))

    return make


def with_output(config: RunConfig, folder: Path) -> RunConfig:
    return RunConfig(**{**vars(config), "output_dir": str(folder)})


def program_of(trainer: Trainer) -> StaticProgram:
    """The one program of an update of whole batches."""
    (program,) = trainer.update.programs
    return program


def test_every_picture_is_drawn(trained_run: Path) -> None:
    evaluator = load_evaluator(trained_run)
    drawn = evaluator.task.pictures("test", evaluator.serve)
    assert set(drawn) == {"retrieval", "hidden_patches", "attention"}
    for picture in drawn.values():
        assert picture.dtype == np.uint8 and picture.ndim == 3
        assert min(picture.shape[:2]) > TILE
        assert picture.std() > 10  # not one colour


def test_pictures_reach_visualdl_and_weights_their_histograms(trained_run: Path) -> None:
    from visualdl import LogReader

    (path,) = (trained_run / "log" / "visualdl").glob("vdlrecords*.log")
    reader = LogReader(file_path=str(path))
    tags = reader.get_tags()
    assert {"test/retrieval", "test/hidden_patches", "test/attention"} <= set(tags["image"])
    assert "weights/word_embedding" in tags["histogram"]
    assert "train/loss" in tags["scalar"]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_step_contrasts_several_captions_of_an_image(make_trainer, count: int) -> None:
    trainer = make_trainer(changes={"task.data.captions_per_image": count})
    batch = trainer.loader.batch(0)
    num_pairs = len(batch["group"])
    assert batch["caption_input_ids"].shape[:2] == (num_pairs, count)
    assert batch["caption_group"].shape == (num_pairs, count)
    # Five captions an image: different ones as long as they last.
    for captions in batch["caption_group"]:
        assert len(set(captions.tolist())) == min(count, 5)
    assert np.isfinite(trainer.runner.run(program_of(trainer), batch)["loss"]).all()


def contrastive_loss(trainer: Trainer) -> float:
    values = trainer.runner.run(program_of(trainer), trainer.loader.batch(0), ["contrastive"])
    return float(values["contrastive"])


def test_a_correlated_start_matches_images_and_captions_before_any_update(make_trainer) -> None:
    common = {"task.pooling": "places", "task.data.image.flip": False}
    plain = make_trainer("plain", changes=common)
    started = make_trainer("started", changes={**common, "task.correlated_start": 24})
    assert contrastive_loss(started) < 0.8 * contrastive_loss(plain)


def test_a_correlated_start_is_the_same_every_time(make_trainer) -> None:
    changes = {"task.pooling": "places", "task.correlated_start": 24}
    first, second = (make_trainer(name, changes=changes) for name in ("a", "b"))
    for name in ("image_projection.w_0", "text_projection.b_0"):
        np.testing.assert_array_equal(first.runner.value(name), second.runner.value(name))


def test_a_bad_image_is_left_out_of_the_start(write_run_file, scenes_dir, tmp_path) -> None:
    broken = tmp_path / "scenes"
    broken.mkdir()
    for path in scenes_dir.rglob("*"):
        target = broken / path.relative_to(scenes_dir)
        if path.is_dir():
            target.mkdir()
        else:
            target.write_bytes(path.read_bytes())
    image = sorted((broken / "images").glob("*.png"))[2]
    image.write_bytes(image.read_bytes()[:100])
    path = write_run_file(
        tmp_path / "run.yaml",
        {"task.data.scenes_dir": str(broken), "task.correlated_start": 24},
    )
    trainer = build_trainer(with_output(load(RunConfig, path), tmp_path / "run"))
    assert np.isfinite(trainer.runner.value("image_projection.w_0")).all()


def test_loader_and_program_agree_on_every_field(make_trainer) -> None:
    trainer = make_trainer(changes={"task.data.captions_per_image": 2})
    assert isinstance(trainer.loader, Loader)
    assert set(program_of(trainer).feeds) == set(trainer.loader.batch(0))
