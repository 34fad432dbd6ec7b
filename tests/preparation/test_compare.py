"""tools/prepare_data.py compare: what is said of two stores, and the page."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data.regions.checking import import_from
from tests.data.regions.samples import Detected, bottom_up_line, detect, retrieval_line, write_lines
from unimo_paddle.errors import UserError
from unimo_paddle.preparation import compare

FOUND = [detect(str(number), number, num_regions=6) for number in range(5)]


def make(folder: Path, found: list[Detected], write=retrieval_line) -> Path:
    folder.mkdir()
    path = write_lines(folder / "features.tsv", [write(item) for item in found])
    name = "original" if write is retrieval_line else "tsv"
    return import_from(name, path).path


def run(*arguments: object) -> None:
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    compare.run(parser.parse_args([str(argument) for argument in arguments]))


def test_equal_stores_need_no_attention(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    stores = [make(tmp_path / name, FOUND) for name in ("a", "b")]
    page = tmp_path / "page.html"
    run("--stores", *stores, "--report", page, "--worst", 2)
    said = capsys.readouterr().out
    assert "mind:" not in said
    assert "5 images are in both stores" in said and "100.0% of the regions have a match" in said
    assert "Classes agree for 100.0%" in said
    text = page.read_text("utf-8")
    assert text.count("<img ") == 3 and text.count('class="fine"') == 4


def test_what_differs_is_told_and_the_worst_image_comes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    noise = np.random.default_rng(0).standard_normal(FOUND[3].features.shape).astype(np.float32)
    changed = [replace(item, features=item.features[:, ::-1].copy()) for item in FOUND[:3]]
    changed.append(replace(FOUND[3], features=noise, boxes=FOUND[3].boxes[:, [0, 1, 2, 3]] * 0.3))
    stores = make(tmp_path / "a", FOUND), make(tmp_path / "b", changed, bottom_up_line)
    page = tmp_path / "page.html"
    run("--stores", *stores, "--report", page)
    said = capsys.readouterr().out
    assert "mind: 4 images are in both stores (5 images in one, 4 in the other)" in said
    assert "do not mix these stores" in said
    assert "Classes are not compared" in said
    text = page.read_text("utf-8")
    assert text.index("<figcaption>3: 6 and 6 regions") < text.index("<figcaption>0: 6 and 6")


def test_stores_without_a_matching_region_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    moved = [replace(item, boxes=item.boxes * 0.01) for item in FOUND]
    stores = make(tmp_path / "a", FOUND), make(tmp_path / "b", moved)
    run("--stores", *stores, "--report", tmp_path / "page.html", "--worst", 1)
    said = capsys.readouterr().out
    assert "mind: 0.0% of the regions have a match" in said
    assert "mind: No region has a match, so no feature can be compared" in said
    assert "mind: No region has a match, so no class can be compared" in said


def test_features_of_other_sizes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    short = [replace(item, features=item.features[:, :4].copy()) for item in FOUND]
    stores = make(tmp_path / "a", FOUND), make(tmp_path / "b", short)
    run("--stores", *stores, "--report", tmp_path / "page.html", "--worst", 1)
    assert "mind: Features have 8 and 4 numbers: they cannot be compared" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--min_overlap", "0"], "--min_overlap is 0.0; give a share above 0"),
        (["--num_images", "0"], "--num_images is 0; give at least 1"),
        ([], "have no image in common, such as '0' and 'new'"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, options: list[str], message: str) -> None:
    stores = make(tmp_path / "a", FOUND), make(tmp_path / "b", [detect("new")])
    with pytest.raises(UserError, match=message):
        run("--stores", *stores, "--report", tmp_path / "page.html", *options)
