"""Retrieval in two stages finds what joint scores of the first ones say, pair by pair."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from unimo_paddle.data.loader import Stream
from unimo_paddle.errors import UserError
from unimo_paddle.metrics.retrieval import nearest, ranks
from unimo_paddle.predictor import Predictor
from unimo_paddle.tasks.base import Arrays
from unimo_paddle.tasks.reranking import JOINT, SEPARATE, Collection, search_in_two_stages
from unimo_paddle.tasks.segments import TEXT_INPUTS

NUM_IMAGES, CAPTIONS, SIZE = 9, 2, 4
NUM_TEXTS = NUM_IMAGES * CAPTIONS


def stream(name: str, count: int) -> Stream:
    return Stream(name, range(count), lambda number, _: {"number": number}, (), 4)


@pytest.fixture(scope="module")
def features() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.normal(size=(NUM_IMAGES, SIZE)),
        "text": rng.normal(size=(NUM_TEXTS, SIZE)),
        "joint": rng.normal(size=(NUM_IMAGES, NUM_TEXTS)),
    }


@pytest.fixture(scope="module")
def collection() -> Collection:
    return Collection(
        stream("images", NUM_IMAGES),
        stream("texts", NUM_TEXTS),
        encode_image=lambda number: {"image": number},
        encode_text=lambda number: {"text": number},
        fields=(),
        owners=np.repeat(np.arange(NUM_IMAGES), CAPTIONS),
    )


def server(features: dict[str, np.ndarray], without: Sequence[int] = ()):
    """What serves these features; some images cannot be used."""
    images = np.array([i for i in range(NUM_IMAGES) if i not in without])

    def serve(name: str, asked: Stream) -> Arrays:
        if name == "embed_images":
            return {"image_features": features["image"][images], "index": images}
        if name == "embed_texts":
            return {"text_features": features["text"], "index": np.arange(NUM_TEXTS)}
        rng = np.random.default_rng(0)
        pairs = [asked.encode(record, rng) for record in asked.records]
        scores = [features["joint"][pair["image"], pair["text"]] for pair in pairs]
        return {"scores": np.array(scores)}

    return serve


def expected_recall(features, kept: Sequence[int], first: int, direction: str) -> dict:
    """Each query alone: joint scores of its nearest, nothing for the others."""
    separate = features["text"] @ features["image"].T
    joint = features["joint"].T
    if direction == "text_retrieval":
        separate, joint = separate.T, joint.T
    found = []
    for query in range(len(separate)):
        image_of_query = query // CAPTIONS if direction == "image_retrieval" else query
        if image_of_query not in kept:
            continue
        candidates = [
            c
            for c in range(separate.shape[1])
            if (c if direction == "image_retrieval" else c // CAPTIONS) in kept
        ]
        best = sorted(candidates, key=lambda c: -separate[query, c])[:first]
        is_right = {
            c: (c if direction == "image_retrieval" else c // CAPTIONS) == image_of_query
            for c in candidates
        }
        right = [joint[query, c] for c in best if is_right[c]]
        before = [c for c in best if right and joint[query, c] > max(right)]
        found.append(len(before) if right else sum(not is_right[c] for c in candidates))
    return {depth: np.mean(np.array(found) < depth) for depth in (1, 5, 10)}


@pytest.mark.parametrize("without", [(), (4,)], ids=["all usable", "a bad image"])
@pytest.mark.parametrize("first", [1, 3, None])
def test_joint_scores_order_the_first_of_each_query(features, collection, first, without) -> None:
    stages = search_in_two_stages(collection, server(features, without), first)
    kept = [i for i in range(NUM_IMAGES) if i not in without]
    for direction in ("image_retrieval", "text_retrieval"):
        expected = expected_recall(features, kept, first or NUM_TEXTS, direction)
        for depth, value in expected.items():
            assert stages[JOINT][f"{direction}_recall@{depth}"] == pytest.approx(value)
    num_pairs = stages[JOINT]["num_pairs"]
    if first is None:
        assert num_pairs == len(kept) ** 2 * CAPTIONS
    else:
        assert num_pairs <= first * (1 + CAPTIONS) * len(kept)


def test_the_first_stage_is_that_of_separate_scores(features, collection) -> None:
    stages = search_in_two_stages(collection, server(features), 1)
    found = ranks(features["text"], features["image"], collection.owners, np.arange(NUM_IMAGES))
    assert stages[SEPARATE]["image_retrieval_recall@1"] == np.mean(found < 1)


@pytest.mark.parametrize("count", [1, 4, 50])
def test_nearest_are_those_of_a_sort(monkeypatch, count: int) -> None:
    monkeypatch.setattr("unimo_paddle.metrics.retrieval.MAX_SCORES", 40)  # several blocks
    rng = np.random.default_rng(1)
    queries, candidates = rng.normal(size=(7, 3)), rng.normal(size=(20, 3))
    expected = np.argsort(-(queries @ candidates.T), axis=1)[:, :count]
    np.testing.assert_array_equal(nearest(queries, candidates, count), expected)


# ---- a trained run


@pytest.fixture(scope="module")
def joint_run(train_run, tiny_settings) -> Path:
    """Trained to tell the captions of an image from those of others by joint scores, too."""
    changes = {"contrast": {"others_per_pair": 2}}
    train = {**tiny_settings["train"], "max_steps": 4}
    task = {**tiny_settings["task"], **changes}
    return train_run({**tiny_settings, "task": task, "train": train})


def test_a_run_is_searched_in_two_stages(joint_run: Path, run_tool) -> None:
    done = run_tool("evaluate", "--run", joint_run, "--split", "test", "--rerank", 2, 0)
    assert done.returncode == 0, done.stderr
    assert "first 2" in done.stdout and "all pairs" in done.stdout
    report = json.loads((joint_run / "evaluation-test-rerank.json").read_text())
    assert list(report) == ["separate", "first 2", "all pairs"]
    assert report["all pairs"]["num_pairs"] == 6 * 30
    assert report["first 2"]["num_pairs"] < 6 * 30
    assert all(stage["seconds"] > 0 for stage in report.values())


def test_a_search_that_cannot_be_is_refused_before_anything_is_measured(
    trained_run: Path, joint_run: Path, run_tool
) -> None:
    done = run_tool("evaluate", "--run", trained_run, "--split", "test", "--rerank", 5)
    assert done.returncode == 2 and "measur" not in done.stderr
    assert "pre-train with task.contrast.rewrites_per_pair above 0" in done.stderr
    done = run_tool("evaluate", "--run", joint_run, "--split", "test", "--rerank", 3, -1)
    assert done.returncode == 2 and "--rerank is -1; give how many" in done.stderr
    assert not done.stdout


@pytest.mark.usefixtures("static_graph")
def test_a_pair_is_scored_by_itself_whatever_stands_beside_it(joint_run: Path) -> None:
    from unimo_paddle.config import load_evaluator

    evaluator = load_evaluator(joint_run)
    encoder = evaluator.task.encoder
    records = encoder.read_split("test")
    pairs = [(records[0], "a star"), (records[1], "two small red hearts"), (records[5], "a")]
    fields = (*TEXT_INPUTS, *encoder.inputs())

    def encode(pair, _rng):
        return {**encoder.encode_image(pair[0]), **encoder.encode_text(pair[1])}

    together = Stream("pairs", pairs, encode, fields, 3)
    alone = Stream("pairs", pairs, encode, fields, 1)
    first, second = (evaluator.serve("score_pairs", each)["scores"] for each in (together, alone))
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_depth_must_be_positive(collection, features) -> None:
    with pytest.raises(UserError, match="-1"):
        search_in_two_stages(collection, server(features), -1)


# ---- its bundle


@pytest.fixture(scope="module")
def predictor(joint_run: Path, export_run) -> Predictor:
    return Predictor(export_run(joint_run), batch_size=2)


@pytest.fixture(scope="module")
def images(scenes_dir: Path) -> list[Path]:
    return sorted((scenes_dir / "images").glob("*.png"))[:6]


def test_a_bundle_finds_in_two_stages(predictor: Predictor, images: list[Path]) -> None:
    text = "a red star left of a blue heart"
    joint = predictor.score_pairs(images, [text] * len(images))
    separate = predictor.embed_images(images) @ predictor.embed_texts([text])[0]
    best = np.argsort(-separate)[:3]
    expected = sorted(best, key=lambda i: -joint[i])
    found = predictor.find_images(text, images, first=3)
    assert [index for index, _ in found] == expected
    np.testing.assert_allclose([score for _, score in found], joint[expected], atol=1e-6)


def test_a_bundle_without_joint_scores_finds_by_separate_ones(bundle: Path, images) -> None:
    plain = Predictor(bundle)
    (best, score), *others = plain.find_images("a red star", images)
    separate = plain.embed_images(images) @ plain.embed_texts(["a red star"])[0]
    assert best == separate.argmax() and score == pytest.approx(separate.max(), abs=1e-6)
    assert len(others) == len(images) - 1


def test_pairs_of_unequal_numbers_are_told(predictor: Predictor, images: list[Path]) -> None:
    with pytest.raises(UserError, match="6 images and 1 texts; give one text an image"):
        predictor.score_pairs(images, ["a star"])
    with pytest.raises(UserError, match="first is 0; give at least 1"):
        predictor.find_images("a star", images, first=0)
