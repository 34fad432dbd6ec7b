"""Tar shards are read in place: members, captions, order, resume, damage."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import draw_picture
from tests.data.shard_files import NUM_SHARDS, SAMPLES, picture_bytes, write_shard, write_shards
from unimo_paddle.data import shards
from unimo_paddle.data.chunks import Workshop
from unimo_paddle.data.fields import Field
from unimo_paddle.data.fingerprints import fingerprint_of
from unimo_paddle.data.image_files import read_image
from unimo_paddle.data.leaks import check_leaks
from unimo_paddle.data.loader import Loader, Stream
from unimo_paddle.data.mining.image_side import ImageSide, find_collection
from unimo_paddle.data.sources import read_images, read_pairs
from unimo_paddle.errors import BadSample, UserError


@pytest.fixture(autouse=True)
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Indices of a test lie in its own folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / shards.CACHE_DIR


@pytest.fixture
def pattern(tmp_path: Path) -> Path:
    """Three shards of seven pairs, named by a range."""
    return write_shards(tmp_path / "shards")


def test_pairs_of_shards_are_those_of_their_members(pattern: Path) -> None:
    records = read_pairs(pattern)
    assert len(records) == NUM_SHARDS * SAMPLES
    record = records[8]
    assert record.captions == ("picture 8 of the sea", "the 8th")
    assert record.image == pattern.parent / "01.tar/000008.png"
    np.testing.assert_array_equal(read_image(record.image), draw_picture(8, size=(24, 32)))
    assert [x.group for x in records] == list(range(len(records)))


def test_images_of_shards_without_captions(pattern: Path) -> None:
    images = read_images(pattern)
    assert len(images) == NUM_SHARDS * SAMPLES and images[0].name == "000000.png"


def test_lines_may_name_members_of_shards(pattern: Path) -> None:
    lines = [{"image": "01.tar/000009.png", "captions": ["nine"]}]
    lines += [{"image": "01.tar/gone.png", "captions": ["none"]}]
    path = pattern.parent / "pairs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = read_pairs(path)
    (record,) = source
    np.testing.assert_array_equal(read_image(record.image), draw_picture(9, size=(24, 32)))
    (bad,) = source.rejected
    assert "image '01.tar/gone.png' does not exist" in bad.reason


def test_a_folder_may_be_called_like_a_shard(tmp_path: Path) -> None:
    pattern = write_shards(tmp_path / "all.tar/of.tar")
    record = read_pairs(pattern)[8]
    np.testing.assert_array_equal(read_image(record.image), draw_picture(8, size=(24, 32)))


@pytest.mark.parametrize("name", ["000.TAR", "000.tar.gz", "000"])
def test_shards_called_otherwise_are_refused(tmp_path: Path, name: str) -> None:
    write_shard(tmp_path / name, {"0.png": picture_bytes(0), "0.txt": b"a boat"})
    with pytest.raises(UserError, match=r"names no shards: .* NAME\.tar; rename or unpack them"):
        shards.list_shards(tmp_path / name)


def test_what_a_json_member_says(tmp_path: Path) -> None:
    box = {"box": [0, 0, 1, 1], "names": ["sea"]}
    path = write_shard(
        tmp_path / "0.tar",
        {
            "a/0.JPG": b"x",
            "a/0.json": json.dumps({"caption": "one", "objects": [box], "url": "u"}).encode(),
            "a/1.jpg": b"x",
            "a/1.json": json.dumps({"captions": ["one", "two"], "caption": "no"}).encode(),
            "b/1.jpg": b"x",
            "b/1.txt": b"other",
            "b/1.json": b"{}",
            "b/1.seg.png": b"x",
            "b/__key__": b"x",
        },
    )
    first, second, third = read_pairs(path)
    assert first.captions == ("one",) and first.objects[0].names == ("sea",)
    assert (second.captions, third.captions) == (("one", "two"), ("other",))


@pytest.mark.parametrize("mark", ["\u2028", "\u0085", "\x0b", "\x1e"])
def test_a_caption_ends_with_its_line_alone(tmp_path: Path, mark: str) -> None:
    members = {"0.jpg": b"x", "0.txt": f"a boat{mark}at sea\r\na ship\n".encode()}
    (record,) = read_pairs(write_shard(tmp_path / "0.tar", members))
    assert record.captions == (f"a boat{mark}at sea", "a ship")


def test_samples_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    members = {"0.jpg": b"x", "0.txt": b"good", "1.jpg": b"x", "2.txt": b"alone", "3.jpg": b"x"}
    members |= {"3.txt": b"\xff", "4.jpg": b"x", "4.json": b"[]", "5.jpg": b"x", "5.txt": b" \n"}
    source = read_pairs(write_shard(tmp_path / "0.tar", members))
    assert len(source) == 1
    assert [bad.where.split(": ")[1] for bad in source.rejected] == [
        *("1.jpg", "3.jpg", "4.jpg", "5.jpg", "2.txt")
    ]
    assert [bad.reason[:26] for bad in source.rejected] == [
        "nothing is said of it: the",
        "its .txt is not UTF-8 text",
        "line is not a JSON object:",
        "nothing is said of it: the",
        "there is no image for it",
    ]


# ---- training


def loader_of(pattern: Path, rank: int = 0, num_ranks: int = 1) -> Loader:
    """Batches of two pictures, each as its first pixel, with its number."""
    records = read_pairs(pattern)

    def encode(number: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        pixels = read_image(records[number].image)
        return {"number": np.int64(number), "pixel": pixels[0, 0].astype(np.float32)}

    fields = (Field("number", (), "int64", 0), Field("pixel", (3,), "float32", 0))
    stream = Stream("pairs", range(len(records)), encode, fields, 2)
    return Loader([stream], seed=3, rank=rank, num_ranks=num_ranks)


def test_resume_inside_a_shard_is_exact(pattern: Path) -> None:
    whole = list(loader_of(pattern).batches(0, 24))
    resumed = list(loader_of(pattern).batches(5, 24))  # ten records into the first epoch
    for expected, found in zip(whole[5:], resumed, strict=True):
        np.testing.assert_array_equal(found["number"], expected["number"])
        np.testing.assert_array_equal(found["pixel"], expected["pixel"])


def test_ranks_see_disjoint_records_that_are_all(pattern: Path) -> None:
    seen = [
        [
            number
            for step in range(5)
            for number in loader_of(pattern, rank, 2).records(step)["pairs"]
        ]
        for rank in range(2)
    ]
    assert len(set(seen[0])) == len(set(seen[1])) == 10
    assert not set(seen[0]) & set(seen[1])
    assert len(set(seen[0]) | set(seen[1])) == 20  # of 21; the last one begins the next batch


def test_the_index_is_made_once(pattern: Path, cache_dir: Path, monkeypatch) -> None:
    read_pairs(pattern)
    assert len(list(cache_dir.glob("*.npz"))) == NUM_SHARDS
    shards._read_index.cache_clear()
    monkeypatch.setattr(shards, "_look_through", None)  # would fail if it were called
    assert len(read_pairs(pattern)) == NUM_SHARDS * SAMPLES


def test_a_changed_shard_is_looked_through_again(pattern: Path) -> None:
    read_pairs(pattern)
    write_shard(pattern.parent / "00.tar", {"0.jpg": b"x", "0.txt": b"new"})
    assert read_pairs(pattern)[0].captions == ("new",)


def test_a_copy_in_a_shard_is_a_leak(pattern: Path) -> None:
    with pytest.raises(UserError, match=r"1 copied image of .*dev\.tar, such as 'dev\.tar/7\.png'"):
        members = {"7.png": picture_bytes(3), "7.txt": b"seven"}
        check_leaks(pattern, [write_shard(pattern.parent / "dev.tar", members)], images=pattern)


# ---- damage


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (lambda data: 3 * 512 + 40, "01.tar is cut off within its member 000007.png: 1576 bytes"),
        (
            lambda data: -(-len(data.rstrip(b"\0")) // 512) * 512,
            "01.tar is cut off or damaged after its member 000013.txt",
        ),
    ],
    ids=["within a member", "without the end"],
)
def test_a_truncated_shard_is_one_line(pattern: Path, kept, message: str) -> None:
    path = pattern.parent / "01.tar"
    data = path.read_bytes()
    path.write_bytes(data[: kept(data)])
    with pytest.raises(UserError) as caught:
        read_pairs(pattern)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_shard_with_a_broken_header_is_one_line(pattern: Path) -> None:
    path = pattern.parent / "00.tar"
    data = bytearray(path.read_bytes())
    second = data.index(b"000003.png")
    data[second : second + 100] = b"\x01" * 100
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"00\.tar is .* after its member 000002\.txt"):
        read_pairs(pattern)


def test_no_tar_at_all_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"plain text" * 200)
    with pytest.raises(UserError, match=r"shard .*0\.tar is no readable tar file"):
        read_pairs(tmp_path / "0.tar")


def test_a_shard_without_images_is_refused(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "0.tar", {"0.txt": b"alone"})
    with pytest.raises(UserError, match=r"0\.tar holds no \.jpg"):
        read_pairs(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{00..04}.tar", r"2 of 5 shards of .* do not exist, first .*03\.tar"),
        ("{04..01}.tar", "names -2 shards; give a range that grows"),
    ],
)
def test_shards_that_are_not_there_are_refused(pattern: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_pairs(pattern.parent / name)


def test_a_member_that_is_gone_is_a_bad_sample(pattern: Path) -> None:
    with pytest.raises(BadSample, match=r"00\.tar/9\.png: cannot be read: no such member"):
        read_image(pattern.parent / "00.tar/9.png")


@pytest.mark.parametrize("name", ["../00.tar/000000.png", "{root}/00.tar/000000.png"])
def test_members_of_shards_elsewhere_are_out_of_reach(pattern: Path, name: str) -> None:
    folder = pattern.parent / "below"
    folder.mkdir()
    line = {"image": name.format(root=pattern.parent), "captions": ["a"]}
    (folder / "pairs.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(UserError, match="must be relative and stay inside the folder"):
        read_pairs(folder / "pairs.jsonl")


def test_a_fingerprint_is_of_what_shards_hold_wherever_they_lie(pattern: Path, tmp_path) -> None:
    before = fingerprint_of(pattern)
    moved = tmp_path / "elsewhere"
    pattern.parent.rename(moved)
    for shard in moved.iterdir():
        os.utime(shard, (1, 1))
    assert fingerprint_of(moved / pattern.name) == before
    assert fingerprint_of(Path(os.path.relpath(moved / pattern.name))) == before
    members = {"000000.png": picture_bytes(0), "000000.txt": b"another"}
    write_shard(moved / "00.tar", members)
    assert fingerprint_of(moved / pattern.name) != before


def test_objects_of_shards_lie_beside_them(pattern: Path) -> None:
    label = {"image": "01.tar/000009.png", "objects": [{"box": [0, 0, 1, 1], "names": ["sea"]}]}
    (pattern.parent / "objects.jsonl").write_text(json.dumps(label) + "\n")
    paths = list(read_images(pattern))
    found = find_collection(pattern, paths, None)
    assert found.objects == pattern.parent / "objects.jsonl"
    side = ImageSide(Workshop(pattern.parent / "work", {}), read_pairs(pattern).records, [], found)
    assert [path.name for path in side._labels()] == ["000009.png"]
    assert set(side._labels()) <= set(paths)
