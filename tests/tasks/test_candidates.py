"""What a pair is contrasted with: drawn from the prepared files, by the seed and the step alone."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unimo_paddle.data.images import ImageConfig
from unimo_paddle.data.mining import Mined
from unimo_paddle.data.rewriting import RewrittenCaptions
from unimo_paddle.data.scenes import ensure_image_objects
from unimo_paddle.data.sources import LabelledImage, PairRecord, read_labelled_images, read_pairs
from unimo_paddle.errors import BadSample, UserError
from unimo_paddle.tasks.pretraining import PretrainingConfig
from unimo_paddle.tasks.pretraining_candidates import (
    Candidates,
    label_mined,
    open_mined,
    open_rewrites,
)
from unimo_paddle.tasks.pretraining_settings import (
    ContrastConfig,
    ObjectiveWeights,
    PretrainingDataConfig,
)

SIZE = 5


class Encoder:
    """Keeps what it is given to encode; every text is two numbers long."""

    class model:
        region_feature_size = SIZE

    class config:
        image = ImageConfig(image_size=4, patch_size=2)

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.images: list[Path | LabelledImage] = []
        self.met: list[tuple[str, ...]] = []
        self.broken: set[Path] = set()

    def encode_text(self, text: str) -> dict[str, np.ndarray]:
        self.texts.append(text)
        ids = np.array([0, 2], np.int64)
        return {"input_ids": ids, "position_ids": ids, "text_mask": np.ones(2, np.float32)}

    def encode_image(self, image: Path | LabelledImage, rng, captions) -> dict[str, np.ndarray]:
        if image in self.broken:
            raise BadSample(str(image), "broken")
        self.images.append(image)
        self.met.append(captions)
        return {
            "region_features": np.ones((3, SIZE), np.float32),
            "region_boxes": np.ones((3, 5), np.float32),
            "region_mask": np.ones(3, np.float32),
        }


@pytest.fixture(scope="module")
def records(scenes_dir: Path) -> list[PairRecord]:
    return read_pairs(scenes_dir / "train.jsonl").records


@pytest.fixture(scope="module")
def rewritten(candidates, records) -> RewrittenCaptions:
    return RewrittenCaptions(candidates["rewrites"], records)


@pytest.fixture(scope="module")
def mined(candidates, scenes_dir: Path) -> Mined:
    return Mined(candidates["mined"], scenes_dir / "train.jsonl")


def draw(encoder: Encoder, records, contrast: ContrastConfig, number=3, caption=1, seed=0, **files):
    made, rng = Candidates(contrast, encoder, records, **files), np.random.default_rng(seed)
    return made.encode(made.draw(number, caption, rng), records[number].captions, rng)


def test_rewrites_begin_with_the_caption_then_what_is_true_then_what_is_not(
    records, rewritten
) -> None:
    encoder = Encoder()
    contrast = ContrastConfig(rewrites_per_pair=3, paraphrases_per_pair=2)
    sample = draw(encoder, records, contrast, rewrites=rewritten)
    caption, *positives = encoder.texts[: contrast.num_positive_rewrites]
    negatives = encoder.texts[contrast.num_positive_rewrites :]
    assert caption == records[3].captions[1]
    assert set(positives) <= {item.text for item in rewritten.positives(3, 1)}
    assert set(negatives) <= {item.text for item in rewritten.negatives(3, 1)}
    assert len(set(encoder.texts)) == 6  # none twice
    assert sample["rewrite_weights"].tolist() == [1.0] * 6
    assert sample["rewrite_input_ids"].shape == (6, 2)


def test_read_alone_the_caption_itself_is_not_among_them(records, rewritten) -> None:
    encoder = Encoder()
    contrast = ContrastConfig(rewrites_per_pair=3, joint_scores=False)
    draw(encoder, records, contrast, rewrites=rewritten)
    assert len(encoder.texts) == 3 and records[3].captions[1] not in encoder.texts


@pytest.mark.parametrize("kind", ["object", "attribute", "phrase", "sentence"])
def test_kinds_may_be_chosen(records, rewritten, kind: str) -> None:
    encoder = Encoder()
    contrast = ContrastConfig(rewrites_per_pair=2, rewrite_kinds=(kind,), joint_scores=False)
    draw(encoder, records, contrast, rewrites=rewritten)
    of_kind = {item.text for item in rewritten.negatives(3, 1) if item.kind == kind}
    assert set(encoder.texts) <= of_kind and len(encoder.texts) == 2


def test_captions_of_others_are_never_the_images_own(records) -> None:
    contrast = ContrastConfig(others_per_pair=40, joint_scores=False)
    encoder = Encoder()
    sample = draw(encoder, records, contrast)
    weights = sample["rewrite_weights"]
    real = [text for text, weight in zip(encoder.texts, weights, strict=True) if weight]
    others = {caption for i, r in enumerate(records) if i != 3 for caption in r.captions}
    assert len(real) > 30 and set(real) <= others
    assert all(text == "" for text, w in zip(encoder.texts, weights, strict=True) if not w)


def test_a_caption_of_others_that_is_its_own_too_is_no_negative(records) -> None:
    same = [replace(record, captions=records[3].captions[:1]) for record in records]
    sample = draw(Encoder(), same, ContrastConfig(others_per_pair=40), caption=0)
    assert sample["rewrite_weights"].tolist() == [1.0] + [0.0] * 40  # the caption itself


def test_files_that_are_not_read_are_told(candidates, records, scenes_dir, caplog) -> None:
    data = PretrainingDataConfig(rewrites="train.rewritten", mined="train.mined")
    assert open_rewrites(ContrastConfig(), data, records) is None
    assert open_mined(ContrastConfig(), data, scenes_dir / "train.jsonl", 1) is None
    assert "task.data.rewrites is not read: task.contrast.rewrites_per_pair" in caplog.text
    assert "task.data.mined is not read: task.contrast.images_per_pair" in caplog.text


def test_settings_that_would_do_nothing_are_refused() -> None:
    with pytest.raises(UserError, match=r"split_rewrites\.tset is of no split; choose of test, t"):
        PretrainingDataConfig(split_rewrites={"tset": "a"})
    with pytest.raises(UserError, match=r"split_rewrites\.test is of no split; choose of dev$"):
        PretrainingDataConfig(
            source="files", pairs="a", splits={"dev": "b"}, split_rewrites={"test": "c"}
        )
    with pytest.raises(UserError, match=r"statements has no regions of its images"):
        PretrainingDataConfig(statements=("a",), image=ImageConfig(kind="regions"))
    with pytest.raises(UserError, match="but rewrites_per_pair is 0"):
        ContrastConfig(rewrite_kinds=("object",))


def test_mined_images_and_texts_are_those_of_the_record(records, mined) -> None:
    encoder = Encoder()
    contrast = ContrastConfig(images_per_pair=2, texts_per_pair=3)
    sample = draw(encoder, records, contrast, mined=mined)
    assert set(encoder.images) <= {item.path for item in mined.images(3)}
    assert set(encoder.texts) <= {item.text for item in mined.texts(3)}
    assert sample["mined_image_region_features"].shape == (2, 3, SIZE)
    assert sample["mined_text_weights"].tolist() == [1.0] * 3


def test_texts_that_tell_of_the_image_keep_it_as_it_is(records, rewritten, mined) -> None:
    contrast = ContrastConfig(
        rewrites_per_pair=3, others_per_pair=2, texts_per_pair=2, images_per_pair=1
    )
    encoder = Encoder()
    made = Candidates(contrast, encoder, records, rewrites=rewritten, mined=mined)
    drawn = made.draw(3, 1, np.random.default_rng(0))
    assert len(drawn.rewrites) == 4 and len(drawn.others) == len(drawn.texts) == 2
    assert drawn.told == [*drawn.rewrites, *drawn.texts]
    made.encode(drawn, records[3].captions, np.random.default_rng(0))
    assert encoder.met == [records[3].captions]  # of the mined image


def test_an_image_that_cannot_be_used_counts_as_absent(records, mined) -> None:
    encoder = Encoder()
    encoder.broken = {item.path for item in mined.images(3)[1:]}
    contrast = ContrastConfig(images_per_pair=len(mined.images(3)))
    sample = draw(encoder, records, contrast, mined=mined)
    assert sample["mined_image_weights"].sum() == 1.0
    assert encoder.images == [mined.images(3)[0].path]


def test_mined_images_come_with_their_objects(candidates, records, scenes_dir) -> None:
    folder = scenes_dir / "images_only"
    ensure_image_objects(folder)
    relative = os.path.relpath(folder)
    mined = Mined(candidates["mined"], scenes_dir / "train.jsonl", images_dir=relative)
    labelled = read_labelled_images(folder)
    unknown, *known = [item.path.resolve() for item in mined.images(3)]
    del labelled[unknown]
    encoder = Encoder()
    contrast = ContrastConfig(images_per_pair=1 + len(known))
    sample = draw(encoder, records, contrast, mined=mined, labelled=labelled)
    assert sorted(item.image for item in encoder.images) == sorted(known)
    assert all(item.objects == labelled[item.image].objects != () for item in encoder.images)
    assert sample["mined_image_weights"].sum() == len(known)


def test_mined_images_without_objects_are_refused(candidates, scenes_dir, tmp_path) -> None:
    mined = Mined(candidates["mined"], scenes_dir / "train.jsonl", images_dir=tmp_path)
    data = PretrainingDataConfig(image=ImageConfig(kind="objects"))
    with pytest.raises(UserError, match=r"objects\.jsonl with those of the mined images does not"):
        label_mined(ContrastConfig(images_per_pair=1), data, mined)


def test_what_has_no_file_is_absent(records) -> None:
    contrast = ContrastConfig(rewrites_per_pair=2, images_per_pair=1, texts_per_pair=1)
    sample = draw(Encoder(), records, contrast)
    assert sample["rewrite_weights"].tolist() == [1.0, 0.0, 0.0]  # the caption itself
    assert sample["mined_image_weights"].tolist() == sample["mined_text_weights"].tolist() == [0.0]
    # As many rows as a patch each: convolutions over patches take no fewer.
    assert sample["mined_image_region_mask"].tolist() == [[1.0, 0.0, 0.0, 0.0, 0.0]]


def test_draws_depend_on_the_generator_alone(records, rewritten, mined) -> None:
    contrast = ContrastConfig(rewrites_per_pair=3, images_per_pair=2, texts_per_pair=2)
    found = []
    for seed in (0, 0, 1):
        encoder = Encoder()
        draw(encoder, records, contrast, seed=seed, rewrites=rewritten, mined=mined)
        found.append((encoder.texts, encoder.images))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("contrast", "change", "message"),
    [
        ({"rewrites_per_pair": 1}, {}, "task.data.rewrites names no file; make one with"),
        ({"images_per_pair": 1}, {}, "task.data.mined names no file; make one with"),
        (
            {"images_per_pair": 1},
            {"mined": "mined", "image": {"kind": "regions"}},
            "images_per_pair is 1, but mined images have no rows of .* regions; set it to 0",
        ),
    ],
)
def test_what_is_missing_is_told(candidates, records, scenes_dir, contrast, change, message):
    change = {k: str(candidates[v]) if k == "mined" else v for k, v in change.items()}
    image = change.pop("image", {})
    data = PretrainingDataConfig(**change)
    if image:
        data = PretrainingDataConfig(**change, image=type(data.image)(**image))
    with pytest.raises(UserError, match=message):
        open_rewrites(ContrastConfig(**contrast), data, records)
        open_mined(ContrastConfig(**contrast), data, scenes_dir / "train.jsonl", len(records))


def test_rewrites_of_other_pairs_are_refused(candidates, records) -> None:
    data = PretrainingDataConfig(rewrites=str(candidates["test"]))
    with pytest.raises(UserError, match="made from other captions than the pairs"):
        open_rewrites(ContrastConfig(rewrites_per_pair=1), data, records)


def test_candidates_without_the_objective_are_refused() -> None:
    with pytest.raises(UserError, match=r"task\.weights\.contrastive is 0; give it a weight"):
        PretrainingConfig(
            weights=ObjectiveWeights(contrastive=0.0),
            contrast=ContrastConfig(rewrites_per_pair=1),
        )
