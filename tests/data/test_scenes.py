"""The built-in data set: deterministic, complete, true, honest and quick."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from unimo_paddle.data.scenes import (
    Meaning,
    Mention,
    Scene,
    SceneConfig,
    ensure_scenes,
    identifying_share,
    read_manifest,
    render,
    sample_scene,
    write_captions,
)
from unimo_paddle.data.scenes.entailment import LABELS, contradict
from unimo_paddle.data.scenes.grammar import (
    COLOURS,
    NOVEL_COMBINATIONS,
    SHAPES,
    SceneObject,
    relation_holds,
    relations_of,
)
from unimo_paddle.data.scenes.language import sample_meaning
from unimo_paddle.data.scenes.meaning import meaning_from_json
from unimo_paddle.data.scenes.questions import write_questions
from unimo_paddle.errors import UserError

SMALL = SceneConfig(num_train=300, num_novel=40, num_texts=60, num_images_only=20)
TINY = SceneConfig(num_train=6, num_test=3, num_novel=3, num_texts=4, num_images_only=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_scenes(tmp_path_factory.mktemp("data") / "scenes", SMALL)


def records_of(folder: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]


def combinations_of(record: dict) -> set[tuple[str, str]]:
    return {(item["colour"], item["shape"]) for item in record["graph"]["objects"]}


def scenes_of(num_scenes: int, *, novel: bool = False) -> list[Scene]:
    return [sample_scene(np.random.default_rng((5, i)), novel=novel) for i in range(num_scenes)]


def object_at(cell: tuple[int, int], colour: str, shape: str) -> SceneObject:
    centre = ((cell[1] + 0.5) / 3, (cell[0] + 0.5) / 3)
    return SceneObject(shape, colour, "plain", "small", cell, centre, 0.12, 0.0, (0.0, 0.0, 0.0))


def scene_with(*objects: SceneObject) -> Scene:
    covered = tuple((0.0,) * len(objects) for _ in objects)
    return Scene(objects, "wood", 1, covered)


# The files


def test_every_file_promised_is_written_with_as_many_records_as_asked(folder: Path) -> None:
    counts = {
        name: len(records_of(folder, f"{name}.jsonl")) for name in ("train", "test", "test_novel")
    }
    counts["texts"] = len((folder / "texts.txt").read_text("utf-8").splitlines())
    counts["images_only"] = len(list((folder / "images_only").iterdir()))

    assert counts == read_manifest(folder)["counts"]
    assert counts == {
        "train": 300, "test": 200, "test_novel": 40, "texts": 60, "images_only": 20
    }  # fmt: skip


def test_labels_name_every_object_and_the_ground_below_it(folder: Path) -> None:
    for record in records_of(folder, "train.jsonl"):
        graph, (ground, *objects) = record["graph"], record["objects"]
        assert ground == {"box": [0, 0, 1, 1], "names": [graph["background"]]}
        assert len(objects) == len(graph["objects"])
        for label, item in zip(objects, graph["objects"], strict=True):
            assert label["names"] == [item[k] for k in ("shape", "colour", "pattern", "size")]
            np.testing.assert_allclose(64 * np.array(label["box"]), item["box"], atol=0.06)


def test_two_generations_are_equal_byte_for_byte(tmp_path: Path) -> None:
    first, second = (ensure_scenes(tmp_path / name, TINY) for name in ("first", "second"))

    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) == 6 + 3 + 3 + 2 + 9
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in files)


def test_another_seed_gives_other_scenes(tmp_path: Path) -> None:
    first = ensure_scenes(tmp_path / "first", TINY)
    second = ensure_scenes(tmp_path / "second", SceneConfig(**{**vars(TINY), "seed": 1}))

    assert (first / "train.jsonl").read_bytes() != (second / "train.jsonl").read_bytes()


def test_a_folder_that_matches_is_reused_untouched(folder: Path) -> None:
    before = (folder / "scenes.json").stat().st_mtime_ns

    assert ensure_scenes(folder, SMALL) == folder
    assert (folder / "scenes.json").stat().st_mtime_ns == before


def test_a_folder_of_another_config_is_refused_with_the_difference(folder: Path) -> None:
    with pytest.raises(UserError, match=r"num_train 300 instead of 7\); delete it"):
        ensure_scenes(folder, SceneConfig(**{**vars(SMALL), "num_train": 7}))


def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(UserError, match="no folder of scenes; choose another folder"):
        ensure_scenes(tmp_path, TINY)
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_a_generation_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(scene: Scene, image_size: int) -> np.ndarray:
        raise RuntimeError("no space left")

    monkeypatch.setattr("unimo_paddle.data.scenes.dataset.render", fail)
    with pytest.raises(RuntimeError, match="no space left"):
        ensure_scenes(tmp_path / "scenes", TINY)
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    assert (ensure_scenes(tmp_path, TINY) / "train.jsonl").is_file()


@pytest.mark.parametrize(
    ("name", "value"),
    [("image_size", 8), ("num_train", 0), ("seed", -1), ("num_test", 2.5), ("num_texts", True)],
)
def test_a_setting_out_of_range_is_refused_by_name_and_value(name: str, value: object) -> None:
    with pytest.raises(UserError, match=f"{name} is {value!r}; choose a whole number from"):
        SceneConfig(**{name: value})


# The scenes


def test_images_have_the_size_asked_for(folder: Path) -> None:
    image = cv2.imread(str(folder / records_of(folder, "test.jsonl")[0]["image"]))

    assert image.shape == (64, 64, 3)


@pytest.mark.parametrize("image_size", [48, 160, 224])
def test_scenes_can_be_drawn_in_other_sizes(image_size: int) -> None:
    image = render(scenes_of(1)[0], image_size)

    assert image.shape == (image_size, image_size, 3)
    assert image.dtype == np.uint8


def test_a_larger_drawing_shows_the_same_picture() -> None:
    scenes = scenes_of(12)
    small = np.stack([render(scene, 64).astype(float) for scene in scenes])
    for i, scene in enumerate(scenes):
        large = render(scene, 160).astype(float)
        reduced = cv2.resize(large, (64, 64), interpolation=cv2.INTER_AREA)
        distances = np.abs(small - reduced).mean(axis=(1, 2, 3))
        # Grain is drawn anew in every size; all else is far nearer than in any other scene.
        assert distances.argmin() == i
        assert distances[i] < 0.5 * np.delete(distances, i).min()


def test_boxes_hold_the_colour_of_their_objects(folder: Path) -> None:
    """The centre of a plain object's box shows its colour (rings and heaps aside)."""
    hues = []
    for record in records_of(folder, "train.jsonl"):
        image = cv2.cvtColor(cv2.imread(str(folder / record["image"])), cv2.COLOR_BGR2HSV)
        for item in record["graph"]["objects"]:
            is_clear = item["pattern"] == "plain" and item["visible"] > 0.99
            if is_clear and item["shape"] == "square" and item["colour"] == "blue":
                x1, y1, x2, y2 = item["box"]
                hues.append(2 * int(image[int((y1 + y2) / 2), int((x1 + x2) / 2), 0]))

    assert len(hues) > 3
    assert all(195 < hue < 245 for hue in hues)


