"""Look at rewritten captions: a page with pictures, or a table to judge a sample by.

The page stands alone: one HTML file with its pictures. The table holds false captions of all kinds
in equal numbers, each of another image; fill in 1 or 0 under "true" and "grammatical".

examples:
    python tools/prepare_data.py inspect --pairs mine/train.jsonl \\
        --rewritten mine/train.rewritten --output page.html
    python tools/prepare_data.py inspect --pairs mine/train.jsonl \\
        --rewritten mine/train.rewritten --output page.html --table sample.tsv --table_size 200
"""

from __future__ import annotations

import argparse
from pathlib import Path

from unimo_paddle.data.regions import RegionStores
from unimo_paddle.data.rewriting.inspector import Inspector, as_page, as_table
from unimo_paddle.data.rewriting.lexicon import built_in_lexicon
from unimo_paddle.data.rewriting.store import RewrittenCaptions
from unimo_paddle.data.sources import read_pairs
from unimo_paddle.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--pairs", type=Path, required=True, help="image-text pairs, JSON lines")
    parser.add_argument("--rewritten", type=Path, required=True, help="what rewrite wrote")
    parser.add_argument(
        "--regions", type=Path, nargs="+", help="stores of the regions of images without files"
    )
    parser.add_argument("--output", type=Path, required=True, help="HTML file to write")
    parser.add_argument("--num_images", type=int, default=40, help="images on the page (40)")
    parser.add_argument("--per_kind", type=int, default=3, help="rewrites of each kind (3)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")
    parser.add_argument("--table", type=Path, help="TSV file to write a sample to")
    parser.add_argument("--table_size", type=int, default=200, help="rows of the sample (200)")


def run(arguments: argparse.Namespace) -> None:
    """Write the page and, where asked, the table."""
    for name in ("num_images", "per_kind", "table_size"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name} is {getattr(arguments, name)}; give at least 1")
    if arguments.seed < 0:
        raise UserError(f"--seed is {arguments.seed}; give a whole number of at least 0")
    stores = RegionStores(arguments.regions) if arguments.regions else None
    records = read_pairs(arguments.pairs, stores=stores).records
    rewritten = RewrittenCaptions(arguments.rewritten, records)
    inspector = Inspector(rewritten, records, built_in_lexicon())
    images = list(inspector.shown(arguments.num_images, arguments.per_kind, arguments.seed))
    title = f"Rewritten captions of {arguments.pairs.name}"
    page = as_page(images, records, rewritten, title=title)
    _write(arguments.output, page)
    if arguments.table:
        examples = inspector.balanced(arguments.table_size, arguments.seed)
        _write(arguments.table, as_table(examples, records, rewritten))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    print(f"written: {path}")
