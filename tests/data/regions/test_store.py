"""A store of regions: looked up by any name, read in place, refused when damaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.data.regions.checking import check_same, import_from
from tests.data.regions.samples import bottom_up_line, detect, retrieval_line, write_lines
from unimo_paddle.data.images import ImageConfig
from unimo_paddle.data.records import Fault
from unimo_paddle.data.regions import RegionStore, RegionStores
from unimo_paddle.data.regions.checks import cut_boxes
from unimo_paddle.data.regions.coverage import measure_coverage
from unimo_paddle.data.regions.formats import SourceOptions, open_source
from unimo_paddle.data.regions.importing import import_regions
from unimo_paddle.data.regions.layout import FORMAT, VERSION, ImageRegions
from unimo_paddle.data.regions.store import map_arrays
from unimo_paddle.errors import UserError

CONFIG = ImageConfig(kind="regions", feature_size=8)


def manifest_of(files: object) -> bytes:
    """A manifest of no images that lists these files."""
    counts = {"num_images": 0, "num_regions": 0, "has_background": True, "key": {}}
    about = {"format": FORMAT, "version": VERSION}
    return json.dumps({**about, **counts, "files": files}).encode()


@pytest.fixture
def store(tmp_path: Path) -> RegionStore:
    names = ("391895", "b/dog.png", "COCO_val2014_000000000042", "10")
    lines = [retrieval_line(detect(name, seed)) for seed, name in enumerate(names)]
    return import_from("original", write_lines(tmp_path / "features.tsv", lines))


@pytest.mark.parametrize(
    ("image", "index"),
    [
        ("train2014/COCO_train2014_000000391895.jpg", 0),
        ("391895.jpg", 0),
        ("b/dog.png", 1),
        ("val2014/COCO_val2014_000000000042.jpg", 2),
        ("10.png", 3),
    ],
)
def test_an_image_is_found_by_its_file(store: RegionStore, image: str, index: int) -> None:
    assert RegionStores([store.path], CONFIG).find({"image": image}).index == index


@pytest.mark.parametrize("image", ["dog.png", "1.png", "a_10.jpg", "x" * 300, "42.jpg"])
def test_no_other_image_is_taken_for_it(store: RegionStore, image: str) -> None:
    with pytest.raises(Fault, match="has no regions in"):
        RegionStores([store.path], CONFIG).find({"image": image})


@pytest.mark.parametrize("image_id", [391895, "391895"])
def test_an_image_id_counts_before_the_file(store: RegionStore, image_id: object) -> None:
    stores = RegionStores([store.path], CONFIG)
    assert stores.find({"image": "b/dog.png", "image_id": image_id}).index == 0
    with pytest.raises(Fault, match="'7' has no regions"):
        stores.find({"image": "b/dog.png", "image_id": "7"})


def test_the_first_store_that_has_an_image_counts(store: RegionStore, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "more.tsv", [bottom_up_line(detect(n, 9)) for n in ("10", "11")])
    more = import_from("tsv", path, output=tmp_path / "more")
    stores = RegionStores([more.path, store.path], CONFIG)
    assert [stores.find({"image_id": n}).store for n in (10, 11, 391895)] == [
        *stores.stores[:1] * 2,
        stores.stores[1],
    ]


def test_features_of_another_size_are_refused(store: RegionStore) -> None:
    with pytest.raises(UserError, match=r"features of 8 numbers, but .*feature_size is 2048"):
        RegionStores([store.path], ImageConfig(kind="regions"))


def test_regions_are_slices_of_the_files(store: RegionStore) -> None:
    regions = store.regions(2)
    assert np.shares_memory(regions.features, store.arrays["features"])
    assert not regions.features.flags.writeable


def test_the_manifest_counts_what_is_there(store: RegionStore) -> None:
    found = [detect(name, seed) for seed, name in enumerate(store.image_ids())]
    features = np.concatenate([item.features for item in found]).astype(np.float16)
    manifest = store.manifest
    assert manifest["num_regions"] == len(features)
    assert manifest["num_classes"] == found[0].probabilities.shape[1]
    assert manifest["regions_per_image"]["max"] == max(len(item.boxes) for item in found)
    assert manifest["feature_range"] == [float(features.min()), float(features.max())]
    norms = np.linalg.norm(features.astype(np.float32), axis=1)
    assert manifest["feature_norms"]["mean"] == pytest.approx(float(norms.mean()))
    assert manifest["widths"]["max"] == max(item.width for item in found)


def test_boxes_outside_their_image_and_empty_ones_are_counted(tmp_path: Path) -> None:
    good, outside, empty = (detect(name, seed) for seed, name in enumerate("abc"))
    outside.boxes[1] = [10, 10, outside.width + 5, 20]
    empty.boxes[0] = [10, 10, 10, 20]
    lines = [bottom_up_line(item) for item in (good, outside, empty)]
    manifest = import_from("tsv", write_lines(tmp_path / "features.tsv", lines)).manifest
    counts = (manifest["images_with_boxes_outside"], manifest["images_with_empty_boxes"])
    assert counts == (1, 1)


def test_boxes_are_cut_where_that_is_asked_for(tmp_path: Path) -> None:
    found = detect("a", 3, num_regions=4)
    kept, edge = found.boxes[[0, 2]].copy(), found.width - 2
    found.boxes[1] = [10, 10, 10, 20]
    found.boxes[3] = [edge, -3, found.width + 50, 20]
    path = write_lines(tmp_path / "features.tsv", [retrieval_line(found)])
    source = open_source("original", [path], SourceOptions())
    store = import_regions(
        source, tmp_path / "store", options={"format": "original"}, cuts_boxes=True
    )
    regions = store["a"]
    expected = [kept[0], kept[1], [edge, 0, found.width, 20]]
    np.testing.assert_array_equal(regions.boxes, np.float32(expected))
    rows = [0, 2, 3]
    np.testing.assert_array_equal(regions.features, found.features[rows].astype(np.float16))
    probabilities = found.probabilities[rows].astype(np.float16)
    np.testing.assert_array_equal(regions.class_probabilities, probabilities)
    assert store.manifest["boxes_cut"] == 2


def test_a_box_that_is_rounded_is_not_cut() -> None:
    boxes = np.array([[0.1, 0.2, 10.3, 20.7], [0.1, -0.1, 10.3, 20.7]])
    image = ImageRegions("a", np.ones((2, 8)), boxes, width=30, height=40)
    cut, num_cut = cut_boxes(image)
    np.testing.assert_array_equal(cut.boxes, np.float32([boxes[0], [0.1, 0, 10.3, 20.7]]))
    assert num_cut == 1


def test_coverage_names_what_is_missing(store: RegionStore, tmp_path: Path) -> None:
    images = ["10.png", "a/391895.jpg", "10.png", "new.jpg"]
    lines = [json.dumps({"image": name, "captions": ["words"]}) for name in images]
    coverage = measure_coverage(store, [write_lines(tmp_path / "train.jsonl", lines)])
    assert (coverage.num_images, coverage.missing) == (3, ["new.jpg"])
    assert coverage.found == [3, 0]


def test_a_changed_byte_is_found(store: RegionStore) -> None:
    store.verify()
    path = store.path / "features.npy"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"features\.npy has changed since it was written"):
        RegionStore(store.path).verify()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("features.npy", b"short", "has 5 bytes, but"),
        ("boxes.npy", None, "cannot be read"),
        ("manifest.json", b"{", "is no JSON"),
        ("manifest.json", b"{}", "is no manifest of a store"),
        ("manifest.json", b'{"format": "unimo_paddle regions", "version": 9}', "has version 9"),
        ("manifest.json", b'{"format": "unimo_paddle regions", "version": 1}', "has no num_images"),
        ("manifest.json", None, "is no store of regions"),
        ("manifest.json", manifest_of([]), "does not list files"),
        ("manifest.json", manifest_of({"boxes.npy": 5}), "does not list files"),
    ],
)
def test_damage_is_one_clear_line(
    store: RegionStore, name: str, content: bytes | None, message: str
) -> None:
    path = store.path / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        RegionStore(store.path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("write", [np.savez, np.save])
def test_an_array_of_another_kind_is_one_clear_line(store: RegionStore, write) -> None:
    with (store.path / "boxes.npy").open("wb") as file:
        write(file, 1.0)
    with pytest.raises(UserError, match=r"boxes\.npy is no array"):
        map_arrays(store.path, len(store), store.manifest["num_regions"])


def test_the_same_import_is_not_done_again_and_another_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "features.tsv", [bottom_up_line(detect("1"))])
    import_from("tsv", path)
    manifest = (tmp_path / "store/manifest.json").stat().st_mtime_ns
    check_same(import_from("tsv", path), detect("1"))
    assert (tmp_path / "store/manifest.json").stat().st_mtime_ns == manifest
    with pytest.raises(UserError, match="is there already, made of other files or with other"):
        import_from("tsv", path, ids="number")
