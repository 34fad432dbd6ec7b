"""The tool called in this process, and what it is given."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

SCORE = Path(__file__).resolve().parents[2] / "tools" / "score.py"


class Outcome(NamedTuple):
    """What the tool left behind."""

    code: int
    out: str
    err: str
    scores: dict[str, float]


@pytest.fixture
def score(monkeypatch, capsys, tmp_path: Path) -> Callable[..., Outcome]:
    """Run the tool in this process: arguments -> outcome."""

    def score(*arguments: object) -> Outcome:
        report = tmp_path / "report" / "scores.json"
        command = ["score.py", *map(str, arguments), "--json", str(report)]
        monkeypatch.setattr(sys, "argv", command)
        code = 0
        try:
            runpy.run_path(str(SCORE))["main"]()
        except SystemExit as ended:
            code = ended.code or 0
        out, err = capsys.readouterr()
        return Outcome(code, out, err, {} if code else json.loads(report.read_text()))

    return score


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, object], Path]:
    """Write lines, an array or JSON under a name."""

    def write(name: str, content: object) -> Path:
        path = tmp_path / name
        if path.suffix == ".npy":
            np.save(path, content)
        elif path.suffix == ".json":
            path.write_text(json.dumps(content), "utf-8")
        else:
            path.write_text("".join(f"{line}\n" for line in content), "utf-8")
        return path

    return write


def assert_one_error(outcome: Outcome, *parts: str) -> None:
    """Exit code 2 and one line that holds every part."""
    lines = outcome.err.splitlines()
    assert outcome.code == 2 and len(lines) == 1 and lines[0].startswith("error:"), outcome.err
    assert [part for part in parts if part not in lines[0]] == [], lines[0]