def test_boxes_lie_in_the_image_and_are_large_enough_to_read(folder: Path) -> None:
    boxes = np.array(
        [
            item["box"]
            for record in records_of(folder, "train.jsonl")
            for item in record["graph"]["objects"]
        ]
    )

    assert boxes.min() >= 0
    assert boxes.max() <= 64
    assert (boxes[:, 2:] - boxes[:, :2]).min() > 10


def test_some_objects_hide_others_but_none_is_hidden(folder: Path) -> None:
    visible = [
        item["visible"]
        for record in records_of(folder, "train.jsonl")
        for item in record["graph"]["objects"]
    ]

    assert min(visible) > 0.6
    assert np.mean(np.array(visible) < 0.95) > 0.05


def test_two_to_four_different_objects_stand_in_different_places(folder: Path) -> None:
    graphs = [record["graph"]["objects"] for record in records_of(folder, "train.jsonl")]

    assert {len(objects) for objects in graphs} == {2, 3, 4}
    assert all(len({tuple(o["cell"]) for o in objects}) == len(objects) for objects in graphs)
    assert all(
        len({(o["colour"], o["shape"]) for o in objects}) == len(objects) for objects in graphs
    )


@pytest.mark.parametrize("name", ["train.jsonl", "test.jsonl"])
def test_held_out_combinations_occur_in_no_seen_split(folder: Path, name: str) -> None:
    found = set().union(*map(combinations_of, records_of(folder, name)))

    assert not found & NOVEL_COMBINATIONS
    assert len(found) == len(COLOURS) * len(SHAPES) - len(NOVEL_COMBINATIONS)


