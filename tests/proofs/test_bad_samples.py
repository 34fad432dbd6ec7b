"""Promise 7: bad samples do not stop a run. They are counted, named and skipped, up to the cap.

Files of every format are read as a run reads them, and batches are made by its loader and the
tasks' own encoders. In each file stand every kind of bad record and enough good ones.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from unimo_paddle.config import RunConfig
from unimo_paddle.data.image_files import read_image
from unimo_paddle.data.loader import Loader, Stream
from unimo_paddle.data.records import MAX_TEXT_BYTES
from unimo_paddle.errors import UserError
from unimo_paddle.settings import build

NUM_GOOD, BATCH_SIZE, NUM_STEPS = 200, 16, 45
NUM_REGIONS, FEATURE_SIZE = 2, 8
SIDE = 32  # pixels of an image


@dataclass(frozen=True)
class Case:
    """A data set with bad records.

    Args:
        streams: to train on.
        where: how messages begin that name a bad record, by its number in the file.
        unreadable: numbers of the records that are left out when the file is read.
        unusable: numbers of those that are skipped when a batch asks for them, each with a part
            of the reason.
    """

    streams: Sequence[Stream]
    where: Callable[[int], str]
    unreadable: set[int]
    unusable: dict[int, str]


# ---- JSON lines with images


def picture(number: int = 0) -> np.ndarray:
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    return np.stack([x * 8, y * 8, np.full_like(x, number % 256)], axis=2).astype(np.uint8)


def encoded(suffix: str, pixels: np.ndarray) -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


def pillow(kind: str, mode: str, **options: Any) -> bytes:
    image_module = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    image_module.fromarray(picture()).convert(mode).save(file, kind, **options)
    return file.getvalue()


def rotated() -> bytes:
    exif = pytest.importorskip("PIL.Image").Exif()
    exif[0x0112] = 6
    return pillow("JPEG", "RGB", exif=exif)


def huge_header() -> bytes:
    """A PNG that says that it has 10^9 pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", 40_000, 25_000, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body
    return start + struct.pack(">I", zlib.crc32(body)) + b"\0" * 200


def damaged_png() -> bytes:
    data = bytearray(encoded(".png", picture(9)))
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


ODD_IMAGES = {  # that are read
    "CMYK": lambda: pillow("JPEG", "CMYK"),
    "16 bits": lambda: encoded(".png", picture().astype(np.uint16) * 257),
    "EXIF rotation": rotated,
    "grey": lambda: encoded(".png", picture()[:, :, 0]),
    "transparent": lambda: encoded(".png", np.dstack([picture(), picture()[:, :, :1]])),
    "one pixel": lambda: encoded(".png", picture()[:1, :1]),
}
BAD_IMAGES = {
    "truncated": (lambda: encoded(".jpg", picture())[:-40], "JPEG is truncated"),
    "empty": (lambda: b"", "file is empty"),
    "huge": (huge_header, "40000 x 25000 pixels exceeds"),
    "text": (lambda: b"<html>not found</html>", "not a JPEG, PNG, WebP or BMP image"),
    "damaged": (damaged_png, "PNG is truncated or damaged"),
}
BAD_LINES: dict[str, Any] = {
    "empty caption": {"captions": ["a dog", "  "]},
    "no caption": {"captions": []},
    "a megabyte": {"captions": ["a" * (MAX_TEXT_BYTES + 1)]},
    "half a character": {"captions": ["\ud800"]},
    "box outside": {"objects": [{"box": [0.5, 0.5, 1.2, 0.9], "names": ["dog"]}]},
    "box of no numbers": {"objects": [{"box": [float("nan"), 0, 1, 1], "names": ["dog"]}]},
    "no UTF-8": b'{"image": "0.png", "captions": ["\xff"]}',
}


def image_case(folder: Path, tiny: dict[str, Any], **_: Any) -> Case:
    """Pre-training on pairs of own images, of which some are odd and some bad."""
    folder.mkdir()
    lines: list[bytes] = []
    unreadable, unusable = set(), {}

    def add(content: bytes | None, changes: Any = None) -> int:
        number = len(lines) + 1
        name = f"{number}.png"
        if content is not None:
            (folder / name).write_bytes(content)
        record = {"image": name, "captions": [f"a dog of kind {number}", "it runs"]}
        is_raw = isinstance(changes, bytes)
        lines.append(changes if is_raw else json.dumps(record | (changes or {})).encode())
        return number

    for number in range(NUM_GOOD):
        add(encoded(".png", picture(number)))
    for content in ODD_IMAGES.values():
        add(content())
    for content, reason in BAD_IMAGES.values():
        unusable[add(content())] = reason
    for changes in BAD_LINES.values():
        unreadable.add(add(encoded(".png", picture()), changes))
    unreadable.add(add(None))  # no such file
    path = folder / "train.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    data = {"source": "files", "pairs": str(path), "image": {"image_size": 32, "patch_size": 8}}
    data |= {"tokenizer": {"vocab_size": 300}, "max_text_length": 64, "num_visual_words": 8}
    task = {"type": "pretraining", "data": data, "projection_size": 8}
    task["mixture"] = {"texts": 0, "images": 0}
    streams = streams_of({"model": tiny["model"], "task": task}, folder)
    return Case(streams, lambda number: f"{path}:{number}", unreadable, unusable)


