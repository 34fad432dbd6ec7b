"""What is counted of imported records: how many, how long, of which class, what is missing."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unimo_paddle.data.formats.image_folder import MissingImage
from unimo_paddle.data.formats.items import Record
from unimo_paddle.data.records import Fault, Tally
from unimo_paddle.data.text import Tokenizer
from unimo_paddle.errors import UserError

NUM_SHOWN = 6  # records on the page
NUM_ENCODED = 2000  # records whose texts are counted in tokens
NUM_LISTED = 1000  # bad records and missing images that are listed
VOCABULARY = ("unimo_en.encoder.json", "unimo_en.vocab.bpe", "unimo_en.vocab.txt")


@dataclass(frozen=True)
class TextColumn:
    """A column of texts, and how many tokens of one the recipe lets the model see.

    Args:
        name: key of a text or of a list of texts.
        limit: the recipe's, its marks included; None where nothing is cut.
        setting: that sets the limit.
        num_marks: tokens of the limit that are no words.
        separator: between texts that stand in one; it stays as it is in lower case.
    """

    name: str
    limit: int | None = None
    setting: str = ""
    num_marks: int = 2
    separator: str = ""


@dataclass
class PartMeasures:
    """What is known of one file of an import while it is written.

    Args:
        columns: its texts.
        label: key of the class, if there are classes.
        tally: refuses a file of too many bad records.
        may_lack_images: whether a record without its image is not bad, only missing.
    """

    columns: Sequence[TextColumn]
    label: str | None
    tally: Tally
    may_lack_images: bool = False
    words: dict[str, array] = field(default_factory=dict)
    labels: Counter = field(default_factory=Counter)
    per_image: Counter = field(default_factory=Counter)  # captions an image: images
    num_missing: int = 0
    missing: list[str] = field(default_factory=list)  # the first of them
    images: set[str] = field(default_factory=set)
    shown: list[Record] = field(default_factory=list)
    encoded: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def reject(self, where: str, fault: Fault) -> None:
        """Count what is left out."""
        if isinstance(fault, MissingImage):
            self.num_missing += 1
            if len(self.missing) < NUM_LISTED:
                self.missing.append(fault.name)
            if self.may_lack_images:
                return
        self.tally.reject(where, fault)

    def check(self) -> None:
        """Raise where too much was left out, or everything."""
        if self.missing and not self.tally.num_accepted:
            raise UserError(
                f"{self.tally.path}: none of the images that it names are there, such as "
                f"{self.missing[0]!r}; check the folder of images"
            )
        self.tally.check()

    def add(self, record: Record) -> None:
        """Count a record."""
        number = self.tally.num_accepted
        self.tally.accept()
        for column in self.columns:
            found = self.words.setdefault(column.name, array("I"))
            found.extend(len(text.split()) for text in texts_of(record, column.name))
        if self.label is not None and self.label in record:
            self.labels[record[self.label]] += 1
        if "captions" in record:
            self.per_image[len(record["captions"])] += 1
        if "image" in record:
            self.images.add(record["image"])
        self._keep(self.shown, record, number, NUM_SHOWN)
        self._keep(self.encoded, record, number, NUM_ENCODED)

    def _keep(self, kept: list[Record], record: Record, number: int, size: int) -> None:
        """Keep ``size`` of all records, each with the same chance."""
        if len(kept) < size:
            kept.append(record)
            return
        place = int(self._rng.integers(number + 1))
        if place < size:
            kept[place] = record

    def to_json(self, tokenizer: Tokenizer | None) -> dict[str, Any]:
        """Everything, for the manifest."""
        rejected = self.tally.rejected
        values: dict[str, Any] = {
            "records": self.tally.num_accepted,
            "bad_records": len(rejected),
            "texts": {
                column.name: self._lengths(column, tokenizer)
                for column in self.columns
                if len(self.words.get(column.name, ()))
            },
        }
        if self.images:
            values["images"] = len(self.images)
        if self.missing:
            values["missing_images"] = self.num_missing
            values["missing"] = self.missing
        if self.labels:
            values["labels"] = dict(self.labels.most_common())
        if self.per_image:
            values["captions_per_image"] = {
                str(n): self.per_image[n] for n in sorted(self.per_image)
            }
        values["bad"] = [{"where": x.where, "reason": x.reason} for x in rejected[:NUM_LISTED]]
        return values

    def _lengths(self, column: TextColumn, tokenizer: Tokenizer | None) -> dict[str, Any]:
        values: dict[str, Any] = {"words": _quantiles(self.words[column.name])}
        if column.limit is not None:
            values["limit"] = column.limit
            values["setting"] = column.setting
        if tokenizer is None:
            return values
        texts = [text for record in self.encoded for text in texts_of(record, column.name)]
        lengths = [len(ids) for ids in tokenizer.encode_batch(texts)]
        values["tokens"] = _quantiles(lengths) | {"texts": len(texts)}
        if column.limit is not None:
            room = column.limit - column.num_marks
            values["tokens"]["share_cut"] = float(np.mean(np.array(lengths) > room))
        return values


def texts_of(record: Record, name: str) -> list[str]:
    """The text or texts under a key; none where it is absent."""
    value = record.get(name, [])
    return [value] if isinstance(value, str) else list(value)


def _quantiles(lengths: Iterable[int]) -> dict[str, float]:
    numbers = np.asarray(lengths)
    middle, most = np.percentile(numbers, [50, 95])
    return {
        "mean": round(float(numbers.mean()), 1),
        "median": float(middle),
        "most": float(most),  # 95 % are no longer
        "longest": int(numbers.max()),
    }


def load_vocabulary(folder: Path) -> Tokenizer | None:
    """The vocabulary of the released weights, if it is there."""
    paths = [folder / name for name in VOCABULARY]
    return Tokenizer.from_files(*paths) if all(path.is_file() for path in paths) else None
