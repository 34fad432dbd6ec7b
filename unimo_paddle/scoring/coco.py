"""Score captions as COCO's caption scorer does, from its files, without Java.

    python tools/score.py coco --results captions_val2014_fakecap_results.json \\
        --annotations annotations/captions_val2014.json

Results are a list of {"image_id", "caption"}; annotations the published file. The images of the
results are scored. Metrics are those of "texts", on the words of the Penn Treebank's tokenizer.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from unimo_paddle.errors import UserError
from unimo_paddle.metrics.ptb import caption_words
from unimo_paddle.scoring.files import read_json, read_results, records
from unimo_paddle.scoring.report import Score
from unimo_paddle.scoring.texts import Texts, add_metrics, measure_texts

DEFAULT_METRICS = ("bleu", "rouge_l_coco", "cider_d")
FIELDS = {"image_id": (int, str), "caption": str}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--results", type=Path, required=True, help="JSON of written captions")
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
    unknown = f"has no caption in {annotations}; give the annotations of the same split"
    written = read_results(results, FIELDS, right, name="image {}", unknown=unknown)
    if not written:
        raise UserError(f"{results}: no captions; give a list of image_id and caption")
    return written, dict(right)