def streams_of(tree: dict[str, Any], folder: Path, *, is_prepared: bool = True) -> Sequence[Stream]:
    config = build(RunConfig, tree)
    task = config.task.build(config.model, folder / "assets")
    if is_prepared:
        task.prepare(0)
    return task.training_streams(BATCH_SIZE)


# ---- files with a detector's regions


def table(values: Any) -> str:
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode()


BOXES = [[0, 0, 4, 2], [1, 1, 8, 4]]  # in an image of 8 x 4 pixels


def features(number: int = 0, **changes: float) -> np.ndarray:
    values = np.full((NUM_REGIONS, FEATURE_SIZE), number, "float32")
    values[1, 3] = changes.get("value", number)
    return values


# What is wrong with the regions of a record: what is written, and what is said of it.
BAD_REGIONS: dict[str, tuple[dict[str, Any], str]] = {
    "NaN": ({"features": features(value=np.nan)}, "not a finite number"),
    "infinite": ({"features": features(value=np.inf)}, "not a finite number"),
    "box outside": ({"boxes": [[0, 0, 4, 2], [1, 1, 90, 4]]}, "lies outside the 8 x 4 image"),
    "box before": ({"boxes": [[-5, 0, 4, 2], [1, 1, 8, 4]]}, "lies outside the 8 x 4 image"),
    "empty box": ({"boxes": [[0, 0, 4, 2], [3, 3, 3, 4]]}, "is empty"),
    "box of NaN": ({"boxes": [[0, 0, 4, 2], [1, 1, np.nan, 4]]}, "not a finite number"),
    "short rows": ({"features": features()[:, :5]}, ""),
    "a row too few": ({"features": features()[:1]}, ""),
    "no width": ({"width": 0}, ""),
}
MODEL = {"region_feature_size": FEATURE_SIZE, "hidden_size": 8, "num_layers": 1, "num_heads": 1}
IMAGE = {"kind": "regions", "max_regions": 5, "feature_size": FEATURE_SIZE}


def region_records() -> list[dict[str, Any]]:
    """Good records, and one of each kind of bad ones at the end."""
    good = [{"features": features(number)} for number in range(NUM_GOOD)]
    base = {"boxes": BOXES, "features": features(), "width": 8, "height": 4}
    return [base | record for record in [*good, *(bad for bad, _ in BAD_REGIONS.values())]]


def json_region_case(folder: Path, **_: Any) -> Case:
    """Retrieval from JSON lines with regions; what is wrong is found in the batches."""
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded(".png", picture()))
    lines = []
    for number, record in enumerate(region_records(), 1):
        (folder / f"{number}.png").write_bytes(b"x")
        regions = record | {name: table(record[name]) for name in ("features", "boxes")}
        line = {"image": f"{number}.png", "captions": [f"a dog of kind {number}"]}
        lines.append(json.dumps(line | {"regions": regions}))
    path = folder / "train.jsonl"
    path.write_text("".join(line + "\n" for line in lines), "utf-8")
    data = {"source": "files", "pairs": str(path), "image": IMAGE, "max_text_length": 64}
    data |= {"tokenizer": {"vocab_size": 300}, "num_region_classes": 4}
    weights = {"region_classification": 0.0}
    task = {"type": "pretraining", "data": data, "weights": weights, "projection_size": 8}
    task["mixture"] = {"texts": 0, "images": 0}
    streams = streams_of({"model": MODEL | {"vocab_size": 300}, "task": task}, folder)
    unusable = reasons()
    return Case(streams, lambda number: f"{folder / str(number)}.png", set(), unusable)


def reasons() -> dict[int, str]:
    """What is said of each bad record, by its number."""
    return {NUM_GOOD + 1 + i: reason for i, (_, reason) in enumerate(BAD_REGIONS.values())}


