"""Use a bundle: rank images for texts, predict what a task predicts, or write its texts.

python tools/predict.py --bundle runs/x/bundle --images a.png b.png --texts "a red circle"
python tools/predict.py --bundle runs/x/bundle --items labelled_images.jsonl --texts "a red circle"
python tools/predict.py --bundle runs/sst2/bundle --item text_a="a fine film"
python tools/predict.py --bundle runs/vqa/bundle --item image=a.png --item question="how many dogs?"
python tools/predict.py --bundle runs/vqa/bundle --items questions.jsonl > answers.jsonl
python tools/predict.py --bundle runs/coco/bundle --item image=a.png --prefix "a photo of"
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unimo_paddle.data.records import Fault, read_lines
from unimo_paddle.data.regions.lookup import IMAGE_ID
from unimo_paddle.errors import ToolParser, UserError, report_user_errors
from unimo_paddle.predictor import Image, Predictor
from unimo_paddle.tasks.reranking import SCORE_PAIRS
from unimo_paddle.tasks.writing import GENERATE

ITEMS_AT_ONCE = 256
TOP, RERANK = 5, 50  # images, unless other numbers are given
RANKING = ("images", "texts", "top", "rerank")  # options of use to one way alone
WRITING = ("prefix", "seed", "likelihood")


@report_user_errors
def main() -> None:
    """Print, for every text, the images from the most to the least similar; or predictions."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="folder that export.py wrote")
    parser.add_argument("--images", type=Path, nargs="+", help="image files to rank")
    parser.add_argument("--texts", nargs="+", help="texts to look for in the images")
    parser.add_argument("--top", type=int, help=f"images shown a text ({TOP})")
    parser.add_argument(
        "--rerank",
        type=int,
        help="images that are read with each text, where the bundle has joint scores; 0: all "
        f"({RERANK})",
    )
    parser.add_argument(
        "--items",
        type=Path,
        help="JSON lines: a prediction is printed for each, or with --texts they are the images to "
        "rank, with their objects or regions",
    )
    parser.add_argument(
        "--item",
        action="append",
        metavar="KEY=VALUE",
        help="a part of the one item to predict for, such as text_a=... or image=...; a value that "
        "is a JSON list or object is read as one; may repeat",
    )
    parser.add_argument("--prefix", help="what every written text begins with")
    parser.add_argument("--seed", type=int, help="of texts that are drawn (0)")
    parser.add_argument(
        "--likelihood",
        action="store_true",
        default=None,
        help="print how likely given targets are, not texts",
    )
    arguments = parser.parse_args()
    if arguments.items:
        refuse_idle(arguments, ["item"], "beside --items")
    items = read_items(arguments.items) if arguments.items else []
    items += [parse_item(arguments.item)] if arguments.item else []
    if arguments.texts and (arguments.images or items):
        refuse_idle(arguments, WRITING, "beside --texts")
        images = [*(arguments.images or ()), *items]
        top, first = parse_depths(arguments, len(images))
        predictor = Predictor(arguments.bundle)
        if not predictor.serves(SCORE_PAIRS):
            refuse_idle(arguments, ["rerank"], "with a bundle that has no joint scores")
        print_ranking(predictor, images, arguments.texts, top=top, first=first)
    elif items:
        refuse_idle(arguments, RANKING, "beside --items or --item without --texts")
        predictor = Predictor(arguments.bundle)
        predict = predictor.predict
        if not predictor.serves(GENERATE):
            refuse_idle(arguments, WRITING, "with a bundle that writes no texts")
        elif arguments.likelihood:
            refuse_idle(arguments, ["prefix", "seed"], "beside --likelihood")
        else:
            if not predictor.draws:
                refuse_idle(arguments, ["seed"], "with a bundle whose texts are not drawn")
            prefix, seed = arguments.prefix or "", arguments.seed or 0
            predict = functools.partial(predictor.generate, prefix=prefix, seed=seed)
        print_predictions(predict, items)
    else:
        parser.error("give --images or --items with --texts, or --items, or --item")


def refuse_idle(arguments: argparse.Namespace, names: Sequence[str], where: str) -> None:
    """Refuse options that were given and would do nothing."""
    for name in names:
        if getattr(arguments, name) is not None:
            raise UserError(f"--{name} does nothing {where}; leave it out")


def parse_depths(arguments: argparse.Namespace, count: int) -> tuple[int, int]:
    """How many of ``count`` images are shown a text, and how many are read with it."""
    top = TOP if arguments.top is None else arguments.top
    if top < 1:
        raise UserError(f"--top is {top}; give at least 1")
    first = arguments.rerank
    if first is None:
        return top, max(RERANK, top)
    if first and first < min(top, count):
        raise UserError(
            f"--rerank is {first}, but {min(top, count)} images are shown; give at least as many, "
            "0 for all, or a lower --top"
        )
    return top, first or count


def print_ranking(
    predictor: Predictor, images: list[Image], texts: list[str], *, top: int, first: int
) -> None:
    """Print the images that fit each text best."""
    features = predictor.embed_images(images)
    for text in texts:
        print(text)
        found = predictor.find_images(text, images, features=features, first=first)
        for index, score in found[:top]:
            name = str(name_of(images[index]))
            # Names of files may be any bytes.
            print(f"  {score:+.3f}  {os.fsencode(name).decode('utf-8', 'backslashreplace')}")


def name_of(image: Image) -> Any:
    """What an image is called."""
    if not isinstance(image, Mapping):
        return image
    return image.get("image") or image.get(IMAGE_ID) or json.dumps(image)[:80]


def print_predictions(
    predict: Callable[..., list[dict[str, Any]]],
    items: list[dict[str, Any]],
) -> None:
    """Print a JSON object a line for each item.

    Args:
        predict: predictions of a part of the items, by it and the number of its ``first``.
    """
    starts = range(0, len(items), ITEMS_AT_ONCE)
    for start in tqdm(starts, desc="predicting", disable=len(starts) < 2, file=sys.stderr):
        for prediction in predict(items[start : start + ITEMS_AT_ONCE], first=start):
            print(json.dumps(prediction, ensure_ascii=False))


def read_items(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; empty lines are passed over."""
    items = []
    for where, line in read_lines(path):
        if isinstance(line, Fault):
            raise UserError(f"{where}: {line}; mend it")
        if not line.strip():
            continue
        try:
            items.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where} is not JSON: {line[:40]!r}; mend it") from error
    return items


def parse_item(parts: list[str]) -> dict[str, Any]:
    """One item from KEY=VALUE parts."""
    for part in parts:
        if "=" not in part:
            raise UserError(f"--item {part!r} has no '='; write KEY=VALUE, such as text_a=...")
    pairs = [part.split("=", 1) for part in parts]
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"--item {key}= is given twice; leave one out")
    return {key: parse_value(value) for key, value in pairs}


def parse_value(value: str) -> Any:
    """The list or object that a text is in JSON, or else the text."""
    if not value.startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value  # such as "[MASK] is a city"


if __name__ == "__main__":
    main()
