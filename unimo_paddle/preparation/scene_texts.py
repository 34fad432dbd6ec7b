"""Write tables of texts about scenes: built-in data for the tasks that need no image.

Makes sentences, likeness, headlines and dialogue, each with a table to train on and one of unseen
scenes, in a new folder that appears whole. A folder of the same options is left as it is, any other
is refused.

examples:
    python tools/prepare_data.py scene_texts --output runs/data/scene_texts
"""

from __future__ import annotations

import argparse
from pathlib import Path

from unimo_paddle.data.scenes.tables import TABLES, ensure_tables
from unimo_paddle.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--num_train", type=int, default=8000, help="rows to train on (8000)")
    parser.add_argument("--num_test", type=int, default=500, help="rows of unseen scenes (500)")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (0)")


def run(arguments: argparse.Namespace) -> None:
    """Write what is not there yet."""
    for name, low in (("num_train", 1), ("num_test", 1), ("seed", 0)):
        if getattr(arguments, name) < low:
            raise UserError(f"--{name} is {getattr(arguments, name)}; give at least {low}")
    ensure_tables(
        arguments.output,
        num_train=arguments.num_train,
        num_test=arguments.num_test,
        seed=arguments.seed,
    )
    print(f"{arguments.output}: {', '.join(TABLES)}, each with a train and a test table")
