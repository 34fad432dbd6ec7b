"""The probability of a caption: equal to the generator run with every draw, and to its counts."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from unimo_paddle.data.scenes import (
    Scene,
    SceneConfig,
    are_sayable,
    caption_log_probability,
    ensure_scenes,
    first_caption_entropy,
    sample_scene,
    write_captions,
)
from unimo_paddle.data.scenes.grammar import SceneObject, relations_of, scene_graph
from unimo_paddle.data.scenes.language import express, sample_meaning
from unimo_paddle.data.scenes.likelihood import outcomes, scene_of
from unimo_paddle.errors import UserError

SMALL = SceneConfig(
    image_size=32, num_train=4, num_test=60, num_novel=20, num_texts=2, num_images_only=1
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_scenes(tmp_path_factory.mktemp("data") / "scenes", SMALL)


def records_of(folder: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def object_at(
    cell: tuple[int, int], colour: str, shape: str, pattern: str = "plain", size: str = "medium"
) -> SceneObject:
    return SceneObject(shape, colour, pattern, size, cell, (0.5, 0.5), 0.1, 0.0, (0.0, 0.0, 0.0))


def scene_with(*objects: SceneObject, in_front: tuple[int, int] | None = None) -> Scene:
    """Return a scene; of `in_front`, the first object hides a part of the second."""
    covered = np.zeros((len(objects), len(objects)))
    if in_front is not None:
        covered[in_front[1], in_front[0]] = 0.2
    return Scene(objects, "wood", 1, tuple(map(tuple, covered.tolist())))


def probabilities_of(scene: Scene) -> dict[str, float]:
    """Return the probability of every caption: the whole generator run with every draw."""
    captions: dict[str, float] = defaultdict(float)
    for meaning, weight in outcomes(lambda rng: sample_meaning(scene, rng)).items():
        for caption, chance in outcomes(lambda rng, m=meaning: express(m, rng)).items():
            captions[caption] += weight * chance
    return captions


# Against the generator run with every draw


def test_every_caption_of_a_small_scene_has_the_probability_of_all_draws_that_lead_to_it() -> None:
    scene = scene_with(
        object_at((0, 1), "red", "circle"), object_at((1, 0), "orange", "ring", "striped")
    )
    expected = probabilities_of(scene)
    found = {caption: math.exp(caption_log_probability(scene, caption)) for caption in expected}

    assert len(expected) > 1000
    assert sum(found.values()) == pytest.approx(1, abs=1e-9)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(
            scene_with(object_at((0, 0), "red", "star"), object_at((0, 1), "red", "star")),
            id="equal objects, places narrow and wide",
        ),
        pytest.param(
            scene_with(
                object_at((1, 1), "orange", "heart", "dotted", "large"),
                object_at((2, 1), "pink", "ring"),
                in_front=(1, 0),
            ),
            id="one in front of the other, a size, two names of a place",
        ),
        pytest.param(
            scene_with(
                object_at((0, 1), "red", "circle"),
                object_at((1, 0), "red", "ring"),
                object_at((2, 1), "blue", "ring"),
            ),
            id="three objects",
        ),
    ],
)
def test_captions_of_richer_scenes_have_the_probability_of_all_draws(scene: Scene) -> None:
    expected = probabilities_of(scene)
    captions = sorted(expected)[:: max(1, len(expected) // 150)]

    assert sum(expected.values()) == pytest.approx(1, abs=1e-9)
    for caption in captions:
        found = math.exp(caption_log_probability(scene, caption))
        assert found == pytest.approx(expected[caption], rel=1e-9), caption


# Against counts


@pytest.mark.parametrize("num_objects", [3, 4])
def test_frequent_captions_are_drawn_as_often_as_their_probability_says(num_objects: int) -> None:
    rng = np.random.default_rng(num_objects)
    scene = sample_scene(rng)
    while len(scene.objects) != num_objects or not any(map(any, scene.covered)):
        scene = sample_scene(rng)
    num_draws = 20_000

    def draw() -> Counter:
        return Counter(express(sample_meaning(scene, rng), rng) for _ in range(num_draws))

    # Chosen by draws of their own: those that choose count the chosen too often.
    frequent = [caption for caption, _ in draw().most_common(50)]
    counts = draw()
    chances = np.exp([caption_log_probability(scene, caption) for caption in frequent])
    shares = np.array([counts[caption] for caption in frequent]) / num_draws

    assert (abs(shares - chances) < 4 * np.sqrt(chances * (1 - chances) / num_draws)).all()
    total = chances.sum()
    assert abs(shares.sum() - total) < 4 * math.sqrt(total * (1 - total) / num_draws)


# Captions, scenes and folders


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a red circle",
        "a red circle at the top and a blue ring on the right",
        "a red circle at the top and a orange ring on the left",
        "a red circle at the top and an orange ring on the left, three objects in all",
        "a red circle below an orange ring on the left",
        "on sand, a red circle at the top and an orange ring on the left",
        "there is on the left an orange ring and at the top a red circle",
        "a red circle and an orange ring",
    ],
)
def test_what_the_generator_never_says_of_a_scene_has_no_probability(caption: str) -> None:
    scene = scene_with(object_at((0, 1), "red", "circle"), object_at((1, 0), "orange", "ring"))

    assert caption_log_probability(scene, caption) == -math.inf


def test_a_probability_worked_out_by_hand_is_found() -> None:
    """No relation, the order of two, both placed or one placed by force, nothing else said."""
    scene = scene_with(object_at((0, 1), "red", "circle"), object_at((1, 0), "orange", "ring"))
    both_placed = 0.95**2 + 0.95 * 0.05
    places_behind_joined_by_and = 0.75 * 0.7
    neither_ground_nor_number_nor_opening = 0.82 * 0.88 * 0.65
    expected = 0.75 * 0.5 * both_placed * 0.85**2
    expected *= places_behind_joined_by_and * neither_ground_nor_number_nor_opening

    found = caption_log_probability(scene, "a red circle at the top and an orange ring on the left")
    assert math.exp(found) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("split", ["test", "test_novel"])
def test_every_caption_written_can_be_said_of_the_scene_of_its_graph(
    folder: Path, split: str
) -> None:
    for record in records_of(folder, split):
        for caption in record["captions"]:
            assert -40 < caption_log_probability(scene_of(record["graph"]), caption) < 0, caption


def test_a_scene_read_from_its_graph_is_described_like_the_scene_itself() -> None:
    for i in range(100):
        scene = sample_scene(np.random.default_rng((3, i)))
        found = scene_of(scene_graph(scene, 64))

        assert found.signature == scene.signature
        assert relations_of(found) == relations_of(scene)
        first, second = (write_captions(s, 5, np.random.default_rng(i)) for s in (scene, found))
        assert first == second


def test_the_entropy_is_that_of_first_captions_divided_by_their_tokens_with_ends(
    folder: Path,
) -> None:
    records = records_of(folder, "test")
    total = sum(caption_log_probability(scene_of(r["graph"]), r["captions"][0]) for r in records)
    num_tokens = sum(len(r["captions"][0].split()) + 1 for r in records)

    found = first_caption_entropy(folder, "test", lambda text: list(range(len(text.split()))))
    assert found == pytest.approx(-total / num_tokens)


def copy_of(folder: Path, target: Path, **changes: str) -> Path:
    """Copy the manifest and the test pairs of a folder, with some files replaced."""
    for name in ("scenes.json", "test.jsonl"):
        text = changes.get(name.split(".")[0], (folder / name).read_text())
        (target / name).write_text(text)
    return target


def test_scenes_of_another_version_are_refused(folder: Path, tmp_path: Path) -> None:
    manifest = json.loads((folder / "scenes.json").read_text())
    other = copy_of(folder, tmp_path, scenes=json.dumps({**manifest, "version": 1}))

    with pytest.raises(UserError, match=r"holds scenes of version 1, not \d+; delete it"):
        first_caption_entropy(other, "test", list)


def test_a_caption_that_cannot_be_said_is_named_with_its_line(folder: Path, tmp_path: Path) -> None:
    records = records_of(folder, "test")
    records[1]["captions"][0] = "a cat on a mat"
    text = "".join(f"{json.dumps(record)}\n" for record in records)

    with pytest.raises(UserError, match=r"test\.jsonl:2: 'a cat on a mat' cannot be said"):
        first_caption_entropy(copy_of(folder, tmp_path, test=text), "test", list)


def test_a_split_that_is_missing_or_empty_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dev\.jsonl: no such file; choose the split"):
        first_caption_entropy(folder, "dev", list)
    with pytest.raises(UserError, match="holds no captions; choose another split"):
        first_caption_entropy(copy_of(folder, tmp_path, test=""), "test", list)


# The random source that gives every answer


def test_every_answer_of_a_random_source_is_tried_with_its_probability() -> None:
    def draw(rng: np.random.Generator) -> str:
        if rng.random() < 0.25:
            return "early"
        return "ab"[rng.integers(2)] + str(int((rng.random(2) < 0.1)[0]))

    assert outcomes(draw) == pytest.approx(
        {"early": 0.25, "a0": 0.3375, "b0": 0.3375, "a1": 0.0375, "b1": 0.0375}
    )


def test_an_order_is_drawn_without_repetition_and_only_as_far_as_it_is_read() -> None:
    pairs = outcomes(lambda rng: tuple(rng.permutation(4)[:2]))
    assert pairs == pytest.approx({(a, b): 1 / 12 for a in range(4) for b in range(4) if a != b})
    assert outcomes(lambda rng: len(list(rng.permutation(2)[:3]))) == pytest.approx({2: 1})

    runs = []
    outcomes(lambda rng: runs.append(rng.permutation(9)[:3]))
    assert len(runs) == 1


def test_a_step_that_draws_in_a_way_not_known_fails_instead_of_being_counted_wrong() -> None:
    def twice(rng: np.random.Generator) -> bool:
        value = rng.random()
        return value < 0.2 or value < 0.5

    with pytest.raises(AssertionError, match="compared twice"):
        outcomes(twice)
    with pytest.raises(AttributeError, match="choice"):
        outcomes(lambda rng: rng.choice(3))
    with pytest.raises(TypeError):
        outcomes(lambda rng: rng.random() > 0.5)


def test_captions_that_can_be_said_are_told(folder: Path) -> None:
    path = folder / "test.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    said = {record["image"]: record["captions"][-1] for record in records}
    assert are_sayable(path, said).all()
    for record in records[:2]:
        said[record["image"]] = "a purple elephant in the middle"
    assert are_sayable(path, said).tolist() == [False] * 2 + [True] * (len(records) - 2)
    assert not len(are_sayable(path, {}))
