"""A page about an import: counts, lengths against what the model sees, what is missing, samples."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unimo_paddle.data.formats.image_folder import ImageFolder
from unimo_paddle.data.formats.items import Record
from unimo_paddle.preparation.measures import PartMeasures
from unimo_paddle.preparation.page import picture

NUM_BARS = 40
NUM_FAULTS = 8  # bad records of a file that the page names
MOST_LABELS = 12
_TEXT_SHOWN = 700  # characters of a text
_WIDTH, _HEIGHT = 360, 56  # of a histogram, in pixels
_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px/1.45 sans-serif; margin: 2em auto; max-width: 72em; color: #28282e;
  padding: 0 1em; }}
h1 {{ font-size: 22px; }} h2 {{ font-size: 17px; margin-top: 2em; }}
table {{ border-collapse: collapse; }}
th, td {{ text-align: right; padding: .25em .9em .25em 0; border-bottom: 1px solid #e4e4ea; }}
th {{ font-weight: 600; }} th.name, td.name {{ text-align: left; }}
td.warn {{ color: #b3261e; font-weight: 600; }}
section {{ display: grid; grid-template-columns: 16em 1fr; gap: 1.5em; padding: 1em 0;
  border-top: 1px solid #d6d6dc; }}
section.text {{ grid-template-columns: 1fr; }}
img {{ max-width: 16em; display: block; }} figure {{ margin: 0; }}
figcaption, .key {{ color: #808088; font-size: 12px; }}
p {{ margin: .2em 0; }} svg {{ display: block; margin: .6em 0; }}
.charts {{ display: flex; flex-wrap: wrap; gap: 1.5em; }}
</style></head><body><h1>{title}</h1>
"""


def write_report(
    path: Path,
    manifest: Mapping[str, Any],
    measured: Mapping[str, PartMeasures],
    images: ImageFolder | None,
) -> None:
    """Write the page: one HTML file with its pictures.

    Args:
        manifest: what is known of the import.
        measured: the same of each file, with samples.
        images: where the pictures of samples are.
    """
    # Names of files may be no valid Unicode.
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(_HEAD.format(title=html.escape(manifest["title"])))
        file.writelines(f"<p>{html.escape(remark)}</p>\n" for remark in manifest["remarks"])
        if manifest["recipes"]:
            file.write(f"<p>Read by {html.escape(', '.join(manifest['recipes']))}.</p>\n")
        file.writelines(_counts(manifest["parts"]))
        file.writelines(_lengths(manifest["parts"], measured))
        file.writelines(_labels(manifest["parts"]))
        file.writelines(_faults(measured))
        file.write("<h2>Samples</h2>\n")
        for name, measures in measured.items():
            for record in measures.shown:
                file.writelines(_sample(name, record, images))
        file.write("</body></html>\n")


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """A table whose first column is a name; a cell that begins with ! is a warning.

    Columns without any value are left out.
    """
    kept = [n for n in range(len(header)) if any(row[n] != "" for row in rows)]
    header, rows = [header[n] for n in kept], [[row[n] for n in kept] for row in rows]
    yield "<table><tr>"
    yield "".join(f"<th{_class(n)}>{html.escape(name)}</th>" for n, name in enumerate(header))
    yield "</tr>\n"
    for row in rows:
        yield "<tr>"
        for number, value in enumerate(row):
            text = f"{value:,}" if isinstance(value, int) else str(value)
            kind = ' class="warn"' if text.startswith("!") else _class(number)
            yield f"<td{kind}>{html.escape(text.lstrip('!'))}</td>"
        yield "</tr>\n"
    yield "</table>\n"


def _class(column: int) -> str:
    return ' class="name"' if column == 0 else ""


def _counts(parts: Mapping[str, Any]) -> Iterator[str]:
    rows = []
    for name, part in parts.items():
        missing = part.get("missing_images", 0)
        per_image = {int(n): count for n, count in part.get("captions_per_image", {}).items()}
        images = part.get("images")
        captions = sum(n * count for n, count in per_image.items())
        rows.append(
            [
                name,
                part["records"],
                _warned(part["bad_records"]),
                "" if images is None else images,
                "" if images is None else _warned(missing),
                f"{captions / part['records']:.2f}" if per_image else "",
                f"{min(per_image)} to {max(per_image)}" if per_image else "",
            ]
        )
    header = [
        "file",
        "records",
        "left out",
        "images",
        "images missing",
        "captions an image",
        "fewest to most",
    ]
    yield "<h2>What was imported</h2>\n"
    yield from _table(header, rows)


def _warned(count: int) -> int | str:
    return f"!{count:,}" if count else 0


