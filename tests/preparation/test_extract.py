"""A detector that is exported here, run by Paddle Inference over a folder of images."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F
from paddle.static import InputSpec

from tests.conftest import ROOT, draw_picture, write_picture_file
from unimo_paddle.data.image_files import read_image
from unimo_paddle.data.records import Fault
from unimo_paddle.data.regions import RegionStore
from unimo_paddle.data.regions.writer import StoreWriter
from unimo_paddle.errors import UserError
from unimo_paddle.preparation import extract
from unimo_paddle.preparation.detector import Detector
from unimo_paddle.preparation.detector_settings import DetectorConfig
from unimo_paddle.settings import load

GRID, FEATURE_SIZE, NUM_CLASSES = 3, 8, 5
NUM_IMAGES = 7
SETTINGS = {
    "box_unit": "shares",
    "short_side": 32,
    "long_side": 48,
    "multiple": 16,
    "min_confidence": 0.9,
    "min_regions": 4,
}
# Wider than products of the network itself may differ between two ways to run it.
TOLERANCE = 1e-5


class GridDetector(nn.Layer):
    """A convolution over a grid of cells: each is a box with a feature and scores."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2D(3, FEATURE_SIZE, 5, padding=2)
        self.classes = nn.Linear(FEATURE_SIZE, NUM_CLASSES)
        edges = np.linspace(0, 1, GRID + 1)
        cells = [
            [edges[x], edges[y], edges[x + 1], edges[y + 1]]
            for y in range(GRID)
            for x in range(GRID)
        ]
        self.register_buffer("cells", paddle.to_tensor(np.float32(cells)))

    def forward(self, image):
        """Boxes in shares, features and probabilities: [B, cells, ...]."""
        pooled = F.adaptive_avg_pool2d(F.relu(self.convolution(image)), GRID)
        features = pooled.flatten(2).transpose([0, 2, 1])
        boxes = self.cells.unsqueeze(0).tile([features.shape[0], 1, 1])
        return boxes, features, F.softmax(self.classes(features) * 40)


@pytest.fixture(scope="module")
def network() -> GridDetector:
    paddle.seed(0)
    return GridDetector()


