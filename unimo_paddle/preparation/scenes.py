"""Draw the built-in data: images with captions, texts, questions and triples.

Training makes them on first use; this command is for what is prepared from them before.

examples:
    python tools/prepare_data.py scenes --output runs/data/scenes
    python tools/prepare_data.py scenes --output runs/data/scenes_20000 --num_train 20000
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from unimo_paddle.data.scenes import SceneConfig, ensure_scenes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    for item in fields(SceneConfig):
        parser.add_argument(
            f"--{item.name}",
            type=int,
            default=item.default,
            help=f"as task.data.scenes.{item.name} of a run file ({item.default})",
        )


def run(arguments: argparse.Namespace) -> None:
    """Draw what is not there yet."""
    config = SceneConfig(
        **{item.name: getattr(arguments, item.name) for item in fields(SceneConfig)}
    )
    folder = ensure_scenes(arguments.output, config)
    print(f"{folder}: train.jsonl, test.jsonl, test_novel.jsonl, texts.txt, images_only and more")
