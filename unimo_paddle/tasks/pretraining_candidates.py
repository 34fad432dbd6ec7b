"""The host half of the contrastive candidates: what is drawn for a pair, as it is encoded.

Candidates come from files that ``tools/prepare_data.py`` makes of the pairs; what a file lacks, or
what has no file, as on the splits to evaluate on, has the weight zero.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unimo_paddle.data.fields import Sample, collate
from unimo_paddle.data.images import ImageConfig
from unimo_paddle.data.mining import Mined, MinedLists
from unimo_paddle.data.rewriting import NEGATIVE_KINDS, RewrittenCaptions
from unimo_paddle.data.sources import (
    ImageRecord,
    LabelledImage,
    PairRecord,
    labels_path,
    read_labelled_images,
)
from unimo_paddle.errors import BadSample, UserError
from unimo_paddle.tasks.pretraining_fields import (
    MINED_IMAGE,
    MINED_TEXT,
    REWRITE,
    WEIGHTS,
    prefix_sample,
)
from unimo_paddle.tasks.pretraining_settings import ContrastConfig, PretrainingDataConfig
from unimo_paddle.tasks.segments import TEXT_INPUTS, image_inputs

if TYPE_CHECKING:
    from unimo_paddle.tasks.pretraining_data import PretrainingEncoder

logger = logging.getLogger(__name__)


def open_rewrites(
    contrast: ContrastConfig, data: PretrainingDataConfig, records: Sequence[PairRecord]
) -> RewrittenCaptions | None:
    """The rewritten captions of the pairs to train on; None where none are asked for."""
    if not contrast.rewrites_per_pair + contrast.paraphrases_per_pair:
        _tell_idle("rewrites", data.rewrites, "rewrites_per_pair and paraphrases_per_pair")
        return None
    if data.rewrites is None:
        raise UserError(
            "task.contrast asks for rewrites or paraphrases but task.data.rewrites names no file; "
            "make one with tools/prepare_data.py rewrite"
        )
    return RewrittenCaptions(data.rewrites, records)


def open_mined(
    contrast: ContrastConfig, data: PretrainingDataConfig, pairs: Path, num_records: int
) -> Mined | None:
    """What was mined for the pairs to train on; None where nothing is asked for."""
    if not contrast.num_mined:
        _tell_idle("mined", data.mined, "images_per_pair and texts_per_pair")
        return None
    if data.mined is None:
        raise UserError(
            "task.contrast asks for mined images or texts but task.data.mined names no file; make "
            "one with tools/prepare_data.py mine"
        )
    if contrast.images_per_pair and data.image.kind == "regions":
        raise UserError(
            f"task.contrast.images_per_pair is {contrast.images_per_pair}, but mined images have "
            "no rows of task.data.image.kind regions; set it to 0, or the kind to patches or "
            "objects"
        )
    mined = Mined(data.mined, pairs)
    mined.check_records(num_records)
    for kind, count, is_there in (
        ("images", contrast.images_per_pair, mined.has_images),
        ("texts", contrast.texts_per_pair, mined.has_texts),
    ):
        if count and not is_there:
            raise UserError(
                f"task.contrast.{kind}_per_pair is {count} but {data.mined} holds no {kind}; mine "
                f"again with --{kind}, or set it to 0"
            )
    if contrast.images_per_pair:
        mined.check_images()
    return mined


def _tell_idle(name: str, path: str | None, counts: str) -> None:
    """Say that a file is not read: an ablation leaves it where it is, others may not know."""
    if path is not None:
        logger.warning("task.data.%s is not read: task.contrast.%s are 0", name, counts)


def list_mined(
    contrast: ContrastConfig,
    data: PretrainingDataConfig,
    read_pairs: Callable[[], Sequence[PairRecord]],
) -> MinedLists | None:
    """All that pairs of files may be contrasted with of what was mined for them."""
    if not contrast.num_mined:
        return None
    mined = open_mined(contrast, data, Path(data.pairs), len(read_pairs()))
    assert mined is not None
    return mined.lists(images=contrast.images_per_pair > 0, texts=contrast.texts_per_pair > 0)


@dataclass(frozen=True)
class Drawn:
    """What a pair is contrasted with beside its batch; None where there is too little of a kind.

    Args:
        rewrites: the caption itself where it is read with the image, what is true, what is false.
        others: captions of other images.
        images, texts: mined ones.
    """

    rewrites: list[str | None]
    others: list[str | None]
    images: list[ImageRecord | None]
    texts: list[str | None]

    @property
    def told(self) -> list[str]:
        """Texts that were chosen for being true or false of the image as it is.

        Of its mirror image they may be the other; those of other images are chosen for nothing.
        """
        return [text for text in (*self.rewrites, *self.texts) if text is not None]


class Candidates:
    """Draws what a pair is contrasted with beside its batch.

    Args:
        contrast: how many of what.
        encoder: of single images and texts.
        records: of the pairs; captions of others stand for no rewrite at all.
        rewrites, mined: of these records; None where there is no file.
        labelled: mined images by their paths, where rows of images are those of their objects.
    """

    def __init__(
        self,
        contrast: ContrastConfig,
        encoder: PretrainingEncoder,
        records: Sequence[PairRecord],
        *,
        rewrites: RewrittenCaptions | None = None,
        mined: Mined | None = None,
        labelled: Mapping[Path, LabelledImage] | None = None,
    ) -> None:
        self._contrast = contrast
        self._encoder = encoder
        self._records = records
        self._rewrites = rewrites
        self._mined = mined
        self._labelled = labelled

    def draw(self, number: int, caption: int, rng: np.random.Generator) -> Drawn:
        """The candidates of a record, beside one of its captions."""
        contrast, mined = self._contrast, self._mined
        record = self._records[number]
        rewrites, others = self._draw_rewrites(number, caption, rng), []
        if contrast.others_per_pair:
            others = self._draw_others(record, rng)
        count = contrast.images_per_pair
        images = mined.draw_images(number, count, rng) if mined and count else []
        images = _fill([self._record(item.path) for item in images], count)
        count = contrast.texts_per_pair
        texts = mined.draw_texts(number, count, rng) if mined and count else []
        return Drawn(rewrites, others, images, _fill([item.text for item in texts], count))

    def encode(self, drawn: Drawn, captions: Sequence[str], rng: np.random.Generator) -> Sample:
        """The fields of the candidates.

        Args:
            captions: of the pair, which the mined images meet.
        """
        found: Sample = {}
        if drawn.rewrites or drawn.others:
            found |= self._texts(REWRITE, [*drawn.rewrites, *drawn.others])
        if drawn.images:
            found |= self._images(drawn.images, captions, rng)
        if drawn.texts:
            found |= self._texts(MINED_TEXT, drawn.texts)
        return found

    def _draw_rewrites(
        self, number: int, caption: int, rng: np.random.Generator
    ) -> list[str | None]:
        """The caption itself where it is read with the image, paraphrases, negatives."""
        contrast, record = self._contrast, self._records[number]
        texts: list[str | None] = []
        if contrast.uses_joint_scores:
            texts.append(record.captions[caption])
        if contrast.paraphrases_per_pair:
            known = self._rewrites.positives(number, caption) if self._rewrites else ()
            texts += _draw([item.text for item in known], contrast.paraphrases_per_pair, rng)
        if contrast.rewrites_per_pair:
            kinds = contrast.rewrite_kinds or NEGATIVE_KINDS
            known = self._rewrites.negatives(number, caption) if self._rewrites else ()
            texts += _draw(
                [item.text for item in known if item.kind in kinds],
                contrast.rewrites_per_pair,
                rng,
            )
        return texts

    def _draw_others(self, own: PairRecord, rng: np.random.Generator) -> list[str | None]:
        """Captions of other images; a place stays empty where one is drawn that is its own too."""
        texts: list[str | None] = []
        for number in rng.integers(len(self._records), size=self._contrast.others_per_pair):
            other = self._records[int(number)]
            text = other.captions[rng.integers(len(other.captions))]
            is_own = other.group == own.group or text in own.captions
            texts.append(None if is_own else text)
        return texts

    def _texts(self, prefix: str, texts: Sequence[str | None]) -> Sample:
        encoded = [self._encoder.encode_text(text or "") for text in texts]
        weights = np.array([text is not None for text in texts], np.float32)
        return prefix_sample(prefix, {**collate(encoded, TEXT_INPUTS), WEIGHTS: weights})

    def _record(self, path: Path) -> ImageRecord | None:
        """What the encoder needs of a mined image; None where its objects are not known."""
        if self._labelled is None:
            return path
        return self._labelled.get(Path(os.path.realpath(path)))  # as they were read

    def _images(
        self,
        records: Sequence[ImageRecord | None],
        captions: Sequence[str],
        rng: np.random.Generator,
    ) -> Sample:
        """Images as they are augmented for training; one that cannot be used counts as absent."""
        size = self._encoder.model.region_feature_size
        nothing = _no_image(self._encoder.config.image, size)
        encoded, weights = [], []
        for record in records:
            sample = nothing
            if record is not None:
                try:
                    sample = self._encoder.encode_image(record, rng, captions)
                except BadSample:
                    record = None
            encoded.append(sample)
            weights.append(record is not None)
        fields = collate(encoded, image_inputs(size))
        return prefix_sample(MINED_IMAGE, {**fields, WEIGHTS: np.array(weights, np.float32)})


def training_candidates(
    contrast: ContrastConfig,
    encoder: PretrainingEncoder,
    records: Sequence[PairRecord],
    pairs: Path,
) -> Candidates:
    """What the pairs to train on, of this file, are contrasted with: there are files of it."""
    rewrites = open_rewrites(contrast, encoder.config, records)
    mined = open_mined(contrast, encoder.config, pairs, len(records))
    labelled = label_mined(contrast, encoder.config, mined)
    return Candidates(contrast, encoder, records, rewrites=rewrites, mined=mined, labelled=labelled)


def label_mined(
    contrast: ContrastConfig, data: PretrainingDataConfig, mined: Mined | None
) -> Mapping[Path, LabelledImage] | None:
    """The objects of the mined images by their paths, where rows are made of them."""
    if mined is None or not contrast.images_per_pair or data.image.kind != "objects":
        return None
    if not labels_path(mined.images_dir).is_file():
        raise UserError(
            f"task.data.image.kind is objects, but {labels_path(mined.images_dir)} with those of "
            "the mined images does not exist; write it (docs/data.md), or set "
            "task.contrast.images_per_pair to 0"
        )
    return read_labelled_images(mined.images_dir)


def _no_image(config: ImageConfig, size: int) -> Sample:
    """Rows in place of an image: as many as convolutions over patches count on, all blank."""
    num_rows = config.num_rows if config.kind == "patches" else 2
    mask = np.zeros(num_rows, np.float32)
    mask[0] = 1.0  # something must be seen
    return {
        "region_features": np.zeros((num_rows, size), np.float32),
        "region_boxes": np.zeros((num_rows, 5), np.float32),
        "region_mask": mask,
    }


def _draw(known: Sequence[Any], count: int, rng: np.random.Generator) -> list[Any]:
    """``count`` of them, none twice; None where there are fewer."""
    return _fill([known[i] for i in rng.permutation(len(known))[:count]], count)


def _fill(found: list[Any], count: int) -> list[Any]:
    return [*found, *[None] * (count - len(found))]
