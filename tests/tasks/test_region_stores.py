"""Tasks find the regions of their records in stores; the images themselves need not exist."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.data.regions.checking import import_from, import_named
from tests.data.regions.samples import (
    FEATURE_SIZE,
    NUM_CLASSES,
    Detected,
    caption_line,
    detect,
    entailment_line,
    retrieval_line,
    write_lines,
)
from unimo_paddle.data.images import ImageConfig
from unimo_paddle.data.leaks import check_leaks
from unimo_paddle.data.loader import Loader
from unimo_paddle.data.mining import Mined
from unimo_paddle.data.original_pairs import StoredRegions
from unimo_paddle.data.records import Fault
from unimo_paddle.data.regions import RegionEntry, RegionStores
from unimo_paddle.data.rewriting import RewrittenCaptions
from unimo_paddle.data.text import TokenizerConfig
from unimo_paddle.errors import UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.preparation import inspect_rewrites, mine, rewrite
from unimo_paddle.tasks.captioning import CaptionDataConfig, CaptioningConfig
from unimo_paddle.tasks.image_records import ImageDataConfig
from unimo_paddle.tasks.pretraining import PretrainingConfig
from unimo_paddle.tasks.pretraining_data import PretrainingEncoder
from unimo_paddle.tasks.pretraining_settings import (
    ContrastConfig,
    ObjectiveWeights,
    PretrainingDataConfig,
)
from unimo_paddle.tasks.retrieval import RetrievalConfig
from unimo_paddle.tasks.retrieval_data import RetrievalDataConfig
from unimo_paddle.tasks.visual_entailment import EntailmentDataConfig, VisualEntailmentConfig
from unimo_paddle.tasks.vqa import VqaConfig

IMAGE = ImageConfig(kind="regions", feature_size=FEATURE_SIZE, max_regions=4)
MODEL = ModelConfig(
    vocab_size=300,
    hidden_size=16,
    num_layers=1,
    num_heads=2,
    max_positions=256,
    region_feature_size=FEATURE_SIZE,
)
FOUND = [detect(str(number), number) for number in range(12)]
KEYS = {"captions": ["a red ball"], "question": "what is it", "answer": "ball"}
KEYS |= {"hypothesis": "a red ball", "label": "neutral"}
TASKS = {
    "vqa": lambda **data: VqaConfig(data=ImageDataConfig(**data)),
    "entailment": lambda **data: VisualEntailmentConfig(data=EntailmentDataConfig(**data)),
    "captioning": lambda **data: CaptioningConfig(data=CaptionDataConfig(**data)),
    "retrieval": lambda **data: RetrievalConfig(data=RetrievalDataConfig(**data)),
}


@pytest.fixture
def store(tmp_path: Path) -> str:
    path = write_lines(tmp_path / "features.tsv", [retrieval_line(found) for found in FOUND])
    return str(import_from("original", path).path)


def write_records(path: Path, found: list[Detected]) -> Path:
    """Lines that any of the tasks reads, of images that do not exist."""
    lines = [json.dumps({"image": f"images/{item.image_id}.jpg", **KEYS}) for item in found]
    return write_lines(path, lines)


def make(name: str, tmp_path: Path, **data):
    config = TASKS[name](image=IMAGE, tokenizer=TokenizerConfig(vocab_size=300), **data)
    return config.build(MODEL, tmp_path / "assets")


def inline(found: Detected) -> dict:
    """The same regions as a record holds them itself, rounded as in a store."""
    features = found.features.astype(np.float16).astype(float)
    return {
        "boxes": found.boxes.tolist(),
        "features": features.tolist(),
        "width": found.width,
        "height": found.height,
    }


@pytest.mark.parametrize("name", TASKS)
def test_a_task_reads_records_whose_images_are_only_in_a_store(
    name: str, store: str, tmp_path: Path
) -> None:
    """What the network is fed is equal to that of a record with the same regions inside."""
    task = make(name, tmp_path, regions=(store,))
    records = task.read(write_records(tmp_path / "train.jsonl", FOUND))
    assert len(records) == len(FOUND)
    for record, found in zip(records, FOUND, strict=True):
        image = record.image if name != "retrieval" else record.image.image
        own = task.image_of({"regions": inline(found)}, Path)
        expected = task.encode_image(own)
        for key, value in task.encode_image(image).items():
            np.testing.assert_array_equal(value, expected[key])


@pytest.mark.parametrize("name", TASKS)
def test_images_that_no_store_has_are_refused_beyond_the_limit(
    name: str, store: str, tmp_path: Path
) -> None:
    task = make(name, tmp_path, regions=(store,))
    more = [detect(f"new{number}", number) for number in range(11)]
    path = write_records(tmp_path / "train.jsonl", [*FOUND, *more])
    with pytest.raises(UserError, match=r"11 of 23 records .*'images/new0.jpg' has no regions in"):
        task.read(path)


def test_objects_that_a_store_names_are_the_tags_of_captions(tmp_path: Path) -> None:
    store = import_named(tmp_path, FOUND)
    train = str(write_records(tmp_path / "train.jsonl", FOUND))
    task = make("captioning", tmp_path, regions=(str(store.path),), train=train)
    task.prepare(0)
    record = task.read_split("train")[3]
    assert record.tags == " ".join(store.tags(3)) != ""
    assert task.encode(record)["tag_mask"].any()


@pytest.mark.parametrize("with_tags", [True, False])
def test_tags_that_no_store_has_names_for_are_told(
    store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, with_tags: bool
) -> None:
    task = make("captioning", tmp_path, regions=(store,), with_tags=with_tags)
    task.read(write_records(tmp_path / "train.jsonl", FOUND))
    assert ("with_tags adds nothing" in caplog.text) is with_tags


@pytest.mark.parametrize(
    ("name", "write"), [("entailment", entailment_line), ("captioning", caption_line)]
)
def test_lines_of_the_original_find_their_images_in_a_store(
    name: str, write, store: str, tmp_path: Path
) -> None:
    """Without a store the regions of the line itself count."""
    path = write_lines(tmp_path / "pairs.txt", [write(item, n) for n, item in enumerate(FOUND)])
    data = {"source": "original"}
    (record, *_) = make(name, tmp_path, **data, regions=(store,)).read(path)
    assert isinstance(record.image, RegionEntry) and record.image.index == 0
    (record, *_) = make(name, tmp_path, **data).read(path)
    assert isinstance(record.image, StoredRegions)


def test_the_originals_captions_find_their_images_in_a_store(store: str, tmp_path: Path) -> None:
    lines = [f"0 5 2;0 0 0;2 3 4;{item.image_id};{n}" for n, item in enumerate(FOUND)]
    captions = str(write_lines(tmp_path / "captions.ids", lines))
    task = make("retrieval", tmp_path, source="original", train=captions, regions=(store,))
    table = task.read_split("train")
    assert [named.name for named in table.images] == [item.image_id for item in FOUND]
    sample = task.encode_named(table.images[5])
    kept = FOUND[5].features.astype(np.float16)[: IMAGE.max_regions]
    np.testing.assert_array_equal(sample["region_features"][1:], kept)


def make_encoder(tmp_path: Path, store: str, **data) -> PretrainingEncoder:
    config = PretrainingDataConfig(
        source="files",
        pairs=str(write_records(tmp_path / "train.jsonl", FOUND)),
        image=IMAGE,
        regions=(store,),
        num_region_classes=NUM_CLASSES,
        tokenizer=TokenizerConfig(vocab_size=300),
        max_text_length=64,
        **data,
    )
    return PretrainingEncoder(
        config,
        MODEL,
        tmp_path / "assets",
        weights=ObjectiveWeights(),
        contrast=ContrastConfig(),
        uses_regions=True,
        uses_language=True,
    )


@pytest.mark.parametrize(
    "given",
    [
        "images/5.jpg",
        Path("images/5.jpg"),
        {"image": "images/5.jpg"},
        {"image_id": 5},
        {"regions": inline(FOUND[5])},
    ],
    ids=["text", "path", "image", "number", "regions"],
)
def test_a_bundle_of_pretraining_is_given_regions_or_what_a_store_calls_them(
    store: str, tmp_path: Path, given
) -> None:
    encoder = make_encoder(tmp_path, store)
    task = PretrainingConfig(data=encoder.config).build(MODEL, tmp_path / "assets")
    expected = encoder.encode_image(encoder.read_pairs()[5])
    for key, value in task.encode_image(given).items():
        np.testing.assert_array_equal(value, expected[key])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("images/new.jpg", "image 'images/new.jpg' has no regions in"),
        (np.zeros((8, 8, 3), np.uint8), "key 'image' or 'image_id' is missing, by which"),
        ({"regions": {"boxes": []}}, "'regions' lacks features, height, width"),
    ],
)
def test_what_no_regions_are_known_of_is_told(
    store: str, tmp_path: Path, given, message: str
) -> None:
    encoder = make_encoder(tmp_path, store)
    task = PretrainingConfig(data=encoder.config).build(MODEL, tmp_path / "assets")
    with pytest.raises(Fault, match=message):
        task.encode_image(given)


def test_pretraining_classifies_hidden_regions_by_the_distributions_of_a_store(
    store: str, tmp_path: Path
) -> None:
    encoder = make_encoder(tmp_path, store)
    encoder.prepare(0)
    (stream, *_) = encoder.training_streams({"pairs": 4})
    for number, found in enumerate(FOUND):
        sample = stream.encode(number, np.random.default_rng(number))
        places = sample["region_positions"] - 1
        expected = found.probabilities.astype(np.float16)[places]
        np.testing.assert_array_equal(sample["region_labels"], expected)


def test_images_without_captions_may_be_a_store(store: str, tmp_path: Path) -> None:
    encoder = make_encoder(tmp_path, store, images=store)
    encoder.prepare(0)
    _, stream = encoder.training_streams({"pairs": 4, "images": 4})
    assert len(stream.records) == len(FOUND)
    for found, record in zip(FOUND, stream.records, strict=True):
        assert str(record.image) == found.image_id
        sample = stream.encode(record, np.random.default_rng(0))
        kept = found.features.astype(np.float16)[: IMAGE.max_regions]
        np.testing.assert_array_equal(sample["images_region_features"][1:], kept)


def test_images_without_captions_in_the_store_of_a_split_are_refused(
    store: str, tmp_path: Path
) -> None:
    pairs = write_records(tmp_path / "train.jsonl", FOUND[:4])
    dev = write_records(tmp_path / "dev.jsonl", FOUND[8:9])
    lines = write_lines(tmp_path / "others.tsv", [retrieval_line(item) for item in FOUND[5:7]])
    others = import_from("original", lines, output=tmp_path / "others")
    files = {"stores": RegionStores([store]), "cache_dir": tmp_path / "cache"}
    assert not check_leaks(pairs, [dev], stored=others.path, **files).refused
    with pytest.raises(UserError, match=r"8\.jpg.*image 8.*the same regions"):
        check_leaks(pairs, [dev], stored=store, **files)


def test_a_batch_of_a_store_is_what_the_program_is_fed(store: str, tmp_path: Path) -> None:
    encoder = make_encoder(tmp_path, store)
    encoder.prepare(0)
    streams = encoder.training_streams({"pairs": 4})
    batch = Loader(streams, seed=0, num_workers=0).batch(0)
    assert batch["region_features"].dtype == batch["region_labels"].dtype == np.float32


@pytest.mark.slow
def test_sentences_are_mined_though_only_regions_are_there(store: str, tmp_path: Path) -> None:
    pairs, output = write_records(tmp_path / "train.jsonl", FOUND), tmp_path / "mined"
    texts, page = tmp_path / "corpus.txt", tmp_path / "page.html"
    texts.write_text("The red ball lay in the garden.\n")
    run(mine, pairs=pairs, output=output, texts=texts, page=page, regions=store)
    assert len(Mined(output, pairs).texts(3)) == 1
    assert page.read_text().count("The red ball") == len(FOUND)


def run(command: ModuleType, **options: object) -> None:
    """Run a command of tools/prepare_data.py in this process."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command.run(parser.parse_args(given))


