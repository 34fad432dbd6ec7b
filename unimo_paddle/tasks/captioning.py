"""Captions of images, COCO: written from the rows of an image and the names of its objects.

Rows and names see each other; a word of the caption sees them and the words before it. A caption
is judged by how likely it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from paddle import Tensor

from unimo_paddle.adversarial import AdversarialConfig, PerturbedLoss
from unimo_paddle.data.fields import Sample
from unimo_paddle.data.image_files import read_image
from unimo_paddle.data.original_pairs import (
    OriginalCaption,
    StoredRegions,
    read_captions,
    read_objects,
)
from unimo_paddle.data.records import Fault, check_text, texts_of
from unimo_paddle.data.regions import RegionEntry
from unimo_paddle.data.regions.lookup import IMAGE_ID
from unimo_paddle.data.scenes import are_sayable
from unimo_paddle.data.sequences import append_target
from unimo_paddle.data.text import CLS_ID, SEP_ID
from unimo_paddle.errors import UserError
from unimo_paddle.metrics.cider import cider_d
from unimo_paddle.metrics.intervals import mean_with_interval
from unimo_paddle.models import ModelConfig
from unimo_paddle.models.rows import pool_rows
from unimo_paddle.models.search import GenerationConfig
from unimo_paddle.pictures import caption_sheet
from unimo_paddle.tasks.base import Arrays, Service, TaskConfig, Tensors
from unimo_paddle.tasks.finetuning import Prediction
from unimo_paddle.tasks.image_records import (
    Image,
    ImageDataConfig,
    ImageTask,
    LabelledImage,
    Text,
    check_file_list,
    check_ids,
    id_of,
    once_each,
    perturbed_sides,
)
from unimo_paddle.tasks.language import (
    LanguageConfig,
    LanguageNetwork,
    language_terms,
    measure_likelihood,
    perturbed_language,
)
from unimo_paddle.tasks.segments import TAG_INPUTS, TARGETS, TEXT_INPUTS, TEXT_ORDER
from unimo_paddle.tasks.writing import WritingTask

EMBED_IMAGES = "embed_images"  # name of a view
NUM_DRAWN = 8  # images whose captions are shown
TILE_SIZE = 256  # pixels that photographs are read with at least, to be shown


@dataclass(frozen=True)
class CaptionDataConfig(ImageDataConfig):
    """Where images with captions come from: JSON lines or the original's files.

    Captions are cut by ``language.max_target_length``; ``max_text_length`` has no effect on them.
    """

    with_tags: bool = True  # encode the names of objects between image and caption
    max_tags: int = 64  # tokens of those names, [CLS] and [SEP] included; the rest is cut off
    objects: str | None = None  # the original's file of those names; none: the lines' own "tags"
    file_list_root: str | None = None  # folder of the paths in a file list; none: the list's own

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_tags < 1:
            raise UserError(f"task.data.max_tags is {self.max_tags}; give at least 1")
        check_file_list(self.file_list_root, self.source)
        if self.objects is not None and not (self.source == "original" and self.with_tags):
            raise UserError(
                "task.data.objects needs task.data.source original and task.data.with_tags true; "
                "leave it out"
            )


@TaskConfig.register_subclass("captioning")
@dataclass(frozen=True)
class CaptioningConfig(TaskConfig):
    """A sentence for each image."""

    data: CaptionDataConfig = field(default_factory=CaptionDataConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)

    def build(self, model: ModelConfig, assets_dir: Path) -> CaptioningTask:
        """Make the task for a model of these sizes."""
        return CaptioningTask(self, model, assets_dir)


@dataclass(frozen=True)
class CaptionRecord:
    """An image and one sentence about it.

    Args:
        image_id: equal for records of the same image, so all its captions can be found.
        caption: None where it is to be written.
        tags: names of objects in the image; empty where none are known.
        id: of the caption.
    """

    image: Image | StoredRegions
    image_id: str | None
    caption: Text | None = None
    tags: Text = ""
    id: str | None = None


class CaptioningTask(WritingTask, ImageTask):
    """See the module."""

    data: CaptionDataConfig
    targets = ()  # a caption is part of what is encoded
    scenes_prefix = ""

    def __init__(self, config: CaptioningConfig, model: ModelConfig, assets_dir: Path) -> None:
        super().__init__(
            config.data,
            model,
            assets_dir,
            language=config.language,
            generation=config.generation,
        )
        self.config = config
        self.data = config.data
        tags = TAG_INPUTS if self.data.with_tags else ()
        self.encoded = (*self.image_inputs, *tags, *TEXT_INPUTS, TEXT_ORDER)
        self.inputs = (*self.encoded, *TARGETS)
        lengths = {
            "task.data.max_tags": self.data.max_tags if self.data.with_tags else 0,
            "task.language.max_target_length": config.language.max_target_length,
        }
        for name, length in lengths.items():
            if length > model.max_text_length:
                raise UserError(
                    f"{name} is {length}, but model.max_positions {model.max_positions} holds "
                    f"texts of {model.max_text_length} tokens; lower it"
                )

    # ---- host half

    def read(self, path: Path) -> Sequence[CaptionRecord]:
        """A record for each caption of a file of JSON lines or of the original's format."""
        records = []
        for number, images_records in enumerate(super().read(path)):
            for record in images_records:
                image_id = f"image {number}" if record.image_id is None else record.image_id
                records.append(replace(record, image_id=image_id))
        is_tagged = any(record.tags for record in records)
        if self.data.with_tags and self.data.source == "files" and self.stores and not is_tagged:
            self.stores.warn_of_missing_names(path)
        return records

    def read_original(self, path: Path) -> Sequence[tuple[CaptionRecord]]:
        """The captions of a file in the original's format, or of all files that it lists."""
        root, limit = self.data.file_list_root, self.data.bad_record_limit
        objects = self.data.objects
        tags = read_objects(Path(objects), bad_record_limit=limit) if objects else {}
        parse = once_each(lambda line: self._record_of_original(line, tags))
        return read_captions(
            path,
            lambda line: (parse(line),),
            root=Path(root) if root else None,
            bad_record_limit=limit,
        )

    def _record_of_original(
        self, line: OriginalCaption, tags: Mapping[str, tuple[int, ...]]
    ) -> CaptionRecord:
        names = tags.get(line.image_id, ())
        check_ids(line.ids, self.model)
        check_ids(names, self.model)
        image = self.image_of_original(line.image_id, line.regions)
        return CaptionRecord(image, line.image_id, line.ids or None, names, line.id or None)

    def parse(self, item: Mapping[str, Any]) -> CaptionRecord:
        """The record that a user gives to the predictor: an image with at most one caption."""
        records = super().parse(item)
        if len(records) > 1:
            raise Fault(f"{len(records)} captions; give one item for each")
        return records[0]

    def parse_with(
        self, item: Mapping[str, Any], find: Callable[[str], Path]
    ) -> tuple[CaptionRecord, ...]:
        """A record of each of ``captions``, or of the one ``caption``, with tags."""
        if item.get("caption") is not None:
            captions: tuple[str | None, ...] = (check_text(item["caption"], "caption"),)
        else:
            captions = texts_of(dict(item), "captions") or (None,)
        image = self.image_of(item, find)
        tags = " ".join(texts_of(dict(item), "tags") or self._stored_tags(image))
        name = item.get("image")
        image_id = id_of(item) or id_of(item, IMAGE_ID)
        image_id = image_id or (name if isinstance(name, str) else None)
        return tuple(CaptionRecord(image, image_id, caption, tags) for caption in captions)

    def _stored_tags(self, image: Image) -> list[str]:
        """Names of objects where the image lies in a store that knows them."""
        has_tags = self.data.with_tags and isinstance(image, RegionEntry)
        return image.tags() if has_tags else []

    def texts(self, record: CaptionRecord) -> Iterable[str]:
        """Caption and names of objects, where they are text and not ids."""
        return [text for text in (record.caption, record.tags) if text and isinstance(text, str)]

    def encode(self, record: CaptionRecord, rng: np.random.Generator | None = None) -> Sample:
        """Rows, names of objects and ``[CLS] caption [SEP]``; a caption that is missing is empty.

        A caption that is too long keeps its [SEP]; names that are too many lose theirs.
        """
        said = [] if record.caption is None else [record.caption]
        return self._encode_source(record, rng, said) | self.encode_caption(record.caption or ())

    def begin(self, record: CaptionRecord, prefix: str = "") -> Sample:
        """Rows, names of objects and the beginning of a caption."""
        return self._encode_source(record) | self.begin_target(_no_text(), prefix)

    def _encode_source(
        self,
        record: CaptionRecord,
        rng: np.random.Generator | None = None,
        said: Sequence[Text] = (),
    ) -> Sample:
        tags = self._encode_tags(record.tags) if self.data.with_tags else {}
        if isinstance(record.image, StoredRegions):
            return record.image.encode(self.encode_image) | tags
        return self.encode_image(record.image, rng, said) | tags

    @property
    def end_token(self) -> int:
        """[SEP], as in the original."""
        return SEP_ID

    def encode_caption(self, caption: Text) -> Sample:
        """``[CLS] caption [SEP]``, and what is predicted where."""
        longest = self.config.language.max_target_length
        ids = self.tokenizer.encode(caption) if isinstance(caption, str) else caption[1:-1]
        return append_target(
            _no_text(),
            ids[: longest - 2],
            longest,
            end_id=self.end_token,
            first_position=self.model.first_position,
        )

    def _encode_tags(self, tags: Text) -> Sample:
        ids = tags
        if isinstance(tags, str):
            ids = [CLS_ID, *self.tokenizer.encode(tags), SEP_ID] if tags else []
        ids = np.array(ids[: self.data.max_tags], np.int64)
        return {
            "tag_ids": ids,
            "tag_positions": np.arange(len(ids)) + self.model.first_position,
            "tag_mask": np.ones(len(ids), np.float32),
        }

    def encode_targets(self, record: CaptionRecord) -> Sample:
        """Nothing: the caption is part of what is encoded."""
        return {}

    def is_labelled(self, record: CaptionRecord) -> bool:
        """Whether the record has a caption."""
        return record.caption is not None

    def length(self, record: CaptionRecord) -> int:
        """Characters or ids of the caption: images differ little."""
        return len(record.caption or ())

    def predictions(self, split: str, serve: Callable[..., Arrays]) -> list[Prediction]:
        """As every task's, with the ``image_id`` and, where there is one, the caption's ``id``."""
        records = self.read_split(split)
        predictions = []
        for prediction in super().predictions(split, serve):
            record = records[prediction["index"]]
            names = {"image_id": record.image_id} | ({"id": record.id} if record.id else {})
            predictions.append({"index": prediction["index"], **names, **prediction})
        return predictions

    def target_text(self, record: CaptionRecord) -> str | None:
        """The caption in words."""
        if record.caption is None or isinstance(record.caption, str):
            return record.caption
        return self.tokenizer.decode(record.caption)

    def references(self, records: Sequence[CaptionRecord]) -> dict[int, list[str]]:
        """All captions of an image, by the index of its first record."""
        first: dict[str | None, int] = {}
        captions: dict[int, list[str]] = defaultdict(list)
        for index, record in enumerate(records):
            text = self.target_text(record)
            if text is not None:
                captions[first.setdefault(record.image_id, index)].append(text)
        return dict(captions)

    def group_of(self, record: CaptionRecord, place: int) -> Hashable:
        """The image: its captions succeed and fail together."""
        return record.image_id

    def measure(
        self, predictions: Sequence[Prediction], records: Sequence[CaptionRecord]
    ) -> dict[str, float]:
        """Nats a token and perplexity of the true captions, and of the first of each image."""
        metrics = super().measure(predictions, records)
        numbered = [(record.image_id, place) for place, record in enumerate(records)]
        places = dict(reversed(numbered))  # the first of each image is set last
        if len(places) < len(records):
            first = measure_likelihood([predictions[place] for place in places.values()])
            ends = ("", "_low", "_high")
            metrics |= {f"nats_per_token_of_first{x}": first[f"nats_per_token{x}"] for x in ends}
        return metrics

    def compare(
        self,
        hypotheses: Sequence[Sequence[str]],
        references: Sequence[Sequence[Sequence[str]]],
        groups: Sequence[Hashable] | None = None,
    ) -> dict[str, float]:
        """BLEU, COCO's ROUGE-L and CIDEr-D."""
        scores = mean_with_interval("cider_d", cider_d(hypotheses, references), groups)
        return super().compare(hypotheses, references, groups) | scores

    def judge(self, split: str, written: Sequence[tuple[CaptionRecord, str]]) -> dict[str, float]:
        """Of the built-in scenes: the share of captions that are true."""
        if self.data.source != "scenes":
            return {}
        captions = {record.image_id: text for record, text in written}
        return mean_with_interval("true_captions", are_sayable(self.split_path(split), captions))

    def source_of(self, record: CaptionRecord, index: int) -> str | None:
        """The image: a text is written once for all its captions."""
        return record.image_id

    def pictures(self, split: str, serve: Callable[..., Arrays]) -> dict[str, np.ndarray]:
        """The first images of a split with what is written about them."""
        firsts = {record.image_id: record for record in reversed(self.read_split(split))}
        records = [x for x in reversed(firsts.values()) if _pixels_of(x.image) is not None]
        records = records[:NUM_DRAWN]
        if not records:
            return {}
        texts = self.texts_of(records, serve)
        images = [_drawn(records[index].image) for index in texts]
        sheet = caption_sheet(images, [made["text"] for made in texts.values()])
        return {"captions": sheet}

    # ---- graph half

    @property
    def views(self) -> tuple[Service, ...]:
        """What the model makes of an image alone; images are compared by it."""
        return (Service(EMBED_IMAGES, self.image_inputs, _mean_row),)

    def build_network(self) -> LanguageNetwork:
        """Make the Transformer with the language head."""
        return LanguageNetwork(self.model, self.encoded, with_images=True)

    def loss(self, network: LanguageNetwork, batch: Tensors) -> dict[str, Tensor]:
        """The smoothed cross entropy of the caption's words."""
        return language_terms(network(batch), batch, self.config.language)

    def perturbed_loss(self) -> PerturbedLoss | None:
        """The same loss of perturbed inputs too, where that is configured."""
        return perturbed_language(
            self.config.adversarial, perturbed_sides(self.model), self.config.language
        )


def _mean_row(network: LanguageNetwork, batch: Tensors) -> dict[str, Tensor]:
    """The mean [B, D] of an image's rows."""
    encoding = network.transformer(**batch)
    return {"image_features": pool_rows(encoding.regions, batch["region_mask"])}


def _drawn(image: Image | StoredRegions) -> np.ndarray:
    pixels = _pixels_of(image)
    return pixels if isinstance(pixels, np.ndarray) else read_image(pixels, min_side=TILE_SIZE)


def _pixels_of(image: Image | StoredRegions) -> Path | np.ndarray | None:
    """What can be drawn of an image; nothing of regions."""
    if isinstance(image, LabelledImage):
        return image.pixels
    return image if isinstance(image, (Path, np.ndarray)) else None


def _no_text() -> Sample:
    """The text before a caption."""
    nothing = np.zeros(0, np.int64)
    return {
        "input_ids": nothing,
        "position_ids": nothing,
        "text_mask": np.zeros(0, np.float32),
        "text_order": nothing,
    }
