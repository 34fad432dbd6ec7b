"""Score captions as COCO's caption scorer does, from its files, without Java.

    python tools/score.py coco --results captions_val2014_fakecap_results.json \\
        --annotations annotations/captions_val2014.json
    python tools/score.py coco --results runs/coco/test.jsonl --annotations captions_val2014.json

Results are a list of {"image_id", "caption"}, or what tools/evaluate.py --predictions wrote (JSON
lines); annotations the published file. The images of the results are scored. Metrics are those of
"texts", on the words of the Penn Treebank's tokenizer.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from unimo_paddle.errors import UserError
from unimo_paddle.metrics.ptb import caption_words
from unimo_paddle.scoring.files import predictions, read_json, read_predictions, records
from unimo_paddle.scoring.report import Score
from unimo_paddle.scoring.texts import Texts, add_metrics, measure_texts

DEFAULT_METRICS = ("bleu", "rouge_l_coco", "cider_d")
FIELDS = {"image_id": (int, str), "caption": str}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--results", type=Path, required=True, help="JSON or JSON lines of written captions"
    )
    parser.add_argument("--annotations", type=Path, required=True, help="JSON of people's captions")
    add_metrics(parser, DEFAULT_METRICS)


def measure(arguments: argparse.Namespace) -> list[Score]:
    """The scores of the captions of the results."""
    written, right = read_captions(arguments.results, arguments.annotations)
    print(f"{len(written)} of {len(right)} images")
    texts = Texts(list(written.values()), [right[image] for image in written], caption_words)
    return measure_texts(texts, arguments.metrics, with_intervals=arguments.intervals)


def read_captions(
    results: Path, annotations: Path
) -> tuple[dict[int | str, str], dict[int | str, list[str]]]:
    """The written caption of each image of the results, and people's of every image."""
    right: dict[int | str, list[str]] = defaultdict(list)
    for _, (image, caption) in records(annotations, read_json(annotations, "annotations"), FIELDS):
        right[image].append(caption)
    written: dict[int | str, str] = {}
    for number, image, caption in _read_results(results, right):
        if image in written:
            raise UserError(f"{results} record {number}: image {image} again; give it once")
        if image not in right:
            raise UserError(
                f"{results} record {number}: image {image} has no caption in {annotations}; give "
                "the annotations of the same split"
            )
        written[image] = caption
    if not written:
        raise UserError(f"{results}: no captions; give a list of image_id and caption")
    return written, dict(right)


def _read_results(path: Path, images: Iterable[int | str]) -> Iterator[tuple[int, int | str, str]]:
    """Number of the record, image and caption.

    Of predictions an image comes with each of its true captions, always with the same text; it is
    named by text there, and by a number in the published annotations.
    """
    items = read_predictions(path)
    if items is None:
        for number, (image, caption) in records(path, read_json(path), FIELDS):
            yield number, image, caption
        return
    known = {str(image): image for image in images}
    seen: dict[str, str] = {}
    for number, (name, text) in predictions(path, items, {"image_id": str, "text": str}):
        if name not in seen:
            seen[name] = text
            yield number, known.get(name, name), text
        elif seen[name] != text:
            raise UserError(
                f"{path} line {number}: image {name} has another text than before; give the "
                "predictions of one run"
            )
