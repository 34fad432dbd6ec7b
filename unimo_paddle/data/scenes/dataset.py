"""Writing of the data set `scenes`, and finding it again."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from unimo_paddle.data.publish import name_unfinished, remove
from unimo_paddle.data.scenes import manifest
from unimo_paddle.data.scenes.drawing import render
from unimo_paddle.data.scenes.entailment import write_entailment
from unimo_paddle.data.scenes.grammar import (
    Scene,
    labelled_objects,
    sample_scene,
    scene_graph,
)
from unimo_paddle.data.scenes.language import write_captions, write_paragraph
from unimo_paddle.data.scenes.meaning import Meaning, identifying_share
from unimo_paddle.data.scenes.questions import write_questions
from unimo_paddle.errors import UserError

logger = logging.getLogger(__name__)

MANIFEST = "scenes.json"
_WHAT = "scenes"  # the folder holds
# Raised whenever the same config would write other files than before.
VERSION = 4
# What a stream of random numbers is for: (seed, purpose, index) seeds one scene, whatever else is
# made beside it, so that a longer training split begins with the shorter one.
_PURPOSES = {"train": 0, "test": 1, "test_novel": 2, "texts": 3, "images_only": 4}
_LANGUAGE = 1000  # added to a purpose for the words about its scenes


@dataclass(frozen=True)
class SceneConfig:
    """What to generate; the defaults are the quick start's."""

    seed: int = 0  # of everything that is drawn and written
    image_size: int = 64  # pixels a side
    num_train: int = 4000  # pairs to train on
    num_test: int = 200  # unseen scenes
    num_novel: int = 200  # scenes with unseen combinations of colour and shape
    num_texts: int = 4000  # paragraphs without an image
    num_images_only: int = 1000  # images without a caption
    captions_per_image: int = 5  # different captions of each scene
    questions_per_image: int = 4  # of the splits train and test
    triples_per_image: int = 3  # hypotheses of the splits train and test

    def __post_init__(self) -> None:
        limits = {"image_size": (32, 1024), "num_train": (1, 99999), "captions_per_image": (1, 8)}
        limits |= {"questions_per_image": (0, 8), "triples_per_image": (0, 9)}
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = limits.get(field.name, (0, 2**31 - 1 if field.name == "seed" else 99999))
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise UserError(
                    f"scenes: {field.name} is {value!r}; choose a whole number from {low} to {high}"
                )


def ensure_scenes(folder: Path, config: SceneConfig) -> Path:
    """Return a folder that holds the scenes of a config, generated on first use.

    The files are written beside the folder and published by one rename: a folder that exists is
    complete. Two processes may call this at once; one of them publishes, both return.

    Raises:
        UserError: the folder holds something else, or scenes of another config.
    """
    folder = Path(folder)
    if _is_taken(folder):
        check_manifest(folder, config)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = name_unfinished(folder)
    try:
        made = _write_all(partial, config)
        try:
            os.rename(partial, folder)
        except OSError:
            # Another process was faster: what it published must be the same.
            if not _is_taken(folder):
                raise
            check_manifest(folder, config)
    finally:
        remove(partial)
    for split, share in made["ceilings"].items():
        logger.info("scenes: %.1f %% of the captions of %s identify one image", 100 * share, split)
    return folder


def read_manifest(folder: Path) -> dict:
    """Return the manifest of a folder of scenes: version, config, counts, ceilings."""
    return manifest.read_manifest(Path(folder) / MANIFEST, _WHAT)


def sample_split(config: SceneConfig, name: str) -> list[Scene]:
    """The scenes of one split, as they were drawn for the files of it."""
    return _sample_splits(config)[name]


def _is_taken(folder: Path) -> bool:
    return folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))


def check_manifest(folder: Path, config: SceneConfig) -> None:
    """Refuse a folder whose scenes are not those of the config, naming every difference."""
    path = folder / MANIFEST
    manifest.check_manifest(path, asdict(config), version=VERSION, what=_WHAT)


