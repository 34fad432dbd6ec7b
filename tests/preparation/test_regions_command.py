"""tools/prepare_data.py regions and region_report, as a user meets them."""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from tests.conftest import Tool, draw_picture, write_picture_file
from tests.data.regions.checking import import_from
from tests.data.regions.samples import (
    CLASS_NAMES,
    FEATURE_SIZE,
    NUM_CLASSES,
    bottom_up_line,
    detect,
    lxmert_line,
    retrieval_line,
    uniter_arrays,
    write_lines,
)
from unimo_paddle.data.regions import RegionStore
from unimo_paddle.data.regions.coverage import measure_coverage
from unimo_paddle.errors import UserError
from unimo_paddle.preparation import region_report, regions
from unimo_paddle.preparation.region_findings import Expected, findings
from unimo_paddle.preparation.region_page import write_report
from unimo_paddle.preparation.region_pictures import (
    SIDE,
    draw_regions,
    histograms,
    image_files,
)

FOUND = [detect(str(number), number, num_regions=6) for number in range(4)]
FITTING = Expected(FEATURE_SIZE, 6, NUM_CLASSES)


@pytest.fixture
def store(tmp_path: Path) -> RegionStore:
    path = write_lines(tmp_path / "features.tsv", [retrieval_line(found) for found in FOUND])
    return import_from("original", path)


