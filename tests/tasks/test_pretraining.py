"""What pre-training starts from, contrasts and shows, on a few scenes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from unimo_paddle.checkpoint import latest_checkpoint, load_checkpoint
from unimo_paddle.config import load_evaluator
from unimo_paddle.data.loader import Loader
from unimo_paddle.errors import UserError
from unimo_paddle.pictures import TILE
from unimo_paddle.program import StaticProgram
from unimo_paddle.trainer import Trainer

pytestmark = pytest.mark.usefixtures("static_graph")


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


@pytest.mark.parametrize("chunks", [0, 2], ids=["whole", "in chunks"])
def test_regions_are_learnt_from_captions_without_language_objectives(make_trainer, chunks) -> None:
    changes = {
        "task.weights.masked_language": 0.0,
        "task.weights.seq2seq_language": 0.0,
        "task.contrastive_chunk_size": chunks,
        "optimizer.warmup_ratio": 0.0,
        "optimizer.weight_decay": 0.0,
        "train.max_steps": 1,
    }
    if not chunks:
        changes["task.weights.contrastive"] = 0.0
    trainer = make_trainer(changes=changes)
    batch = trainer.loader.batch(0)
    assert "hidden_text_input_ids" in batch and "hidden_text_labels" not in batch
    before = trainer.runner.value("pos_embedding").copy()
    trainer.train()
    assert not np.array_equal(trainer.runner.value("pos_embedding"), before)


SPLITS = ("train", "test")


def contrastive_loss(trainer: Trainer) -> float:
    values = trainer.runner.run(program_of(trainer), trainer.loader.batch(0), ["contrastive"])
    return float(values["contrastive"])


def test_a_correlated_start_matches_images_and_captions_before_any_update(make_trainer) -> None:
    common = {"task.pooling": "places", "task.data.image.flip": False}
    plain = make_trainer("plain", changes=common)
    started = make_trainer("started", changes={**common, "task.correlated_start": 24})
    assert contrastive_loss(started) < 0.8 * contrastive_loss(plain)


@pytest.mark.slow
def test_a_correlated_start_is_the_same_every_time(make_trainer) -> None:
    changes = {"task.pooling": "places", "task.correlated_start": 24}
    first, second = (make_trainer(name, changes=changes) for name in ("a", "b"))
    for name in ("image_projection.w_0", "text_projection.b_0"):
        np.testing.assert_array_equal(first.runner.value(name), second.runner.value(name))


def test_a_correlated_start_fits_the_weights_that_a_run_starts_from(make_trainer) -> None:
    before = {"task.weights.contrastive": 0.0, "train.max_steps": 1}
    first = make_trainer("first", changes=before)
    first.train()
    changes = {"task.correlated_start": 24, "train.start_from": str(first.output_dir), "seed": 7}
    started = make_trainer("started", changes=changes)
    fitting = started.task.initial_values(started.evaluator.serve)
    for name, value in next(fitting).items():
        np.testing.assert_allclose(started.runner.value(name), value, atol=1e-5, err_msg=name)


def test_projections_of_a_checkpoint_are_kept(make_trainer, trained_run: Path) -> None:
    changes = {"task.correlated_start": 24, "train.start_from": str(trained_run)}
    started = make_trainer(changes=changes)
    kept = load_checkpoint(latest_checkpoint(trained_run / "checkpoints")).arrays
    for name in started.update.parameter_names:
        np.testing.assert_array_equal(started.runner.value(name), kept[name], err_msg=name)


def test_a_bad_image_is_left_out_of_the_start(make_trainer, scenes_dir, tmp_path) -> None:
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
    changes = {"task.data.scenes_dir": str(broken), "task.correlated_start": 24}
    trainer = make_trainer(changes=changes)
    assert np.isfinite(trainer.runner.value("image_projection.w_0")).all()


def test_loader_and_program_agree_on_every_field(make_trainer) -> None:
    trainer = make_trainer(changes={"task.data.captions_per_image": 2})
    assert isinstance(trainer.loader, Loader)
    assert set(program_of(trainer).feeds) == set(trainer.loader.batch(0))


# ---- names of objects


PATCHES = {
    "model.patch_grid": 2,
    "model.region_feature_size": 768,
    "task.data.image.patch_size": 16,
    "task.data.image.crop_scale": 1.0,
    "task.data.image.crop_ratio": 1.0,
    "task.data.image.flip": False,
}


def test_patches_are_labelled_with_what_lies_in_them(make_trainer, scenes_dir: Path) -> None:
    """Checked against the scene graph, whose boxes are in pixels; what lies below comes first."""
    trainer = make_trainer(changes={**PATCHES, "task.weights.object_names": 1.0})
    encoder, batch = trainer.task.encoder, trainer.loader.batch(0)
    names = encoder.targets.object_names.names
    lines = (scenes_dir / "train.jsonl").read_text("utf-8").splitlines()
    graphs = [json.loads(line)["graph"] for line in lines]
    assert batch["named_objects"].shape == (len(batch["group"]), 4, len(names))
    for group, named, weights in zip(
        batch["group"], batch["named_objects"], batch["name_weights"], strict=True
    ):
        graph = graphs[group]
        for cell, row in enumerate(named):
            expected = {graph["background"]}
            centre = np.array([8 + 16 * (cell % 2), 8 + 16 * (cell // 2)])
            for item in graph["objects"]:
                box = np.array(item["box"])
                half = np.maximum((box[2:] - box[:2]) / 2, 8)
                if (np.abs(centre - (box[:2] + box[2:]) / 2) <= half).all():
                    expected = {item[key] for key in ("shape", "colour", "pattern", "size")}
            assert {names[i] for i in np.flatnonzero(row)} == expected
        hidden = batch["hidden_regions"][batch["group"] == group][0]
        np.testing.assert_array_equal(weights, 1 - hidden[1:])


def test_names_are_learnt_from_the_embedding_of_patches_alone(make_trainer) -> None:
    others = ("contrastive", "masked_language", "region_regression", "region_classification")
    changes = {f"task.weights.{name}": 0.0 for name in others}
    changes |= {"task.weights.object_names": 3.0, "model.hidden_dropout": 0.0}
    changes |= {"optimizer.learning_rate": 5e-3, "task.mixture.texts": 0.0}
    trainer = make_trainer(changes={**PATCHES, **changes})
    first = name_loss(trainer)
    trainer.train()
    assert name_loss(trainer) < 0.6 * first
    gradient = trainer.runner.value("object_names_fc.w_0")
    assert np.abs(gradient).max() > 0


def name_loss(trainer: Trainer) -> float:
    values = trainer.runner.run(program_of(trainer), trainer.loader.batch(0), ["object_names"])
    return float(values["object_names"])


OBJECTS = {
    "model.patch_grid": 1,
    "task.data.image.kind": "objects",
    "task.weights.object_names": 1.0,
}


def test_each_object_is_a_row_with_its_own_names(make_trainer, scenes_dir: Path) -> None:
    """Checked against the labels; objects of which a crop shows no centre are left out."""
    trainer = make_trainer(changes={**OBJECTS, "task.data.image.crop_scale": 1.0})
    encoder, batch = trainer.task.encoder, trainer.loader.batch(0)
    names = encoder.targets.object_names.names
    lines = (scenes_dir / "train.jsonl").read_text("utf-8").splitlines()
    labels = [json.loads(line)["objects"] for line in lines]
    for group, mask, named, weights, hidden in zip(
        *(batch[name] for name in ("group", "region_mask", "named_objects", "name_weights")),
        batch["hidden_regions"],
        strict=True,
    ):
        number = int(mask.sum()) - 1
        found = [sorted(names[i] for i in np.flatnonzero(row)) for row in named[:number]]
        assert found == [sorted(item["names"]) for item in labels[group]]
        np.testing.assert_array_equal(weights[:number], 1 - hidden[1 : number + 1])
        assert not weights[number:].any()


@pytest.mark.slow
def test_objectives_on_pixels_learn_from_rows_of_objects(make_trainer) -> None:
    trainer = make_trainer(changes={**OBJECTS, "optimizer.learning_rate": 5e-3})
    names = ["loss", "region_regression", "region_classification", "object_names"]
    before = trainer.runner.run(program_of(trainer), trainer.loader.batch(0), names)
    trainer.train()
    after = trainer.runner.run(program_of(trainer), trainer.loader.batch(0), names)
    assert all(float(after[name]) < float(before[name]) for name in names)


def test_names_need_labelled_objects_and_pixels(make_trainer, scenes_dir, tmp_path) -> None:
    lines = (scenes_dir / "test.jsonl").read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        del record["objects"]
        record["image"] = str(Path(record["image"]))
    folder = tmp_path / "files"
    shutil.copytree(scenes_dir, folder)
    (folder / "plain.jsonl").write_text("".join(json.dumps(x) + "\n" for x in records), "utf-8")
    changes = {
        "task.data.source": "files",
        "task.data.pairs": str(folder / "plain.jsonl"),
        "task.data.texts": [str(folder / "texts.txt")],
        "task.weights.object_names": 1.0,
    }
    with pytest.raises(UserError, match=r"no pair of .*plain.jsonl has labelled objects; give"):
        make_trainer(changes=changes)
    with pytest.raises(UserError, match="names are read from pixels of pairs"):
        make_trainer("regions", changes={**changes, "task.data.image.kind": "regions"})


# ---- statements


@pytest.mark.slow
def test_statements_are_read_beside_their_images_in_any_order(
    make_trainer, scenes_dir: Path
) -> None:
    path = scenes_dir / "questions_train.jsonl"
    trainer = make_trainer(
        changes={
            **PATCHES,
            "task.data.statements": [str(path)],
            "task.mixture.statements": 2.0,
            "task.weights.object_names": 1.0,
            "train.batch_size": 18,
        }
    )
    assert {"texts", "images", "pairs", "statements"} == {
        stream.name for stream in trainer.task.training_streams(18)
    }
    said: dict[str, set[str]] = {}
    for line in map(json.loads, path.read_text("utf-8").splitlines()):
        said.setdefault(line["image"], set()).add(f"{line['question']} {line['answer']}")
    encoder = trainer.task.encoder
    (record, *_) = encoder.read_statements()
    assert set(record.captions) == said[f"images/{record.image.name}"]
    assert record.objects == encoder.read_pairs()[0].objects
    rng = np.random.default_rng(0)
    texts = {tuple(encoder._encode_statements(record, rng)["statements_hidden_text_labels"])
             for _ in range(10)}  # fmt: skip
    assert len(texts) > 1
    batch = trainer.loader.batch(0)
    assert len(batch["statements_named_objects"]) == 4
    assert np.isfinite(trainer.runner.run(program_of(trainer), batch)["loss"]).all()


def test_statements_with_a_share_need_a_file(make_trainer) -> None:
    with pytest.raises(UserError, match=r"task\.data\.statements names no file; give one"):
        make_trainer(changes={"task.mixture.statements": 1.0, "train.batch_size": 16})


# ---- regions of a detector


def write_region_pairs(folder: Path, *, num_pairs: int = 12, num_classes: int = 5) -> Path:
    """Pairs with regions of a pretended detector; the images are never opened."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    lines = []
    for i in range(num_pairs):
        (folder / f"{i}.png").touch()
        corners = rng.uniform(0, 20, (3, 2))
        regions = {
            "features": rng.normal(size=(3, 6)).tolist(),
            "boxes": np.hstack([corners, corners + 10]).tolist(),
            "class_probabilities": rng.dirichlet(np.ones(num_classes), 3).tolist(),
            "width": 32,
            "height": 32,
        }
        captions = ["a red ball in the sand", f"a cup of {i} drops"]
        lines.append(json.dumps({"image": f"{i}.png", "captions": captions, "regions": regions}))
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder / "pairs.jsonl"


