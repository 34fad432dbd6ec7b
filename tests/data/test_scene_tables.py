"""Tables of texts about scenes: what they say is true, splits share no scene."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from unimo_paddle.data.scenes import sample_scene
from unimo_paddle.data.scenes.tables import (
    MAX_LIKENESS,
    TABLES,
    TURN_SEPARATOR,
    ensure_tables,
    write_dialogue,
    write_headline,
    write_likeness,
    write_sentences,
    write_tables,
)
from unimo_paddle.errors import UserError


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def test_likeness_is_the_share_of_objects_in_common(rng) -> None:
    for _ in range(40):
        scene, other = sample_scene(rng), sample_scene(rng)
        row = write_likeness(scene, other, rng)
        things = [f"{item.colour} {item.shape}" for item in scene.objects]
        assert all(thing in row["text_a"] for thing in things)
        shared = sum(thing in row["text_b"] for thing in things)
        assert float(row["label"]) == pytest.approx(MAX_LIKENESS * shared / len(things), abs=0.01)


def test_headline_names_what_the_paragraph_names(rng) -> None:
    for _ in range(40):
        row = write_headline(sample_scene(rng), sample_scene(rng), rng)
        named = row["tgt"].split(", ")
        assert len(set(named)) == len(named)
        assert all(thing in row["src"] for thing in named)


def test_dialogue_ends_with_a_question_and_knows_every_object(rng) -> None:
    for _ in range(40):
        scene = sample_scene(rng)
        row = write_dialogue(scene, scene, rng)
        assert row["src"].split(TURN_SEPARATOR)[-1].endswith("?")
        assert row["tgt"] and not row["tgt"].endswith("?")
        for item in scene.objects:
            assert f"{item.pattern} {item.colour} {item.shape}" in row["knowledge"]


def test_both_classes_of_sentences_occur(rng) -> None:
    rows = [write_sentences(sample_scene(rng), sample_scene(rng), rng) for _ in range(40)]
    assert {row["label"] for row in rows} == {"same", "different"}


def test_tables_depend_on_the_seed_alone(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_tables(tmp_path / name, num_train=9, num_test=4, seed=2)
    for table in TABLES:
        for split, count in (("train", 9), ("test", 4)):
            text = (tmp_path / "one" / f"{table}_{split}.tsv").read_text("utf-8")
            assert text == (tmp_path / "other" / f"{table}_{split}.tsv").read_text("utf-8")
            assert len(text.splitlines()) == 1 + count


def make_or_find(folder: Path, num_train: int = 3) -> None:
    ensure_tables(folder, num_train=num_train, num_test=2, seed=0)


def test_a_folder_of_the_same_options_is_left_as_it_is(tmp_path: Path) -> None:
    make_or_find(tmp_path / "texts")
    before = (tmp_path / "texts" / "scene_texts.json").stat().st_mtime_ns
    make_or_find(tmp_path / "texts")
    assert (tmp_path / "texts" / "scene_texts.json").stat().st_mtime_ns == before


def test_a_folder_of_other_options_is_refused_with_the_difference(tmp_path: Path) -> None:
    make_or_find(tmp_path / "texts")
    with pytest.raises(UserError, match=r"other tables \(num_train 3 instead of 4\); delete it"):
        make_or_find(tmp_path / "texts", num_train=4)
    assert len((tmp_path / "texts" / "dialogue_train.tsv").read_text().splitlines()) == 4


def test_what_is_no_folder_of_tables_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="file is a file; the tables need a folder of their own"):
        make_or_find(tmp_path / "file")
    with pytest.raises(UserError, match=r"holds no scene_texts.json, so it is no folder of tables"):
        make_or_find(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_command_makes_the_folder_once(run_tool, tmp_path: Path) -> None:
    def write(count: int) -> subprocess.CompletedProcess:
        return run_tool(
            "prepare_data",
            *("scene_texts", "--output", tmp_path / "texts", "--num_train", count),
            *("--num_test", 2),
        )

    assert write(3).returncode == 0
    assert len((tmp_path / "texts" / "dialogue_train.tsv").read_text().splitlines()) == 4
    assert "--num_train is 0" in write(0).stderr
    again = write(5)
    assert again.returncode == 2 and "num_train 3 instead of 5" in again.stderr
    assert not again.stdout
