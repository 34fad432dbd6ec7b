"""Compare two stores of regions of the same images, of which one is known to be good.

Tells whether a set that was extracted anew is as good. Boxes are matched one to one; the page shows
how they overlap, how alike their features are, whether their classes agree, and the images that
differ most, side by side.

examples:
    python tools/prepare_data.py compare --stores mine/known mine/extracted --report page.html
    python tools/prepare_data.py compare --stores mine/known mine/extracted --report page.html \\
        --images mine/images --num_images 5000
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from unimo_paddle.data.regions.comparison import ImageComparison, compare_image, shared_images
from unimo_paddle.data.regions.store import RegionStore
from unimo_paddle.errors import UserError
from unimo_paddle.preparation import html
from unimo_paddle.preparation.region_pictures import draw_regions, histograms, image_files, spread

ALIKE = 0.95  # cosine from which features are nearly the same
GOOD_MATCHED, GOOD_COSINE, GOOD_CLASSES = 0.8, 0.9, 0.8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--stores", type=Path, nargs=2, required=True, help="the two folders")
    parser.add_argument("--report", type=Path, required=True, help="HTML page to write")
    parser.add_argument("--images", type=Path, help="folder of the images, to draw boxes over")
    parser.add_argument(
        "--num_images", type=int, default=1000, help="images compared, spread over all (1000)"
    )
    parser.add_argument("--worst", type=int, default=6, help="images shown that differ most (6)")
    parser.add_argument(
        "--min_overlap",
        type=float,
        default=0.5,
        help="intersection over union from which boxes are the same region (0.5)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Compare, print what came out, and write the page."""
    if not 0 < arguments.min_overlap <= 1:
        raise UserError(
            f"--min_overlap is {arguments.min_overlap}; give a share above 0, at most 1"
        )
    for name in ("num_images", "worst"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name} is {getattr(arguments, name)}; give at least 1")
    first, second = (RegionStore(path) for path in arguments.stores)
    pairs = shared_images(first, second)
    if not pairs:
        raise UserError(
            f"{first.path} and {second.path} have no image in common, such as "
            f"{first.image_ids()[0]!r} and {second.image_ids()[0]!r}; import one with other --ids"
        )
    chosen = [pairs[place] for place in spread(len(pairs), arguments.num_images)]
    compared = [
        compare_image(first, second, indices, min_overlap=arguments.min_overlap)
        for indices in tqdm(chosen, desc="comparing", unit=" image", mininterval=1)
    ]
    facts = Facts(first, second, len(pairs), compared)
    for is_fine, text in facts.findings():
        print(text if is_fine else f"mind: {text}")
    title = f"{first.path.name} beside {second.path.name}"
    html.write_page(arguments.report, title, _page(facts, arguments))
    print(f"written: {arguments.report}")


class Facts:
    """What a comparison says of all images together.

    Args:
        num_shared: images that both stores have.
        compared: some of them.
    """

    def __init__(
        self,
        first: RegionStore,
        second: RegionStore,
        num_shared: int,
        compared: Sequence[ImageComparison],
    ) -> None:
        self.first, self.second = first, second
        self.num_shared = num_shared
        self.compared = compared
        self.counts = np.array([item.counts for item in compared])
        self.matched = np.array([len(item.overlaps) for item in compared])
        self.overlaps = np.concatenate([item.overlaps for item in compared])
        self.norm_ratios = np.concatenate([item.norm_ratios for item in compared])
        self.cosines = _joined([item.cosines for item in compared])
        self.are_same = _joined([item.are_same for item in compared])

    @property
    def matched_share(self) -> float:
        """Regions that are matched, of all in both stores."""
        return 2 * float(self.matched.sum()) / float(self.counts.sum())

    def findings(self) -> list[tuple[bool, str]]:
        """Whether each comparison is fine, in sentences."""
        totals = f"{len(self.first):,} images in one, {len(self.second):,} in the other"
        is_all = self.num_shared == len(self.first) == len(self.second)
        found = [(is_all, f"{self.num_shared:,} images are in both stores ({totals}).")]
        one, other = self.counts.mean(axis=0)
        found.append(
            (
                self.matched_share >= GOOD_MATCHED,
                f"{self.matched_share:.1%} of the regions have a match ({one:.1f} and {other:.1f} "
                f"regions an image; {len(self.compared):,} images compared).",
            )
        )
        return [*found, self._features(), self._classes()]

    def _features(self) -> tuple[bool, str]:
        if self.cosines is None:
            sizes = f"{self.first.feature_size} and {self.second.feature_size} numbers"
            return False, f"Features have {sizes}: they cannot be compared."
        if not len(self.cosines):
            return False, "No region has a match, so no feature can be compared."
        median, ratio = float(np.median(self.cosines)), float(np.median(self.norm_ratios))
        text = (
            f"The cosine of the features of a matched region is {median:.3f} in the middle, and at "
            f"least {ALIKE} for {(self.cosines >= ALIKE).mean():.1%}; the second is {ratio:.2f} "
            "times as long as the first."
        )
        is_fine = median >= GOOD_COSINE and 0.8 <= ratio <= 1.25
        if median < 0.5:
            text += " Features like that are of different networks: do not mix these stores."
        return is_fine, text

    def _classes(self) -> tuple[bool, str]:
        if self.are_same is None:
            return True, "Classes are not compared: not both stores have them."
        if not len(self.are_same):
            return False, "No region has a match, so no class can be compared."
        share = float(self.are_same.mean())
        return share >= GOOD_CLASSES, f"Classes agree for {share:.1%} of the matched regions."


