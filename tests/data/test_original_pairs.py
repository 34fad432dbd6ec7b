"""The original's files of hypotheses and captions: its batches, and what damage is told."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unimo_paddle.data.fields import collate
from unimo_paddle.data.images import ImageConfig
from unimo_paddle.data.original_pairs import StoredRegions, data_files, read_objects
from unimo_paddle.errors import BadSample, UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.tasks.captioning import CaptionDataConfig, CaptioningConfig, CaptioningTask
from unimo_paddle.tasks.language import LanguageConfig
from unimo_paddle.tasks.visual_entailment import (
    EntailmentDataConfig,
    VisualEntailmentConfig,
    VisualEntailmentTask,
)

MODEL = ModelConfig(hidden_size=8, num_layers=1, num_heads=1, region_feature_size=8)


@pytest.fixture(scope="module")
def inputs(shared_dir: Path) -> Path:
    return shared_dir / "reference" / "official" / "reader_inputs"


@pytest.fixture(scope="module")
def recorded(shared_dir: Path):
    """What the original read: name of a recording -> its arrays."""

    def load(name: str) -> dict[str, Any]:
        with np.load(shared_dir / "reference" / "official" / f"{name}.npz") as arrays:
            return {key: arrays[key] for key in arrays.files}

    return load


def image_config(max_regions: int) -> ImageConfig:
    return ImageConfig(kind="regions", max_regions=max_regions, feature_size=8)


def entailment_task(labels: tuple[str, ...] = ("yes", "maybe", "no")) -> VisualEntailmentTask:
    data = EntailmentDataConfig(source="original", image=image_config(5), max_text_length=12)
    config = VisualEntailmentConfig(data=data, labels=labels)
    return VisualEntailmentTask(config, MODEL, Path("nowhere"))


def caption_task(**changes: Any) -> CaptioningTask:
    # The original counts row 0 among its 5 regions.
    data = CaptionDataConfig(source="original", image=image_config(4), max_tags=6)
    config = CaptioningConfig(
        data=replace(data, **changes), language=LanguageConfig(max_target_length=10)
    )
    return CaptioningTask(config, MODEL, Path("nowhere"))


def read_captions(folder: Path, name: str) -> tuple[CaptioningTask, list]:
    """The task, and the records of a recorded file list."""
    task = caption_task(
        objects=str(folder / "img2txt" / "objects.ids"), file_list_root=str(folder.parent)
    )
    return task, list(task.read(folder / "img2txt" / name))


def differing(batch: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> list[str]:
    return [name for name, x in expected.items() if not np.array_equal(batch[name], x)]


def test_entailment_files_give_the_original_batches(inputs: Path, recorded) -> None:
    recording, task = recorded("reader_ve_records"), entailment_task()
    records = task.read(inputs / "ve" / "part-0")
    samples = [task.encode(record) | task.encode_targets(record) for record in records]
    expected = {
        "input_ids": recording["0/src_ids"][..., 0],
        "position_ids": recording["0/pos_ids"][..., 0],
        "text_mask": recording["0/token_mask"][..., 0],
        "region_features": recording["0/image_embedding"],
        "region_boxes": recording["0/image_loc"],
        "region_mask": recording["0/image_mask"][..., 0],
        "labels": recording["0/labels"][:, 0],
    }
    assert differing(collate(samples, (*task.inputs, *task.targets)), expected) == []
    assert [record.id for record in records] == ["d0", "d1", "d2", "d3", "d4"]


def segments_of(recording: dict[str, Any], number: int) -> dict[str, np.ndarray]:
    """Regions and tags of a recorded batch, under our names."""
    regions = recording[f"{number}/image_loc"].shape[1]
    tags = recording[f"{number}/obj_word"].shape[1]
    mask = recording[f"{number}/input_mask"].diagonal(axis1=1, axis2=2)
    return {
        "region_features": recording[f"{number}/image_embedding"],
        "region_boxes": recording[f"{number}/image_loc"],
        "region_mask": mask[:, :regions],
        "tag_ids": recording[f"{number}/obj_word"][..., 0],
        "tag_positions": recording[f"{number}/obj_pos"][..., 0],
        "tag_mask": mask[:, regions : regions + tags],
    }


@pytest.mark.parametrize("number", [0, 1])
def test_caption_files_to_train_on_give_the_original_batches(
    inputs: Path, recorded, number: int
) -> None:
    recording = recorded("reader_img2txt_loss")
    task, records = read_captions(inputs, "train_filelist")
    samples = [task.encode(record) for record in records[2 * number : 2 * number + 2]]
    batch = collate(samples, task.inputs)
    expected = segments_of(recording, number) | {
        "input_ids": recording[f"{number}/word"][..., 0],
        "position_ids": recording[f"{number}/pos"][..., 0],
        "text_mask": recording[f"{number}/token_mask"][..., 0],
    }
    assert differing(batch, expected) == []
    real = batch["target_weights"] > 0
    places = batch["target_positions"] + batch["input_ids"].shape[1] * np.arange(2)[:, None]
    assert batch["target_ids"][real].tolist() == recording[f"{number}/tgt_label"][:, 0].tolist()
    assert places[real].tolist() == recording[f"{number}/tgt_pos"][:, 0].tolist()


@pytest.mark.parametrize("number", [0, 1])
def test_caption_words_see_what_they_see_in_the_original(
    inputs: Path, recorded, number: int
) -> None:
    recording = recorded("reader_img2txt_loss")
    task, records = read_captions(inputs, "train_filelist")
    batch = collate(map(task.encode, records[2 * number : 2 * number + 2]), task.inputs, size=2)
    mask = np.concatenate([batch[f"{x}_mask"] for x in ("region", "tag", "text")], axis=1)
    before = np.zeros((2, mask.shape[1] - batch["text_order"].shape[1]), np.int64)
    order = np.concatenate([before, batch["text_order"]], axis=1)
    visible = mask[:, :, None] * mask[:, None] * (order[:, None] <= order[:, :, None])
    np.testing.assert_array_equal(visible, recording[f"{number}/input_mask"])


@pytest.mark.parametrize(("number", "rows"), [(0, slice(0, 3)), (1, slice(3, 4))])
def test_caption_files_to_decode_give_the_original_batches(
    inputs: Path, recorded, number: int, rows: slice
) -> None:
    recording = recorded("reader_img2txt_decode")
    task, records = read_captions(inputs, "test_filelist")
    records = records[rows]
    batch = collate([task.encode(record) for record in records], task.inputs)
    assert differing(batch, segments_of(recording, number)) == []
    ids = [int(record.image_id) for record in records]
    assert ids == recording[f"{number}/image_id"][:, 0].tolist()
    assert not any(map(task.is_labelled, records))


def test_caption_of_an_image_without_names_of_objects_has_none(inputs: Path) -> None:
    task = caption_task()
    record = task.read(inputs / "img2txt" / "train-0")[0]
    assert collate([task.encode(record)], task.inputs)["tag_mask"].sum() == 0


# ---- damage


def encoded(values: Any) -> str:
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode("ascii")


BOXES = [[0, 0, 10, 10], [5, 5, 20, 15]]
ENTAILMENT = {
    "image": "7",
    "id": "d0",
    "label": "1",
    "ids": "0 5 6 2",
    "sent": "0 0 0 0",
    "pos": "2 3 4 5",
    "unused": "x",
    "width": "20",
    "height": "15",
    "count": "2",
    "boxes": encoded(BOXES),
    "features": encoded(np.ones((2, 8))),
    "p": "p",
    "q": "q",
}
CAPTION = {
    "image": "coco_img_7",
    "id": "c0",
    "ids": "0 5 6 2",
    "sent": "1 1 1 1",
    "pos": "2 3 4 5",
    "segments": "-1 0 0 -1",
    "u": "",
    "v": "",
    "height": "15",
    "width": "20",
    "count": "2",
    "boxes": encoded(BOXES),
    "probabilities": "",
    "attributes": "",
    "features": encoded(np.ones((2, 8))),
    "label": "0",
}


def line_of(fields: dict[str, str], **changes: str) -> str:
    return ";".join((fields | changes).values()) + "\n"


KINDS = {"entailment": (ENTAILMENT, entailment_task), "captions": (CAPTION, caption_task)}


def read_beside_a_good_line(path: Path, kind: str, **changes: str) -> tuple[Any, Any]:
    fields, make_task = KINDS[kind]
    path.write_text(line_of(fields) + line_of(fields, **({"id": "other"} | changes)), "utf-8")
    task = make_task()
    return task, task.read(path)


TEXT_DAMAGE = [
    ({"ids": "0 5 x 2"}, "id is 'x', which is no whole number"),
    ({"ids": f"0 {10**18} 6 2"}, "id has 19 digits; at most 18 can be used"),
    ({"ids": "5 6 2"}, "do not go from"),
    ({"ids": "0 5 6"}, "do not go from"),
    ({"ids": "0 99999 6 2"}, "id 99999 is beyond model.vocab_size 50265"),
    ({"pos": "2 3 4"}, "positions '2 3 4' of 4 ids do not count from 2"),
    ({"id": "more;fields"}, "fields with ; between them, not "),
]
DAMAGE = [(kind, *case) for kind in KINDS for case in TEXT_DAMAGE]
DAMAGE += [(kind, {"id": fields["id"]}, "occurred before") for kind, (fields, _) in KINDS.items()]
DAMAGE += [
    ("entailment", {"label": "3"}, "label is 3, but there are 3: yes, maybe, no"),
    ("entailment", {"label": "-1"}, "label is '-1', which is no whole number"),
    ("captions", {"image": "coco_img_"}, "no prefix of 9 characters and a number"),
]


@pytest.mark.parametrize(("kind", "changes", "message"), DAMAGE)
def test_damaged_line_is_left_out_with_its_place_and_reason(
    tmp_path: Path, caplog, kind: str, changes: dict[str, str], message: str
) -> None:
    path = tmp_path / "part-0"
    _, records = read_beside_a_good_line(path, kind, **changes)
    assert len(records) == 1
    (told,) = [x.getMessage() for x in caplog.records if x.getMessage().startswith("skipped ")]
    assert f"{path}:2: " in told and message in told


REGION_DAMAGE = [
    ({"count": "0"}, "number of boxes is 0; it must lie in 1 .. 10000"),
    ({"count": "two"}, "number of boxes is 'two', which is no whole number"),
    ({"width": "wide"}, "image width is 'wide', which is no whole number"),
    ({"width": "20" + 17 * "0"}, "image width has 19 digits; at most 18 can be used"),
    ({"height": "0"}, "image size 20.0 x 0.0 is not positive"),
    ({"boxes": "$$$"}, "boxes are not base64"),
    ({"boxes": encoded(BOXES[:1])}, "boxes of 16 bytes do not fill 2 rows of 4"),
    ({"features": encoded(np.ones(7))}, "features of 28 bytes do not fill 2 rows of float32"),
    ({"features": encoded(np.ones((2, 4)))}, "features have shape [2, 4], expected [n, 8]"),
    ({"features": encoded(np.full((2, 8), np.nan))}, "not a finite number"),
    ({"boxes": encoded([BOXES[0], [0, 0, 30, 5]])}, "lies outside the 20 x 15 image"),
    ({"boxes": encoded([BOXES[0], [9, 9, 5, 5]])}, "is empty"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("changes", "message"), REGION_DAMAGE)
def test_damaged_regions_are_a_bad_sample_with_its_place(
    tmp_path: Path, kind: str, changes: dict[str, str], message: str
) -> None:
    path = tmp_path / "part-0"
    task, records = read_beside_a_good_line(path, kind, **changes)
    with pytest.raises(BadSample) as caught:
        task.encode(records[1])
    assert caught.value.where == f"{path}:2"
    assert message in caught.value.reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "cannot be read: No such file or directory"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "fields where "),
    ],
    ids=["removed", "cut"],
)
def test_a_file_that_changed_since_gives_a_bad_sample(
    tmp_path: Path, kind: str, change, message: str
) -> None:
    path = tmp_path / "part-0"
    task, records = read_beside_a_good_line(path, kind)
    change(path)
    with pytest.raises(BadSample) as caught:
        task.encode(records[1])
    assert caught.value.where == f"{path}:2" and message in caught.value.reason


@pytest.mark.parametrize("kind", KINDS)
def test_regions_stay_in_their_file_until_they_are_encoded(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "part-0"
    features = encoded(np.full((2, 8), 3.0))
    task, records = read_beside_a_good_line(path, kind, features=features)
    assert all(isinstance(record.image, StoredRegions) for record in records)
    means = [task.encode(record)["region_features"].mean() for record in records]
    assert means == [1.0, 3.0]


def test_hypothesis_without_a_label_can_be_encoded(tmp_path: Path) -> None:
    task, records = read_beside_a_good_line(tmp_path / "part-0", "entailment", label="")
    assert records[1].label is None
    assert set(task.encode(records[1])) == {item.name for item in task.inputs}


@pytest.mark.parametrize("root", [None, "elsewhere"])
def test_paths_in_a_file_list_are_relative_to_its_folder_or_the_given_one(
    tmp_path: Path, root: str | None
) -> None:
    folder = tmp_path / (root or "")
    folder.mkdir(exist_ok=True)
    for number in range(2):
        (folder / f"part-{number}").write_text(line_of(ENTAILMENT, id=f"d{number}"), "utf-8")
    (tmp_path / "filelist").write_text("part-0\n\npart-1\n", "utf-8")
    task = entailment_task()
    task.data = replace(task.data, file_list_root=str(folder) if root else None)
    assert [record.id for record in task.read(tmp_path / "filelist")] == ["d0", "d1"]


def test_file_list_that_names_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "filelist").write_text("part-0\n", "utf-8")
    with pytest.raises(
        UserError, match=r"filelist:1: file 'part-0' does not exist in .*file_list_root"
    ):
        data_files(tmp_path / "filelist", None)


def test_data_file_is_no_list_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "part-0"
    path.write_text(line_of(CAPTION), "utf-8")
    assert data_files(path, None) == [path]


@pytest.mark.parametrize("text", ["7;0 5 2;0 0 0\n", "7;0 5 2;0 0 0;2 3\n", "7;;;\n"])
def test_damaged_names_of_objects_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "objects.ids"
    path.write_text(text, "utf-8")
    with pytest.raises(UserError, match=r"objects.ids:1: "):
        read_objects(path, bad_record_limit=0.0)
