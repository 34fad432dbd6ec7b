"""VinVL's and Oscar's TSV files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.regions.checking import check_same, import_from
from tests.data.regions.samples import CLASS_NAMES, Detected, detect, encode, write_lines
from unimo_paddle.errors import UserError

FOUND = [detect(str(number), number) for number in (391895, 42, 7)]


def with_places(found: Detected) -> np.ndarray:
    """Features with the place of each region behind them, as VinVL keeps them."""
    return np.hstack([found.features, found.shares])


def objects(found: Detected, **more: Any) -> list[dict[str, Any]]:
    rows = zip(found.boxes.tolist(), found.objects, found.confidences.tolist(), strict=True)
    made = [{"rect": box, "class": CLASS_NAMES[kind], "conf": conf} for box, kind, conf in rows]
    for name, values in more.items():
        for item, value in zip(made, values, strict=True):
            item[name] = value
    return made


def line(name: str, *columns: Any) -> str:
    texts = [x if isinstance(x, str) else json.dumps(x) for x in columns]
    return "\t".join([name, *texts])


def write_features(folder: Path, *, with_predictions: bool = True) -> Path:
    """features.tsv with predictions.tsv beside it."""
    folder.mkdir()
    features = [line(x.image_id, len(x.boxes), encode(with_places(x))) for x in FOUND]
    write_lines(folder / "features.tsv", features)
    sizes = [{"image_w": item.width, "image_h": item.height} for item in FOUND]
    predictions = [
        line(item.image_id, size | {"num_boxes": len(item.boxes), "objects": objects(item)})
        for item, size in zip(FOUND, sizes, strict=True)
    ]
    if with_predictions:
        write_lines(folder / "predictions.tsv", predictions)
    return folder


def write_oscar(folder: Path) -> Path:
    """train.feature.tsv with train.label.tsv and train.hw.tsv."""
    folder.mkdir()
    features = [{"num_boxes": len(x.boxes), "features": encode(with_places(x))} for x in FOUND]
    tables = {
        "feature": features,
        "label": [objects(item) for item in FOUND],
        "hw": [[{"height": item.height, "width": item.width}] for item in FOUND],
    }
    for name, values in tables.items():
        rows = [line(x.image_id, value) for x, value in zip(FOUND, values, strict=True)]
        write_lines(folder / f"train.{name}.tsv", rows)
    return folder


def write_predictions(folder: Path) -> Path:
    """predictions.tsv with a feature in each object, as the detector's program writes it."""
    folder.mkdir()
    rows = []
    for item in FOUND:
        made = objects(item, feature=[encode(feature) for feature in item.features])
        value = {"objects": made, "image_w": item.width, "image_h": item.height}
        rows.append(line(item.image_id, value))
    write_lines(folder / "predictions.tsv", rows)
    return folder


@pytest.mark.parametrize("write", [write_features, write_oscar, write_predictions])
def test_a_folder_is_read_back(tmp_path: Path, write) -> None:
    store = import_from("vinvl", write(tmp_path / "model"))
    for index, item in enumerate(FOUND):
        check_same(store, item)
        classes, confidences = store.classes(index)
        assert [store.class_names[c] for c in classes] == [
            CLASS_NAMES[kind] for kind in item.objects
        ]
        np.testing.assert_array_equal(confidences, item.confidences.astype(np.float16))


def test_names_beside_those_of_the_records_are_refused(tmp_path: Path) -> None:
    names = write_lines(tmp_path / "names.txt", CLASS_NAMES)
    folder = write_features(tmp_path / "model")
    with pytest.raises(UserError, match=r"name their classes themselves.*leave out --names"):
        import_from("vinvl", folder, names=names)


def test_without_files_beside_boxes_are_the_places_behind_features(tmp_path: Path) -> None:
    store = import_from("vinvl", write_features(tmp_path / "model", with_predictions=False))
    for item in FOUND:
        regions = store[item.image_id]
        np.testing.assert_array_equal(regions.boxes, item.shares[:, :4])
        assert (regions.width, regions.height) == (1, 1)


def replace_line(path: Path, number: int, text: str) -> None:
    lines = path.read_text().splitlines()
    lines[number] = text
    write_lines(path, lines)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("features.tsv", line("42", 99, encode(with_places(FOUND[1]))), "do not fill 99 rows"),
        ("features.tsv", line("42", 1, "?"), "features are not base64"),
        ("features.tsv", "42", "1 column, expected"),
        ("features.tsv", line("42", "{"), "column is not JSON"),
        ("predictions.tsv", line("43", {"objects": []}), "is of '43', not of '42'"),
        ("predictions.tsv", line("42", {"objects": []}), "0 objects for"),
        ("predictions.tsv", line("42", {"image_w": 0, "image_h": 2}), "image_w is '0'"),
        ("predictions.tsv", line("42", {"size": 5, "objects": []}), "0 objects for"),
        ("predictions.tsv", line("42", [{"feature": 5}]), "feature are not base64: '5'"),
    ],
)
def test_damage_is_named_with_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    folder = write_features(tmp_path / "model")
    replace_line(folder / name, 1, text)
    store = import_from("vinvl", folder)
    ((where, reason),) = store.manifest["first_rejected"]
    assert where == f"{folder / 'features.tsv'}:2" and message in reason
    assert store.image_ids() == ["391895", "7"]


def test_a_shorter_file_beside_is_named(tmp_path: Path) -> None:
    folder = write_features(tmp_path / "model")
    lines = (folder / "predictions.tsv").read_text().splitlines()
    write_lines(folder / "predictions.tsv", lines[:2])
    ((where, reason),) = import_from("vinvl", folder).manifest["first_rejected"]
    assert where.endswith(":3") and "is of '', not of '7'" in reason


def test_lines_without_features_are_named(tmp_path: Path) -> None:
    """A file of features that was cut off does not pass for a smaller set."""
    folder = write_features(tmp_path / "model")
    lines = (folder / "features.tsv").read_text().splitlines()
    write_lines(folder / "features.tsv", lines[:2])
    store = import_from("vinvl", folder)
    assert store.image_ids() == ["391895", "42"]
    ((where, reason),) = store.manifest["first_rejected"]
    assert where == f"{folder / 'predictions.tsv'}:3" and "there are no features for it" in reason


def test_features_without_places_need_boxes(tmp_path: Path) -> None:
    lines = [line(x.image_id, len(x.boxes), encode(x.features)) for x in FOUND]
    path = write_lines(tmp_path / "features.tsv", [*lines, *lines, *lines, *lines])
    with pytest.raises(UserError, match="boxes with the size of the image are missing; put the"):
        import_from("vinvl", path)


def test_a_folder_without_such_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no features\.tsv, \*\.feature\.tsv or predictions"):
        import_from("vinvl", tmp_path, output=tmp_path / "store")
