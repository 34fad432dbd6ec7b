"""The tree of a run: every file that the repository offers is read, and what is saved returns."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from unimo_paddle import settings
from unimo_paddle.config import RunConfig, parse_training
from unimo_paddle.errors import UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.settings.help import field_comments
from unimo_paddle.settings.values import choices_of, field_types, options_of

ROOT = Path(__file__).resolve().parents[1]
MODEL_FILES = sorted((ROOT / "configs" / "model").glob("*.yaml"))
ABLATION_FILES = sorted((ROOT / "configs" / "ablation").glob("*.yaml"))
RUN_FILES = sorted(set((ROOT / "configs").rglob("*.yaml")) - {*MODEL_FILES, *ABLATION_FILES})


@pytest.mark.parametrize("path", MODEL_FILES, ids=lambda path: path.name)
def test_model_file_is_a_model(path: Path) -> None:
    assert isinstance(settings.load(ModelConfig, path), ModelConfig)


@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: path.name)
def test_run_file_is_read_and_saved_back_equal(path: Path, tmp_path: Path) -> None:
    config = settings.load(RunConfig, path)
    settings.save(config, tmp_path / "config.yaml")
    assert settings.load(RunConfig, tmp_path / "config.yaml") == config


def test_resume_is_an_option_and_no_setting() -> None:
    model = str(ROOT / "configs" / "model" / "tiny.yaml")
    config, is_resumed = parse_training(["--resume", "--model", model, "--train.max_steps", "9"])
    assert is_resumed
    assert config.model == settings.load(ModelConfig, Path(model))
    assert config.train.max_steps == 9


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--seed", "-1"], "seed is -1; give"),
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
