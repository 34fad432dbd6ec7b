"""Promise 9: a bundle is damaged, cut or forged, and is refused in one line before it is served."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unimo_paddle.errors import UserError
from unimo_paddle.predictor import Predictor
from unimo_paddle.tasks.bundle import MANIFEST_NAME, identify_files

LONGEST_MESSAGE = 1_000
NUM_FLIPS = 12  # a file of a bundle


@pytest.fixture(scope="module")
def bundle(train_run, export_run, tiny_settings: dict[str, Any]) -> Path:
    """A bundle of untrained weights; read only."""
    quick = {"train": {"max_steps": 1, "batch_size": 7}, "evaluation": {"splits": []}}
    return export_run(train_run(tiny_settings | quick))


def refused(bundle: Path) -> str:
    """The line with which a bundle is refused."""
    with pytest.raises(UserError) as caught:
        Predictor(bundle)
    message = str(caught.value)
    assert message.isprintable() and ";" in message and len(message) < LONGEST_MESSAGE, message
    return message


@pytest.fixture
def own_bundle(bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle, tmp_path / "bundle")


def test_a_flipped_byte_anywhere_in_a_bundle_is_seen(own_bundle: Path) -> None:
    rng = np.random.default_rng(0)
    files = [path for path in sorted(own_bundle.rglob("*")) if path.is_file()]
    assert len(files) >= 8
    for path in files:
        if path.name == MANIFEST_NAME:
            continue
        original = path.read_bytes()
        for position in rng.integers(len(original), size=NUM_FLIPS):
            data = bytearray(original)
            data[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(bytes(data))
            assert f"{path} is damaged" in refused(own_bundle)
        path.write_bytes(original[:-1])
        assert f"{path} is damaged" in refused(own_bundle)
        path.write_bytes(original)
    Predictor(own_bundle)


def change_manifest(bundle: Path, change: Callable[[dict], object]) -> None:
    path = bundle / MANIFEST_NAME
    manifest = json.loads(path.read_text("utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), "utf-8")


def first_input(manifest: dict) -> dict:
    return manifest["services"]["embed_texts"]["inputs"][0]


MANIFESTS = {
    "no version": lambda m: m.pop("version"),
    "no services": lambda m: m.pop("services"),
    "services in a list": lambda m: m.update(services=["embed_texts"]),
    "a service outside": lambda m: m["services"].update({"../x": m["services"]["embed_texts"]}),
    "an absolute service": lambda m: m["services"].update({"/x": m["services"]["embed_texts"]}),
    "a file outside": lambda m: m["files"].update({"../../x": {}}),
    "no files": lambda m: m.pop("files"),
    "a graph that is not listed": lambda m: m["files"].pop("embed_texts.json"),
    "settings that are not listed": lambda m: m["files"].pop("settings.yaml"),
    "inputs that are a number": lambda m: m["services"]["embed_texts"].update(inputs=3),
    "outputs that are numbers": lambda m: m["services"]["embed_texts"].update(outputs=[3]),
    "objects for an input": lambda m: first_input(m).update(dtype="object"),
    "words for padding": lambda m: first_input(m).update(pad="x"),
    "words for a shape": lambda m: first_input(m).update(shape=["x"]),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_is_wrong_is_told(own_bundle: Path, case: str) -> None:
    change_manifest(own_bundle, MANIFESTS[case])
    assert MANIFEST_NAME in refused(own_bundle)


@pytest.mark.parametrize("text", ["", "[]", "3", "[" * 100_000, '{"version": ' + "9" * 9_000 + "}"])
def test_a_manifest_that_is_none_is_told(own_bundle: Path, text: str) -> None:
    (own_bundle / MANIFEST_NAME).write_text(text)
    assert MANIFEST_NAME in refused(own_bundle)


# What somebody writes who also writes the right sums into the manifest.
FORGERIES = {
    "cut weights": ("embed_texts.pdiparams", lambda data: data[: len(data) // 2]),
    "one byte less": ("embed_texts.pdiparams", lambda data: data[:-1]),
    "one byte more": ("embed_texts.pdiparams", lambda data: data + b"\0"),
    "a pickle for weights": ("embed_texts.pdiparams", lambda data: pickle.dumps(data)),
    "no JSON for a graph": ("embed_texts.json", lambda data: data[:-1]),
    "another graph": ("embed_texts.json", lambda data: b'{"base_code": {}, "program": {}}'),
    "no text for a graph": ("embed_texts.json", lambda data: b"\xff" * len(data)),
    "other settings": ("settings.yaml", lambda data: b"task: {type: !!python/name:os.system }"),
    "a pickle for assets": (
        "assets/visual_words.npz",
        lambda data: pickle.dumps(data),
    ),
}
OPEN = """
import sys
from unimo_paddle.errors import UserError
from unimo_paddle.predictor import Predictor

for folder in sys.argv[1:]:
    try:
        Predictor(folder)
    except UserError as error:
        print("refused", str(error).isprintable(), error)
    else:
        print("opened")
"""


def test_forged_bundles_are_refused(bundle: Path, tmp_path: Path) -> None:
    """In a process of its own, which Paddle may end."""
    folders = []
    for case, (name, change) in FORGERIES.items():
        folder = shutil.copytree(bundle, tmp_path / case)
        (folder / name).write_bytes(change((folder / name).read_bytes()))
        files = identify_files(folder)
        change_manifest(folder, lambda manifest, files=files: manifest.update(files=files))
        folders.append(folder)
    command = [sys.executable, "-c", OPEN, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == len(FORGERIES), done.stderr[-2_000:]
    wrong = [line for line in lines if not line.startswith("refused True ") or ";" not in line]
    assert wrong == []
