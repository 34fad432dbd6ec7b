"""An import is whole or not there, up to date or refused; images are linked; the page is whole."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.data.shard_files import picture_bytes, write_shard
from tests.preparation.conftest import COLA, manifest_of, write_lines, write_pictures
from unimo_paddle.data import fingerprints
from unimo_paddle.data.formats import image_folder
from unimo_paddle.data.sources import read_pairs
from unimo_paddle.errors import UserError
from unimo_paddle.preparation import (
    coqa,
    flickr,
    glue,
    importing,
    karpathy,
    shards,
    snli_ve,
    squad,
    summaries,
    vqa,
)
from unimo_paddle.settings import read_tree

GLUE = (glue, "--set", "cola", "--input", "CoLA")


def state_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# ---- once, and again


def test_an_import_is_a_manifest_a_page_and_the_files(run_import, cola: Path) -> None:
    output = run_import(*GLUE)
    names = {"train.tsv", "dev.tsv", "manifest.json", "report.html"}
    assert {path.name for path in output.iterdir()} == names
    manifest = manifest_of(output)
    for name, known in manifest["outputs"].items():
        assert known["sha256"] == fingerprints.fingerprint_of(output / name)
    assert manifest["inputs"]["sources"] == {
        f"CoLA/{name}": fingerprints.fingerprint_of(cola / name)
        for name in ("train.tsv", "dev.tsv")
    }
    assert manifest["parts"]["train.tsv"]["texts"]["text_a"]["words"]["longest"] == 5


def test_the_same_again_is_up_to_date(run_import, cola: Path, capsys) -> None:
    output = run_import(*GLUE)
    before = state_of(output)
    times = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    capsys.readouterr()
    run_import(*GLUE)
    assert capsys.readouterr().out == "up to date: data/cola\n"
    assert state_of(output) == before
    assert {path: path.stat().st_mtime_ns for path in output.iterdir()} == times


def test_other_inputs_are_refused_and_replaced_when_told(run_import, cola: Path) -> None:
    output = run_import(*GLUE)
    write_lines(cola / "train.tsv", *COLA, COLA[0])
    (cola / "dev.tsv").unlink()
    before = state_of(output)
    with pytest.raises(UserError, match=r"holds an import already \(other sources\); .*--replace"):
        run_import(*GLUE)
    assert state_of(output) == before
    run_import(*GLUE, "--replace")
    assert manifest_of(output)["parts"]["train.tsv"]["records"] == 3
    assert not (output / "dev.tsv").exists()


def test_a_changed_output_is_not_overwritten(run_import, cola: Path) -> None:
    output = run_import(*GLUE)
    (output / "train.tsv").write_text("label\ttext_a\n1\tmine\n")
    with pytest.raises(UserError, match=r"\(train\.tsv was changed since\)"):
        run_import(*GLUE)


def test_a_deleted_output_is_made_again(run_import, cola: Path) -> None:
    output = run_import(*GLUE)
    (output / "train.tsv").unlink()
    run_import(*GLUE)
    assert len((output / "train.tsv").read_text().splitlines()) == 3


def test_files_of_others_are_not_overwritten(run_import, cola: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "data/cola/train.tsv", "mine")
    write_lines(tmp_path / "data/cola/notes.txt", "mine")
    with pytest.raises(UserError, match=r"data/cola/train\.tsv is there and was not imported"):
        run_import(*GLUE)
    assert (tmp_path / "data/cola/train.tsv").read_text() == "mine\n"


# ---- whole or not at all


def test_too_many_bad_records_leave_nothing(run_import, cola: Path, tmp_path: Path) -> None:
    bad = [f"gj04\tx\t\tboat {number}" for number in range(11)]
    write_lines(cola / "dev.tsv", *COLA, *bad)
    with pytest.raises(UserError, match=r"dev\.tsv: 11 of 13 records cannot be used, first .*:3:"):
        run_import(*GLUE)
    assert not (tmp_path / "data/cola").exists()
    output = run_import(*GLUE, "--bad_record_limit", "0.9")
    assert manifest_of(output)["parts"]["dev.tsv"]["bad_records"] == 11


def test_a_kill_while_files_are_moved_is_mended(run_import, cola: Path, monkeypatch) -> None:
    moved = []
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if moved:
            raise KeyboardInterrupt
        moved.append(target)
        replace(source, target)

    monkeypatch.setattr(importing.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        run_import(*GLUE)
    monkeypatch.setattr(importing.os, "replace", replace)
    output = run_import(*GLUE)
    assert {path.name for path in output.iterdir()} == {
        *("train.tsv", "dev.tsv", "manifest.json", "report.html")
    }
    assert manifest_of(output)["parts"]["train.tsv"]["records"] == 2


# ---- images


@pytest.fixture
def captions(tmp_path: Path) -> tuple:
    """Two pictures with captions, and the call that imports them."""
    write_pictures(tmp_path / "Images", "a.jpg", "b.jpg", "unused.jpg")
    write_lines(tmp_path / "captions.txt", "image,caption", "a.jpg,A boat .", "b.jpg,The <sea> .")
    return (flickr, "--captions", "captions.txt", "--images", "Images")


def test_images_elsewhere_are_linked(run_import, captions: tuple, tmp_path: Path) -> None:
    output = run_import(*captions)
    assert read_pairs(output / "train.jsonl")[0].image == output / "images/a.jpg"
    assert (output / "images/a.jpg").samefile(tmp_path / "Images/a.jpg")
    assert not (output / "images/unused.jpg").exists()


def test_images_that_cannot_be_linked_are_copied_on_request(
    run_import, captions: tuple, tmp_path: Path, monkeypatch
) -> None:
    def other_file_system(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(image_folder.os, "link", other_file_system)
    with pytest.raises(UserError, match=r"Invalid cross-device link.*give --copy_images"):
        run_import(*captions)
    output = run_import(*captions, "--copy_images")
    copied, original = output / "images/a.jpg", tmp_path / "Images/a.jpg"
    assert copied.read_bytes() == original.read_bytes() and not copied.samefile(original)


@pytest.mark.parametrize(("output", "name"), [("Images", "a.jpg"), (".", "Images/a.jpg")])
def test_images_in_the_output_stay_where_they_are(run_import, captions, output, name) -> None:
    folder = run_import(*captions, "--output", output)
    first = json.loads((folder / "train.jsonl").read_text().splitlines()[0])
    assert first["image"] == name and not (folder / "images").exists()
    run_import(*captions, "--output", output)  # what it wrote is not taken for an image


def test_a_link_that_leads_out_of_the_output_is_named(run_import, captions, tmp_path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/pictures").symlink_to(tmp_path / "Images")
    write_lines(tmp_path / "captions.txt", "image,caption", "pictures/a.jpg,A boat .")
    options = (*captions[:3], "--images", "set", "--output", "set")
    with pytest.raises(
        UserError, match=r"'pictures/a\.jpg' leads out of the folder through a link"
    ):
        run_import(*options)


def test_images_that_are_added_count(run_import, captions: tuple, tmp_path: Path) -> None:
    write_lines(tmp_path / "captions.txt", "image,caption", "a.jpg,A boat .", "c.jpg,The sea .")
    output = run_import(*captions)
    assert manifest_of(output)["parts"]["train.jsonl"]["missing"] == ["c.jpg"]
    write_pictures(tmp_path / "Images", "c.jpg")
    with pytest.raises(UserError, match=r"other images"):
        run_import(*captions)
    run_import(*captions, "--replace")
    assert len(read_pairs(output / "train.jsonl")) == 2


def change_keeping_the_size(path: Path) -> None:
    """Write a new file of other bytes, as an archive that is unpacked anew does."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(0, 10**18))


