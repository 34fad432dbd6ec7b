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
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unimo_paddle.data.regions.lookup import IMAGE_ID
from unimo_paddle.errors import ToolParser, UserError, report_user_errors
from unimo_paddle.predictor import Image, Predictor
from unimo_paddle.tasks.writing import GENERATE

ITEMS_AT_ONCE = 256


@report_user_errors
def main() -> None:
    """Print, for every text, the images from the most to the least similar; or predictions."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="folder that export.py wrote")
    parser.add_argument("--images", type=Path, nargs="+", help="image files to rank")
    parser.add_argument("--texts", nargs="+", help="texts to look for in the images")
    parser.add_argument("--top", type=int, default=5, help="images shown a text")
    parser.add_argument(
        "--rerank",
        type=int,
        default=50,
        help="images that are read with each text, where the bundle has joint scores",
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
    parser.add_argument("--prefix", default="", help="what every written text begins with")
    parser.add_argument("--seed", type=int, default=0, help="of texts that are drawn")
    parser.add_argument(
        "--likelihood", action="store_true", help="print how likely given targets are, not texts"
    )
    arguments = parser.parse_args()
    gives_items = bool(arguments.items or arguments.item)
    items = read_items(arguments.items) if arguments.items else []
    items += [parse_item(arguments.item)] if arguments.item else []
    if arguments.texts and (arguments.images or gives_items):
        print_ranking(
            Predictor(arguments.bundle),
            [*(arguments.images or ()), *items],
            arguments.texts,
            top=arguments.top,
            first=arguments.rerank,
        )
    elif gives_items:
        predictor = Predictor(arguments.bundle)
        predict = predictor.predict
        if predictor.serves(GENERATE) and not arguments.likelihood:
            predict = functools.partial(
                predictor.generate, prefix=arguments.prefix, seed=arguments.seed
            )
        print_predictions(predict, items)
    else:
        parser.error("give --images or --items with --texts, or --items, or --item")


def print_ranking(
    predictor: Predictor, images: list[Image], texts: list[str], *, top: int, first: int
) -> None:
    """Print the images that fit each text best."""
    features = predictor.embed_images(images)
    for text in texts:
        print(text)
        found = predictor.find_images(text, images, features=features, first=max(first, top))
        for index, score in found[:top]:
            print(f"  {score:+.3f}  {name_of(images[index])}")


def name_of(image: Image) -> Any:
    """What an image is called."""
    if not isinstance(image, Mapping):
        return image
    return image.get("image") or image.get(IMAGE_ID) or json.dumps(image)[:80]


def print_predictions(
    predict: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], items: list[dict[str, Any]]
) -> None:
    """Print a JSON object a line for each item."""
    starts = range(0, len(items), ITEMS_AT_ONCE)
    for start in tqdm(starts, desc="predicting", disable=len(starts) < 2, file=sys.stderr):
        for prediction in predict(items[start : start + ITEMS_AT_ONCE]):
            print(json.dumps(prediction, ensure_ascii=False))


def read_items(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"--items {path} cannot be read: {reason}; check the path") from error
    items = []
    for number, line in enumerate(lines, 1):
        try:
            items.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"{path}:{number} is not JSON: {line[:40]!r}; mend it") from error
    return items


def parse_item(parts: list[str]) -> dict[str, Any]:
    """One item from KEY=VALUE parts."""
    for part in parts:
        if "=" not in part:
            raise UserError(f"--item {part!r} has no '='; write KEY=VALUE, such as text_a=...")
    pairs = (part.split("=", 1) for part in parts)
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
