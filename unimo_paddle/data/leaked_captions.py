"""Captions to evaluate on that pre-training reads, and how many of them chance explains."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from unimo_paddle.data.records import Fault, read_lines
from unimo_paddle.data.sources import PairRecord
from unimo_paddle.data.wording import TELLING_WORDS, Wordings, sentences_of, words_of

SAME_WORDS = "the same words"
_FEWEST_WORDS = 5  # of a caption that counts beside another one of the same image
_SAMPLED_RECORDS = 1000  # of the pairs, whose wordings tell what chance explains
_DEVIATIONS = 3.0  # above what is expected that chance may go


@dataclass(frozen=True)
class Leak:
    """One image or caption of a split that is in the pre-training data.

    Args:
        kind: "image", "record" (several captions of one image) or "caption".
        split: file of the split.
        item: path of the image from the folder of its split, or the caption.
        found: path of the image from the folder of its source, or the text.
        source: file or folder in which it is.
        how: in what way both are the same.
    """

    kind: str
    split: str
    item: str
    found: str
    source: str
    how: str


@dataclass(frozen=True)
class _Caption:
    """A caption of a split."""

    split: str
    image: Path
    text: str
    num_words: int

    @property
    def is_telling(self) -> bool:
        return self.num_words >= TELLING_WORDS


@dataclass(frozen=True)
class _Repeated:
    """The nearest text that repeats a telling caption."""

    num_edits: int
    text: str
    source: str


class CaptionSearch:
    """Captions of the splits, looked up by all texts of pre-training.

    Some pre-training captions are looked up as well, at other images than their own: what is found
    then is chance.

    Args:
        records: the pairs to pre-train on.
        split_records: those of each split.
    """

    def __init__(
        self,
        records: Sequence[PairRecord],
        split_records: Mapping[Path, Sequence[PairRecord]],
    ) -> None:
        self._records = records
        self._wordings = Wordings()
        self._captions: list[_Caption] = []
        for split, own in split_records.items():
            for record in own:
                for text in record.captions:
                    words = words_of(text)
                    self._wordings.add(words, len(self._captions))
                    caption = _Caption(str(split), record.image, text, len(words))
                    self._captions.append(caption)
        # Group of each sampled caption, which is named by a number below zero.
        self._sampled: list[int] = []
        for record in records[:: max(1, len(records) // _SAMPLED_RECORDS)]:
            for words in dict.fromkeys(map(words_of, record.captions)):
                if len(words) >= TELLING_WORDS:
                    self._sampled.append(record.group)
                    self._wordings.add(words, -len(self._sampled))
        self._chance: dict[int, int] = {}
        self._telling: dict[int, _Repeated] = {}
        self._shared: list[Leak] = []
        self._short: set[int] = set()

    def read_pairs(self, path: Path, progress: tqdm) -> None:
        """Look up what is said of the images to train on."""
        self._read_said(path, self._records, progress, tells_chance=True)

    def read_statements(self, path: Path, records: Sequence[PairRecord], progress: tqdm) -> None:
        """Look up what a file asks and says of images, a text with its answer or label."""
        self._read_said(path, records, progress, tells_chance=False)

    def _read_said(
        self, path: Path, records: Sequence[PairRecord], progress: tqdm, *, tells_chance: bool
    ) -> None:
        together: dict[tuple[Path, int], set[int]] = {}
        for record in records:
            for text in record.captions:
                group = record.group if tells_chance else None
                for number in self._look_up(text, str(path), group):
                    caption = self._captions[number]
                    if caption.num_words >= _FEWEST_WORDS:
                        together.setdefault((caption.image, record.group), set()).add(number)
            progress.update(len(record.captions))
        folder = path.parent.resolve()
        names = {r.group: str(r.image.relative_to(folder)) for r in records}
        for (image, group), numbers in together.items():
            # An image may stand in several splits, with the same captions.
            wordings = {words_of(self._captions[number].text) for number in numbers}
            if len(wordings) > 1:
                split = self._captions[min(numbers)].split
                how = f"{len(wordings)} captions of the same or nearly the same words"
                item = str(image.relative_to(Path(split).parent.resolve()))
                leak = Leak("record", split, item, names[group], str(path), how)
                self._shared.append(leak)

    def read_texts(self, path: Path, progress: tqdm) -> None:
        """Look up the lines of a file and the sentences in them."""
        lines = (line for _, line in read_lines(path) if not isinstance(line, Fault))
        parts = (dict.fromkeys([line.strip(), *sentences_of(line)]) for line in lines)
        self.read_sentences(path, chain.from_iterable(parts), progress)

    def read_sentences(self, path: Path, sentences: Iterable[str], progress: tqdm) -> None:
        """Look up sentences that are told to be of a file."""
        for text in sentences:
            progress.update()
            for _ in self._look_up(text, str(path), None):
                pass

    def _look_up(self, text: str, source: str, group: int | None) -> Iterator[int]:
        """Note what a text repeats; yields the numbers of captions of the splits."""
        for match in self._wordings.find(words_of(text)):
            if match.name < 0:
                if group is not None and group != self._sampled[-match.name - 1]:
                    known = self._chance.get(match.name, match.num_edits)
                    self._chance[match.name] = min(known, match.num_edits)
                continue
            known = self._telling.get(match.name)
            if not self._captions[match.name].is_telling:
                self._short.add(match.name)
            elif known is None or match.num_edits < known.num_edits:
                self._telling[match.name] = _Repeated(match.num_edits, text, source)
            yield match.name

    @property
    def num_captions(self) -> int:
        """Captions of the splits."""
        return len(self._captions)

    @property
    def num_telling(self) -> int:
        """Those that are long enough to be telling."""
        return sum(caption.is_telling for caption in self._captions)

    @property
    def num_short(self) -> int:
        """The others that were found, which is no leak."""
        return len(self._short)

    def chance(self) -> tuple[float, float]:
        """Most telling captions that chance explains: of the same words, of nearly the same."""
        limits = []
        for is_near in (False, True):
            found = sum((edits > 0) == is_near for edits in self._chance.values())
            expected = self.num_telling * found / max(1, len(self._sampled))
            limits.append(expected + _DEVIATIONS * math.sqrt(expected))
        return limits[0], limits[1]

    def leaks(self) -> Iterator[Leak]:
        """What was found: several captions of an image first, then single telling ones."""
        yield from self._shared
        for number, repeated in sorted(self._telling.items()):
            edits, caption = repeated.num_edits, self._captions[number]
            how = f"{edits} word{'s' * (edits > 1)} differ{'s' * (edits == 1)}"
            yield Leak(
                kind="caption",
                split=caption.split,
                item=caption.text,
                found=repeated.text,
                source=repeated.source,
                how=how if edits else SAME_WORDS,
            )