REGIONS = {
    "model.region_feature_size": 6,
    "task.data.source": "files",
    "task.data.image": {"kind": "regions", "feature_size": 6, "max_regions": 3},
    "task.data.num_region_classes": 5,
    "task.mixture.texts": 0.0,
    "evaluation.splits": [],
}


def test_the_detectors_distributions_are_what_hidden_regions_are_classified_by(
    make_trainer, tmp_path: Path
) -> None:
    path = write_region_pairs(tmp_path / "files")
    trainer = make_trainer(changes={**REGIONS, "task.data.pairs": str(path)})
    batch = trainer.loader.batch(0)
    records = [json.loads(line)["regions"] for line in path.read_text("utf-8").splitlines()]
    table = {
        tuple(np.float32(feature).tolist()): np.float32(probabilities)
        for record in records
        for feature, probabilities in zip(
            record["features"], record["class_probabilities"], strict=True
        )
    }
    for prefix in ("", "images_"):
        features, positions = (batch[prefix + x] for x in ("region_features", "region_positions"))
        labels, weights = (batch[prefix + x] for x in ("region_labels", "region_weights"))
        assert labels.shape == (*positions.shape, 5)
        for row, position, label, weight in zip(features, positions, labels, weights, strict=True):
            for p, expected, is_real in zip(position, label, weight, strict=True):
                if is_real:
                    np.testing.assert_array_equal(table[tuple(row[p].tolist())], expected)
    values = trainer.runner.run(program_of(trainer), batch, ["region_classification"])
    assert np.isfinite(values["region_classification"]).all()