def test_every_novel_scene_has_a_held_out_combination(folder: Path) -> None:
    records = records_of(folder, "test_novel.jsonl")

    assert all(combinations_of(record) & NOVEL_COMBINATIONS for record in records)


@pytest.mark.parametrize(
    "name",
    ["texts.txt", "train.jsonl", "questions_train.jsonl", "entailment_train.jsonl"],
)
def test_no_sentence_to_train_on_names_a_held_out_combination(folder: Path, name: str) -> None:
    text = (folder / name).read_text("utf-8")

    assert not [pair for pair in NOVEL_COMBINATIONS if " ".join(pair) in text]


def test_no_test_scene_is_described_by_the_same_words_as_a_training_scene(folder: Path) -> None:
    def signatures(name: str) -> set[str]:
        graphs = [record["graph"] for record in records_of(folder, name)]
        for item in (item for graph in graphs for item in graph["objects"]):
            del item["box"], item["visible"], item["place"]
        return {
            json.dumps([graph["background"], sorted(graph["objects"], key=json.dumps)])
            for graph in graphs
        }

    assert not signatures("test.jsonl") & signatures("train.jsonl")


# The meaning of words


def test_a_relation_and_its_opposite_are_never_both_true() -> None:
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    true = [
        (scene, i, relation, j)
        for scene in scenes_of(50)
        for i, relation, j in relations_of(scene)
        if relation in opposite
    ]

    assert all(relation_holds(scene, j, opposite[r], i) for scene, i, r, j in true)
    assert not any(relation_holds(scene, i, opposite[r], j) for scene, i, r, j in true)


def test_a_wide_place_is_true_of_the_whole_side() -> None:
    scene = scene_with(object_at((0, 0), "red", "ring"), object_at((2, 2), "blue", "heart"))

    assert Meaning((Mention(shape="ring", place="left"),)).holds(scene)
    assert Meaning((Mention(shape="ring", place="top"),)).holds(scene)
    assert not Meaning((Mention(shape="ring", place="lower left"),)).holds(scene)


def test_two_mentions_need_two_objects() -> None:
    scene = scene_with(object_at((0, 0), "red", "ring"), object_at((2, 2), "blue", "heart"))

    assert Meaning((Mention("red"), Mention("blue"))).holds(scene)
    assert not Meaning((Mention("red"), Mention(shape="ring"))).holds(scene)


def test_a_relation_binds_the_objects_mentioned() -> None:
    scene = scene_with(object_at((0, 0), "red", "ring"), object_at((2, 2), "blue", "heart"))
    mentions = (Mention("red"), Mention("blue"))

    assert Meaning(mentions, ((0, "above", 1),)).holds(scene)
    assert not Meaning(mentions, ((1, "above", 0),)).holds(scene)


