"""Records with an image, from JSON lines or the built-in scenes; what tasks on them share."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unimo_paddle.adversarial import IMAGE, Side
from unimo_paddle.data.fields import Field, Sample
from unimo_paddle.data.image_files import read_image
from unimo_paddle.data.images import (
    ImageConfig,
    Regions,
    choose_view,
    encode_regions,
    encode_view,
)
from unimo_paddle.data.objects import LabelledObject, encode_objects, parse_objects
from unimo_paddle.data.original_pairs import StoredRegions
from unimo_paddle.data.records import Fault, Folder, gather, parse_object, read_lines, text_of
from unimo_paddle.data.regions import RegionEntry, RegionStores
from unimo_paddle.data.regions.lookup import check_stores, possible_ids
from unimo_paddle.data.scenes import SceneConfig, ensure_scenes
from unimo_paddle.data.sequences import mark_ids, mark_text
from unimo_paddle.data.shards import split_member
from unimo_paddle.data.sources import parse_regions
from unimo_paddle.errors import BadSample, UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.tasks.finetuning import FineTuningDataConfig, FineTuningTask
from unimo_paddle.tasks.pooling import last_ids
from unimo_paddle.tasks.segments import check_image, image_inputs
from unimo_paddle.tasks.text_records import text_side

SOURCES = ("files", "original", "scenes")


@dataclass(frozen=True)
class LabelledImage:
    """A file or pixels [H, W, 3] uint8 RGB, with boxes of the objects in it."""

    pixels: Path | np.ndarray
    objects: tuple[LabelledObject, ...]


# A file, pixels [H, W, 3] uint8 RGB, either with labelled objects, or a detector's output, also in
# a store.
Image = Path | np.ndarray | LabelledImage | Regions | RegionEntry
Text = str | tuple[int, ...]  # or ids with their [CLS] and [SEP], as the original's files hold them


@dataclass(frozen=True)
class ImageDataConfig(FineTuningDataConfig):
    """Where records with images come from."""

    source: str = "files"  # files of JSON lines, files of the original, or the built-in scenes
    scenes_dir: str = "runs/data/scenes"  # folder of the built-in data, generated on first use
    scenes: SceneConfig = field(default_factory=SceneConfig)  # what the built-in data holds
    image: ImageConfig = field(default_factory=ImageConfig)
    regions: tuple[str, ...] = ()  # stores of regions, by prepare_data.py regions or extract
    max_text_length: int = 128  # tokens, [CLS] and [SEP] included; longer texts are cut

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source not in SOURCES:
            raise UserError(
                f"task.data.source is {self.source!r}; choose one of {', '.join(SOURCES)}"
            )
        if self.source == "original" and self.image.kind != "regions":
            raise UserError(
                "task.data.source original holds regions; set task.data.image.kind to regions"
            )
        check_stores(self.regions, self.source, self.image)
        if self.source == "scenes" and (self.train is not None or self.splits):
            raise UserError(
                "task.data.train and splits have no effect on task.data.source scenes; leave them "
                "out, or set the source to files"
            )
        if self.max_text_length < 4:  # three marks and a [MASK]
            raise UserError(f"task.data.max_text_length is {self.max_text_length}; give at least 4")


class ImageTask(FineTuningTask):
    """A task on such records; what it predicts is its own."""

    data: ImageDataConfig
    pooling: str = "first"  # of tasks with a head; tasks/pooling.py
    scenes_prefix: str  # of the built-in files for this task: {prefix}train.jsonl and so on

    def __init__(self, data: ImageDataConfig, model: ModelConfig, assets_dir: Path) -> None:
        super().__init__(data, model, assets_dir)
        self.data = data
        check_image(data.image, model)
        self.image_inputs = image_inputs(model.region_feature_size)

    @functools.cached_property
    def stores(self) -> RegionStores | None:
        """Where regions lie that the records do not hold; None where no store is named."""
        return RegionStores(self.data.regions, self.data.image) if self.data.regions else None

    @abstractmethod
    def parse_with(self, item: Mapping[str, Any], find: Callable[[str], Path]) -> Any:
        """The record of a JSON object.

        Args:
            find: turns the path that the object names into a file.
        """

    @abstractmethod
    def read_original(self, path: Path) -> Sequence[Any]:
        """The records of a file in the original's format."""

    def prepare(self, seed: int) -> None:
        """Generate the built-in data and make the vocabulary, where absent."""
        if self.data.source == "scenes":
            ensure_scenes(Path(self.data.scenes_dir), self.data.scenes)
        super().prepare(seed)

    def split_path(self, split: str) -> Path:
        """The file of a split."""
        if self.data.source != "scenes":
            return super().split_path(split)
        path = Path(self.data.scenes_dir) / f"{self.scenes_prefix}{split}.jsonl"
        if not path.is_file():
            raise UserError(f"the built-in data has no split {split!r} here; choose test")
        return path

    def read(self, path: Path) -> Sequence[Any]:
        """The records of a file of JSON lines, or of the original's format where that is set."""
        if self.data.source == "original":
            return self.read_original(path)
        folder = Folder(path.parent)
        return gather(
            path,
            read_lines(path),
            lambda line: self.parse_with(parse_object(line), folder.find),
            bad_record_limit=self.data.bad_record_limit,
        )

    def parse(self, item: Mapping[str, Any]) -> Any:
        """The record that a user gives to the predictor."""
        return self.parse_with(item, existing_file)

    def image_of(self, item: Mapping[str, Any], find: Callable[[str], Path]) -> Image:
        """The image of a JSON object."""
        return parse_image(item, find, self.data.image, self.stores)

    def image_of_original(self, name: str, regions: StoredRegions) -> StoredRegions | RegionEntry:
        """The image of a line of the original's files: in the stores, where there are any."""
        return regions if self.stores is None else self.stores.named(name, possible_ids(name))

    def encode_image(
        self,
        image: Image,
        rng: np.random.Generator | None = None,
        texts: Sequence[Text] = (),
    ) -> Sample:
        """The rows of an image; cropped and flipped where a generator is given.

        Args:
            texts: what is said of the image; one that names a side forbids the flip.
        """
        config = self.data.image
        if isinstance(image, Regions | RegionEntry):
            where = "regions" if isinstance(image, Regions) else image.where
            features, boxes = encode_regions(image.load(), config, where=where)
        else:
            pixels = image.pixels if isinstance(image, LabelledImage) else image
            where = str(pixels) if isinstance(pixels, Path) else "the given image"
            if isinstance(pixels, Path):
                pixels = read_image(
                    pixels, max_pixels=config.max_pixels, min_side=config.image_size
                )
            words = [text for text in texts if isinstance(text, str)]
            view = choose_view(pixels, config, rng=rng, captions=words)
            if isinstance(image, LabelledImage):
                features, boxes, _ = encode_objects(
                    pixels, view, image.objects, config, where=where
                )
            else:
                features, boxes = encode_view(pixels, view, config)
        mask = np.ones(len(features), np.float32)
        return {"region_features": features, "region_boxes": boxes, "region_mask": mask}

    def encode_text(self, text: Text) -> Sample:
        """``[CLS] text [SEP]``; with the pooling ``mask`` a [MASK] before the [SEP]."""
        is_text = isinstance(text, str)
        mark = mark_text if is_text else mark_ids
        return mark(
            self.tokenizer.encode(text) if is_text else text,
            self.data.max_text_length,
            first_position=self.model.first_position,
            last=last_ids(self.pooling, self.model),
        )