def test_a_detector_of_other_classes_is_named(make_trainer, tmp_path: Path) -> None:
    path = write_region_pairs(tmp_path / "files", num_classes=4)
    trainer = make_trainer(changes={**REGIONS, "task.data.pairs": str(path)})
    with pytest.raises(UserError, match=r"of shape \[3, 4\], expected \[n, 5\]"):
        trainer.loader.batch(0)


def test_pairs_that_hold_a_splits_images_are_refused(make_trainer, scenes_dir, tmp_path) -> None:
    lines = {name: (scenes_dir / f"{name}.jsonl").read_text().splitlines() for name in SPLITS}
    shutil.copytree(scenes_dir / "images", tmp_path / "images")
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines["train"]))
    (tmp_path / "dev.jsonl").write_text("\n".join([*lines["test"], *lines["train"][:2]]))
    changes = {
        "task.data.source": "files",
        "task.data.pairs": str(tmp_path / "pairs.jsonl"),
        "task.data.splits": {"dev": str(tmp_path / "dev.jsonl")},
        "task.mixture.texts": 0.0,
        "evaluation.splits": ["dev"],
    }
    with pytest.raises(UserError, match=r"set task\.data\.allow_leaks"):
        make_trainer("refused", changes=changes)
    make_trainer("allowed", changes=changes | {"task.data.allow_leaks": True})
