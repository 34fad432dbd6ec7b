"""Score files of texts, captions, answers, labels or retrieval; no training, no Java.

    python tools/score.py texts --hypotheses out.txt --references a.txt b.txt --metrics bleu rouge
    python tools/score.py coco --results captions.json --annotations captions_val2014.json
    python tools/score.py vqa --results answers.json --annotations v2_val_annotations.json
    python tools/score.py coqa --predictions answers.json --data coqa-dev-v1.0.json
    python tools/score.py labels --predictions out.txt --labels dev.txt --metrics matthews
    python tools/score.py recall --scores scores.npy --texts_per_image 5

What tools/evaluate.py --predictions writes is read, too, as JSON lines. Each command explains
itself: python tools/score.py texts --help
"""

from __future__ import annotations

import argparse
from pathlib import Path

import unimo_paddle  # noqa: F401  first of ours: it sets the threads before Paddle is imported
from unimo_paddle.errors import ToolParser, report_user_errors
from unimo_paddle.scoring import coco, coqa, labels, recall, texts, vqa
from unimo_paddle.scoring.report import format_scores, write_scores

# A command is a module with add_arguments(parser) and measure(arguments); its docstring helps.
COMMANDS = {
    "texts": texts,
    "coco": coco,
    "vqa": vqa,
    "coqa": coqa,
    "labels": labels,
    "recall": recall,
}


@report_user_errors
def main() -> None:
    """Print the scores as a table and perhaps write them as JSON."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = ToolParser(description=__doc__, formatter_class=raw)
    names = parser.add_subparsers(metavar="command", required=True)
    for name, command in COMMANDS.items():
        summary = command.__doc__.split("\n")[0].rstrip(".")
        part = names.add_parser(
            name, description=command.__doc__, formatter_class=raw, help=summary
        )
        command.add_arguments(part)
        part.add_argument(
            "--intervals", action="store_true", help="also give 95 %% bootstrap intervals"
        )
        part.add_argument("--json", type=Path, metavar="FILE", help="also write the scores as JSON")
        part.set_defaults(measure=command.measure)
    arguments = parser.parse_args()
    scores = arguments.measure(arguments)
    print(format_scores(scores))
    if arguments.json:
        write_scores(arguments.json, scores)
        print(f"written: {arguments.json}")


if __name__ == "__main__":
    main()
