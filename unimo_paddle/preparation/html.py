"""Parts of the pages that stand alone: one HTML file with its pictures."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; color: #28282e;
  padding: 0 1rem }}
h1 {{ font-size: 1.5rem }} h2 {{ font-size: 1.15rem; margin: 2rem 0 .5rem }}
table {{ border-collapse: collapse }}
th, td {{ text-align: left; padding: .2rem 1.2rem .2rem 0; vertical-align: top;
  border-bottom: 1px solid #e4e4ea }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums }}
ul.findings {{ list-style: none; padding: 0 }}
ul.findings li {{ padding: .25rem 0 .25rem 1.8rem; text-indent: -1.8rem }}
.fine::before {{ content: "\\2713"; color: #1e8c46; display: inline-block; width: 1.8rem;
  text-indent: 0 }}
.mind::before {{ content: "!"; color: #b35a00; font-weight: 700; display: inline-block;
  width: 1.8rem; text-indent: 0 }}
.mind {{ background: #fff6e6 }}
.pictures {{ display: flex; flex-wrap: wrap; gap: 1.2rem }}
figure {{ margin: 0; max-width: 100% }}
figcaption {{ color: #6c6c76; font-size: .85rem; overflow-wrap: anywhere; max-width: 33rem }}
img {{ max-width: 100% }}
p.note {{ color: #6c6c76 }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def write_page(path: Path, title: str, parts: Sequence[str]) -> None:
    """Write a whole page of parts that are HTML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = _PAGE.format(title=html.escape(title), body="\n".join(parts))
    path.write_text(text, "utf-8", errors="backslashreplace")  # names of files may be any bytes


def paragraph(text: str) -> str:
    """A sentence or two in small grey letters."""
    return f'<p class="note">{html.escape(text)}</p>'


def heading(text: str) -> str:
    """A heading."""
    return f"<h2>{html.escape(text)}</h2>"


def table(rows: Sequence[Sequence[str]], *, head: Sequence[str] = ()) -> str:
    """A table; cells that begin with a digit or a minus stand on the right."""
    lines = (
        [f"<tr>{''.join(f'<th>{html.escape(cell)}</th>' for cell in head)}</tr>"] if head else []
    )
    lines += [f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _cell(text: str) -> str:
    is_number = text.lstrip("-")[:1].isdigit()
    return f"<td{' class=number' * is_number}>{html.escape(text)}</td>"


def marked_list(items: Sequence[tuple[bool, str]]) -> str:
    """Sentences with a tick, or with a mark where something is to be minded."""
    lines = [
        f'<li class="{"fine" if ok else "mind"}">{html.escape(text)}</li>' for ok, text in items
    ]
    return f'<ul class="findings">{"".join(lines)}</ul>'


def picture(pixels: np.ndarray, caption: str) -> str:
    """Pixels [H, W, 3] uint8 RGB with words below."""
    ok, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert ok, caption
    return _figure("jpeg", data.tobytes(), caption)


def drawing(figure: Figure, caption: str = "") -> str:
    """A figure of matplotlib with words below."""
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
        return _figure("png", file.getvalue(), caption)


def _figure(kind: str, data: bytes, caption: str) -> str:
    source = base64.b64encode(data).decode("ascii")
    words = html.escape(caption)
    shown = f"<figcaption>{words}</figcaption>" if caption else ""
    return f'<figure><img alt="{words}" src="data:image/{kind};base64,{source}">{shown}</figure>'