@pytest.mark.slow
def test_captions_are_rewritten_though_only_regions_are_there(store: str, tmp_path: Path) -> None:
    pairs, output = write_records(tmp_path / "train.jsonl", FOUND), tmp_path / "rewritten"
    run(rewrite, pairs=pairs, output=output, regions=store)
    page = tmp_path / "page.html"
    run(inspect_rewrites, pairs=pairs, rewritten=output, output=page, regions=store)
    assert "Rewritten captions of train.jsonl" in page.read_text()
    records = make_encoder(tmp_path, store).read_pairs()
    assert RewrittenCaptions(output, records).num_captions(3) == 1


def test_a_split_with_the_regions_of_the_pairs_is_refused(store: str, tmp_path: Path) -> None:
    dev = write_records(tmp_path / "dev.jsonl", FOUND[3:4])
    encoder = make_encoder(tmp_path, store, splits={"dev": str(dev)})
    with pytest.raises(UserError, match=r"hold what is to be evaluated on.*3\.jpg.*the same regio"):
        encoder.prepare(0)


def test_stores_without_effect_are_refused() -> None:
    with pytest.raises(UserError, match=r"image.kind is patches; set it to regions"):
        ImageDataConfig(regions=("store",))
    with pytest.raises(UserError, match=r"no effect on task.data.source scenes"):
        PretrainingDataConfig(regions=("store",), image=IMAGE)
