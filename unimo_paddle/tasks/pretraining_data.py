"""The host half of pre-training: records of three streams become samples.

Fields of the pairs carry no prefix, those of single texts and images are prefixed with the name
of their stream. What is hidden is drawn here; the graph zeroes and predicts it.
"""

from __future__ import annotations

import functools
import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from unimo_paddle import distributed
from unimo_paddle.data.fields import Field, Sample, collate
from unimo_paddle.data.image_files import read_image
from unimo_paddle.data.images import choose_view, encode_regions, encode_view
from unimo_paddle.data.leaks import check_leaks
from unimo_paddle.data.loader import Stream
from unimo_paddle.data.objects import encode_objects
from unimo_paddle.data.scenes import IMAGES_ONLY, ensure_image_objects, ensure_scenes
from unimo_paddle.data.sources import (
    ImageRecord,
    PairRecord,
    read_images,
    read_labelled_images,
    read_pairs,
    read_statements,
    read_stored_images,
    read_texts,
)
from unimo_paddle.data.text import Tokenizer, split_at_words
from unimo_paddle.errors import BadSample, UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.tasks.pretraining_candidates import Candidates, list_mined, training_candidates
from unimo_paddle.tasks.pretraining_fields import (
    GROUP,
    candidate_inputs,
    caption_inputs,
    prefix_sample,
    prefixed,
)
from unimo_paddle.tasks.pretraining_regions import RegionTargets
from unimo_paddle.tasks.pretraining_settings import (
    ContrastConfig,
    ObjectiveWeights,
    PretrainingDataConfig,
)
from unimo_paddle.tasks.pretraining_words import WordTargets
from unimo_paddle.tasks.segments import TEXT_INPUTS, check_image, image_inputs
from unimo_paddle.tasks.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


