"""Pre-training is refused where anything that it reads holds what its splits evaluate on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import draw_picture, write_picture_file
from unimo_paddle.config import RunConfig
from unimo_paddle.data.mining import MiningOptions, mine
from unimo_paddle.errors import UserError
from unimo_paddle.settings import load

Prepare = Callable[[dict[str, Any]], None]
TWO_SENTENCES = "The dog of the house sleeps.\nA dog runs out of the house.\n"


def write_pairs(path: Path, *seeds: int) -> Path:
    """Pairs of pictures like no others."""
    lines = []
    for seed in seeds:
        image = f"{path.stem}/{seed}.jpg"
        write_picture_file(path.parent / image, draw_picture(seed))
        lines.append(json.dumps({"image": image, "captions": [f"dog {seed} in the house"]}))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def prepare(write_run_file, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Prepare pre-training in an empty folder, as a run does before its first step: (changes)."""
    monkeypatch.chdir(tmp_path)
    common = {
        "task.data.source": "files",
        "task.data.pairs": str(write_pairs(tmp_path / "train.jsonl", *range(12))),
        "task.data.splits": {"dev": str(write_pairs(tmp_path / "dev.jsonl", 20, 21))},
        "task.mixture": {"texts": 0, "images": 1, "pairs": 1},
    }

    def run(changes: dict[str, Any]) -> None:
        config = load(RunConfig, write_run_file(tmp_path / "run.yaml", common | changes))
        config.task.build(config.model, tmp_path / "assets").prepare(0)

    return run


def test_data_apart_are_taken(prepare: Prepare, tmp_path: Path) -> None:
    prepare({})
    assert (tmp_path / "assets/vocabulary").is_dir()  # what is made after the check


def test_statements_about_an_image_of_a_split_are_refused(prepare: Prepare, tmp_path: Path) -> None:
    line = {"image": "dev/21.jpg", "question": "what is it?", "answer": "a dog"}
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps(line) + "\n")
    changes = {"task.data.statements": [str(path)]}
    with pytest.raises(UserError, match=r"'dev/21\.jpg' of .*questions\.jsonl"):
        prepare(changes)
    prepare(changes | {"task.data.allow_leaks": True})


def test_mined_images_of_a_split_are_refused_where_they_are_used(
    prepare: Prepare, tmp_path: Path
) -> None:
    """They were mined without --splits, from a folder that holds what dev holds."""
    for seed in (20, 40):
        write_picture_file(tmp_path / f"pool/{seed}.jpg", draw_picture(seed))
    (tmp_path / "pool.txt").write_text(TWO_SENTENCES)
    options = MiningOptions(
        tmp_path / "train.jsonl",
        tmp_path / "mined",
        images=tmp_path / "pool",
        texts=(tmp_path / "pool.txt",),
    )
    mine(options)
    used = {"task.data.mined": str(tmp_path / "mined")}
    prepare(used)
    prepare(used | {"task.contrast": {"texts_per_pair": 1}})
    with pytest.raises(UserError, match=r"'20\.jpg' of .*mined"):
        prepare(used | {"task.contrast": {"images_per_pair": 1}})
