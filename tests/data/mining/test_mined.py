"""The file of what was mined: read in place, refused when stale or damaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from tests.conftest import draw_picture, write_picture_file
from tests.data.regions.checking import import_from
from tests.data.regions.samples import detect, retrieval_line, write_lines
from unimo_paddle.data.image_files import read_image
from unimo_paddle.data.mining import Mined, MiningOptions, mine
from unimo_paddle.data.publish import sole_writer
from unimo_paddle.errors import UserError

CAPTIONS = [
    "a brown dog chases a ball over the beach",
    "two children ride a yellow bus to school",
    "a bird sits on the roof of a church",
]
TEXTS = [
    "The beach was empty but for a dog with its ball .",
    "Every bus to school is yellow here .",
    "Nobody knew what the letter said .",
    "A Bird sits on the roof of a church !",
]


@pytest.fixture
def world(tmp_path: Path) -> MiningOptions:
    lines = []
    for number, caption in enumerate(CAPTIONS):
        write_picture_file(tmp_path / f"pairs/{number}.jpg", draw_picture(number))
        lines.append(f'{{"image": "pairs/{number}.jpg", "captions": ["{caption}"]}}\n')
    (tmp_path / "train.jsonl").write_text("".join(lines))
    for number in range(5):
        write_picture_file(tmp_path / f"single/{number}.jpg", draw_picture(10 + number))
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS))
    return MiningOptions(
        pairs=tmp_path / "train.jsonl",
        output=tmp_path / "mined.safetensors",
        images=tmp_path / "single",
        texts=(tmp_path / "corpus.txt",),
        num_neighbours=3,
    )


def test_texts_are_those_with_the_telling_words(world: MiningOptions) -> None:
    mined = mine(world)
    assert [near.text for near in mined.texts(0)] == TEXTS[:1]
    assert [near.text for near in mined.texts(1)] == TEXTS[1:2]


def test_a_sentence_with_the_words_of_a_caption_is_not_found(world: MiningOptions) -> None:
    assert TEXTS[3] not in [near.text for near in mine(world).texts(2)]


def test_images_come_nearest_first_and_exist(world: MiningOptions) -> None:
    found = mine(world).images(1)
    assert len(found) == 3 and all(near.path.is_file() for near in found)
    assert [near.score for near in found] == sorted((n.score for n in found), reverse=True)


def test_some_are_drawn_by_the_generator_alone(world: MiningOptions) -> None:
    mined = mine(world)
    drawn = [mined.draw_images(0, 2, np.random.default_rng(seed)) for seed in (1, 1, 2, 3, 4)]
    assert drawn[0] == drawn[1] and len({str(some) for some in drawn}) > 1
    assert all(len(set(some)) == 2 and set(some) <= set(mined.images(0)) for some in drawn)


def test_no_more_are_drawn_than_there_are(world: MiningOptions) -> None:
    assert len(mine(world).draw_texts(0, 5, np.random.default_rng(0))) == 1


def test_a_picture_of_the_pairs_is_not_found(world: MiningOptions) -> None:
    write_picture_file(world.images / "copy.jpg", draw_picture(1)[:, ::-1], quality=60)
    (world.images / "same.jpg").write_bytes((world.pairs.parent / "pairs/0.jpg").read_bytes())
    mined = mine(world)
    found = {near.path.name for record in range(3) for near in mined.images(record)}
    assert found and not found & {"copy.jpg", "same.jpg"}


def test_nothing_of_a_split_is_found(world: MiningOptions) -> None:
    folder = world.pairs.parent
    write_picture_file(folder / "dev.jpg", draw_picture(12))
    line = f'{{"image": "dev.jpg", "captions": ["{TEXTS[0]}"]}}\n'
    (folder / "dev.jsonl").write_text(line)
    mined = mine(MiningOptions(**{**vars(world), "splits": (folder / "dev.jsonl",)}))
    assert mined.texts(0) == []
    assert "2.jpg" not in {near.path.name for near in mined.images(0)}


def test_a_tree_of_both_is_found_again_where_it_moved(world: MiningOptions, tmp_path: Path) -> None:
    mine(world)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("mined.safetensors", "train.jsonl", "single", "pairs"):
        (tmp_path / name).rename(moved / name)
    mined = Mined(moved / "mined.safetensors", moved / "train.jsonl")
    assert mined.images(0)[0].path.parent == moved / "single"


def test_other_readers_of_the_format_open_the_file(world: MiningOptions) -> None:
    mine(world)
    with safe_open(world.output, "np") as file:
        assert file.get_tensor("image_neighbours").shape == (3, 3)
        assert file.get_tensor("text_scores").dtype == np.float16


def test_one_side_alone_is_mined_and_the_other_refused(world: MiningOptions) -> None:
    mined = mine(MiningOptions(**{**vars(world), "images": None}))
    assert mined.has_texts and not mined.has_images
    with pytest.raises(UserError, match="holds no images; mine again with --images"):
        mined.images(0)


def test_a_file_of_other_pairs_is_refused(world: MiningOptions) -> None:
    mine(world)
    world.pairs.write_text(world.pairs.read_text().replace("brown", "black"))
    with pytest.raises(UserError, match=r"was mined for another train\.jsonl .* mine again"):
        Mined(world.output, world.pairs)


@pytest.mark.parametrize("size", [0, 5, 200, -40])
def test_a_damaged_file_is_refused(world: MiningOptions, size: int) -> None:
    mine(world)
    world.output.write_bytes(world.output.read_bytes()[:size])
    with pytest.raises(UserError, match="mine again"):
        Mined(world.output, world.pairs)


def test_the_same_files_are_not_mined_again(world: MiningOptions) -> None:
    mine(world)
    before = world.output.stat().st_mtime_ns
    mine(world)
    assert world.output.stat().st_mtime_ns == before


def test_a_file_that_was_moved_without_its_images_is_mined_again(
    world: MiningOptions, tmp_path: Path
) -> None:
    mine(world)
    moved = tmp_path / "elsewhere/mined.safetensors"
    moved.parent.mkdir()
    world.output.rename(moved)
    with pytest.raises(UserError, match=r"none of 5 that were looked for is there, first '\d.jpg'"):
        Mined(moved, world.pairs).check_images()
    mined = mine(MiningOptions(**{**vars(world), "output": moved}))
    mined.check_images()
    assert all(near.path.is_file() for near in mined.images(0))


def test_some_images_that_are_gone_are_told(world: MiningOptions, caplog) -> None:
    mined = mine(world)
    mined.check_images()
    assert "gone" not in caplog.text
    mined.images(0)[0].path.unlink()
    mined.check_images()
    assert f"1 of {len(mined.lists().images)} images that were looked for are gone" in caplog.text


def test_more_neighbours_than_there_are_take_no_room(world: MiningOptions) -> None:
    mined = mine(MiningOptions(**{**vars(world), "num_neighbours": 10**6}))
    assert len(mined.images(0)) == 5 and world.output.stat().st_size < 10_000


def test_a_file_that_somebody_else_makes_is_left_to_them(world: MiningOptions) -> None:
    lock = world.output.with_name(f".{world.output.name}.lock")
    with sole_writer(lock, world.output), pytest.raises(UserError, match="another process is mak"):
        mine(world)
    mine(world)
    assert not lock.exists()


def test_a_file_that_was_not_mined_is_never_replaced(world: MiningOptions) -> None:
    world.output.write_text("my thesis")
    with pytest.raises(UserError, match="exists and is no whole file of mined neighbours"):
        mine(world)
    assert world.output.read_text() == "my thesis"


def test_another_number_of_records_is_refused(world: MiningOptions) -> None:
    with pytest.raises(UserError, match="mined for 3 records, but 2 can be used now"):
        mine(world).check_records(2)


def test_other_options_are_mined_over(world: MiningOptions) -> None:
    mine(world)
    assert len(mine(MiningOptions(**{**vars(world), "num_neighbours": 2})).images(0)) == 2


class Colours:
    """A model that knows the mean colour of images, and whether a text names a dog."""

    def embed_images(self, images: list[Path]) -> np.ndarray:
        rows = np.array([read_image(path).mean(axis=(0, 1)) - 128 for path in images])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        return np.array([[1.0, 0.0] if "dog" in text else [0.0, 1.0] for text in texts], np.float32)


def test_a_model_decides_what_is_near(world: MiningOptions) -> None:
    mined = mine(world, model=Colours(), model_sha256="a")
    assert mined.metadata["images_by"] == mined.metadata["texts_by"] == "model"
    assert [near.score for near in mined.texts(0)] == [1.0, 0.0, 0.0]
    assert mined.texts(0)[0].text == TEXTS[0]


def test_a_model_is_given_the_objects_that_are_known(world: MiningOptions) -> None:
    label = {"box": [0, 0, 1, 1], "names": ["dog"]}
    (world.images / "objects.jsonl").write_text(
        json.dumps({"image": "1.jpg", "objects": [label]}) + "\n"
    )

    seen = []

    class Reader(Colours):
        def embed_images(self, images: list) -> np.ndarray:
            seen.extend(images)
            paths = [item["image"] if isinstance(item, dict) else item for item in images]
            return super().embed_images([Path(path) for path in paths])

    mine(world, model=Reader(), model_sha256="b")
    known = [item for item in seen if isinstance(item, dict)]
    assert known == [{"image": str(world.images / "1.jpg"), "objects": [label]}]
    assert world.images / "0.jpg" in seen


def test_images_that_cannot_be_read_are_left_out(world: MiningOptions) -> None:
    (world.images / "bad.jpg").write_bytes(b"no image")
    (world.pairs.parent / "pairs/1.jpg").write_bytes(b"no image")
    mined = mine(world)
    assert mined.images(1) == [] and len(mined.images(0)) == 3


def test_pairs_whose_images_are_only_in_a_store_are_mined_for(
    world: MiningOptions, caplog: pytest.LogCaptureFixture
) -> None:
    folder = world.pairs.parent
    lines = [retrieval_line(detect(str(number), number)) for number in range(3)]
    store = import_from("original", write_lines(folder / "features.tsv", lines))
    (folder / "pairs/1.jpg").unlink()
    found = mine(MiningOptions(**{**vars(world), "regions": (store.path,)}))
    assert [near.text for near in found.texts(1)] == TEXTS[1:2]
    assert found.images(1) == [] and len(found.images(0)) == 3
    assert "1 of 3 images of pairs and splits have no file" in caplog.text


def test_another_store_of_regions_is_mined_with_anew(world: MiningOptions) -> None:
    folder, found = world.pairs.parent, []
    for name in ("first", "second"):
        lines = [retrieval_line(detect(number, len(name))) for number in ("0", "1", "2")]
        path = write_lines(folder / f"{name}.tsv", lines)
        store = import_from("original", path, output=folder / name)
        options = MiningOptions(**{**vars(world), "images": None, "regions": (store.path,)})
        found.append(mine(options).metadata["key"])
    assert found[0] != found[1]


def test_objects_decide_where_both_sides_have_them(world: MiningOptions) -> None:
    def objects(*names: str) -> str:
        listed = ", ".join(
            f'{{"box": [0, 0, 1, 1], "names": ["{first}", "{second}"]}}'
            for first, second in (name.split() for name in names)
        )
        return f'"objects": [{listed}]'

    pairs = world.pairs.read_text().splitlines()
    labels = [objects("red heart", "blue star"), objects("dog black"), objects("cat white")]
    world.pairs.write_text(
        "\n".join(f"{line[:-1]}, {label}}}" for line, label in zip(pairs, labels, strict=True))
    )
    singles = ["blue heart", "red heart", "cat black"]
    lines = [f'{{"image": "{i}.jpg", {objects(name)}}}' for i, name in enumerate(singles)]
    (world.images / "objects.jsonl").write_text("\n".join(lines))
    mined = mine(world)
    assert mined.metadata["images_by"] == "objects"
    assert [near.path.name for near in mined.images(0)] == ["1.jpg", "0.jpg"]
