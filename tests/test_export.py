"""What an export replaces, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from unimo_paddle.config import load_evaluator, load_run
from unimo_paddle.errors import UserError
from unimo_paddle.export import export_bundle
from unimo_paddle.predictor import Predictor
from unimo_paddle.tasks.bundle import BundleSettings

pytestmark = pytest.mark.usefixtures("static_graph")


@pytest.fixture(scope="module")
def export(trained_run: Path) -> Callable[[Path], Path]:
    """Export ``trained_run`` to a folder."""
    evaluator, config = load_evaluator(trained_run), load_run(trained_run)
    settings = BundleSettings(config.model, config.task)
    return lambda folder: export_bundle(evaluator.task, evaluator.runner, settings, folder)


def test_a_bundle_or_an_empty_folder_is_replaced(export, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "bundle").mkdir()
    export(tmp_path / "bundle")
    (tmp_path / "bundle" / "stale").touch()
    monkeypatch.chdir(tmp_path / "bundle")
    export(Path())
    monkeypatch.chdir(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert not (tmp_path / "bundle" / "stale").exists()
    assert Predictor("bundle").serves("embed_texts")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("models", r"models is no bundle: .* give --bundle a new folder, such as .*models/bundle$"),
        ("models/vital", "vital is a file already; give --bundle another name"),
        ("models/vital/bundle", "vital/bundle cannot be made: Not a directory; give --bundle anot"),
    ],
)
def test_what_is_no_bundle_is_left_alone(export, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "vital").write_text("work of years")
    with pytest.raises(UserError, match=message) as raised:
        export(tmp_path / name)
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["models", "vital"]
    assert (tmp_path / "models" / "vital").read_text() == "work of years"


class Killed(BaseException):
    """The end of a process."""


@pytest.mark.parametrize("fatal", ["bundle", ".bundle.unfinished"])
def test_a_kill_leaves_a_whole_bundle_and_the_next_export_cleans_up(
    export, tmp_path: Path, monkeypatch, fatal: str
) -> None:
    export(tmp_path / "bundle")
    rename = Path.rename

    def rename_or_die(path: Path, target: Path) -> Path:
        if path.name == fatal:
            raise Killed
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", rename_or_die)
        with pytest.raises(Killed):
            export(tmp_path / "bundle")
    left = [path for path in tmp_path.iterdir() if path.name != ".bundle.unfinished"]
    assert len(left) == 1 and Predictor(left[0]).serves("embed_texts")
    export(tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
