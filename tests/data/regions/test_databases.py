"""LMDB databases of UNITER and ViLBERT."""

from __future__ import annotations

import base64
import io
import json
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import lmdb
import msgpack
import numpy as np
import pytest

from tests.data.regions.checking import check_same, import_from
from tests.data.regions.samples import Detected, detect, uniter_arrays
from unimo_paddle.data.regions.formats import SourceOptions, databases
from unimo_paddle.data.regions.formats.databases import open_lmdb
from unimo_paddle.errors import UserError

FOUND = [detect(f"coco_val2014_00000000000{number}", number) for number in (1, 2, 3)]


def write(folder: Path, records: dict[str, bytes]) -> Path:
    with lmdb.open(str(folder), map_size=1 << 24) as database, database.begin(write=True) as writer:
        for key, value in records.items():
            writer.put(key.encode(), value)
    return folder


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    """As msgpack-numpy packs a dictionary of arrays."""

    def default(array: np.ndarray) -> dict[bytes, Any]:
        return {
            b"nd": True,
            b"type": array.dtype.str,
            b"kind": b"",
            b"shape": array.shape,
            b"data": array.tobytes(),
        }

    return msgpack.dumps(arrays, default=default, use_bin_type=True)


def zipped(arrays: dict[str, np.ndarray]) -> bytes:
    """As UNITER compresses them; its ``allow_pickle`` becomes an array, too."""
    with io.BytesIO() as file:
        np.savez_compressed(file, **arrays, allow_pickle=True)
        return file.getvalue()


def uniter(folder: Path, pack=packed) -> Path:
    records = {f"{found.image_id}.npz": pack(uniter_arrays(found)) for found in FOUND}
    return write(folder, records | {"__keys__": json.dumps(list(records)).encode()})


def tsv_record(found: Detected) -> OrderedDict:
    """A line of the TSV as csv.DictReader gave it: all texts."""
    return OrderedDict(
        image_id=found.image_id,
        image_w=str(found.width),
        image_h=str(found.height),
        num_boxes=str(len(found.boxes)),
        boxes=base64.b64encode(found.boxes.tobytes()).decode(),
        features=base64.b64encode(found.features.tobytes()).decode(),
    )


def extractor_record(found: Detected) -> dict[str, Any]:
    return {
        "image_id": found.image_id,
        "image_h": found.height,
        "image_w": found.width,
        "num_boxes": len(found.boxes),
        "boxes": found.boxes,
        "features": found.features,
    }


def vilbert(folder: Path, make, protocol: int = 4, **more: bytes) -> Path:
    records = {found.image_id: pickle.dumps(make(found), protocol) for found in FOUND} | more
    keys = [key.encode() for key in records]
    return write(folder, records | {"keys": pickle.dumps(keys)})


@pytest.mark.parametrize("pack", [packed, zipped])
def test_uniters_database_is_read_back(tmp_path: Path, pack) -> None:
    store = import_from("lmdb", uniter(tmp_path / "feat_th0.2_max100_min10", pack))
    assert store.image_ids() == [found.image_id for found in FOUND]
    for found in FOUND:
        regions, arrays = store[found.image_id], uniter_arrays(found)
        np.testing.assert_array_equal(regions.features, arrays["features"])
        np.testing.assert_array_equal(regions.boxes, arrays["norm_bb"][:, :4].astype(np.float32))
        np.testing.assert_array_equal(regions.class_probabilities, arrays["soft_labels"])


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("make", [tsv_record, extractor_record])
def test_vilberts_database_is_read_back(tmp_path: Path, make, protocol: int) -> None:
    store = import_from("lmdb", vilbert(tmp_path / "coco.lmdb", make, protocol))
    for found in FOUND:
        check_same(store, found)


def made(**changes: Any) -> bytes:
    """A record with something else in the place of what the extractor gave."""
    return pickle.dumps(extractor_record(FOUND[0]) | changes)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (pickle.dumps({"features": Evil()}), "names builtins.print, which is none of arrays"),
        (pickle.dumps(extractor_record(FOUND[0]))[:90], "pickle data was truncated"),
        (pickle.dumps([1, 2]), "holds a list, not a record"),
        (b"\x85nonsense", "is no msgpack, .npz or pickle"),
        (packed({"features": FOUND[0].features})[:-9], "is no msgpack"),
        (b"PK\x03\x04", "is no .npz file"),
        (pickle.dumps({1: 2, "a": 3}), "features are missing; looked for features/x"),
        (made(num_boxes=float("inf")), "number of boxes is 'inf', which is no whole number"),
        (made(boxes=[[1, 2], [3]]), "boxes are no table of numbers"),
        (made(features=["a"]), "features are of type <U1, not numbers"),
        (packed({"features": np.zeros(0)}).replace(b"\xc3", b"\xc2"), "holds a damaged array"),
    ],
)
def test_damage_is_named_with_its_key(
    tmp_path: Path, value: bytes, message: str, capsys: pytest.CaptureFixture
) -> None:
    store = import_from("lmdb", vilbert(tmp_path / "coco.lmdb", extractor_record, bad=value))
    ((where, reason),) = store.manifest["first_rejected"]
    assert where == f"{tmp_path / 'coco.lmdb'}: bad" and message in reason
    assert len(store) == 3 and "executed" not in capsys.readouterr().out


def test_without_a_list_of_keys_all_records_are_read(tmp_path: Path) -> None:
    records = {found.image_id: pickle.dumps(extractor_record(found)) for found in FOUND}
    store = import_from("lmdb", write(tmp_path / "coco.lmdb", records))
    assert store.image_ids() == [found.image_id for found in FOUND]
    for found in FOUND:
        check_same(store, found)


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    evil = {b"nd": True, b"type": "O", b"kind": b"O", b"shape": (1,), b"data": pickle.dumps(Evil())}
    data = msgpack.dumps({"features": evil}, use_bin_type=True)
    store = import_from("lmdb", vilbert(tmp_path / "coco.lmdb", extractor_record, bad=data))
    assert "array of objects" in store.manifest["first_rejected"][0][1]


def test_a_key_without_a_record_is_named(tmp_path: Path) -> None:
    folder = uniter(tmp_path / "all")
    write(folder, {"__keys__": json.dumps([f"{FOUND[0].image_id}.npz", "x.npz"]).encode()})
    store = import_from("lmdb", folder)
    assert store.manifest["first_rejected"] == [[f"{folder}: x.npz", "is listed but not there"]]


@pytest.mark.parametrize("keys", [b"{", json.dumps({"a": 1}).encode()])
def test_a_damaged_list_of_keys_is_refused(tmp_path: Path, keys: bytes) -> None:
    folder = write(uniter(tmp_path / "all"), {"__keys__": keys})
    with pytest.raises(UserError, match="list of keys"):
        import_from("lmdb", folder)


def test_a_database_that_may_be_cut_off_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = uniter(tmp_path / "all") / "data.mdb"
    open_lmdb([path.parent], SourceOptions())
    assert not caplog.text
    cut = tmp_path / "cut.mdb"
    cut.write_bytes(path.read_bytes()[: 2 * 4096])  # the pages that tell of the others
    databases._open(cut)
    assert "cut.mdb has 8192 bytes, but counts" in caplog.text and "bus error" in caplog.text


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"nothing" * 2000)
    with pytest.raises(UserError, match=r"is no LMDB database"):
        import_from("lmdb", tmp_path, output=tmp_path / "store")