@pytest.fixture(scope="module")
def exported(network: GridDetector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detector") / "model"
    network.eval()
    spec = [InputSpec([None, 3, None, None], "float32", name="image")]
    paddle.jit.save(network, str(path), input_spec=spec)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number in range(NUM_IMAGES):
        size = (40 + 4 * number, 60)
        write_picture_file(folder / f"a/{number}.jpg", draw_picture(number, size=size))
    return folder


def run(exported: Path, images: Path, output: Path, *options: object, **changes) -> RegionStore:
    settings = output.parent / "detector.yaml"
    settings.write_text(json.dumps(SETTINGS | changes))
    parser = argparse.ArgumentParser()
    extract.add_arguments(parser)
    command = [
        "--detector",
        exported,
        "--images",
        images,
        "--output",
        output,
        "--samples",
        1,
        *options,
    ]
    extract.run(parser.parse_args([*map(str, command), "--settings", str(settings)]))
    return RegionStore(output)


def expected(network: GridDetector, detector: Detector, path: Path) -> list[np.ndarray]:
    """What the network gives for an image by itself, in the order of confidence."""
    prepared = detector.prepare(read_image(path))
    sides = -(-np.array(prepared.pixels.shape[1:]) // 16) * 16
    pixels = np.zeros((1, 3, *sides), np.float32)
    pixels[0, :, : prepared.pixels.shape[1], : prepared.pixels.shape[2]] = prepared.pixels
    with paddle.no_grad():
        boxes, features, scores = (x.numpy()[0] for x in network(paddle.to_tensor(pixels)))
    order = np.argsort(-scores[:, 1:].max(axis=1), kind="stable")
    kept = max(4, int((scores[:, 1:].max(axis=1) >= 0.9).sum()))
    return [x[order[:kept]] for x in (boxes, features, scores)]


def test_a_store_holds_what_the_network_finds(
    network: GridDetector, exported: Path, images: Path, tmp_path: Path
) -> None:
    store = run(exported, images, tmp_path / "store")
    assert store.image_ids() == [str(number) for number in range(NUM_IMAGES)]
    detector = Detector(exported, DetectorConfig(**SETTINGS))
    for number in range(NUM_IMAGES):
        path = images / f"a/{number}.jpg"
        boxes, features, scores = expected(network, detector, path)
        regions = store[str(number)]
        height, width = read_image(path).shape[:2]
        assert (regions.width, regions.height) == (width, height)
        sides = np.float32([width, height] * 2)
        np.testing.assert_allclose(regions.boxes, boxes * sides, rtol=TOLERANCE)
        np.testing.assert_allclose(regions.features, features, rtol=1e-3, atol=TOLERANCE)
        np.testing.assert_allclose(regions.class_probabilities, scores, rtol=1e-3, atol=1e-4)
    assert "Regions of store" in (tmp_path / "store/report.html").read_text()


def test_outputs_may_be_named_and_batches_have_several_images(
    exported: Path, images: Path, tmp_path: Path
) -> None:
    """Images are filled up to one size, so that only boxes are equal to those of single images."""
    names = Detector(exported, DetectorConfig(**SETTINGS))._outputs
    named = dict(zip(("boxes", "features", "scores"), names, strict=True))
    store = run(exported, images, tmp_path / "store", "--batch_size", 3, **named)
    assert len(store) == NUM_IMAGES
    stretched = {"resize": "stretch", "short_side": 32, "long_side": 32}
    one = run(exported, images, tmp_path / "one", **stretched)
    three = run(exported, images, tmp_path / "three", "--batch_size", 3, **stretched)
    for number in range(NUM_IMAGES):
        a, b = one[str(number)], three[str(number)]
        np.testing.assert_array_equal(a.boxes, b.boxes)
        np.testing.assert_allclose(a.features, b.features, rtol=1e-3, atol=1e-4)


def test_an_image_that_cannot_be_read_is_named(
    exported: Path, images: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes((images / f"a/{number}.jpg").read_bytes())
    (folder / "1.jpg").write_bytes(b"nothing")
    store = run(exported, folder, tmp_path / "store", "--batch_size", 2)
    assert store.image_ids() == ["0", "2"]
    ((where, _),) = store.manifest["first_rejected"]
    assert where == str(folder / "1.jpg")


def test_a_stopped_extraction_goes_on_to_the_same_bytes(
    exported: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch that was begun is detected again, and those after it; none before."""
    whole = run(exported, images, tmp_path / "whole", "--batch_size", 2)
    stopped = tmp_path / "stopped"
    monkeypatch.setattr(StoreWriter, "step", _stop_after(5))
    with pytest.raises(KeyboardInterrupt):
        run(exported, images, stopped, "--batch_size", 2)
    monkeypatch.undo()
    calls = []
    detect = Detector.detect
    monkeypatch.setattr(Detector, "detect", lambda *a: calls.append(len(a[1])) or detect(*a))
    store = run(exported, images, stopped, "--batch_size", 2)
    assert sum(calls) == 3  # the batches of images 5 and 6
    for name in ("features", "boxes", "class_probabilities", "ids"):
        file = f"{name}.npy"
        assert (store.path / file).read_bytes() == (whole.path / file).read_bytes()


def _stop_after(count: int):
    steps = []

    def step(self: StoreWriter, num_items: int = 1) -> None:
        self.progress.num_items += num_items
        steps.append(1)
        if len(steps) == count:
            self.commit()
            raise KeyboardInterrupt

    return step


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": "nothing"}, "has no output 'nothing' for features; there are 0 "),
        ({"image_input": "x"}, "has no input 'x'; its inputs are image"),
        ({"boxes": "1"}, "boxes have shape"),
        ({"box_unit": "miles"}, "box_unit is 'miles'; choose one of image, input, shares"),
        ({"min_regions": 200}, "min_regions is 200 but max_regions 100"),
        ({"std": [0, 1, 1]}, "std and pixel_scale: give numbers above 0"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(
    exported: Path, images: Path, tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        run(exported, images, tmp_path / "store", **changes)
    assert "\n" not in str(caught.value)


def test_a_detector_that_is_not_there_is_named(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"it needs model\.json or model\.pdmodel, and model\.pdip"):
        run(tmp_path / "model", images, tmp_path / "store")


def test_the_documents_list_every_setting_with_its_default(tmp_path: Path) -> None:
    text = (ROOT / "docs/regions.md").read_text("utf-8")
    (listed,) = [block for block in text.split("```yaml\n") if block.startswith("boxes:")]
    (tmp_path / "detector.yaml").write_text(listed.split("```")[0])
    found, defaults = vars(load(DetectorConfig, tmp_path / "detector.yaml")), vars(DetectorConfig())
    assert found == {**defaults, "pixel_scale": pytest.approx(1 / 255, rel=1e-5)}
    assert [name for name in defaults if f"{name}: " not in listed] == []


# ---- how outputs are read


def made(exported: Path, **changes) -> Detector:
    return Detector(exported, DetectorConfig(**SETTINGS | changes))


def test_boxes_of_all_images_in_a_row_are_split_by_their_counts(exported: Path) -> None:
    detector = made(exported)
    rows = np.arange(20.0).reshape(5, 4)
    parts = detector._rows_of("boxes", rows, np.array([2, 0, 3]), 3)
    assert [len(part) for part in parts] == [2, 0, 3]
    with pytest.raises(UserError, match=r"has shape \[5, 4\] for 3 images; it must be \[images"):
        detector._rows_of("boxes", rows, None, 3)


def test_an_image_in_which_nothing_is_found_is_left_out(exported: Path) -> None:
    detector = made(exported)
    rows = {
        role: detector._rows_of(role, np.zeros((1, 0, width), np.float32), None, 1)[0]
        for role, width in (("boxes", 4), ("features", FEATURE_SIZE), ("scores", NUM_CLASSES))
    }
    assert [x.shape for x in rows.values()] == [(0, 4), (0, FEATURE_SIZE), (0, NUM_CLASSES)]
    prepared = detector.prepare(np.zeros((64, 96, 3), np.uint8))
    with pytest.raises(Fault, match="the detector found nothing"):
        detector.regions("x", prepared, rows)


def test_boxes_with_class_and_score_are_read_as_paddledetection_gives_them(exported: Path) -> None:
    detector = made(exported, box_unit="input", scores=None, min_confidence=0.5, min_regions=1)
    prepared = detector.prepare(np.zeros((64, 96, 3), np.uint8))
    assert prepared.scale == (0.5, 0.5)
    boxes = [
        [3, 0.6, 1, 2, 11, 12],
        [1, 0.9, -4, 0, 20, 99],
        [2, 0.1, 0, 0, 9, 9],
        [0, 1, 5, 5, 5, 9],
    ]
    found = {"boxes": np.float32(boxes), "features": np.eye(4, dtype=np.float32), "scores": None}
    regions = detector.regions("x", prepared, found)
    np.testing.assert_array_equal(regions.classes, [1, 3])
    np.testing.assert_array_equal(regions.boxes, [[0, 0, 40, 64], [2, 4, 22, 24]])
    np.testing.assert_array_equal(regions.features, np.eye(4)[[1, 0]])


def test_logits_become_probabilities(exported: Path) -> None:
    detector = made(exported, score_kind="logits")
    scores = np.log(np.float32([[1, 2, 1], [1, 1, 6]]))
    expected_rows = [[0.25, 0.5, 0.25], [0.125, 0.125, 0.75]]
    np.testing.assert_allclose(detector._probabilities(scores, 2), expected_rows, rtol=1e-6)
