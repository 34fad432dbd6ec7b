"""Prepare data before a run.

    python tools/prepare_data.py leaks --pairs train.jsonl --splits dev.jsonl
    python tools/prepare_data.py mine --pairs train.jsonl --images unlabelled --texts corpus.txt \\
        --output mined.safetensors

Each command explains its options: python tools/prepare_data.py mine --help
"""

from __future__ import annotations

import argparse

import unimo_paddle  # noqa: F401  first of ours: it sets the threads before Paddle is imported
from unimo_paddle.errors import ToolParser, report_user_errors
from unimo_paddle.logger import configure_logging
from unimo_paddle.preparation import leaks, mine

COMMANDS = {"leaks": leaks, "mine": mine}


@report_user_errors
def main() -> None:
    """Run one command."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = ToolParser(description=__doc__, formatter_class=raw)
    names = parser.add_subparsers(metavar="command", required=True)
    for name, command in COMMANDS.items():
        part = names.add_parser(
            name, description=command.DESCRIPTION, formatter_class=raw, help=command.HELP
        )
        command.add_arguments(part)
        part.set_defaults(run=command.run)
    arguments = parser.parse_args()
    configure_logging()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
