"""What a bundle holds beside its graphs; written by export, read by the predictor."""

from __future__ import annotations

from dataclasses import dataclass

from unimo_paddle.models import ModelConfig
from unimo_paddle.tasks.base import TaskConfig

MANIFEST_NAME = "bundle.json"  # services, their fields and outputs
SETTINGS_NAME = "settings.yaml"
ASSETS_DIR = "assets"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class BundleSettings:
    """The settings that turn text and images into what the graphs are fed."""

    model: ModelConfig  # sizes of the model
    task: TaskConfig  # the task and how it encodes
