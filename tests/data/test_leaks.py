"""What is both pre-trained and evaluated on is refused in one line; what chance explains is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import draw_picture, write_picture_file
from tests.data.regions.checking import import_from
from tests.data.regions.samples import detect, retrieval_line, write_lines
from tests.data.test_shards import picture_bytes, write_shard
from unimo_paddle.data import leaks
from unimo_paddle.data.leaks import LeakReport, check_leaks
from unimo_paddle.data.mining import Mined, MiningOptions, mine
from unimo_paddle.data.prints import print_images
from unimo_paddle.data.regions import RegionStores
from unimo_paddle.errors import UserError

LONG = "a woman with a green hat sells {} and cold drinks near the old harbour"
GOODS = ("apples", "ribbons", "books", "fish", "maps", "tea", "lamps", "shoes", "bread", "roses")


class World:
    """Pairs to train on, a split and single files, all apart until something is put among them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pairs = self.write("train", range(8), ["a dog runs", "the {} of the house"])
        self.split = self.write("dev", range(20, 24), ["a dog runs", LONG])
        self.images = folder / "unlabelled"
        self.put(self.images / "0.jpg", 40)
        self.texts = folder / "corpus.txt"
        self.texts.write_text("Nothing of that kind is said here by anybody.\n")
        self.more: dict[str, object] = {}

    def put(self, path: Path, seed: int) -> None:
        write_picture_file(path, draw_picture(seed))

    def write(self, name: str, seeds: range, captions: list[str]) -> Path:
        """Pairs of pictures, each with its captions."""
        lines = []
        for place, seed in enumerate(seeds):
            self.put(self.folder / f"{name}/{seed}.jpg", seed)
            told = [text.format(GOODS[place]) for text in captions]
            lines.append(json.dumps({"image": f"{name}/{seed}.jpg", "captions": told}))
        path = self.folder / f"{name}.jsonl"
        path.write_text("\n".join(lines) + "\n")
        return path

    def add_pair(self, seed: int, *captions: str) -> None:
        self.put(self.folder / f"train/{seed}.jpg", seed)
        line = json.dumps({"image": f"train/{seed}.jpg", "captions": captions})
        self.pairs.write_text(self.pairs.read_text() + line + "\n")

    def check(self, *, is_allowed: bool = False) -> LeakReport:
        return check_leaks(
            self.pairs,
            [self.split],
            images=self.images,
            texts=[self.texts],
            cache_dir=self.folder / "cache",
            is_allowed=is_allowed,
            **self.more,
        )

    def state(self, seed: int, text: str) -> None:
        """Let a statement about a picture be trained on, too."""
        self.put(self.folder / f"asked/{seed}.jpg", seed)
        line = {"image": f"asked/{seed}.jpg", "hypothesis": text, "label": "neutral"}
        path = self.folder / "statements.jsonl"
        path.write_text(json.dumps(line) + "\n")
        self.more["statements"] = [path]

    def mine(self, *seeds: int, text: str = "Where are the ribbons?") -> Mined:
        """Mine pictures and a sentence without a look at the split."""
        for seed in seeds:
            self.put(self.folder / f"pool/{seed}.jpg", seed)
        texts = self.folder / "pool.txt"
        texts.write_text(text + "\n")
        options = MiningOptions(
            self.pairs, self.folder / "mined", images=self.folder / "pool", texts=(texts,)
        )
        return mine(options)

    def refuse(self) -> str:
        with pytest.raises(UserError) as caught:
            self.check()
        message = str(caught.value)
        assert "\n" not in message
        return message


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_data_apart_pass_though_short_captions_are_the_same(world: World) -> None:
    report = world.check()
    assert report.leaks == () and report.refused == []
    assert report.num_short == 4


def test_an_image_among_the_pairs_is_refused(world: World) -> None:
    world.add_pair(21, "something else")
    message = world.refuse()
    assert (
        "1 copied image of" in message and "dev/21.jpg" in message and "the same bytes" in message
    )


def test_a_changed_image_among_the_single_ones_is_refused(world: World) -> None:
    write_picture_file(world.images / "x.jpg", draw_picture(22)[:, ::-1], quality=50)
    message = world.refuse()
    assert "dev/22.jpg" in message and "mirrored" in message and "unlabelled" in message


def test_a_telling_caption_in_the_corpus_is_refused(world: World) -> None:
    world.texts.write_text(f"It began so. {LONG.format('ribbons').capitalize()}. It ended.\n")
    message = world.refuse()
    # The other captions of the split are nearly the same.
    assert "4 telling captions of" in message and "corpus.txt" in message


def test_a_nearly_same_caption_is_refused_and_says_how_near(world: World) -> None:
    world.add_pair(50, LONG.format("books").replace("green", "grey"))
    assert "1 word differs" in world.refuse()


def test_two_short_captions_of_one_image_at_one_image_are_refused(world: World) -> None:
    shorts = ["two small cats sleep indoors", "cats on a warm stove"]
    world.split = world.write("dev", range(20, 22), shorts)
    world.add_pair(50, *shorts)
    assert "image with several of its captions" in world.refuse()


def test_captions_as_alike_as_in_the_pairs_are_explained_by_chance(world: World) -> None:
    world.pairs = world.write("train", range(8), [LONG.replace("green", "red")])
    report = world.check()
    assert len(report.leaks) == 4 and report.refused == []
    assert report.chance[1] >= 4


def test_leaks_that_are_allowed_are_reported(world: World) -> None:
    world.add_pair(21, "something else")
    report = world.check(is_allowed=True)
    assert [leak.kind for leak in report.leaks] == ["image"]


