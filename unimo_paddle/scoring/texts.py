"""Score texts, one a line, against one or more files of references, line by line.

    python tools/score.py texts --hypotheses out.txt --references a.txt b.txt
    python tools/score.py texts --hypotheses runs/x/test.jsonl --references test.tgt
    python tools/score.py texts --hypotheses out.txt --references test.tgt --metrics rouge \\
        --sentence_separator "<q>" --intervals

The texts may also be what tools/evaluate.py --predictions or tools/predict.py wrote (JSON lines).

Metrics:
  bleu          BLEU-1 to BLEU-4 of all texts
  rouge         ROUGE-1, ROUGE-2 and ROUGE-L: mean F-measures of ROUGE-1.5.5 with stemming
  rouge_l_coco  ROUGE-L as COCO's caption scorer and nlg-eval have it
  cider_d       CIDEr-D: what COCO's caption scorer, nlg-eval and papers call CIDEr
  cider         plain CIDEr, which papers rarely mean
  answers       F1 and exact match of short answers, by CoQA's rules
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from unimo_paddle.errors import UserError
from unimo_paddle.metrics.cider import cider, cider_d
from unimo_paddle.metrics.coqa import answer_scores
from unimo_paddle.metrics.generation import bleu_of_counts, sentence_counts
from unimo_paddle.metrics.ptb import caption_words
from unimo_paddle.metrics.rouge import F_MEASURE, rouge, rouge_l_coco
from unimo_paddle.scoring.files import in_order, read_lines, read_predictions
from unimo_paddle.scoring.report import Score, mean_score, whole_score

Words = Sequence[str]
TOKENIZERS: dict[str, Callable[[str], list[str]]] = {"spaces": str.split, "ptb": caption_words}
DEFAULT_METRICS = ("bleu", "rouge", "rouge_l_coco", "cider_d")
UNAVAILABLE = {
    "meteor": "its Java program knows paraphrases and synonyms that no Python form has, so "
    "values would differ from published ones",
    "spice": "it needs scene graphs of a parser that exists in Java only",
}


@dataclass(frozen=True)
class Texts:
    """Texts with their references, as they are and in words."""

    hypotheses: Sequence[str]
    references: Sequence[Sequence[str]]
    split: Callable[[str], list[str]]  # a text into words

    @cached_property
    def words(self) -> tuple[list[Words], list[list[Words]]]:
        """Both, in words."""
        return (
            [self.split(text) for text in self.hypotheses],
            [[self.split(text) for text in texts] for texts in self.references],
        )


def measure_texts(texts: Texts, metrics: Sequence[str], *, with_intervals: bool) -> list[Score]:
    """The scores of each metric that is named."""
    for name in metrics:
        if name.lower() in UNAVAILABLE:
            raise UserError(f"{name} is not available: {UNAVAILABLE[name.lower()]}; leave it out")
        if name not in MEASURES:
            raise UserError(f"metric {name!r} is unknown; give some of {', '.join(MEASURES)}")
    scores = []
    for name in dict.fromkeys(metrics):
        scores += MEASURES[name](texts, with_intervals)
    return scores


def _bleu(texts: Texts, with_intervals: bool) -> list[Score]:
    counts = sentence_counts(*texts.words)
    return [
        whole_score(
            f"bleu_{order}",
            lambda rows, order=order: bleu_of_counts(rows).scores[order - 1],
            counts,
            with_interval=with_intervals,
        )
        for order in range(1, 5)
    ]


def _rouge(texts: Texts, with_intervals: bool) -> list[Score]:
    found = rouge(texts.hypotheses, texts.references)
    return [
        mean_score(name, values[:, F_MEASURE], with_interval=with_intervals)
        for name, values in found.items()
    ]


def _mean_of_words(
    name: str, measure: Callable[..., np.ndarray]
) -> Callable[[Texts, bool], list[Score]]:
    def score(texts: Texts, with_intervals: bool) -> list[Score]:
        return [mean_score(name, measure(*texts.words), with_interval=with_intervals)]

    return score


def _answers(texts: Texts, with_intervals: bool) -> list[Score]:
    found = answer_scores(texts.hypotheses, texts.references)
    return [mean_score(name, found[name], with_interval=with_intervals) for name in found]


MEASURES: dict[str, Callable[[Texts, bool], list[Score]]] = {
    "bleu": _bleu,
    "rouge": _rouge,
    "rouge_l_coco": _mean_of_words("rouge_l_coco", rouge_l_coco),
    "cider_d": _mean_of_words("cider_d", cider_d),
    "cider": _mean_of_words("cider", cider),
    "answers": _answers,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--hypotheses", type=Path, required=True, help="what was written, as lines or JSON lines"
    )
    parser.add_argument(
        "--references", type=Path, required=True, nargs="+", help="what is right, files of as many"
    )
    add_metrics(parser, DEFAULT_METRICS)
    parser.add_argument(
        "--tokenizer",
        choices=TOKENIZERS,
        default="spaces",
        help="words of BLEU, CIDEr and COCO's ROUGE-L: as they stand (the default, as nlg-eval "
        "has it), or ptb: lower case without punctuation, as COCO's scorer has it",
    )
    parser.add_argument("--lowercase", action="store_true", help="lower case before words")
    parser.add_argument(
        "--sentence_separator", help='what ends a sentence within a line, such as "<q>" (ROUGE-L)'
    )


def add_metrics(parser: argparse.ArgumentParser, default: Sequence[str]) -> None:
    """The option that names metrics."""
    parser.add_argument(
        "--metrics", nargs="+", default=default, metavar="NAME", help=f"of {', '.join(MEASURES)}"
    )


def measure(arguments: argparse.Namespace) -> list[Score]:
    """The scores of two or more files."""
    hypotheses = _read_written(arguments.hypotheses)
    columns = []
    for path in arguments.references:
        columns.append(read_lines(path))
        if len(columns[-1]) != len(hypotheses):
            raise UserError(
                f"{path} has {len(columns[-1])} lines and {arguments.hypotheses} "
                f"{len(hypotheses)}; give the reference of each text in its line"
            )
    prepare = lambda text: _prepared(text, arguments)  # noqa: E731
    texts = Texts(
        [prepare(text) for text in hypotheses],
        [[prepare(text) for text in row] for row in zip(*columns, strict=True)],
        TOKENIZERS[arguments.tokenizer],
    )
    print(f"{len(hypotheses)} texts, references of each: {len(columns)}")
    return measure_texts(texts, arguments.metrics, with_intervals=arguments.intervals)


def _read_written(path: Path) -> list[str]:
    items = read_predictions(path)
    return read_lines(path) if items is None else in_order(path, items, "text", str)


def _prepared(text: str, arguments: argparse.Namespace) -> str:
    separator = arguments.sentence_separator
    text = text.replace(separator, "\n") if separator else text  # it may hold capitals itself
    return text.lower() if arguments.lowercase else text
