"""Leaks: images and captions to evaluate on that pre-training sees, too.

A copied image is a leak. A caption alone is one where its wording is telling (``data.wording``)
and more of them are found than chance explains: as often captions of different images of the
pre-training pairs have the same wording. Two captions of one image that stand at one pre-training
image are a leak however short they are.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from unimo_paddle.data.chunks import Workshop
from unimo_paddle.data.fingerprints import quick_fingerprint_of
from unimo_paddle.data.leaked_captions import SAME_WORDS, CaptionSearch, Leak
from unimo_paddle.data.mining import MinedLists
from unimo_paddle.data.prints import find_copies, print_images
from unimo_paddle.data.publish import publish
from unimo_paddle.data.regions import RegionEntry, RegionStore, RegionStores
from unimo_paddle.data.shards import files_of, folder_of, is_there
from unimo_paddle.data.sources import PairRecord, read_images, read_pairs, read_statements
from unimo_paddle.errors import UserError

logger = logging.getLogger(__name__)

VERSION = 3  # raised whenever the same files would be judged otherwise
CACHE_DIR = Path("runs/data/leaks")
PRINTS_AT_ONCE = 512
_EXAMPLES = 2  # in the one line
_SHOWN = 120  # characters of a caption in the one line


@dataclass(frozen=True)
class LeakReport:
    """What was looked at and what was found.

    Args:
        num_images, num_captions: of the splits.
        num_telling: captions long enough to be telling.
        num_short: shorter captions that are in the pre-training data, which is no leak.
        chance: so many telling captions at most are found by chance, of the same and of nearly
            the same words.
        leaks: all that was found, also captions that chance explains.
    """

    num_images: int
    num_captions: int
    num_telling: int
    num_short: int
    chance: tuple[float, float]
    leaks: tuple[Leak, ...]

    @property
    def refused(self) -> list[Leak]:
        """The leaks for which pre-training is refused."""
        refused = [leak for leak in self.leaks if leak.kind != "caption"]
        for is_near, chance in enumerate(self.chance):
            alike = [leak for leak in self._captions if (leak.how != SAME_WORDS) == is_near]
            refused += alike if len(alike) > chance else []
        return refused

    @property
    def _captions(self) -> list[Leak]:
        return [leak for leak in self.leaks if leak.kind == "caption"]

    def summary(self) -> str:
        """All counts in one line."""
        kinds = Counter(leak.kind for leak in self.leaks)
        return (
            f"{kinds['image']} of {self.num_images} images are copies, {kinds['record']} images "
            f"share several captions with one, {kinds['caption']} of {self.num_telling} telling "
            f"captions are found (chance explains {self.chance[0]:.0f} of the same words and "
            f"{self.chance[1]:.0f} of nearly the same); {self.num_short} of "
            f"{self.num_captions - self.num_telling} short captions are found, too, which proves "
            "nothing"
        )

    def refusal(self, remedy: str) -> str:
        """Why pre-training is refused, in one line that ends with a remedy."""
        refused = self.refused
        kinds = Counter(leak.kind for leak in refused)
        counts = [
            f"{kinds[kind]} {word}{'s' if kinds[kind] > 1 else ''}"
            for kind, word in (
                ("image", "copied image"),
                ("record", "image with several of its captions"),
                ("caption", "telling caption"),
            )
            if kinds[kind]
        ]
        splits = ", ".join(sorted({leak.split for leak in refused}))
        examples = "; ".join(
            f"{leak.item[:_SHOWN]!r} is {leak.found[:_SHOWN]!r} of {leak.source} ({leak.how})"
            for leak in refused[:_EXAMPLES]
        )
        return (
            f"pre-training data hold what is to be evaluated on: {', '.join(counts)} of {splits}, "
            f"such as {examples}; {remedy}"
        )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> LeakReport:
        """The report whose fields ``asdict`` gave."""
        leaks = tuple(Leak(**leak) for leak in values["leaks"])
        return cls(**values | {"leaks": leaks, "chance": tuple(values["chance"])})

    def as_json(self) -> dict[str, Any]:
        """Everything, for a file."""
        return {**asdict(self), "num_refused": len(self.refused), "summary": self.summary()}


def check_leaks(
    pairs: Path | str,
    splits: Sequence[Path | str],
    *,
    images: Path | str | None = None,
    texts: Sequence[Path | str] = (),
    statements: Sequence[Path | str] = (),
    mined: MinedLists | None = None,
    stores: RegionStores | None = None,
    stored: Path | str | None = None,
    cache_dir: Path | str = CACHE_DIR,
    is_allowed: bool = False,
    remedy: str = "take them out of the pre-training data",
) -> LeakReport:
    """Refuse pre-training data that hold what the splits evaluate on.

    What was found is kept in ``cache_dir`` under the names, sizes and times of all files, images
    included, and the keys of the stores: unchanged files cost a look at each. One process of a job
    should call this.

    Args:
        pairs: JSON lines of the pairs to pre-train on.
        splits: JSON lines of pairs to evaluate on.
        images: folder of images without captions.
        texts: files of plain text.
        statements: JSON lines of questions or hypotheses about images, as ``read_statements``.
        mined: images and sentences that were mined for the pairs; images without files are
            passed over, as in training.
        stores: hold the regions of images, whose files need not exist: those that do not are
            compared by their regions' place, and those with regions of their own not at all.
        stored: store of images without captions, which are compared by their place in it.
        is_allowed: whether leaks are only reported.
        remedy: what a refusal tells the user to do.

    Raises:
        UserError: there are leaks and they are not allowed.
    """
    search = _Search(
        Path(pairs),
        [Path(split) for split in splits],
        None if images is None else Path(images),
        [Path(text) for text in texts],
        [Path(path) for path in statements],
        mined,
        Path(cache_dir),
        stores,
        None if stored is None else RegionStore(stored),
    )
    report = search.report()
    if report.refused and not is_allowed:
        raise UserError(report.refusal(remedy))
    return report


class _Search:
    """One look for leaks in given files."""

    def __init__(
        self,
        pairs: Path,
        splits: Sequence[Path],
        images: Path | None,
        texts: Sequence[Path],
        statements: Sequence[Path],
        mined: MinedLists | None,
        cache_dir: Path,
        stores: RegionStores | None,
        stored: RegionStore | None,
    ) -> None:
        if not splits:
            raise UserError("no split is given to look for leaks of; name at least one file")
        same = [split for split in splits if split.resolve() == pairs.resolve()]
        if same:
            raise UserError(f"{same[0]} is the file of pairs itself; name another split")
        self.pairs, self.splits, self.texts, self.images = pairs, splits, texts, images
        self.mined, self.stores, self.stored = mined, stores, stored
        self.cache_dir = cache_dir
        self.records = read_pairs(pairs, stores=stores)
        self.split_records = {split: read_pairs(split, stores=stores) for split in splits}
        self.said = {path: read_statements([path]) for path in statements}
        self.single_images = [] if images is None else list(read_images(images))
        self.seen_images = self._seen_images()

    def report(self) -> LeakReport:
        """What was found, now or earlier."""
        files = [path for given in (self.pairs, *self.splits) for path in files_of(given)]
        seen = [*files, *self.texts, *self.said, *self.seen_images]
        seen += [path for path, _ in self._split_images()]
        roles = [len(self.splits), len(self.texts), len(self.said), str(self.images)]
        if self.mined:
            seen.append(self.mined.path)
            roles += [bool(self.mined.images), bool(self.mined.texts)]
        stores = [store.manifest["key"] for store in self.stores.stores] if self.stores else []
        stores.append(self.stored and self.stored.manifest["key"])
        key = f"{VERSION} {json.dumps([roles, stores])} {quick_fingerprint_of(seen)}"
        path = self.cache_dir / f"leaks-{_short(key)}.json"
        if path.is_file():
            return LeakReport.from_json(json.loads(path.read_text("utf-8")))
        report = self._look()
        text = json.dumps(asdict(report))  # names of files may be no UTF-8
        publish(path, lambda unfinished: unfinished.write_text(text, "utf-8"))
        return report

    def _look(self) -> LeakReport:
        copies = (*self._find_images(), *self._find_regions())
        found = CaptionSearch(self.records, self.split_records)
        with tqdm(desc="captions and texts", unit=" text", mininterval=1) as progress:
            found.read_pairs(self.pairs, progress)
            for path, records in self.said.items():
                found.read_statements(path, records, progress)
            for path in self.texts:
                found.read_texts(path, progress)
            if self.mined:
                found.read_sentences(self.mined.path, self.mined.texts, progress)
        return LeakReport(
            num_images=self._num_split_images(),
            num_captions=found.num_captions,
            num_telling=found.num_telling,
            num_short=found.num_short,
            chance=found.chance(),
            leaks=(*copies, *found.leaks()),
        )

    # ---- images

    def _seen_images(self) -> dict[Path, tuple[Path, Path]]:
        """Images that are trained on, each file once: what names it, and the folder it lies in."""
        found: dict[Path, tuple[Path, Path]] = {}
        for record in self.records:
            if _has_image(record):
                found.setdefault(record.image, (self.pairs, self.pairs.parent))
        for path, records in self.said.items():
            for record in records:
                found.setdefault(record.image, (path, path.parent))
        if self.images is not None:
            folder = folder_of(self.images)
            for image in self.single_images:
                found.setdefault(image, (self.images, folder))
        if self.mined:
            for image in self.mined.images:
                if is_there(image):
                    found.setdefault(image, (self.mined.path, self.mined.images_dir))
        return found

    def _split_images(self) -> list[tuple[Path, Path]]:
        """Images of the splits with the first split that has them."""
        found: dict[Path, Path] = {}
        for split, records in self.split_records.items():
            for record in records:
                if _has_image(record):
                    found.setdefault(record.image, split)
        return list(found.items())

    def _num_split_images(self) -> int:
        images = (r.image for records in self.split_records.values() for r in records)
        return len(set(images))

    def _find_images(self) -> Iterator[Leak]:
        seen, own = list(self.seen_images), self._split_images()
        if not seen or not own:
            return
        paths = [path for path, _ in own]
        told: set[int] = set()
        for copy in find_copies(
            self._prints(paths, "images of splits"),
            self._prints(seen, "images of pre-training"),
            these_paths=paths,
            those_paths=seen,
        ):
            if copy.this in told:
                continue
            told.add(copy.this)
            path, split = own[copy.this]
            that = seen[copy.that]
            source, folder = self.seen_images[that]
            mirrored = ", mirrored" if copy.is_mirrored else ""
            looks = f"the same picture{mirrored}: correlation {copy.score:.2f}"
            yield Leak(
                kind="image",
                split=str(split),
                item=_name(path, split.parent),
                found=_name(that, folder),
                source=str(source),
                how="the same bytes" if copy.score == 1.0 else looks,
            )

    def _find_regions(self) -> Iterator[Leak]:
        """Images whose regions the pairs have, too, where the files of both are not compared."""
        seen = {r.regions: r for r in self.records if isinstance(r.regions, RegionEntry)}
        for split, records in self.split_records.items():
            own = {r.regions: r for r in records if isinstance(r.regions, RegionEntry)}
            for regions, record in own.items():
                if self.stored and regions.store.path.resolve() == self.stored.path.resolve():
                    yield Leak(
                        kind="image",
                        split=str(split),
                        item=record.image.name,
                        found=regions.where,
                        source=str(self.stored.path),
                        how="the same regions",
                    )
                elif regions in seen and not (_has_image(record) and _has_image(seen[regions])):
                    yield Leak(
                        kind="image",
                        split=str(split),
                        item=record.image.name,
                        found=seen[regions].image.name,
                        source=str(self.pairs),
                        how="the same regions",
                    )

    def _prints(self, paths: Sequence[Path], name: str) -> np.ndarray:
        key = quick_fingerprint_of(paths)
        shop = Workshop(self.cache_dir / f"prints-{_short(key)}", {"images": key})
        make = lambda start, stop: print_images(paths[start:stop])  # noqa: E731
        chunks = shop.compute(name, len(paths), make, size=PRINTS_AT_ONCE, unit="image")
        prints = chunks.read_all()
        num_unread = int((prints["is_usable"] == 0).sum())
        if num_unread:
            logger.warning("%d of %d %s cannot be read", num_unread, len(paths), name)
        return prints


def _has_image(record: PairRecord) -> bool:
    """Whether there is an image to look at; where its regions are there need be none."""
    return record.regions is None or is_there(record.image)


def _name(path: Path, folder: Path) -> str:
    """A path from a folder, if it lies in it: shards may be links to others elsewhere."""
    root = folder.resolve()
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _short(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]