def run(command: ModuleType, *arguments: object) -> None:
    """Run a command in this process."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args([str(argument) for argument in arguments]))


def test_one_command_makes_a_store_with_a_report(run_tool: Tool, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "features.tsv", [lxmert_line(found) for found in FOUND])
    names = write_lines(tmp_path / "names.txt", CLASS_NAMES)
    records = [json.dumps({"image": f"{name}.jpg"}) for name in ("2", "9")]
    pairs = write_lines(tmp_path / "train.jsonl", records)
    output = tmp_path / "mine/regions"
    done = run_tool(
        *("prepare_data", "regions", "--format", "tsv", source, "--output", output),
        *("--names", names, "--pairs", pairs),
    )
    assert done.returncode == 0, done.stderr
    assert "4 images; 6 to 6 regions each, 24 in all; features of 8 numbers" in done.stdout
    assert "mind: Features have 8 numbers, the model expects 2048" in done.stdout
    assert RegionStore(output).manifest["coverage"]["first_missing"] == ["9.jpg"]
    page = (output / "report.html").read_text("utf-8")
    assert page.count("<img ") == 5  # the histograms and the images
    assert "1 of 2 images of the records are in the store; missing are 9.jpg" in page


def test_a_report_can_be_had_later(
    store: RegionStore, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    page = tmp_path / "page.html"
    run(region_report, store.path, "--verify", "--output", page, "--samples", 2)
    assert "all 8 files are as written" in capsys.readouterr().out
    assert page.read_text("utf-8").count("<img ") == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["no.tsv"], r"no\.tsv does not exist; check the path"),
        (["features.tsv", "--images", "nowhere"], "--images nowhere is no folder"),
        (["features.tsv", "--samples", "0"], "--samples is 0; give at least 1"),
        (["features.tsv", "--bad_record_limit", "5"], "limit is 5.0; give a share from 0 to 1"),
        (["features.tsv", "--size_columns", "width", "width"], "--size_columns is width width"),
    ],
)
def test_a_mistake_is_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "features.tsv", [bottom_up_line(FOUND[0])])
    with pytest.raises(UserError, match=message):
        run(regions, "--format", "tsv", "--output", "store", *options)
    assert not list(tmp_path.glob("*store*"))


def test_a_store_that_fits_needs_no_attention(store: RegionStore) -> None:
    assert [item.text for item in findings(store, FITTING) if not item.is_fine] == []


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (Expected(2048, 6, NUM_CLASSES), "set model.region_feature_size and task.data.image.feat"),
        (Expected(FEATURE_SIZE, 5, NUM_CLASSES), "Images with more: 4"),
        (Expected(FEATURE_SIZE, 6, 1601), "set task.data.num_region_classes to 5"),
    ],
)
def test_what_does_not_fit_is_told_with_the_remedy(
    store: RegionStore, expected: Expected, text: str
) -> None:
    (finding,) = [item for item in findings(store, expected) if not item.is_fine]
    assert text in finding.text


def test_names_of_another_detector_are_told(tmp_path: Path) -> None:
    names = write_lines(tmp_path / "names.txt", ["__background__", *CLASS_NAMES])
    path = write_lines(tmp_path / "features.tsv", [retrieval_line(found) for found in FOUND])
    store = import_from("original", path, names=names)
    (finding,) = [item for item in findings(store, FITTING) if not item.is_fine]
    assert finding.text.startswith("There are 5 names for 4 classes beside the background")


def test_bad_boxes_and_dead_features_are_told(tmp_path: Path) -> None:
    bad = detect("bad", 9)
    bad.boxes[0] = [0, 0, bad.width + 9, 9]
    bad.features[1] = 0
    path = write_lines(tmp_path / "features.tsv", [bottom_up_line(bad), "damaged"])
    texts = [x.text for x in findings(import_from("tsv", path), FITTING) if not x.is_fine]
    for text in (
        "Images with a box outside of them: 1",
        "1 are zero and say nothing",
        "no class distributions",
        "Records of the source that cannot be used: 1",
    ):
        assert [x for x in texts if text in x], (text, texts)


def test_boxes_are_drawn_over_the_images_at_hand(store: RegionStore, tmp_path: Path) -> None:
    write_picture_file(tmp_path / "images/a/2.jpg", draw_picture(2))
    files = image_files(tmp_path / "images")
    coverage = measure_coverage(store, [write_lines(tmp_path / "x.jsonl", ['{"image": "2.jpg"}'])])
    page = tmp_path / "page.html"
    write_report(page, store, expected=FITTING, coverage=coverage, images=tmp_path / "images")
    (caption,) = re.findall(r"<figcaption>(.*?)</figcaption>", page.read_text("utf-8"))
    assert caption == "2: 6 regions"
    drawn, pixels = draw_regions(store, 2, files["2"]), draw_picture(2)
    scale = SIDE / max(pixels.shape[:2])
    plain = cv2.resize(pixels, None, fx=scale, fy=scale)
    assert drawn.shape == plain.shape
    changed = np.abs(drawn.astype(int) - plain).max(axis=2) > 60
    assert 0.01 < changed.mean() < 0.6


def test_the_page_names_files_whose_names_are_no_unicode(tmp_path: Path) -> None:
    folder, output = tmp_path / "features", tmp_path / "store"
    folder.mkdir()
    np.savez(folder / "1.npz", **uniter_arrays(FOUND[1]))
    with open(os.fsencode(folder) + b"/\xff.npz", "w"):
        pass
    run(regions, "--format", "npz", folder, "--output", output)
    assert "\\udcff.npz" in (output / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.full(5000, 36), "36\nfor all 5,000"),
        (np.float32([1, 1, 1 - 1e-6]), "1\nfor all 3"),
        (np.zeros(7), "0\nfor all 7"),
    ],
)
def test_one_value_is_said_and_not_drawn(values: np.ndarray, said: str) -> None:
    first, second = histograms({"one": values, "several": np.arange(5)}).axes
    assert [text.get_text() for text in first.texts] == [said]
    assert not first.patches and not first.axison and first.get_title() == "one"
    assert len(second.patches) == 5 and not second.texts


def test_without_images_boxes_are_drawn_on_a_blank_of_their_size(store: RegionStore) -> None:
    drawn = draw_regions(store, 1, None)
    found = FOUND[1]
    expected = found.height / found.width
    assert drawn.shape[0] / drawn.shape[1] == pytest.approx(expected, abs=0.01)
    scale = drawn.shape[1] / found.width
    left, top, _, bottom = (round(float(x) * scale) for x in found.boxes[3])
    edge = drawn[top:bottom, left]
    assert (edge != drawn[0, 0]).any(axis=1).mean() > 0.9