class PretrainingEncoder:
    """Reads the sources and turns records into samples; knows the vocabularies."""

    def __init__(
        self,
        config: PretrainingDataConfig,
        model: ModelConfig,
        assets_dir: Path,
        *,
        weights: ObjectiveWeights,
        contrast: ContrastConfig,
        uses_regions: bool,
        uses_language: bool,
    ) -> None:
        check_image(config.image, model)
        self.config = config
        self.model = model
        self.weights = weights
        self.contrast = contrast
        self.uses_language = uses_language
        self.assets_dir = assets_dir
        self.open_stores = functools.cache(config.open_stores)
        self.vocabulary = Vocabulary(config.tokenizer, model, assets_dir)
        self.targets = RegionTargets(config, assets_dir, weights=weights, uses_regions=uses_regions)
        self.words = WordTargets(config, model, weights=weights, uses_language=uses_language)

    # ---- assets

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer, as soon as there is one."""
        return self.vocabulary.tokenizer

    def prepare(self, seed: int) -> None:
        """Generate the built-in data and make the vocabularies, where absent."""
        if self.config.source == "scenes":
            ensure_scenes(Path(self.config.scenes_dir), self.config.scenes)
            if self.config.image.kind == "objects":
                ensure_image_objects(self._images_dir)
        elif self.config.splits and not self.config.allow_leaks and distributed.rank() == 0:
            is_stored = self.config.image.kind == "regions"
            check_leaks(
                self.config.pairs,
                list(self.config.splits.values()),
                images=None if is_stored else self.config.images,
                stored=self.config.images if is_stored else None,
                texts=self.config.texts,
                statements=self.config.statements,
                mined=list_mined(self.contrast, self.config, self.read_pairs),
                stores=self.open_stores(),
                remedy="take them out of the data, or set task.data.allow_leaks",
            )
        self.vocabulary.prepare(self._corpus)
        self.targets.prepare(self.read_pairs, self._pairs_path, self.encode_image, seed)
        self.save_assets(self.assets_dir)

    def _corpus(self) -> list[str]:
        """What a vocabulary is trained on."""
        captions = [caption for record in self.read_pairs() for caption in record.captions]
        said = [text for record in self.read_statements() for text in record.captions]
        return [*captions, *self.read_texts(), *said]

    def save_assets(self, folder: Path) -> None:
        """Write the vocabularies of texts and of regions."""
        self.vocabulary.save(folder)
        self.targets.save(folder)

    # ---- sources

    @property
    def _pairs_path(self) -> Path:
        if self.config.source == "scenes":
            return Path(self.config.scenes_dir) / "train.jsonl"
        return Path(self.config.pairs)

    def read_pairs(self) -> Sequence[PairRecord]:
        """The pairs to train on."""
        return read_pairs(self._pairs_path, stores=self.open_stores())

    def read_texts(self) -> Sequence[str]:
        """The texts without images; may be empty."""
        if self.config.source == "scenes":
            return read_texts([Path(self.config.scenes_dir) / "texts.txt"])
        return read_texts([Path(path) for path in self.config.texts]) if self.config.texts else []

    def read_statements(self) -> Sequence[PairRecord]:
        """What is asked and said of images; may be empty."""
        return read_statements(self.config.statements)

    def read_split(self, split: str) -> Sequence[PairRecord]:
        """The pairs of a split to evaluate on."""
        if self.config.source == "scenes":
            path = Path(self.config.scenes_dir) / f"{split}.jsonl"
            if not path.is_file():
                raise UserError(f"split {split!r} is unknown; choose test or test_novel")
            return read_pairs(path)
        if split not in self.config.splits:
            known = ", ".join(self.config.splits) or "none is set"
            raise UserError(
                f"split {split!r} is not under task.data.splits ({known}); add it there"
            )
        return read_pairs(Path(self.config.splits[split]), stores=self.open_stores())

    @property
    def _images_dir(self) -> Path | None:
        """The folder of images without captions."""
        if self.config.source == "scenes":
            return Path(self.config.scenes_dir) / IMAGES_ONLY
        return Path(self.config.images) if self.config.images else None

    def _read_images(self) -> Sequence[ImageRecord]:
        folder, kind = self._images_dir, self.config.image.kind
        if kind == "patches":
            return read_images(folder) if folder else [record.image for record in self.read_pairs()]
        if kind == "objects" and folder:
            return list(read_labelled_images(folder).values())
        stored = kind == "regions" and self.config.images
        return read_stored_images(stored) if stored else self.read_pairs()

    # ---- streams

    def training_streams(self, sizes: Mapping[str, int]) -> tuple[Stream, ...]:
        """A stream for each entry of ``sizes``, which are named as in the mixture."""
        streams = [self._pair_stream(self.read_pairs(), sizes["pairs"], is_training=True)]
        if "texts" in sizes:
            streams.append(self._text_stream(sizes["texts"]))
        if "statements" in sizes:
            streams.append(self._statement_stream(sizes["statements"]))
        if "images" in sizes:
            images, fields = self._read_images(), self.masked_fields("images")
            streams.append(
                Stream("images", images, self._encode_single_image, fields, sizes["images"])
            )
        return tuple(streams)

    def pair_stream(self, split: str, batch_size: int) -> Stream:
        """The pairs of a split, without augmentation."""
        return self._pair_stream(self.read_split(split), batch_size, is_training=False)

    def joint_stream(self, records: Sequence[PairRecord]) -> Stream:
        """Images beside their first captions, for the views: nothing hidden, regions chosen."""
        stream = self._pair_stream(records, len(records), is_training=False)
        return replace(stream, fields=(*TEXT_INPUTS, *self.inputs(), *self.targets.fields()))

    def _pair_stream(
        self, records: Sequence[PairRecord], batch_size: int, *, is_training: bool
    ) -> Stream:
        count = self.config.captions_per_image if is_training else 1
        fields = self.pair_fields(count)
        ids = self._caption_ids(records)
        if is_training:
            candidates = training_candidates(self.contrast, self, records, self._pairs_path)
        else:
            candidates = Candidates(self.contrast, self, records)

        def encode(number: int, rng: np.random.Generator) -> Sample:
            known = len(ids[number])
            order = rng.permutation(known) if is_training else np.arange(known)
            chosen = [int(i) for i in np.resize(order, count)]
            drawn, record = candidates.draw(number, chosen[0], rng), records[number]
            texts = [record.captions[i] for i in chosen]
            captions = [ids[number][i] for i in chosen]
            # What the image is like may be told by what it is contrasted with, too.
            view_rng, told = rng if is_training else None, [*texts, *drawn.told]
            found = self.encode_image(record, view_rng, told)
            found |= self._encode_pair(found, record, texts, captions, rng)
            return found | candidates.encode(drawn, texts, rng)

        return Stream("pairs", range(len(records)), encode, fields, batch_size)

    def _caption_ids(self, records: Sequence[PairRecord]) -> list[list[list[int]]]:
        flat = [caption for record in records for caption in record.captions]
        encoded = iter(self.tokenizer.encode_batch(flat))
        return [[next(encoded) for _ in record.captions] for record in records]

    def _text_stream(self, batch_size: int) -> Stream:
        texts = self.read_texts()
        if not texts:
            raise UserError(
                "task.mixture.texts has a share but task.data.texts names no file; give one or "
                "set task.mixture.texts to 0"
            )
        pieces = [
            piece
            for ids in self.tokenizer.encode_batch(texts)
            for piece in split_at_words(ids, self.tokenizer.opens_word, self.words.fragment_room)
        ]
        lengths = np.array([len(piece) for piece in pieces])
        fields = self.masked_fields("texts")
        return Stream("texts", pieces, self._encode_single_text, fields, batch_size, lengths)

    def _statement_stream(self, batch_size: int) -> Stream:
        records = self.read_statements()
        if not records:
            raise UserError(
                "task.mixture.statements has a share but task.data.statements names no file; give "
                "one or set task.mixture.statements to 0"
            )
        fields = self.masked_fields("statements")
        return Stream("statements", records, self._encode_statements, fields, batch_size)

    def image_stream(self, records: Sequence[PairRecord]) -> Stream:
        """The images of the records alone, for ``embed_images``."""
        return Stream(
            "images", records, lambda record, rng: self.encode_image(record), self.inputs(), 64
        )

    def caption_stream(self, records: Sequence[PairRecord]) -> Stream:
        """All captions of the records in order, for ``embed_texts``."""
        return self.text_stream([caption for record in records for caption in record.captions])

    def text_stream(self, texts: Sequence[str]) -> Stream:
        """Texts alone, for ``embed_texts``."""
        return Stream("texts", texts, lambda text, rng: self.encode_text(text), TEXT_INPUTS, 256)

    def inputs(self) -> tuple[Field, ...]:
        """The fields of an image."""
        return image_inputs(self.model.region_feature_size)

    def pair_fields(self, num_captions: int) -> tuple[Field, ...]:
        """What a pair holds with so many captions, and its candidates."""
        extra = candidate_inputs(self.contrast, self.model.region_feature_size)
        return (*self.masked_fields("pairs"), GROUP, *caption_inputs(num_captions), *extra)

    def masked_fields(self, stream: str) -> tuple[Field, ...]:
        """What the objectives on hidden words and regions read of a stream."""
        if stream == "texts":
            return prefixed("texts_", self.words.fields())
        image = (*self.inputs(), *self.targets.fields())
        if stream == "images":
            return prefixed("images_", image)
        fields = (*self.targets.fields(), *self.targets.object_fields())
        is_read = fields or self.uses_language  # else nothing is encoded jointly
        fields = (*self.inputs(), *fields, *(self.words.fields() if is_read else ()))
        return prefixed("statements_", fields) if stream == "statements" else fields

    # ---- encoding

    def encode_text(self, text: str) -> Sample:
        """A text alone: [CLS] words [SEP]."""
        return self.words.mark(self.tokenizer.encode(text), self.tokenizer)

    def encode_image(
        self,
        image: ImageRecord | np.ndarray,
        rng: np.random.Generator | None = None,
        captions: Sequence[str] = (),
    ) -> Sample:
        """An image alone, from a record, a file or pixels [H, W, 3] uint8 RGB."""
        config, is_record = self.config.image, not isinstance(image, Path | str | np.ndarray)
        pixels = image.image if is_record else image
        where = str(pixels) if isinstance(pixels, str | Path) else "the given image"
        named: Sample = {}
        if config.kind == "regions":
            regions = getattr(image, "regions", None)
            if regions is None:
                raise BadSample(where, "the record has no regions; use kind: patches")
            features, boxes = encode_regions(regions.load(), config, where=where)
        else:
            if isinstance(pixels, str | Path):
                pixels = read_image(
                    Path(pixels), max_pixels=config.max_pixels, min_side=config.image_size
                )
            view = choose_view(pixels, config, rng=rng, captions=captions)
            if config.kind == "objects":
                labelled = image.objects if is_record else ()
                features, boxes, shown = encode_objects(pixels, view, labelled, config, where=where)
                named = self.targets.name_rows(shown)
            else:
                features, boxes = encode_view(pixels, view, config)
                if is_record:
                    named = self.targets.name_patches(image.objects, view, pixels.shape[:2])
        mask = np.ones(len(features), np.float32)
        return {"region_features": features, "region_boxes": boxes, "region_mask": mask, **named}

    def _encode_pair(
        self,
        image: Sample,
        record: PairRecord,
        texts: Sequence[str],
        captions: Sequence[Sequence[int]],
        rng: np.random.Generator,
    ) -> Sample:
        """Beside an image some of its captions; the first of them is also seen jointly."""
        sample = self.targets.hide(image, record, rng)
        marked = [self.words.mark(ids, self.tokenizer) for ids in captions]
        sample |= marked[0] | prefix_sample("caption_", collate(marked, TEXT_INPUTS))
        sample |= self._hide_words(captions[0], rng)
        sample["group"] = np.int64(record.group)
        sample["caption_group"] = np.array([zlib.crc32(text.encode()) for text in texts], np.int64)
        return sample

    def _encode_statements(self, record: PairRecord, rng: np.random.Generator) -> Sample:
        """An image with all that is said of it as one text, in any order."""
        said = [record.captions[i] for i in rng.permutation(len(record.captions))]
        sample = self.encode_image(record, rng, said)
        sample |= self.targets.hide(sample, record, rng)
        sample |= self._hide_words(self.tokenizer.encode(" ".join(said)), rng)
        return prefix_sample("statements_", sample)

    def _encode_single_text(self, ids: Sequence[int], rng: np.random.Generator) -> Sample:
        return prefix_sample("texts_", self._hide_words(ids, rng))

    def _encode_single_image(self, image: ImageRecord, rng: np.random.Generator) -> Sample:
        sample = self.encode_image(image, rng)
        return prefix_sample("images_", sample | self.targets.hide(sample, image, rng))

    def _hide_words(self, ids: Sequence[int], rng: np.random.Generator) -> Sample:
        return self.words.hide(ids, self.tokenizer, rng)