@pytest.mark.parametrize("options", [(), ("--copy_images",)], ids=["linked", "copied"])
def test_images_that_are_changed_are_placed_anew_when_told(
    run_import, captions: tuple, tmp_path: Path, options: tuple
) -> None:
    output = run_import(*captions, *options)
    placed, original = output / "images/a.jpg", tmp_path / "Images/a.jpg"
    before = placed.read_bytes()
    change_keeping_the_size(original)
    with pytest.raises(UserError, match=r"holds an import already \(other images\)"):
        run_import(*captions, *options)
    assert placed.read_bytes() == before
    run_import(*captions, *options, "--replace")
    assert placed.read_bytes() == original.read_bytes() != before
    assert {path.name for path in placed.parent.iterdir()} == {"a.jpg", "b.jpg"}


def test_images_of_others_are_not_overwritten(run_import, captions: tuple, tmp_path: Path) -> None:
    mine = tmp_path / "data/flickr8k/images/a.jpg"
    size = (tmp_path / "Images/a.jpg").stat().st_size
    write_lines(mine, "x" * (size - 1))
    with pytest.raises(UserError, match=r"images/a\.jpg is another file than .*give --replace"):
        run_import(*captions)
    assert mine.read_text() == "x" * (size - 1) + "\n"


def test_a_copy_that_fails_leaves_nothing(
    run_import, captions: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_disk(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_folder.shutil, "copyfile", fill_disk)
    with pytest.raises(OSError, match="No space left"):
        run_import(*captions, "--copy_images")
    assert not list((tmp_path / "data/flickr8k/images").iterdir())


def test_copies_are_not_made_again(run_import, captions: tuple) -> None:
    """A killed import of many images goes on where it was."""
    output = run_import(*captions, "--copy_images")
    copied = (output / "images/a.jpg").stat().st_ino
    (output / "train.jsonl").unlink()
    run_import(*captions, "--copy_images")
    assert (output / "images/a.jpg").stat().st_ino == copied


def test_too_many_missing_images_are_refused(run_import, captions: tuple, tmp_path: Path) -> None:
    gone = [f"{number}.jpg,Gone ." for number in range(11)]
    write_lines(tmp_path / "captions.txt", "image,caption", "a.jpg,A boat .", *gone)
    with pytest.raises(UserError, match=r"11 of 12 records .*:3: image '0\.jpg' is not in Images"):
        run_import(*captions)
    assert not (tmp_path / "data/flickr8k/images").exists()


# ---- shards


def test_shards_are_listed_for_every_task(run_import, tmp_path: Path) -> None:
    for number in range(2):
        members = {f"{number}.png": picture_bytes(number), f"{number}.txt": b"a boat"}
        write_shard(tmp_path / f"in/train/{number}.tar", members)
    write_shard(tmp_path / "in/dev.tar", {"9.png": picture_bytes(9), "9.json": b'{"caption": "c"}'})
    options = ("--train", "in/train/{0..1}.tar", "--dev", "in/dev.tar")
    output = run_import(shards, *options)
    first = json.loads((output / "train.jsonl").read_text().splitlines()[0])
    assert first == {"image": "images/train/0.tar/0.png", "captions": ["a boat"]}
    assert [x.captions for x in read_pairs(output / "dev.jsonl")] == [("c",)]
    assert "data:image/jpeg" in (output / "report.html").read_text()


# ---- the page


def test_the_page_shows_counts_pictures_and_what_is_missing(run_import, captions, tmp_path) -> None:
    lines = ["image,caption", "a.jpg,A boat .", "b.jpg,The <sea> .", "c.jpg,Gone ."]
    write_lines(tmp_path / "captions.txt", *lines)
    page = (run_import(*captions) / "report.html").read_text()
    assert page.count("data:image/jpeg") == 2
    assert "image &#x27;c.jpg&#x27; is not in Images" in page
    assert "The &lt;sea&gt; ." in page and "<sea>" not in page
    row = re.search(r"<td class=\"name\">train\.jsonl</td>(.*?)</tr>", page)[1]
    assert re.findall(r">([^<]*)</td>", row) == ["2", "1", "2", "1", "1.00", "1 to 1"]


def test_texts_are_counted_in_tokens_where_there_is_a_vocabulary(
    run_import, cola: Path, shared_dir: Path
) -> None:
    output = run_import(*GLUE, "--vocab_dir", shared_dir / "vocab/roberta")
    tokens = manifest_of(output)["parts"]["train.tsv"]["texts"]["text_a"]["tokens"]
    assert tokens["longest"] in range(5, 9) and tokens["share_cut"] == 0.0


@pytest.mark.parametrize(
    ("recipe", "texts"),
    [
        ("cnndm_base", summaries.SETS["cnndm"].texts),
        ("cnndm_large", summaries.SETS["cnndm"].texts),
        ("gigaword_base", summaries.SETS["gigaword"].texts),
        ("squad_questions_base", squad.TEXTS),
        ("coqa_large", coqa.TEXTS),
        ("coco_captioning_base", [karpathy.CAPTION]),
        ("flickr30k_retrieval_base", [karpathy.SENTENCE]),
        ("snli_ve_large", snli_ve.TEXTS),
        ("vqa_base", vqa.TEXTS),
    ],
)
def test_lengths_are_compared_with_those_of_the_recipe(recipe: str, texts) -> None:
    settings = read_tree(ROOT / f"configs/finetune/{recipe}.yaml").values
    for column in texts:
        value = settings
        for key in column.setting.split("."):
            value = value[key]
        assert column.limit == value, column


def test_a_recipe_finds_its_files(run_import, tmp_path: Path) -> None:
    write_lines(tmp_path / "in/train.source", "one")
    write_lines(tmp_path / "in/train.target", "1")
    output = run_import(summaries, "--set", "cnndm", "--input", "in")
    settings = read_tree(ROOT / "configs/finetune/cnndm_base.yaml").values
    assert tmp_path / settings["task"]["data"]["train"] == output / "train.tsv"
