"""The tree of a run: every file that the repository offers is read, and what is saved returns."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from unimo_paddle import settings
from unimo_paddle.checkpoint import save_checkpoint
from unimo_paddle.config import RunConfig, load_run, parse_training
from unimo_paddle.errors import UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.process import RESTARTS_VARIABLE
from unimo_paddle.settings.help import field_comments
from unimo_paddle.settings.values import choices_of, field_types, options_of
from unimo_paddle.trainer import CHECKPOINT_DIR

ROOT = Path(__file__).resolve().parents[1]
MODEL_FILES = sorted((ROOT / "configs" / "model").glob("*.yaml"))
ABLATION_FILES = sorted((ROOT / "configs" / "ablation").glob("*.yaml"))
DATA_FILES = sorted((ROOT / "configs" / "data").glob("*.yaml"))
SECTION_FILES = {*MODEL_FILES, *ABLATION_FILES, *DATA_FILES}
RUN_FILES = sorted(set((ROOT / "configs").rglob("*.yaml")) - SECTION_FILES)


@pytest.mark.parametrize("path", MODEL_FILES, ids=lambda path: path.name)
def test_model_file_is_a_model(path: Path) -> None:
    assert isinstance(settings.load(ModelConfig, path), ModelConfig)


@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: path.name)
def test_run_file_is_read_and_saved_back_equal(path: Path, tmp_path: Path) -> None:
    config = settings.load(RunConfig, path)
    settings.save(config, tmp_path / "config.yaml")
    assert settings.load(RunConfig, tmp_path / "config.yaml") == config


def test_settings_that_cannot_be_written_leave_those_of_before(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "config.yaml"
    settings.save(RunConfig(seed=1), path)

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        settings.save(RunConfig(seed=2), path)
    assert load_run(tmp_path).seed == 1


def test_a_run_whose_settings_are_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UserError, match=r"config.yaml is empty; write the settings of the run"):
        load_run(tmp_path)


def test_resume_is_an_option_and_no_setting() -> None:
    model = str(ROOT / "configs" / "model" / "tiny.yaml")
    config, is_resumed = parse_training(["--resume", "--model", model, "--train.max_steps", "9"])
    assert is_resumed
    assert config.model == settings.load(ModelConfig, Path(model))
    assert config.train.max_steps == 9


@pytest.mark.parametrize(
    ("options", "restarts", "is_begun", "expected"),
    [
        ([], "0", True, False),
        ([], "1", True, True),
        ([], "1", False, False),
        ([], None, True, False),
        (["--resume_if_any"], None, True, True),
        (["--resume_if_any"], None, False, False),
        (["--resume"], "0", False, True),
    ],
)
def test_a_run_goes_on_where_it_is_asked_to_or_started_again(
    tmp_path: Path, monkeypatch, options, restarts, is_begun, expected
) -> None:
    monkeypatch.delenv(RESTARTS_VARIABLE, raising=False)
    if restarts is not None:
        monkeypatch.setenv(RESTARTS_VARIABLE, restarts)
    if is_begun:
        save_checkpoint(tmp_path / CHECKPOINT_DIR, 1, {"x": np.zeros(1, np.float32)}, {}, keep=1)
    model = ["--model", str(ROOT / "configs" / "model" / "tiny.yaml")]
    argv = [*options, *model, "--output_dir", str(tmp_path)]
    assert parse_training(argv)[1] is expected


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--seed", "-1"], "seed is -1; give"),
        (["--task.type", "vqa", "--task.data.splits", "{a/b: c}"], "splits names 'a/b', which is"),
        (["--task.type", "pretrainign"], "did you mean pretraining?"),
        (["--model.num_heads", "5"], "model.num_heads 5 does not divide"),
        (["--optimizer.form", "sgd"], "optimizer.form is 'sgd'; give one of adamw"),
        (["--learning_rate", "1"], "did you mean optimizer.learning_rate?"),
        (["--train.max_steps", "nan"], "train.max_steps is 'nan'; give a whole number"),
    ],
)
def test_mistake_is_answered_in_one_line(argv: list[str], expected: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_training(argv)
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


def uncommented(config_class: type, prefix: str = "") -> list[str]:
    """The values, not sections, below ``config_class`` that the help cannot explain."""
    comments, found = field_comments(config_class), []
    for name, kind in field_types(config_class).items():
        sections = [
            section
            for option in options_of(kind)
            for section in (choices_of(option) or {"": option}).values()
            if dataclasses.is_dataclass(section)
        ]
        if not sections and not comments.get(name):
            found.append(f"{prefix}{name}")
        for section in sections:
            found += uncommented(section, f"{prefix}{name}.")
    return found


def test_every_setting_has_a_comment_for_the_help() -> None:
    assert uncommented(RunConfig) == []