def _write_all(folder: Path, config: SceneConfig) -> dict:
    """Write every file of the data set; the manifest, last, makes it complete."""
    (folder / "images").mkdir(parents=True)
    (folder / "images_only").mkdir()
    splits = _sample_splits(config)
    total = sum(map(len, splits.values())) - len(splits["texts"])
    ceilings, counts = {}, {name: len(scenes) for name, scenes in splits.items()}
    with tqdm(total=total, desc="drawing scenes", unit="image", mininterval=1) as progress:
        first = 0
        for split in ("train", "test", "test_novel"):
            meanings = _write_split(folder, split, splits[split], config, first, progress)
            first += len(splits[split])
            if split != "train" and splits[split]:
                ceilings[split] = round(identifying_share(meanings, splits[split]), 4)
        for index, scene in enumerate(splits["images_only"]):
            _write_image(folder / "images_only" / f"{index:05d}.png", scene, config.image_size)
            progress.update()
    paragraphs = (
        write_paragraph(scene, _rng(config, "texts", index, language=True))
        for index, scene in enumerate(splits["texts"])
    )
    (folder / "texts.txt").write_text("".join(f"{text}\n" for text in paragraphs), "utf-8")
    for split, first in (("train", 0), ("test", config.num_train)):
        _write_tasks(folder, split, splits[split], config, first)
    # Ceilings: share of captions that are true of one scene of their split only; no model can
    # exceed it by understanding alone.
    more = {"counts": counts, "ceilings": ceilings}
    return manifest.write_manifest(folder / MANIFEST, asdict(config), version=VERSION, **more)


def _sample_splits(config: SceneConfig) -> dict[str, list[Scene]]:
    """Draw all scenes, each different from every other in something that words can say.

    Test scenes are drawn first, so that they do not depend on how much else is made.
    """
    sizes = {
        "test": config.num_test,
        "test_novel": config.num_novel,
        "train": config.num_train,
        "images_only": config.num_images_only,
        "texts": config.num_texts,
    }
    taken: set[tuple] = set()
    splits = {}
    for name, size in sizes.items():
        splits[name] = []
        for index in range(size):
            rng = _rng(config, name, index)
            scene = sample_scene(rng, novel=name == "test_novel")
            while scene.signature in taken:
                scene = sample_scene(rng, novel=name == "test_novel")
            taken.add(scene.signature)
            splits[name].append(scene)
    return splits


def _write_split(
    folder: Path, split: str, scenes: list[Scene], config: SceneConfig, first: int, progress: tqdm
) -> list[list[Meaning]]:
    """Write the images and the pairs of a split; returns the meanings of its captions."""
    records, all_meanings = [], []
    for index, scene in enumerate(scenes):
        image = _image_name(first + index)
        _write_image(folder / image, scene, config.image_size)
        rng = _rng(config, split, index, language=True)
        captions, meanings = write_captions(scene, config.captions_per_image, rng)
        graph = scene_graph(scene, config.image_size)
        graph["captions"] = [meaning.to_json() for meaning in meanings]
        record = {"image": image, "captions": captions, "objects": labelled_objects(scene)}
        records.append(record | {"graph": graph})
        all_meanings.append(meanings)
        progress.update()
    _write_lines(folder / f"{split}.jsonl", records)
    return all_meanings


def _write_tasks(
    folder: Path, split: str, scenes: list[Scene], config: SceneConfig, first: int
) -> None:
    """Write the questions and the entailment triples of a split."""
    questions, triples = [], []
    for index, scene in enumerate(scenes):
        image = {"image": _image_name(first + index), "objects": labelled_objects(scene)}
        rng = _rng(config, split, index, language=True).spawn(1)[0]
        for question in write_questions(scene, config.questions_per_image, rng):
            questions.append(image | question)
        for triple in write_entailment(scene, config.triples_per_image, rng):
            triples.append(image | triple)
    _write_lines(folder / f"questions_{split}.jsonl", questions)
    _write_lines(folder / f"entailment_{split}.jsonl", triples)


def _write_image(path: Path, scene: Scene, image_size: int) -> None:
    ok, encoded = cv2.imencode(".png", render(scene, image_size))
    assert ok, path
    path.write_bytes(encoded.tobytes())


def _write_lines(path: Path, records: Iterable[dict]) -> None:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")


def _image_name(number: int) -> str:
    return f"images/{number:05d}.png"


def _rng(
    config: SceneConfig, name: str, index: int, *, language: bool = False
) -> np.random.Generator:
    return np.random.default_rng((config.seed, _PURPOSES[name] + _LANGUAGE * language, index))
