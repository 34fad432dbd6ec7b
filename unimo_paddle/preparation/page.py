"""A page to look at what was mined: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2

from unimo_paddle.data.image_files import read_image
from unimo_paddle.data.mining import Mined
from unimo_paddle.data.sources import PairRecord
from unimo_paddle.errors import BadSample

NUM_IMAGES, NUM_TEXTS = 6, 5
_HEIGHT = 120  # pixels of a picture
_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Mined images and sentences</title><style>
body { font: 14px/1.4 sans-serif; margin: 2em auto; max-width: 78em; color: #28282e;
  padding: 0 1em; }
section { display: grid; grid-template-columns: 20em 1fr; gap: 1.5em; padding: 1em 0;
  border-top: 1px solid #d6d6dc; }
img { height: 120px; display: block; }
figure { display: inline-block; margin: 0 .5em .5em 0; }
figcaption, .score { color: #808088; font-size: 12px; }
p { margin: .2em 0; }
</style></head><body><h1>Mined images and sentences</h1>
"""


def write_page(path: Path, mined: Mined, records: Sequence[PairRecord], *, num_pairs: int) -> None:
    """Write some of the pairs mined for, each beside the images and sentences nearest to it."""
    step = max(1, len(records) // max(1, num_pairs))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Names of files may be any bytes.
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(_HEAD)
        file.write(f"<p>{html.escape(mined.summary())}</p>\n")
        for number in range(0, len(records), step)[:num_pairs]:
            file.writelines(_section(records[number], number, mined))
        file.write("</body></html>\n")


def _section(record: PairRecord, number: int, mined: Mined) -> Iterator[str]:
    yield f"<section><div>{picture(record.image, f'record {number}')}"
    yield from (f"<p>{html.escape(text)}</p>" for text in record.captions)
    yield "</div><div>"
    if mined.has_images:
        for image in mined.images(number)[:NUM_IMAGES]:
            yield picture(image.path, f"{image.score:.2f}")
    if mined.has_texts:
        for near in mined.texts(number)[:NUM_TEXTS]:
            yield f'<p><span class="score">{near.score:.2f}</span> {html.escape(near.text)}</p>'
    yield "</div></section>\n"


def picture(path: Path, caption: str) -> str:
    """A small image with words below it, or what is wrong with it."""
    try:
        pixels = read_image(path, min_side=_HEIGHT)
    except BadSample as bad:
        return f"<p>{html.escape(str(bad))}</p>"
    width = max(1, round(pixels.shape[1] * _HEIGHT / pixels.shape[0]))
    small = cv2.resize(pixels, (width, _HEIGHT), interpolation=cv2.INTER_AREA)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 80]
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), quality)
    assert ok, path
    source = base64.b64encode(data.tobytes()).decode("ascii")
    name = html.escape(path.name)
    return (
        f'<figure><img alt="{name}" title="{name}" src="data:image/jpeg;base64,{source}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
