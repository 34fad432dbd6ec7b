"""HDF5 files in three layouts."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.data.regions.checking import check_same, import_from
from tests.data.regions.samples import Detected, detect, lxmert_line, write_lines
from unimo_paddle.errors import UserError

FIXED = [detect(str(number), number, num_regions=4) for number in (391895, 42, 7)]
FREE = [detect(str(number), number) for number in (391895, 42, 7)]


def write_vqa(path: Path, found: list[Detected], *, index: str | None = "pkl") -> Path:
    """Tables with as many regions for all images, as the VQA program writes them."""
    with h5py.File(path, "w") as file:
        file["image_features"] = np.stack([item.features for item in found])
        file["image_bb"] = np.stack([item.boxes for item in found])
        file["spatial_features"] = np.stack([item.shares for item in found])
    _write_index(path, found, index)
    return path


def write_adaptive(path: Path, found: list[Detected]) -> Path:
    """Tables of all regions with the rows of each image."""
    ends = np.cumsum([len(item.boxes) for item in found])
    with h5py.File(path, "w") as file:
        file["image_features"] = np.concatenate([item.features for item in found])
        file["image_bb"] = np.concatenate([item.boxes for item in found])
        file["spatial_features"] = np.concatenate([item.shares for item in found])
        file["pos_boxes"] = np.stack([np.append(0, ends[:-1]), ends], axis=1)
    _write_index(path, found, "pkl")
    return path


def _write_index(path: Path, found: list[Detected], index: str | None) -> None:
    places = {int(item.image_id): place for place, item in enumerate(found)}
    if index == "pkl":
        path.with_name(f"{path.stem}_imgid2idx.pkl").write_bytes(pickle.dumps(places, 0))
    elif index:
        path.with_name("index.json").write_text(json.dumps(places))


def write_vilbert(path: Path, found: list[Detected]) -> Path:
    """Tables with rows for the most regions, filled up with zeros."""
    most = max(len(item.boxes) for item in found)

    def table(name: str) -> np.ndarray:
        arrays = [getattr(item, name) for item in found]
        return np.stack([np.pad(x, ((0, most - len(x)), (0, 0))) for x in arrays])

    with h5py.File(path, "w") as file:
        file["image_ids"] = [int(item.image_id) for item in found]
        file["features"], file["boxes"] = table("features"), table("boxes")
        file["cls_prob"] = table("probabilities")
        file["num_boxes"] = [len(item.boxes) for item in found]
        file["image_w"] = [item.width for item in found]
        file["image_h"] = [item.height for item in found]
    return path


def write_groups(path: Path, found: list[Detected]) -> Path:
    with h5py.File(path, "w") as file:
        for item in found:
            group = file.create_group(item.image_id)
            group["features"], group["bbox"] = item.features, item.boxes
            group.attrs.update({"image_w": item.width, "image_h": item.height})
    return path


@pytest.mark.parametrize(
    ("write", "found"),
    [(write_vqa, FIXED), (write_adaptive, FREE), (write_vilbert, FREE), (write_groups, FREE)],
)
def test_a_file_is_read_back(tmp_path: Path, write, found: list[Detected]) -> None:
    store = import_from("h5", write(tmp_path / "train36.hdf5", found))
    assert len(store) == 3
    for item in found:
        check_same(store, item)


def test_vilberts_distributions_are_kept(tmp_path: Path) -> None:
    store = import_from("h5", write_vilbert(tmp_path / "coco.h5", FREE))
    expected = FREE[1].probabilities.astype(np.float16)
    np.testing.assert_array_equal(store["42"].class_probabilities, expected)


def test_names_may_be_given_as_json(tmp_path: Path) -> None:
    path = write_vqa(tmp_path / "train36.hdf5", FIXED, index="json")
    check_same(import_from("h5", path, index=tmp_path / "index.json"), FIXED[2])


def test_a_file_without_names_is_refused(tmp_path: Path) -> None:
    path = write_vqa(tmp_path / "train36.hdf5", FIXED, index=None)
    with pytest.raises(UserError, match=r"train36_imgid2idx\.pkl .*is not there; name it by --ind"):
        import_from("h5", path)


def test_an_unsafe_list_of_names_is_refused(tmp_path: Path) -> None:
    path = write_vqa(tmp_path / "train36.hdf5", FIXED, index=None)
    path.with_name("train36_imgid2idx.pkl").write_bytes(pickle.dumps({1: print}))
    with pytest.raises(UserError, match=r"imgid2idx\.pkl: .*names builtins\.print"):
        import_from("h5", path)


def test_a_row_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write_vqa(tmp_path / "train36.hdf5", FIXED, index="json")
    index = tmp_path / "index.json"
    index.write_text(json.dumps({"391895": 0, "missing": 99}))
    ((where, reason),) = import_from("h5", path, index=index).manifest["first_rejected"]
    assert where == f"{path}: missing" and "image_bb cannot be read" in reason


def test_tables_without_sizes_are_refused(tmp_path: Path) -> None:
    path = write_vqa(tmp_path / "train36.hdf5", FIXED)
    with h5py.File(path, "a") as file:
        del file["spatial_features"]
    with pytest.raises(UserError, match="has image_features but no spatial_features"):
        import_from("h5", path)


def test_a_group_without_boxes_is_named(tmp_path: Path) -> None:
    path = write_groups(tmp_path / "groups.h5", FREE)
    with h5py.File(path, "a") as file:
        del file["42/bbox"]
    ((where, reason),) = import_from("h5", path).manifest["first_rejected"]
    assert where == f"{path}: 42" and reason.startswith("boxes are missing")


def test_what_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "features.h5", [lxmert_line(FREE[0])])
    with pytest.raises(UserError, match="is no HDF5 file"):
        import_from("h5", path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = [1]
    with pytest.raises(UserError, match=r"other.h5 has data; known are image_features with"):
        import_from("h5", tmp_path / "other.h5")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("pos_boxes", [[0], [1], [2]], "pos_boxes do not tell where the boxes begin and end"),
        ("pos_boxes", [[0, np.nan], [1, 2], [2, 3]], "pos_boxes do not tell where"),
        ("spatial_features", np.ones(9), "spatial_features have shape"),
        ("image_bb", None, "image_bb cannot be read"),
    ],
)
def test_tables_of_other_shapes_are_named(tmp_path: Path, name: str, value, message: str) -> None:
    path = write_adaptive(tmp_path / "train36.hdf5", FREE)
    good = write_groups(tmp_path / "good.hdf5", [detect("1", 1)])
    with h5py.File(path, "a") as file:
        del file[name]
        if value is None:
            file.create_group(name)
        else:
            file[name] = value
    rejected = import_from("h5", good, path).manifest["first_rejected"]
    assert rejected[0][0] == f"{path}: 391895" and message in rejected[0][1]


def test_a_group_in_the_place_of_names_is_refused(tmp_path: Path) -> None:
    path = write_vilbert(tmp_path / "coco.h5", FREE)
    with h5py.File(path, "a") as file:
        del file["image_ids"]
        file.create_group("image_ids")
    with pytest.raises(UserError, match=r"coco\.h5: image_ids cannot be read .*fetch or write the"):
        import_from("h5", path)


def test_a_group_in_the_place_of_an_array_is_named(tmp_path: Path) -> None:
    path = write_groups(tmp_path / "groups.h5", FREE)
    with h5py.File(path, "a") as file:
        del file["42/bbox"]
        file.create_group("42/bbox")
        file["gone"] = h5py.SoftLink("nowhere")
    ((where, reason),) = import_from("h5", path).manifest["first_rejected"]
    assert where == f"{path}: 42" and reason.startswith("bbox cannot be read")


def test_other_names_beside_are_another_source(tmp_path: Path) -> None:
    path = write_vqa(tmp_path / "train36.hdf5", FIXED)
    import_from("h5", path)
    path.with_name("train36_imgid2idx.pkl").write_bytes(pickle.dumps({"a": 0}))
    with pytest.raises(UserError, match="is there already, made of other files"):
        import_from("h5", path)