@pytest.mark.parametrize(
    ("meaning", "expected"),
    [
        (Meaning((), background="wood"), True),
        (Meaning((), background="sand"), False),
        (Meaning((), num_objects=2), True),
        (Meaning((), num_objects=3), False),
    ],
)
def test_ground_and_number_are_checked(meaning: Meaning, expected: bool) -> None:
    scene = scene_with(object_at((0, 0), "red", "ring"), object_at((2, 2), "blue", "heart"))

    assert meaning.holds(scene) == expected


def test_the_identifying_share_is_that_worked_out_by_hand() -> None:
    first = scene_with(object_at((0, 0), "red", "ring"), object_at((2, 2), "blue", "heart"))
    second = scene_with(object_at((0, 2), "red", "ring"), object_at((2, 2), "red", "star"))
    shared, own = Meaning((Mention("red", "ring"),)), Meaning((Mention("blue", "heart"),))
    star = Meaning((Mention(shape="star"),))

    assert identifying_share([[shared, own], [shared, star]], [first, second]) == 0.5


def test_every_caption_is_true_of_its_scene() -> None:
    for scene in scenes_of(100) + scenes_of(50, novel=True):
        _, meanings = write_captions(scene, 5, np.random.default_rng(0))
        assert all(meaning.holds(scene) for meaning in meanings)


def test_meanings_survive_their_file_format() -> None:
    meanings = [sample_meaning(s, np.random.default_rng(i)) for i, s in enumerate(scenes_of(50))]

    assert [meaning_from_json(json.loads(json.dumps(m.to_json()))) for m in meanings] == meanings


# The words


def test_each_image_has_five_different_captions_with_their_meanings(folder: Path) -> None:
    records = records_of(folder, "train.jsonl")

    assert {len(set(record["captions"])) for record in records} == {5}
    assert {len(record["graph"]["captions"]) for record in records} == {5}


def test_captions_are_short_and_of_few_words(folder: Path) -> None:
    captions = [text for record in records_of(folder, "train.jsonl") for text in record["captions"]]
    lengths = [len(text.split()) for text in captions]
    vocabulary = Counter(word.strip(",") for text in captions for word in text.split())

    assert 8 <= np.mean(lengths) <= 20
    assert max(lengths) <= 40
    assert 60 <= len(vocabulary) <= 150
    assert min(vocabulary.values()) >= 3


def test_captions_name_an_article_that_fits(folder: Path) -> None:
    text = (folder / "texts.txt").read_text("utf-8") + (folder / "train.jsonl").read_text("utf-8")

    assert " a orange" not in text
    assert " an red" not in text
    assert " an orange" in text


def test_questions_have_the_answers_of_the_scene() -> None:
    scene = scene_with(object_at((0, 0), "red", "ring"), object_at((2, 2), "blue", "heart"))
    asked = {}
    for seed in range(200):
        for record in write_questions(scene, 6, np.random.default_rng(seed)):
            asked[record["question"]] = record["answer"]

    expected = {
        "what colour is the ring?": "red",
        "what shape is the blue object?": "heart",
        "what pattern has the red ring?": "plain",
        "is the red ring small or large?": "small",
        "where is the blue heart?": "lower right",
        "how many objects are there?": "two",
        "is there a red ring?": "yes",
        "is there a red heart?": "no",
        "is the red ring left of the blue heart?": "yes",
        "is the red ring below the blue heart?": "no",
    }
    assert {question: asked.get(question) for question in expected} == expected


def test_yes_and_no_are_about_equally_frequent(folder: Path) -> None:
    answers = Counter(record["answer"] for record in records_of(folder, "questions_train.jsonl"))

    assert 0.6 < answers["yes"] / answers["no"] < 1.7
    assert 20 <= len(answers) <= 45


def test_entailment_labels_are_balanced(folder: Path) -> None:
    labels = Counter(record["label"] for record in records_of(folder, "entailment_train.jsonl"))

    assert labels == dict.fromkeys(LABELS, 300)


def test_a_contradiction_is_false_of_its_scene() -> None:
    rng = np.random.default_rng(3)
    for scene in scenes_of(100):
        assert not contradict(sample_meaning(scene, rng), scene, rng).holds(scene)
