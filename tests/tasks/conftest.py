"""What tests of several tasks share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unimo_paddle.config import RunConfig, build_trainer
from unimo_paddle.data.images import ImageConfig
from unimo_paddle.data.scenes import SceneConfig
from unimo_paddle.data.text import TokenizerConfig
from unimo_paddle.models import ModelConfig
from unimo_paddle.settings import load
from unimo_paddle.tasks.base import Task, TaskConfig
from unimo_paddle.tasks.image_records import ImageDataConfig
from unimo_paddle.trainer import Trainer

MakeTask = Callable[..., Task]


@pytest.fixture
def make_trainer(write_run_file, tmp_path: Path) -> Callable[..., Trainer]:
    """Build the trainer of a tiny run: (name, changes={dotted key: value})."""

    def make(name: str = "run", *, changes: dict[str, Any]) -> Trainer:
        path = write_run_file(tmp_path / f"{name}.yaml", changes)
        return build_trainer(replace(load(RunConfig, path), output_dir=str(tmp_path / name)))

    return make


@pytest.fixture(scope="session")
def on_scenes(tiny_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> MakeTask:
    """A prepared task on the tiny scenes: (class of its config, of its data, fields) -> task."""
    tiny = tiny_settings["task"]["data"]
    scenes = {
        "source": "scenes",
        "scenes_dir": tiny["scenes_dir"],
        "scenes": SceneConfig(**tiny["scenes"]),
        "tokenizer": TokenizerConfig(**tiny["tokenizer"]),
        "image": ImageConfig(**tiny["image"]),
        "max_text_length": tiny["max_text_length"],
    }

    def make(
        config: type[TaskConfig],
        data_config: type[ImageDataConfig],
        data: Mapping[str, Any] | None,
        changes: Mapping[str, Any],
        *,
        model: Mapping[str, Any],
        assets_dir: Path | None = None,
    ) -> Task:
        settings = config(data=data_config(**(scenes | (data or {}))), **changes)
        sizes = ModelConfig(**(tiny_settings["model"] | model))
        task = settings.build(sizes, assets_dir or tmp_path_factory.mktemp("assets"))
        task.prepare(0)
        return task

    return make