def parse_image(
    item: Mapping[str, Any],
    find: Callable[[str], Path],
    config: ImageConfig,
    stores: RegionStores | None,
) -> Image:
    """The image of a JSON object: its ``regions`` or its file, with ``objects`` if these count.

    Regions that it does not hold are looked for in the stores. From the predictor ``image`` may
    also be pixels.

    Args:
        find: turns the path that the object names into a file.
    """
    if config.kind == "regions":
        if stores is not None and not item.get("regions"):
            return stores.find(item)
        if not item.get("regions"):
            raise Fault(
                "'regions' is missing; give them, name a store that has them under "
                "task.data.regions, or use task.data.image.kind patches"
            )
        regions = parse_regions(item["regions"])
        try:
            # Known to be right here, where the line is known, and not only when it is encoded.
            encode_regions(regions, config, where="regions")
        except BadSample as bad:
            raise Fault(f"'regions': {bad.reason}") from None
        return regions
    is_array = isinstance(item.get("image"), np.ndarray)
    pixels = _checked(item["image"]) if is_array else find(text_of(item, "image"))
    if config.kind == "patches":
        return pixels
    objects = parse_objects(item.get("objects"))
    if not objects:
        raise Fault("'objects' is missing; give them, or use task.data.image.kind patches")
    return LabelledImage(pixels, objects)


def _checked(pixels: np.ndarray) -> np.ndarray:
    """The pixels; numbers from 0 to 1 would pass as a black image."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise Fault(
            f"'image' is {list(pixels.shape)} {pixels.dtype}; give pixels [H, W, 3] uint8 RGB"
        )
    return pixels


def existing_file(name: str) -> Path:
    """The image file of this path, which a user gives to the predictor."""
    path = Path(name)
    if not path.is_file() and split_member(path) is None:
        raise BadSample(name, "there is no such image file")
    return path


def perturbed_sides(model: ModelConfig) -> dict[str, Side]:
    """What can be perturbed of an image with a text: the embedded text and the region features."""
    image = Field("region_perturbation", (None, model.region_feature_size), "float32")
    return {**text_side(model), IMAGE: Side(image, "region_mask")}


def check_text_length(data: ImageDataConfig, model: ModelConfig) -> None:
    """Raise for texts that would leave the position embedding."""
    if data.max_text_length > model.max_text_length:
        raise UserError(
            f"task.data.max_text_length is {data.max_text_length}, but model.max_positions "
            f"{model.max_positions} holds texts of {model.max_text_length} tokens; lower it"
        )


def check_file_list(root: str | None, source: str) -> None:
    """Refuse a folder of the paths in a file list where there can be no such list."""
    if root is not None and source != "original":
        raise UserError(
            f"task.data.file_list_root has no effect on task.data.source {source}; leave it out"
        )


def check_ids(ids: Sequence[int], model: ModelConfig) -> None:
    """Raise a ``Fault`` for an id that the model does not have."""
    if ids and max(ids) >= model.vocab_size:
        raise Fault(f"id {max(ids)} is beyond model.vocab_size {model.vocab_size}")


def id_of(item: Mapping[str, Any], key: str = "id") -> str | None:
    """The ``id`` of a JSON object, or what else names it, where it has one."""
    value = item.get(key)
    if value is None or (isinstance(value, (str, int)) and not isinstance(value, bool)):
        return None if value is None else str(value)
    raise Fault(f"'{key}' must be text or a whole number, not {str(value)[:40]!r}")


def once_each(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same function for the lines of one file, where an ``id`` that occurred is a ``Fault``."""
    seen: set[str] = set()

    def parse_new(item: Any) -> Any:
        record = parse(item)
        if record.id is not None:
            if record.id in seen:
                raise Fault(f"id {record.id!r} occurred before")
            seen.add(record.id)
        return record

    return parse_new
