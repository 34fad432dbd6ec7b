"""What is predicted of regions: hidden features, classes, and names of labelled objects.

Classes are those of the detector where rows are its regions, and visual words of pixels.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from unimo_paddle.data.fields import Field, Sample
from unimo_paddle.data.images import View
from unimo_paddle.data.masking import mask_blocks, mask_regions
from unimo_paddle.data.objects import LabelledObject, ObjectNames
from unimo_paddle.data.publish import publish
from unimo_paddle.data.sources import ImageRecord, PairRecord
from unimo_paddle.data.visual_words import VisualWords
from unimo_paddle.errors import BadSample, UserError
from unimo_paddle.tasks.pretraining_fields import image_targets, object_targets
from unimo_paddle.tasks.pretraining_settings import ObjectiveWeights, PretrainingDataConfig

logger = logging.getLogger(__name__)

VISUAL_WORDS_NAME = "visual_words.npz"
OBJECT_NAMES_NAME = "object_names.json"
NUM_FIT_IMAGES = 500  # images whose patches define the visual words


class RegionTargets:
    """Hides regions and says what is predicted of them; knows the vocabularies of that."""

    def __init__(
        self,
        config: PretrainingDataConfig,
        assets_dir: Path,
        *,
        weights: ObjectiveWeights,
        uses_regions: bool,
    ) -> None:
        self.config = config
        self.weights = weights
        self.uses_regions = uses_regions
        self.visual_words: VisualWords | None = None
        self.object_names: ObjectNames | None = None
        self._load(assets_dir)

    # ---- vocabularies

    def _load(self, folder: Path) -> None:
        """Take the vocabularies that are there."""
        if (folder / VISUAL_WORDS_NAME).is_file():
            self.visual_words = VisualWords.load(folder / VISUAL_WORDS_NAME)
        if (folder / OBJECT_NAMES_NAME).is_file():
            self.object_names = ObjectNames.load(folder / OBJECT_NAMES_NAME)

    def prepare(
        self,
        read_pairs: Callable[[], Sequence[PairRecord]],
        path: Path,
        encode: Callable[[PairRecord], Sample],
        seed: int,
    ) -> None:
        """Find the visual words and the names of objects that are needed and absent.

        Args:
            read_pairs: called only where something is absent.
            path: the file of the pairs.
            encode: from a pair to the rows of its image.
        """
        if self.visual_words is None and self._needs_visual_words:
            rows = self._rows_to_fit(read_pairs(), encode, seed)
            if not rows:
                raise UserError(f"no image of {path} can be read; check the files")
            number = self.config.num_visual_words
            self.visual_words = VisualWords.fit(np.concatenate(rows), number, seed)
        if self.object_names is None and self.weights.object_names:
            self.object_names = ObjectNames.count(
                (record.objects for record in read_pairs()), self.config.num_object_names
            )
            if not self.object_names:
                raise UserError(
                    f"task.weights.object_names is {self.weights.object_names:g} but no pair of "
                    f"{path} has labelled objects; give some the key 'objects' (docs/data.md), "
                    "or set it to 0"
                )

    @property
    def _needs_visual_words(self) -> bool:
        return self.config.image.kind != "regions" and bool(self.weights.region_classification)

    def _rows_to_fit(
        self, pairs: Sequence[PairRecord], encode: Callable[[PairRecord], Sample], seed: int
    ) -> list[np.ndarray]:
        rng = np.random.default_rng((seed, zlib.crc32(b"visual words")))
        rows = []
        for index in rng.permutation(len(pairs))[:NUM_FIT_IMAGES]:
            try:
                rows.append(encode(pairs[index])["region_features"][1:])
            except BadSample:
                continue  # the loader will count and name it
        return rows

    def save(self, folder: Path) -> None:
        """Write the vocabularies that are not there yet, and take those that are.

        Of several processes the first to write counts: on another machine clusters differ.
        """
        for name, vocabulary in (
            (VISUAL_WORDS_NAME, self.visual_words),
            (OBJECT_NAMES_NAME, self.object_names),
        ):
            if vocabulary is not None:
                publish(folder / name, vocabulary.save)
        self._load(folder)

    @property
    def num_classes(self) -> int:
        """Classes of region classification."""
        is_regions = self.config.image.kind == "regions"
        return self.config.num_region_classes if is_regions else self.config.num_visual_words

    @property
    def num_object_names(self) -> int:
        """Names of objects; 0 before they are counted and where nothing is learnt of them."""
        return len(self.object_names or ())

    # ---- fields and samples

    def fields(self) -> tuple[Field, ...]:
        """What is predicted of the regions of any image."""
        if not self.uses_regions:
            return ()
        has_distributions = self.config.image.kind == "regions"
        return image_targets(self.num_classes if has_distributions else 0)

    def object_fields(self) -> tuple[Field, ...]:
        """What is named in an image of a pair."""
        return object_targets(self.num_object_names) if self.weights.object_names else ()

    def hide(self, image: Sample, record: ImageRecord, rng: np.random.Generator) -> Sample:
        """Draw which regions of an encoded image are hidden, and give what they were."""
        shown = np.ones(len(image["region_features"]), np.float32)
        targets = self._hide(image, record, rng) if self.uses_regions else {}
        if "named_objects" in image:
            shown -= targets.get("hidden_regions", 0.0)
            targets["name_weights"] = image["named_objects"].any(axis=1) * shown[1:]
        return targets

    def _hide(self, image: Sample, record: ImageRecord, rng: np.random.Generator) -> Sample:
        masking = self.config.region_masking
        if self.config.image.kind == "patches":
            hidden = mask_blocks(self.config.image.grid_size, rng, masking)
        else:
            hidden = mask_regions(image["region_boxes"], rng, masking)
        positions = np.flatnonzero(hidden)
        return {
            "hidden_regions": hidden.astype(np.float32),
            "region_positions": positions,
            "region_labels": self._labels(image["region_features"], record, positions),
            "region_weights": np.ones(len(positions), np.float32),
        }

    def _labels(
        self, features: np.ndarray, record: ImageRecord, positions: np.ndarray
    ) -> np.ndarray:
        """Visual words [P], or the detector's distributions [P, C], of the rows at positions."""
        if self.config.image.kind != "regions":
            if self.visual_words is None:
                return np.zeros(len(positions), np.int64)
            return self.visual_words.assign(features[positions])
        if not self.weights.region_classification:
            return np.zeros((len(positions), self.num_classes), np.float32)
        probabilities = record.regions.load().class_probabilities
        if probabilities is None or probabilities.shape[1:] != (self.num_classes,):
            what = "no class_probabilities"
            if probabilities is not None:
                what = f"class_probabilities of shape {list(probabilities.shape)}"
            raise BadSample(
                str(record.image),
                f"the regions have {what}, expected [n, {self.num_classes}]; mend them, or set "
                "task.data.num_region_classes, or task.weights.region_classification to 0",
            )
        return probabilities[positions - 1]  # row 0, the whole image, is never hidden

    def name_patches(
        self, objects: Sequence[LabelledObject], view: View, size: tuple[int, int]
    ) -> Sample:
        """What labels name in each cell of a view; ``size`` is the image's height and width."""
        if not self._names_objects:
            return {}
        centres, reach = view.cells(self.config.image.grid_size, size)
        return {"named_objects": self.object_names.at(centres, reach, objects)}

    def name_rows(self, objects: Sequence[LabelledObject]) -> Sample:
        """The names of objects that have a row each."""
        return {"named_objects": self.object_names.of(objects)} if self._names_objects else {}

    @property
    def _names_objects(self) -> bool:
        """Whether names are learnt, and known; they are not while they are being counted."""
        return bool(self.weights.object_names) and self.object_names is not None
