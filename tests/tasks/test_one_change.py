"""How often a caption is preferred to one changed in one place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unimo_paddle.config import load_evaluator
from unimo_paddle.data.loader import Stream
from unimo_paddle.data.rewriting import RewrittenCaptions
from unimo_paddle.data.sources import read_pairs
from unimo_paddle.errors import UserError
from unimo_paddle.tasks.base import Arrays
from unimo_paddle.tasks.one_change import KINDS, Changed, find_changed, measure_changed
from unimo_paddle.tasks.reranking import Collection

pytestmark = pytest.mark.usefixtures("static_graph")

NUM_IMAGES = 6
CHANGED = [
    Changed(1, "a red ball", "a blue ball", "attribute"),
    Changed(1, "a red ball", "a red cube", "object"),
    Changed(3, "a ball on sand", "a ball under sand", "relation"),
    Changed(2, "a small cup", "a large cup", "attribute"),
]
SEPARATE = [(3, 2), (1, 2), (2, 1), (5, 4)]  # scores of caption and false caption
JOINT = [(0, 1), (1, 0), (1, 0), (0, 1)]


def collection() -> Collection:
    def stream(name: str, count: int) -> Stream:
        return Stream(name, range(count), lambda number, _: {"number": number}, (), 4)

    return Collection(
        stream("images", NUM_IMAGES),
        stream("texts", 2 * len(CHANGED)),
        encode_image=lambda number: {"image": number},
        encode_text=lambda number: {"text": number},
        fields=(),
        owners=np.repeat([item.record for item in CHANGED], 2),
    )


def server(without: tuple[int, ...] = ()):
    """What serves these scores; some images cannot be used."""
    images = np.array([i for i in range(NUM_IMAGES) if i not in without])
    joint = np.array(JOINT, float).ravel()

    def serve(name: str, asked: Stream) -> Arrays:
        if name == "embed_images":
            return {"image_features": np.ones((len(images), 1)), "index": images}
        if name == "embed_texts":
            features = np.array(SEPARATE, float).reshape(-1, 1)
            return {"text_features": features, "index": np.arange(len(features))}
        rng = np.random.default_rng(0)
        pairs = [asked.encode(record, rng) for record in asked.records]
        for pair in pairs:
            assert pair["image"] == CHANGED[pair["text"] // 2].record
        return {"scores": joint[[pair["text"] for pair in pairs]]}

    return serve


def test_captions_count_that_score_higher_than_false_ones() -> None:
    found = measure_changed(CHANGED, collection(), server(), joint=True)
    assert found["one_change_accuracy"] == 0.75
    assert found["one_change_attribute_accuracy"] == 1.0
    assert found["one_change_object_accuracy"] == 0.0
    assert found["one_change_relation_accuracy"] == 1.0
    assert found["one_change_joint_accuracy"] == 0.5
    assert found["one_change_joint_attribute_accuracy"] == 0.0
    assert found["one_change_accuracy_low"] <= 0.75 <= found["one_change_accuracy_high"]


def test_captions_of_images_that_cannot_be_used_do_not_count() -> None:
    found = measure_changed(CHANGED, collection(), server(without=(1, 5)), joint=False)
    assert found["one_change_accuracy"] == 1.0
    assert "one_change_object_accuracy" not in found and "one_change_joint_accuracy" not in found


def test_what_is_changed_is_false_in_one_place(candidates, scenes_dir: Path) -> None:
    records = read_pairs(scenes_dir / "test.jsonl").records
    changed = find_changed(records, RewrittenCaptions(candidates["test"], records))
    assert {item.kind for item in changed} <= set(KINDS)
    assert len({item.record for item in changed}) > len(records) // 2
    for item in changed:
        assert item.caption in records[item.record].captions and item.false != item.caption


def test_an_evaluation_measures_it(make_trainer, candidates, tmp_path: Path) -> None:
    changes = {
        "task.data.split_rewrites": {"test": str(candidates["test"])},
        "task.data.rewrites": str(candidates["rewrites"]),
        "task.contrast.rewrites_per_pair": 1,
        "train.max_steps": 1,
    }
    make_trainer(changes=changes).train()
    found = load_evaluator(tmp_path / "run").measure("test")
    assert 0 <= found["one_change_accuracy"] <= 1
    assert 0 <= found["one_change_joint_accuracy"] <= 1


@pytest.mark.parametrize(
    ("name", "message"),
    [("none", "none"), ("rewrites", "was made from other captions than the pairs")],
)
def test_a_wrong_file_is_told_before_the_first_update(
    make_trainer, candidates, tmp_path: Path, name: str, message: str
) -> None:
    files = {**candidates, "none": tmp_path / "none"}
    with pytest.raises(UserError, match=message):
        make_trainer(changes={"task.data.split_rewrites": {"test": str(files[name])}})
