"""Labelled objects of the scenes without captions, which are drawn again from their seed."""

from __future__ import annotations

import json
from pathlib import Path

from unimo_paddle.data.publish import publish
from unimo_paddle.data.scenes.dataset import (
    MANIFEST,
    SceneConfig,
    check_manifest,
    read_manifest,
    sample_split,
)
from unimo_paddle.data.scenes.grammar import labelled_objects

IMAGES_ONLY = "images_only"
OBJECTS_NAME = "objects.jsonl"


def holds_scenes(images: Path) -> bool:
    """Whether a folder is that of the built-in images without captions."""
    return images.name == IMAGES_ONLY and (images.parent / MANIFEST).is_file()


def ensure_image_objects(images: Path) -> Path:
    """Return the file with the objects of the images in a folder, written on first use.

    A line is ``{"image": name, "objects": [...]}``.
    """
    folder, path = images.parent, images / OBJECTS_NAME
    if not path.exists():
        config = SceneConfig(**read_manifest(folder)["config"])
        check_manifest(folder, config)
        scenes = sample_split(config, IMAGES_ONLY)
        lines = [
            json.dumps({"image": f"{index:05d}.png", "objects": labelled_objects(scene)})
            for index, scene in enumerate(scenes)
        ]
        text = "".join(f"{line}\n" for line in lines)
        publish(path, lambda unfinished: unfinished.write_text(text, "utf-8"))
    return path
