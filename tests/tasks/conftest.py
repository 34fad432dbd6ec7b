"""What tests of several tasks share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unimo_paddle.config import RunConfig, build_trainer
from unimo_paddle.settings import load
from unimo_paddle.trainer import Trainer


@pytest.fixture
def make_trainer(write_run_file, tmp_path: Path) -> Callable[..., Trainer]:
    """Build the trainer of a tiny run: (name, changes={dotted key: value})."""

    def make(name: str = "run", *, changes: dict[str, Any]) -> Trainer:
        path = write_run_file(tmp_path / f"{name}.yaml", changes)
        return build_trainer(replace(load(RunConfig, path), output_dir=str(tmp_path / name)))

    return make