def _lengths(parts: Mapping[str, Any], measured: Mapping[str, PartMeasures]) -> Iterator[str]:
    header = ["file, text", "words: median", "95 % up to", "longest", "tokens: median"]
    header += ["95 % up to", "longest", "the model sees", "cut"]
    rows, charts = [], []
    for name, part in parts.items():
        for column, values in part["texts"].items():
            words, tokens = values["words"], values.get("tokens")
            limit = values.get("limit")
            row = [f"{name}, {column}", *(f"{words[x]:.0f}" for x in ("median", "most", "longest"))]
            row += [f"{tokens[x]:.0f}" if tokens else "" for x in ("median", "most", "longest")]
            row.append("" if limit is None else limit)
            row.append(_share(tokens["share_cut"]) if tokens and limit else "")
            rows.append(row)
            charts.append(_histogram(f"{name}, {column}", measured[name].words[column], limit))
    yield "<h2>Lengths, and what the model sees of them</h2>\n"
    yield from _table(header, rows)
    settings = {
        values["setting"]
        for part in parts.values()
        for values in part["texts"].values()
        if values.get("setting")
    }
    if settings:
        yield f"<p class='key'>Tokens that the model sees: {', '.join(sorted(settings))} of the "
        yield "recipe, marks included. A word has one token or more.</p>\n"
    if not any("tokens" in v for part in parts.values() for v in part["texts"].values()):
        yield "<p class='key'>Texts are counted in words only: --vocab_dir names no folder with "
        yield "the released vocabulary.</p>\n"
    yield "<p class='key'>Words a text; red is where the model's tokens end at the latest:</p>"
    yield f"<div class='charts'>{''.join(charts)}</div>\n"


def _share(share: float) -> str:
    return f"{'!' if share > 0.01 else ''}{share:.1%}"


def _histogram(name: str, words: Sequence[int], limit: int | None) -> str:
    """Bars of how many texts have so many words, the rare longest ones in the last bar."""
    numbers = np.asarray(words)
    end = max(NUM_BARS, float(np.percentile(numbers, 99)))
    is_near = limit is not None and limit < 2 * end
    end = max(end, 1.1 * limit) if is_near else end
    counts, _ = np.histogram(np.minimum(numbers, end), NUM_BARS, (0, end))
    width = _WIDTH / NUM_BARS
    heights = _HEIGHT * counts / counts.max()
    bars = "".join(
        f"<rect x='{n * width:.1f}' y='{_HEIGHT - height:.1f}' width='{width - 1:.1f}' "
        f"height='{height:.1f}' fill='#7a8fb8'/>"
        for n, height in enumerate(heights)
    )
    if is_near:
        x = _WIDTH * limit / end
        bars += f"<path d='M{x:.1f} 0V{_HEIGHT}' stroke='#b3261e'/>"
    return (
        f"<figure><svg width='{_WIDTH}' height='{_HEIGHT}'>{bars}</svg><figcaption>"
        f"{html.escape(name)}: 0 to {end:.0f} words</figcaption></figure>"
    )


def _labels(parts: Mapping[str, Any]) -> Iterator[str]:
    if not any("labels" in part for part in parts.values()):
        return
    yield "<h2>Classes</h2>\n"
    rows = []
    for name, part in parts.items():
        labels = part.get("labels", {})
        total = sum(labels.values())
        for label, count in list(labels.items())[:MOST_LABELS]:
            rows.append([f"{name}, {label}", count, f"{count / total:.1%}"])
        if len(labels) > MOST_LABELS:
            rest = sum(list(labels.values())[MOST_LABELS:])
            rows.append(
                [f"{name}, {len(labels) - MOST_LABELS} others", rest, f"{rest / total:.1%}"]
            )
    yield from _table(["file, class", "records", "share"], rows)


def _faults(measured: Mapping[str, PartMeasures]) -> Iterator[str]:
    if not any(measures.tally.rejected for measures in measured.values()):
        return
    yield "<h2>Left out</h2>\n"
    for name, measures in measured.items():
        rejected = measures.tally.rejected
        for bad in rejected[:NUM_FAULTS]:
            yield f"<p>{html.escape(str(bad))}</p>\n"
        if len(rejected) > NUM_FAULTS:
            yield f"<p>and {len(rejected) - NUM_FAULTS:,} more for {html.escape(name)}</p>\n"


def _sample(name: str, record: Record, images: ImageFolder | None) -> Iterator[str]:
    path = images.path_of(record["image"]) if images and "image" in record else None
    yield f"<section{'' if path else ' class=text'}>"
    if path:
        yield f"<div>{picture(path, record['image'])}</div>"
    yield f"<div><p class='key'>{html.escape(name)}</p>"
    for key, value in record.items():
        if key == "image" and path:
            continue
        texts = value if isinstance(value, list) else [value]
        shown = [text if isinstance(text, str) else json.dumps(text) for text in texts]
        counts = Counter(shown)  # people give the same answer
        yield f"<p><span class='key'>{html.escape(key)}</span> "
        yield "<br>".join(_cut(text, count) for text, count in counts.items())
        yield "</p>"
    yield "</div></section>\n"


def _cut(text: str, count: int) -> str:
    """A text that is not too long for the page, and how often it stands there."""
    dots = " ..." if len(text) > _TEXT_SHOWN else ""
    times = f" ({count} times)" if count > 1 else ""
    return f"{html.escape(text[:_TEXT_SHOWN])}{dots}{times}"
