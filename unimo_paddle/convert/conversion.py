"""From one kind of checkpoint to another: read, check, deduce, write whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from tqdm import tqdm

from unimo_paddle.convert.original import (
    FIRST_POSITION,
    POSITIONS,
    at_its_positions,
    open_original,
    write_original,
)
from unimo_paddle.convert.ours import MODEL_NAME, open_ours, write_ours
from unimo_paddle.convert.paddlenlp import open_paddlenlp, write_paddlenlp
from unimo_paddle.convert.parameters import Description, deduce
from unimo_paddle.convert.roberta import open_roberta
from unimo_paddle.convert.sources import Source
from unimo_paddle.errors import UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.settings import build, dump

HEAD_SIZE = 64  # of every released UNIMO and RoBERTa
SECONDS_WITHOUT_PROGRESS = 2.0  # a bar is shown for what takes longer
ORIGINS: dict[str, Callable[..., Source]] = {
    "original": open_original,
    "roberta": open_roberta,
    "paddlenlp": open_paddlenlp,
    "ours": open_ours,
}
DESTINATIONS = ("ours", "original", "paddlenlp")
# Settings that a model.yaml has in any case; the others stand there where they differ from what
# a model has that leaves them out.
_ALWAYS = (
    *("vocab_size", "hidden_size", "num_layers", "num_heads"),
    *("max_positions", "first_position", "tie_word_embeddings"),
)


@dataclass(frozen=True)
class Summary:
    """What a conversion did, for people."""

    output: Path
    description: Description
    notes: tuple[str, ...]
    next_step: str

    def lines(self) -> list[str]:
        """The summary, line by line."""
        found = self.description
        return [
            f"{found.num_parameters} parameters, {found.num_values:,} values",
            f"model: {found.sizes['num_layers']} layers of width {found.sizes['hidden_size']}, "
            f"{found.sizes['vocab_size']} words, {found.sizes['max_positions']} positions",
            f"with: {', '.join(found.parts) or 'no head'}",
            *self.notes,
            f"written: {self.output}",
            self.next_step,
        ]


def convert(
    origin: str,
    path: Path,
    output: Path,
    *,
    destination: str = "ours",
    num_heads: int | None = None,
    skip: Sequence[str] = (),
) -> Summary:
    """Convert the checkpoint at ``path`` and publish it as the new folder ``output``.

    Args:
        origin: one of ``ORIGINS``, what ``path`` is.
        destination: one of ``DESTINATIONS``.
        num_heads: attention heads; by default what the settings beside the weights say, and
            else one for every 64 numbers of the width.
        skip: patterns of names in ``path`` that are left out.
    """
    if origin == destination:
        raise UserError(f"from {origin} to {destination} is no conversion; choose another --to")
    if os.path.lexists(output):
        raise UserError(f"output {output} exists already; choose another, or remove it")
    source = ORIGINS[origin](path, skip=skip)
    description = deduce(source.shapes, where=source.path, label=source.label)
    notes = list(source.notes)
    with _publishing(output) as folder, _progress(source) as watched:
        if destination == "original":
            notes += _write_original(folder, watched)
            result, then = output, "the original's program loads this folder"
        else:
            settings, heads_note = _model_settings(source, description, num_heads)
            notes.append(heads_note)
            if destination == "ours":
                write_ours(folder, watched, _shortened(settings, description))
                result = output / "step-0"
                options = f"--train.start_from {result} --model {output / MODEL_NAME}"
                then = f"fine-tune: tools/train.py with {options}"
            else:
                notes += write_paddlenlp(folder, watched, description, settings)
                result, then = output, f"PaddleNLP's from_pretrained({str(output)!r}) loads it"
    return Summary(result, description, tuple(notes), then)


def _write_original(folder: Path, source: Source) -> list[str]:
    """Write the original's files, in which texts begin at its first position; say what moved."""
    told = {name: x for name, x in source.settings.items() if name == "first_position"}
    first = build(ModelConfig, told).first_position

    def read(name: str) -> np.ndarray:
        values = source.read(name)
        return at_its_positions(values, first) if name == POSITIONS else values

    write_original(folder, ((name, read(name)) for name in sorted(source.shapes)))
    if first == FIRST_POSITION:
        return []
    return [f"positions were moved: texts begin at {FIRST_POSITION} there, here at {first}"]


def _model_settings(
    source: Source, description: Description, num_heads: int | None
) -> tuple[dict[str, Any], str]:
    """The complete model section, and a note on where the number of heads comes from."""
    for name, value in description.sizes.items():
        told = source.settings.get(name, value)
        if name == "ffn_size" and told == 4 * description.sizes["hidden_size"]:
            told = None  # the default, written out
        if told != value:
            raise UserError(
                f"the settings beside {source.path} say {name} {told!r}, its arrays {value}; put "
                "the settings there that belong to it"
            )
    settings = source.settings | description.sizes
    width = settings["hidden_size"]
    if num_heads is not None:
        settings["num_heads"], why = num_heads, "as given"
    elif "num_heads" in settings:
        why = "as the settings beside it say"
    elif width % HEAD_SIZE == 0:
        settings["num_heads"] = width // HEAD_SIZE
        why = f"one for every {HEAD_SIZE} numbers of the width; --num_heads gives another"
    else:
        raise UserError(
            f"{source.path} has a width of {width}, no multiple of {HEAD_SIZE}, and does not tell "
            "its number of attention heads; give it with --num_heads"
        )
    complete = dump(build(ModelConfig, settings))
    return complete, f"num_heads: {complete['num_heads']}, {why}"


def _shortened(settings: dict[str, Any], description: Description) -> dict[str, Any]:
    """The settings that a ``model.yaml`` needs to have."""
    usual = dump(ModelConfig())
    always = _ALWAYS + (("region_feature_size",) if description.has_images else ())
    return {name: v for name, v in settings.items() if name in always or v != usual[name]}


@contextmanager
def _publishing(output: Path) -> Iterator[Path]:
    """A new folder that becomes ``output`` when the block ends well, and is removed otherwise."""
    unfinished = output.with_name(f".{output.name}-{os.getpid()}.unfinished")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        unfinished.mkdir()
        yield unfinished
        os.rename(unfinished, output)
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot write {output}: {reason}; free space or choose another output"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def _progress(source: Source) -> Iterator[Source]:
    """The source with a bar that counts what is read from it."""
    with tqdm(
        total=len(source.shapes),
        desc="converting",
        unit="parameter",
        delay=SECONDS_WITHOUT_PROGRESS,
    ) as bar:

        def read(name: str) -> np.ndarray:
            values = source.read(name)
            bar.update()
            return values

        yield replace(source, read=read)