def _joined(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    return None if any(part is None for part in parts) else np.concatenate(parts)


def _page(facts: Facts, arguments: argparse.Namespace) -> list[str]:
    rows = [
        ("images", f"{len(facts.first):,}", f"{len(facts.second):,}"),
        ("regions", *(f"{s.manifest['num_regions']:,}" for s in (facts.first, facts.second))),
        ("numbers in a feature", *(f"{s.feature_size:,}" for s in (facts.first, facts.second))),
        ("classes", *(f"{s.num_classes:,}" for s in (facts.first, facts.second))),
    ]
    for name in ("mean", "median"):
        norms = [s.manifest["feature_norms"][name] for s in (facts.first, facts.second)]
        rows.append((f"length of a feature, {name}", *(f"{norm:.3g}" for norm in norms)))
    head = ("", str(facts.first.path.name), str(facts.second.path.name))
    return [
        html.marked_list(facts.findings()),
        html.heading("Both"),
        html.table(rows, head=head),
        html.heading("Matched regions"),
        html.drawing(histograms(_histogram_values(facts))),
        html.heading("Images that differ most"),
        *_worst(facts, arguments),
    ]


def _histogram_values(facts: Facts) -> dict[str, np.ndarray]:
    values = {
        "share of regions matched, by image": np.array([x.matched_share for x in facts.compared]),
        "more regions in the second": facts.counts[:, 1] - facts.counts[:, 0],
    }
    if len(facts.overlaps):
        values["intersection over union"] = facts.overlaps
        values["length, second over first"] = facts.norm_ratios
        if facts.cosines is not None:
            values["cosine of features"] = facts.cosines
    return values


def _worst(facts: Facts, arguments: argparse.Namespace) -> list[str]:
    files = image_files(arguments.images) if arguments.images else {}
    ranked = sorted(facts.compared, key=lambda item: item.agreement)[: arguments.worst]
    names = facts.first.image_ids()
    pictures = []
    for item in ranked:
        name = names[item.indices[0]]
        sides = [
            draw_regions(store, index, files.get(name))
            for store, index in zip((facts.first, facts.second), item.indices, strict=True)
        ]
        text = (
            f"{name}: {item.counts[0]} and {item.counts[1]} regions, {len(item.overlaps)} matched"
        )
        if item.cosines is not None and len(item.cosines):
            text += f", cosine {item.cosines.mean():.2f}"
        pictures.append(html.picture(_beside(sides), text))
    note = "On the left as in the first store, on the right as in the second."
    return [html.paragraph(note), f'<div class="pictures">{"".join(pictures)}</div>']


def _beside(sides: Sequence[np.ndarray]) -> np.ndarray:
    """Two pictures of an image with a gap between, at the height of the lower one."""
    height = min(side.shape[0] for side in sides)
    gap = np.full((height, 12, 3), 255, np.uint8)
    return np.hstack([sides[0][:height], gap, sides[1][:height]])