def retrieval_case(folder: Path, **_: Any) -> Case:
    """Retrieval from the original's tables; sizes are told at once, numbers in the batches."""
    folder.mkdir()
    lines, captions = [], []
    for number, record in enumerate(region_records(), 1):
        sizes = (str(record["width"]), str(record["height"]), str(NUM_REGIONS))
        tables = (table(record["boxes"]), table(record["features"]), "")
        lines.append("\t".join((f"image {number}", *sizes, *tables)))
        captions.append(f"0 5 {10 + number} 2;0 0 0 0;2 3 4 5;image {number};{number}")
    for name, text in (("features", lines), ("captions", captions)):
        (folder / name).write_text("".join(line + "\n" for line in text), "utf-8")
    early = {NUM_GOOD + 1 + i for i, (_, reason) in enumerate(BAD_REGIONS.values()) if not reason}
    data = {"source": "original", "train": str(folder / "captions"), "image": IMAGE}
    data |= {"features": {"train": str(folder / "features")}, "bad_record_limit": 1.0}
    task = {"type": "retrieval", "data": data, "negatives": 1}
    streams = streams_of({"model": MODEL, "task": task}, folder, is_prepared=False)
    late = {number: reason for number, reason in reasons().items() if reason}
    return Case(streams, lambda number: f"{folder / 'features'}:{number}", early, late)


def entailment_case(folder: Path, **_: Any) -> Case:
    """Entailment in the original's lines, whose regions are read when they are needed."""
    folder.mkdir()
    lines = []
    for number, record in enumerate(region_records(), 1):
        fields = ["image", f"d{number}", "0", f"0 5 {10 + number} 2", "0 0 0 0", "2 3 4 5", "_"]
        fields += [str(record["width"]), str(record["height"]), str(NUM_REGIONS)]
        lines.append(";".join([*fields, table(record["boxes"]), table(record["features"]), "", ""]))
    path = folder / "part-0"
    path.write_text("".join(line + "\n" for line in lines), "utf-8")
    data = {"source": "original", "train": str(path), "image": IMAGE}
    task = {"type": "visual_entailment", "data": data, "labels": ["yes", "maybe", "no"]}
    streams = streams_of({"model": MODEL, "task": task}, folder, is_prepared=False)
    return Case(streams, lambda number: f"{path}:{number}", set(), reasons())


CASES = {
    "images": image_case,
    "regions in JSON": json_region_case,
    "retrieval": retrieval_case,
    "entailment": entailment_case,
}


# ---- the proofs


def batches_of(streams: Sequence[Stream], num_workers: int, limit: float) -> tuple[list, dict]:
    loader = Loader(streams, seed=3, num_workers=num_workers, bad_sample_limit=limit)
    return list(loader.batches(0, NUM_STEPS)), loader.skipped


@pytest.mark.parametrize("case", CASES)
def test_bad_samples_are_counted_named_and_skipped(
    case: str, tmp_path: Path, tiny_settings, caplog: pytest.LogCaptureFixture
) -> None:
    made = CASES[case](tmp_path / "data", tiny=tiny_settings)
    for number in made.unreadable:
        assert any(f"skipped {made.where(number)}: " in text for text in caplog.messages), number
    batches, skipped = batches_of(made.streams, 0, limit=1.0)
    # Every epoch asks for each record once, so each bad one was met.
    named = {sample["where"]: sample["reason"] for sample in skipped["samples"]}
    if case == "images":
        named = {f"{tmp_path / 'data' / 'train.jsonl'}:{Path(w).stem}": r for w, r in named.items()}
    assert set(named) == {made.where(number) for number in made.unusable}
    for number, reason in made.unusable.items():
        assert reason in named[made.where(number)]
    assert skipped["num_skipped"] >= len(made.unusable)
    assert skipped["num_seen"] == NUM_STEPS * BATCH_SIZE + skipped["num_skipped"]
    for batch in batches:
        assert {len(array) for array in batch.values()} == {BATCH_SIZE}
        assert all(np.isfinite(x).all() for x in batch.values() if x.dtype.kind == "f")
    again, skipped_again = batches_of(made.streams, 3, limit=1.0)
    assert skipped_again == skipped
    for one, other in zip(batches, again, strict=True):
        assert {name: x.tobytes() for name, x in one.items()} == {
            name: x.tobytes() for name, x in other.items()
        }


@pytest.mark.parametrize("case", CASES)
def test_more_than_the_cap_stop_the_run(case: str, tmp_path: Path, tiny_settings) -> None:
    """The bad records are 2 or 3 % of all, and the cap of a run is 1 %."""
    made = CASES[case](tmp_path / "data", tiny=tiny_settings)
    with pytest.raises(UserError, match=r"1[1-9] of \d+ samples cannot be used.*1%.*; mend") as e:
        batches_of(made.streams, 2, limit=0.01)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("kind", ODD_IMAGES)
def test_odd_images_are_used(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "odd"
    path.write_bytes(ODD_IMAGES[kind]())
    pixels = read_image(path)
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
