"""Look for images and captions of evaluation splits in pre-training data.

Ends with exit code 2 and one line where there are any. Images are found that were re-encoded,
resized, mirrored or cropped a little; captions, where their words are the same or nearly so.
docs/data.md says what counts.

examples:
    python tools/prepare_data.py leaks --pairs mine/train.jsonl --splits mine/dev.jsonl
    python tools/prepare_data.py leaks --pairs mine/train.jsonl --images mine/unlabelled \\
        --texts mine/corpus.txt --splits mine/dev.jsonl mine/test.jsonl --report leaks.json
    python tools/prepare_data.py leaks --pairs mine/train.jsonl --splits mine/dev.jsonl \\
        --statements mine/questions.jsonl --mined mine/mined.safetensors
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from unimo_paddle.data.leaks import CACHE_DIR, check_leaks
from unimo_paddle.data.mining import Mined
from unimo_paddle.data.regions import RegionStores
from unimo_paddle.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--pairs", type=Path, required=True, help="pairs to pre-train on")
    parser.add_argument("--images", type=Path, help="folder of images without captions")
    parser.add_argument("--texts", type=Path, nargs="+", default=[], help="plain text files")
    parser.add_argument(
        "--statements",
        type=Path,
        nargs="+",
        default=[],
        help="questions or hypotheses about images, JSON lines",
    )
    parser.add_argument("--mined", type=Path, help="what mine wrote for the pairs")
    parser.add_argument(
        "--splits", type=Path, nargs="+", required=True, help="pairs to evaluate on"
    )
    parser.add_argument(
        "--regions", type=Path, nargs="+", help="stores of the regions of images without files"
    )
    parser.add_argument("--allow", action="store_true", help="report leaks and end with code 0")
    parser.add_argument("--report", type=Path, help="JSON file to write all that is found to")
    parser.add_argument(
        "--cache", type=Path, default=CACHE_DIR, help=f"folder of earlier results ({CACHE_DIR})"
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the counts; refuse where there are leaks."""
    report = check_leaks(
        arguments.pairs,
        arguments.splits,
        images=arguments.images,
        texts=arguments.texts,
        statements=arguments.statements,
        mined=Mined(arguments.mined, arguments.pairs).lists() if arguments.mined else None,
        stores=RegionStores(arguments.regions) if arguments.regions else None,
        cache_dir=arguments.cache,
        is_allowed=True,
    )
    if arguments.report:
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(report.as_json(), indent=2, ensure_ascii=False)
        # Names of files may be any bytes.
        arguments.report.write_text(text + "\n", "utf-8", errors="backslashreplace")
        print(f"written: {arguments.report}")
    if report.refused and not arguments.allow:
        listed = arguments.report or "--report FILE"
        raise UserError(
            report.refusal(
                f"take what {listed} lists out of the pre-training data, or give --allow"
            )
        )
    print(report.summary())
