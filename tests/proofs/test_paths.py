"""Promise 10: what a data file names stays inside its folder, however the name is written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unimo_paddle.config import RunConfig
from unimo_paddle.data.original_pairs import data_files
from unimo_paddle.data.original_retrieval import read_region_lines
from unimo_paddle.data.sources import read_images, read_pairs, read_statements
from unimo_paddle.errors import UserError
from unimo_paddle.settings import build

# Names in a data file, beside the folder "data" of the fixture.
ESCAPES = {
    "the folder above": "../secret.png",
    "above through a folder inside": "images/../../secret.png",
    "a folder that begins alike": "../data-more/secret.png",
    "an absolute path": "{above}/secret.png",
    "an absolute path of the folder itself": "{above}/data/images/a.png",
    "a home folder": "~/secret.png",
    "a link to a file": "images/link.png",
    "a relative link": "images/relative.png",
    "a link to a link": "images/chain.png",
    "a linked folder": "elsewhere/secret.png",
    "a link to a device": "images/device.png",
    "a link to itself": "images/loop.png",
    "a pipe": "images/pipe.png",
    "a folder": "images",
    "nothing": "images/none.png",
    "a zero byte": "images/a.png\0.txt",
    "a very long name": "x/" * 40_000,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with two images, a secret outside, and ways that lead there."""
    folder, above = tmp_path / "data", tmp_path
    for path in (folder / "images", above / "data-more"):
        path.mkdir(parents=True)
    for path in (folder / "images" / "a.png", above / "secret.png", above / "data-more/secret.png"):
        path.write_bytes(b"x")
    images = folder / "images"
    os.symlink(above / "secret.png", images / "link.png")
    os.symlink("../../secret.png", images / "relative.png")
    os.symlink("link.png", images / "chain.png")
    os.symlink(above, folder / "elsewhere")
    os.symlink(os.devnull, images / "device.png")
    os.symlink("loop.png", images / "loop.png")
    os.mkfifo(images / "pipe.png")
    return folder


def task_reader(task: dict[str, Any]) -> Callable[[Path], Any]:
    """What a task reads of a file of JSON lines."""

    def read(path: Path) -> Any:
        task_of_files = task | {"data": {"source": "files", "train": str(path)}}
        sizes = {"region_feature_size": 768}  # of a patch
        config = build(RunConfig, {"model": sizes, "task": task_of_files})
        return config.task.build(config.model, Path("nowhere")).read(path)

    return read


CAPTION = {"captions": ["a dog"]}
QUESTION = {"question": "what is it?", "answer": "a dog"}
READERS: dict[str, tuple[Callable[[Path], Any], dict[str, Any]]] = {
    "pairs": (read_pairs, CAPTION),
    "statements": (lambda path: read_statements([path], bad_record_limit=1.0), QUESTION),
    "captioning": (task_reader({"type": "captioning"}), CAPTION),
    "vqa": (task_reader({"type": "vqa"}), QUESTION),
    "entailment": (
        task_reader({"type": "visual_entailment", "labels": ["yes", "no"]}),
        {"hypothesis": "a dog", "label": "yes"},
    ),
    "retrieval": (task_reader({"type": "retrieval"}), CAPTION),
}


@pytest.mark.parametrize("name", ESCAPES.values(), ids=ESCAPES)
@pytest.mark.parametrize("reader", READERS)
def test_an_image_outside_is_named_and_left_out(
    folder: Path, caplog: pytest.LogCaptureFixture, reader: str, name: str
) -> None:
    read, record = READERS[reader]
    (folder / "images" / "b.png").write_bytes(b"x")  # retrieval needs a second one
    names = ("images/a.png", name.format(above=folder.parent), "images/b.png")
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(record | {"image": n}) + "\n" for n in names), "utf-8")
    assert len(read(path)) == 2
    (warning,) = (text for text in caplog.messages if text.startswith("skipped"))
    assert warning.startswith(f"skipped {path}:2: ")
    assert warning.isprintable() and len(warning) < 1_000


def test_links_in_a_folder_of_images_are_left_out(folder: Path) -> None:
    source = read_images(folder)
    assert list(source) == [folder / "images" / "a.png"]
    left_out = {Path(bad.where).name for bad in source.rejected}
    assert {"link.png", "relative.png", "chain.png", "device.png", "loop.png"} <= left_out


@pytest.mark.parametrize("name", ESCAPES.values(), ids=ESCAPES)
def test_a_list_of_files_names_none_outside(folder: Path, name: str) -> None:
    path = folder / "filelist"
    path.write_text(f"images/a.png\n{name.format(above=folder.parent)}\n", "utf-8")
    with pytest.raises(UserError) as caught:
        data_files(path, None)
    message = str(caught.value)
    assert message.startswith(f"{path}:2: ") and "mend the list" in message
    assert message.isprintable() and len(message) < 1_000


def test_a_list_of_files_may_name_those_of_a_root_that_is_set(folder: Path) -> None:
    path = folder / "filelist"
    path.write_text("data-more/secret.png\n", "utf-8")
    assert data_files(path, folder.parent) == [folder.parent / "data-more" / "secret.png"]


def test_a_folder_of_features_has_no_links_out(folder: Path) -> None:
    (folder / "features").mkdir()
    os.symlink(folder.parent / "secret.png", folder / "features" / "part-0")
    with pytest.raises(UserError, match=r"features: .*'part-0' leads out of the folder.*; copy"):
        read_region_lines(folder / "features", feature_size=3)
