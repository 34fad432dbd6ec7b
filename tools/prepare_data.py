"""Prepare data once, before training; each command explains itself with --help.

Published data sets become the files that tasks read (docs/formats.md); pairs are rewritten, mined
for and looked through; the built-in data are drawn.

    python tools/prepare_data.py glue --set cola --input GLUE/CoLA
    python tools/prepare_data.py karpathy --set coco --input dataset_coco.json --images coco_images
    python tools/prepare_data.py leaks --pairs mine/train.jsonl --splits mine/dev.jsonl
    python tools/prepare_data.py rewrite --pairs mine/train.jsonl --output mine/train.rewritten
    python tools/prepare_data.py inspect --pairs mine/train.jsonl \\
        --rewritten mine/train.rewritten --output page.html
    python tools/prepare_data.py mine --pairs mine/train.jsonl --images mine/unlabelled \\
        --texts mine/corpus.txt --output mine/mined.safetensors
    python tools/prepare_data.py regions --format tsv trainval_36.tsv --output mine/regions
    python tools/prepare_data.py extract --detector exported/model --settings detector.yaml \\
        --images mine/images --output mine/regions
    python tools/prepare_data.py compare --stores mine/known mine/regions --report page.html
    python tools/prepare_data.py scenes --output runs/data/scenes
    python tools/prepare_data.py scene_texts --output runs/data/scene_texts
"""

from __future__ import annotations

import argparse
import importlib
import sys
from types import ModuleType

import unimo_paddle  # noqa: F401  first of ours: it sets the threads before Paddle is imported
from unimo_paddle.errors import ToolParser, report_user_errors
from unimo_paddle.logger import configure_logging

# A command is a module of unimo_paddle.preparation with add_arguments(parser) and run(arguments);
# its docstring is its help.
COMMANDS = {
    "glue": "glue",
    "summaries": "summaries",
    "squad": "squad",
    "coqa": "coqa",
    "karpathy": "karpathy",
    "coco": "coco",
    "flickr": "flickr",
    "snli_ve": "snli_ve",
    "vqa": "vqa",
    "conceptual": "conceptual",
    "shards": "shards",
    "leaks": "leaks",
    "rewrite": "rewrite",
    "inspect": "inspect_rewrites",
    "mine": "mine",
    "regions": "regions",
    "region_report": "region_report",
    "extract": "extract",
    "compare": "compare",
    "scenes": "scenes",
    "scene_texts": "scene_texts",
}


def load_command(name: str) -> ModuleType:
    """The module of a command; others stay unread, for some take seconds."""
    return importlib.import_module(f"unimo_paddle.preparation.{COMMANDS[name]}")


@report_user_errors
def main() -> None:
    """Run one command."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = ToolParser(description=__doc__, formatter_class=raw)
    names = parser.add_subparsers(metavar="command", required=True)
    for name in [name for name in sys.argv[1:2] if name in COMMANDS] or COMMANDS:
        command = load_command(name)
        summary = command.__doc__.split("\n")[0].rstrip(".")
        part = names.add_parser(
            name, description=command.__doc__, formatter_class=raw, help=summary
        )
        command.add_arguments(part)
        part.set_defaults(run=command.run)
    arguments = parser.parse_args()
    configure_logging()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