def test_unchanged_files_are_not_looked_at_again(world: World, monkeypatch) -> None:
    first = world.check()
    monkeypatch.setattr(leaks, "print_images", None)
    monkeypatch.setattr(leaks, "CaptionSearch", None)
    assert world.check() == first


def test_a_changed_image_is_looked_at_again(world: World) -> None:
    world.check()
    (world.folder / "train/3.jpg").write_bytes((world.folder / "dev/22.jpg").read_bytes())
    assert "train/3.jpg" in world.refuse()


def test_an_image_that_cannot_be_read_is_told(world: World, caplog) -> None:
    (world.folder / "train/3.jpg").write_bytes(b"no image")
    world.check()
    assert "1 of 9 images of pre-training cannot be read" in caplog.text


@pytest.mark.parametrize(("splits", "problem"), [([], "no split"), (["train.jsonl"], "itself")])
def test_splits_that_make_no_sense_are_refused(world: World, splits: list, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        check_leaks(world.pairs, [world.folder / name for name in splits])


def test_prints_are_small(world: World) -> None:
    assert print_images([world.images / "0.jpg"]).itemsize == 177


# ---- statements


def test_an_image_that_is_asked_about_is_refused(world: World) -> None:
    world.check()
    world.state(21, "is it late?")
    message = world.refuse()
    assert "1 copied image of" in message and "'asked/21.jpg' of" in message
    assert "statements.jsonl" in message


def test_a_telling_statement_is_refused(world: World) -> None:
    world.state(50, LONG.format("ribbons"))
    message = world.refuse()
    assert "telling caption" in message and "statements.jsonl" in message


# ---- what was mined


def test_a_mined_image_of_a_split_is_refused(world: World) -> None:
    world.more["mined"] = world.mine(22, 60).lists()
    message = world.refuse()
    assert "1 copied image of" in message and "'22.jpg' of" in message and "mined" in message


def test_a_mined_sentence_of_a_split_is_refused(world: World) -> None:
    world.more["mined"] = world.mine(60, text=LONG.format("ribbons")).lists()
    assert "telling caption" in world.refuse()


def test_a_side_of_what_was_mined_that_is_not_used_may_leak(world: World) -> None:
    mined = world.mine(22, 60, text=LONG.format("ribbons"))
    world.more["mined"] = mined.lists(images=False, texts=False)
    assert world.check().leaks == ()
    world.more["mined"] = mined.lists(texts=False)
    assert [leak.kind for leak in world.check(is_allowed=True).leaks] == ["image"]


def test_a_mined_image_that_is_gone_is_passed_over(world: World) -> None:
    mined = world.mine(22, 60)
    (world.folder / "pool/22.jpg").unlink()
    world.more["mined"] = mined.lists()
    assert world.check().leaks == ()


# ---- regions of a store


def make_stores(folder: Path, *names: str) -> RegionStores:
    lines = [retrieval_line(detect(name, seed)) for seed, name in enumerate(names)]
    path = write_lines(folder / "features.tsv", lines)
    return RegionStores([import_from("original", path, output=folder / "store").path])


def write_pair(path: Path, image: str, **more: object) -> Path:
    return write_lines(path, [json.dumps({"image": image, "captions": ["a dog runs"], **more})])


def check_stored(folder: Path, pairs: Path, split: Path, stores: RegionStores) -> LeakReport:
    cache = folder / "cache"
    return check_leaks(pairs, [split], stores=stores, cache_dir=cache, is_allowed=True)


def test_another_import_of_the_regions_is_looked_at_again(tmp_path: Path) -> None:
    """With the first one both records have regions of their own, with the second the same."""
    pairs = write_pair(tmp_path / "train.jsonl", "images/3.jpg")
    split = write_pair(tmp_path / "dev.jsonl", "images/b/3.jpg")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    stores = make_stores(tmp_path / "first", "3", "b/3")
    assert check_stored(tmp_path, pairs, split, stores).leaks == ()
    stores = make_stores(tmp_path / "second", "3")
    assert [leak.how for leak in check_stored(tmp_path, pairs, split, stores).leaks] == [
        "the same regions"
    ]


def test_regions_are_compared_where_one_image_alone_has_a_file(tmp_path: Path) -> None:
    pairs = write_pair(tmp_path / "train.jsonl", "images/3.jpg")
    split = write_pair(tmp_path / "dev.jsonl", "dev/3.jpg")
    write_picture_file(tmp_path / "dev/3.jpg", draw_picture(3))
    found = check_stored(tmp_path, pairs, split, make_stores(tmp_path, "3"))
    assert [leak.how for leak in found.leaks] == ["the same regions"]


def test_images_in_shards_are_compared_though_a_store_has_their_regions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where the index of the shard is kept
    write_shard(tmp_path / "00.tar", {"3.png": picture_bytes(3)})
    (tmp_path / "4.png").write_bytes(picture_bytes(3))
    pairs = write_pair(tmp_path / "train.jsonl", "00.tar/3.png")
    split = write_pair(tmp_path / "dev.jsonl", "4.png")
    found = check_stored(tmp_path, pairs, split, make_stores(tmp_path, "3", "4"))
    assert [(leak.found, leak.how) for leak in found.leaks] == [("00.tar/3.png", "the same bytes")]


def test_regions_in_the_lines_need_no_image_files(tmp_path: Path) -> None:
    regions = {"features": [[0.0] * 8], "boxes": [[0, 0, 9, 9]], "width": 9, "height": 9}
    pairs = write_pair(tmp_path / "train.jsonl", "images/3.jpg", regions=regions)
    split = write_pair(tmp_path / "dev.jsonl", "dev/4.jpg")
    stores = make_stores(tmp_path, "4")
    assert check_stored(tmp_path, pairs, split, stores).leaks == ()
