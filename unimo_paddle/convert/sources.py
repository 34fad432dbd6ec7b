"""Where weights come from: shapes at once, values one parameter at a time."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unimo_paddle.convert.parameters import list_names, shown
from unimo_paddle.errors import UserError

MAX_CONFIG_SIZE = 1 << 20  # bytes of a config.json, a thousand times what one takes
_SETTINGS = {  # keys of Hugging Face and PaddleNLP: ours
    "num_attention_heads": "num_heads",
    "hidden_act": "activation",
    "hidden_dropout_prob": "hidden_dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "layer_norm_eps": "layer_norm_eps",
}
_ACTIVATIONS = {  # names there: ours
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}


@dataclass(frozen=True)
class Source:
    """Weights under our names (the original's), read when asked for."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]  # by name: contiguous float32
    settings: dict[str, Any] = field(default_factory=dict)  # of the model section, beyond shapes
    notes: tuple[str, ...] = ()  # what was left out or changed, and why; one line each
    label: Callable[[str], str | None] = str  # what one of our names is called in the file


def leave_out(
    names: Iterable[str], patterns: Sequence[str], where: object
) -> tuple[list[str], tuple[str, ...]]:
    """Return the names that match no pattern, and a note on those that do.

    A pattern such as ``classifier.*`` that matches nothing is a ``UserError``: it is misspelt.
    """
    names, notes, gone = list(names), [], set()
    for pattern in patterns:
        matched = fnmatch.filter(names, pattern)
        if not matched:
            raise UserError(
                f"--skip {pattern!r} matches no name in {where}; mend it or leave it out"
            )
        gone.update(matched)
        listed = list_names(map(shown, matched))
        notes.append(f"left out as --skip {pattern} says ({len(matched)}): {listed}")
    return [name for name in names if name not in gone], tuple(notes)


def to_float32(values: np.ndarray, where: str) -> np.ndarray:
    """Return ``values`` as contiguous float32; other kinds of numbers are a ``UserError``.

    Half precision widens without loss. What is not a finite number would spoil any training.
    """
    if values.dtype not in (np.float32, np.float16):
        raise UserError(
            f"{where} holds {values.dtype}; a parameter is float32 or float16: convert it first"
        )
    if not np.isfinite(values).all():
        num_bad = int((~np.isfinite(values)).sum())
        raise UserError(
            f"{where} holds {num_bad} of {values.size} values that are no finite numbers; take "
            "another checkpoint"
        )
    return np.asarray(values, np.float32, order="C")


def read_config(path: Path) -> dict[str, Any]:
    """Read a ``config.json`` of Hugging Face or PaddleNLP."""
    try:
        size = path.stat().st_size
        if size > MAX_CONFIG_SIZE:
            raise UserError(f"{path} has {size} bytes; a config.json is below {MAX_CONFIG_SIZE}")
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({shown(str(error))}); copy it anew") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} holds a {type(config).__name__}; an object of settings is needed")
    return config


def translate_settings(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The settings of our model section that a foreign ``config.json`` gives."""
    settings = {ours: config[key] for key, ours in _SETTINGS.items() if key in config}
    activation = settings.get("activation")
    if activation is not None:
        if not isinstance(activation, str) or activation not in _ACTIVATIONS:
            known = ", ".join(_ACTIVATIONS)
            raise UserError(
                f"{path}: hidden_act is {activation!r}; known are {known}: name one of them"
            )
        settings["activation"] = _ACTIVATIONS[activation]
    return settings


def foreign_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a ``config.json`` says of a complete model section, less what is one program's own."""
    return {
        "vocab_size": settings["vocab_size"],
        "hidden_size": settings["hidden_size"],
        "num_hidden_layers": settings["num_layers"],
        "intermediate_size": settings["ffn_size"] or 4 * settings["hidden_size"],
        "initializer_range": settings["initializer_range"],
        **{theirs: settings[ours] for theirs, ours in _SETTINGS.items()},
    }
