"""Folders of .npz and .npy files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.data.regions.checking import check_same, import_from
from tests.data.regions.samples import Detected, detect, uniter_arrays, vilbert_record
from unimo_paddle.errors import UserError

FOUND = [detect(f"coco_val2014_00000000000{number}", number) for number in (1, 2, 3)]


def bottom_up_arrays(found: Detected) -> dict:
    """As extractors of bottom-up attention save them, with the pickled ``info`` that some add."""
    return {
        "x": found.features,
        "bbox": found.boxes,
        "num_bbox": len(found.boxes),
        "image_w": found.width,
        "image_h": found.height,
        "info": np.array({"anything": object}, dtype=object),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "features/part").mkdir(parents=True)
    return tmp_path / "features"


@pytest.mark.parametrize("ids", ["as_is", "number"])
def test_uniters_files_are_read_back_with_boxes_in_shares(folder: Path, ids: str) -> None:
    for found in FOUND:
        np.savez(folder / f"{found.image_id}.npz", **uniter_arrays(found))
    store = import_from("npz", folder, ids=ids)
    for number, found in enumerate(FOUND, 1):
        regions = store[found.image_id if ids == "as_is" else str(number)]
        np.testing.assert_array_equal(regions.features, found.features.astype(np.float16))
        # UNITER's own boxes are in half precision; no more is lost.
        shares = found.shares[:, :4].astype(np.float16)
        np.testing.assert_array_equal(regions.boxes, shares.astype(np.float32))
        assert (regions.width, regions.height) == (1, 1)
        expected = found.probabilities.astype(np.float16)
        np.testing.assert_array_equal(regions.class_probabilities, expected)
    assert store.manifest["images_with_boxes_in_shares"] == 3
    np.testing.assert_array_equal(store.classes(0)[0], FOUND[0].objects)


def test_only_so_many_regions_are_used_as_uniters_counts_say(folder: Path, tmp_path: Path) -> None:
    for found in FOUND:
        np.savez(folder / f"{found.image_id}.npz", **uniter_arrays(found))
    counts = {f"{FOUND[0].image_id}.npz": 1, f"{FOUND[1].image_id}.npz": 99}
    (tmp_path / "nbb.json").write_text(json.dumps(counts))
    store = import_from("npz", folder, counts=tmp_path / "nbb.json")
    assert len(store[FOUND[0].image_id].boxes) == 1
    assert len(store[FOUND[2].image_id].boxes) == len(FOUND[2].boxes)
    ((where, reason),) = store.manifest["first_rejected"]
    assert where.endswith(f"{FOUND[1].image_id}.npz") and "their number is 99" in reason


def test_other_counts_are_another_source(folder: Path, tmp_path: Path) -> None:
    for found in FOUND:
        np.savez(folder / f"{found.image_id}.npz", **uniter_arrays(found))
    counts = tmp_path / "nbb.json"
    counts.write_text(json.dumps({f"{FOUND[0].image_id}.npz": 1}))
    import_from("npz", folder, counts=counts)
    counts.write_text(json.dumps({f"{FOUND[0].image_id}.npz": 2, "other": 1}))
    with pytest.raises(UserError, match="is there already, made of other files"):
        import_from("npz", folder, counts=counts)


@pytest.mark.parametrize("is_turned", [False, True])
def test_bottom_up_files_are_read_back(folder: Path, is_turned: bool) -> None:
    for found in FOUND:
        arrays = bottom_up_arrays(found)
        arrays["x"] = arrays["x"].T if is_turned else arrays["x"]
        np.savez_compressed(folder / f"part/{found.image_id}.npz", **arrays)
    store = import_from("npz", folder)
    for found in FOUND:
        check_same(store, found)


def test_vilberts_npy_files_are_read_back(folder: Path) -> None:
    for found in FOUND:
        np.save(folder / f"{found.image_id}.npy", vilbert_record(found))
    store = import_from("npz", folder)
    for found in FOUND:
        check_same(store, found)
    np.testing.assert_array_equal(
        store[FOUND[1].image_id].class_probabilities, FOUND[1].probabilities.astype(np.float16)
    )


class Evil:
    """Whose pickle runs a program when it is read."""

    def __reduce__(self):
        return (print, ("executed",))


def damage(path: Path, how: str) -> None:
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:100])
    elif how == "no boxes":
        np.savez(path, features=FOUND[0].features)
    elif how == "evil":
        path.unlink()
        np.save(path.with_suffix(".npy"), {"features": Evil()})
    elif how == "no size":
        np.savez(path, x=FOUND[0].features, bbox=FOUND[0].boxes)
    elif how == "no record":
        path.unlink()
        np.save(path.with_suffix(".npy"), FOUND[0].features)
    elif how == "npy":
        with path.open("wb") as file:
            np.save(file, FOUND[0].features)
    elif how == "method":
        data = bytearray(path.read_bytes())
        data[data.index(b"PK\x01\x02") + 10] = 99  # how the first member is compressed
        path.write_bytes(data)
    elif how == "header":
        path.unlink()
        np.save(path.with_suffix(".npy"), vilbert_record(FOUND[2]))
        data = path.with_suffix(".npy").read_bytes()
        path.with_suffix(".npy").write_bytes(data.replace(b"{'descr'", b"(((descr", 1))
    elif how == "flat":
        np.savez(path, **uniter_arrays(FOUND[2]) | {"norm_bb": np.zeros(6)})
    elif how == "no classes":
        count = len(FOUND[2].boxes)
        np.savez(path, **uniter_arrays(FOUND[2]) | {"soft_labels": np.zeros((count, 0))})


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "is no .npz file of arrays"),
        ("no boxes", "boxes are missing; looked for features/x, boxes/bbox, norm_bb, found feat"),
        ("evil", "it names builtins.print, which is none of arrays, texts and numbers"),
        ("no size", "width of the image is missing; looked for image_w, img_w"),
        ("no record", "holds an array of type float32"),
        ("npy", r"is no .npz file of arrays; it begins with b'\x93NUMPY"),
        ("method", "is no .npz file of arrays (NotImplementedError: "),
        ("header", "is no .npy file ("),
        ("flat", "boxes have shape [6], which is no table"),
        ("no classes", "class probabilities have shape"),
    ],
)
def test_damage_is_named_with_its_file(
    folder: Path, how: str, message: str, capsys: pytest.CaptureFixture
) -> None:
    for found in FOUND:
        np.savez(folder / f"{found.image_id}.npz", **uniter_arrays(found))
    damage(folder / f"{FOUND[2].image_id}.npz", how)
    store = import_from("npz", folder)
    ((where, reason),) = store.manifest["first_rejected"]
    assert FOUND[2].image_id in where and message in reason
    assert len(store) == 2 and "executed" not in capsys.readouterr().out


def test_a_folder_without_arrays_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"features holds no \.npz or \.npy file; check the folder"):
        import_from("npz", folder)
