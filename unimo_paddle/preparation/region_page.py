"""The report on a store of regions: a page that needs no other file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from unimo_paddle.data.regions.coverage import NUM_NAMED, Coverage
from unimo_paddle.data.regions.store import RegionStore
from unimo_paddle.preparation import html
from unimo_paddle.preparation.region_findings import Expected, findings
from unimo_paddle.preparation.region_pictures import (
    draw_regions,
    histograms,
    image_files,
    spread,
)

NUM_SAMPLES = 12
_MAX_REGIONS_SHOWN = 500_000  # regions that histograms are made of, spread over all


def write_report(
    path: Path,
    store: RegionStore,
    *,
    expected: Expected,
    coverage: Coverage | None = None,
    images: Path | None = None,
    num_samples: int = NUM_SAMPLES,
) -> None:
    """Write the page.

    Args:
        coverage: of the records that the store is for.
        images: folder of the images themselves, to draw boxes over.
    """
    found = findings(store, expected, coverage)
    files = image_files(images) if images else {}
    parts = [
        html.marked_list([(item.is_fine, item.text) for item in found]),
        html.heading("What it holds"),
        html.table(_facts(store)),
        html.heading("How it is spread"),
        html.drawing(histograms(_spread_values(store))),
        *_missing(store, coverage),
        html.heading("Samples"),
        *_samples(store, files, num_samples),
    ]
    html.write_page(path, f"Regions of {store.path.name}", parts)


def _facts(store: RegionStore) -> list[tuple[str, str]]:
    manifest = store.manifest
    total = sum(file["bytes"] for file in manifest["files"].values())
    source = manifest["source"]
    facts = [
        ("images", f"{manifest['num_images']:,}"),
        ("regions", f"{manifest['num_regions']:,}"),
        ("numbers in a feature, in half precision", f"{store.feature_size:,}"),
        ("classes of the distributions", f"{store.num_classes:,}" if store.num_classes else "none"),
        ("names of classes", f"{len(store.class_names):,}" if store.class_names else "none"),
        ("size on disk", f"{total / 1e6:,.1f} MB"),
        ("made from", f"{source['format']}: {', '.join(source['files'][:5])}"),
    ]
    for name in ("widths", "heights"):
        if name in manifest:
            sides = manifest[name]
            shown = f"{sides['min']:.0f} to {sides['max']:.0f}, median {sides['median']:.0f}"
            facts.append((f"{name} of images in pixels", shown))
    return facts


def _spread_values(store: RegionStore) -> dict[str, np.ndarray]:
    """What the histograms show, of all regions or of some from all over the store."""
    arrays = store.arrays
    counts = np.diff(arrays["offsets"])
    step = max(1, -(-len(arrays["norms"]) // _MAX_REGIONS_SHOWN))
    boxes = np.asarray(arrays["boxes"][::step])
    owners = np.searchsorted(arrays["offsets"], np.arange(0, len(arrays["norms"]), step), "right")
    shares = boxes / np.tile(arrays["sizes"][owners - 1], 2)
    extents = shares[:, 2:] - shares[:, :2]
    values = {
        "regions of an image": counts,
        "length of a feature": np.asarray(arrays["norms"][::step]),
        "share of the image that a box covers": extents.prod(axis=1),
        "centre of a box, left to right": shares[:, ::2].mean(axis=1),
        "centre of a box, top to bottom": shares[:, 1::2].mean(axis=1),
    }
    if "confidences" in arrays:
        values["confidence of a class"] = arrays["confidences"][::step].astype(np.float32)
    elif store.num_classes:
        first = int(store.manifest["has_background"])
        some = arrays["class_probabilities"][:: max(step, len(arrays["norms"]) // 20_000 or 1)]
        values["likelihood of the likeliest class"] = some[:, first:].max(axis=1).astype(np.float32)
    return values


def _missing(store: RegionStore, coverage: Coverage | None) -> list[str]:
    parts = []
    if coverage is not None and coverage.missing:
        rows = [(name,) for name in coverage.missing[:NUM_NAMED]]
        parts += [html.heading("Images that are missing"), html.table(rows)]
    rejected = store.manifest["first_rejected"]
    if rejected:
        parts.append(html.heading("Records that were left out"))
        parts.append(html.table(rejected, head=("where", "why")))
    return parts


def _samples(store: RegionStore, files: Mapping[str, Path], count: int) -> list[str]:
    ids = store.image_ids()
    at_hand = [number for number, name in enumerate(ids) if name in files] if files else None
    drawn = spread(len(ids), count, at_hand)
    note = "The surest boxes are named; thin lines are the others. "
    if files and not at_hand:
        note += "None of the images is in the folder that was given. "
    if not at_hand:
        note += "Without the image files boxes are drawn on blanks of the images' sizes."
    pictures = []
    for number in drawn:
        count = len(store.regions(number).boxes)
        pixels = draw_regions(store, number, files.get(ids[number]))
        pictures.append(html.picture(pixels, f"{ids[number]}: {count} regions"))
    return [html.paragraph(note), f'<div class="pictures">{"".join(pictures)}</div>']
