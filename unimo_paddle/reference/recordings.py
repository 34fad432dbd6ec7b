"""Recordings as they lie in a folder, and comparisons with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unimo_paddle.data.text import Tokenizer, TokenizerConfig
from unimo_paddle.errors import UserError
from unimo_paddle.models import ModelConfig

FORWARD_TOLERANCE = 1e-5  # of the largest recorded value, where that is above one
GRADIENT_TOLERANCE = 1e-3  # of the largest entry of each recorded gradient
NUM_NAMED_FAILURES = 3
VOCABULARY_NAMES = ("encoder.json", "vocab.bpe", "vocab.txt")


class Comparison:
    """Counts compared values and keeps the largest error and what is wrong."""

    def __init__(self) -> None:
        self.num_values = 0
        self.largest_error = 0.0
        self.failures: list[str] = []

    def close(
        self,
        name: str,
        ours: Any,
        recorded: Any,
        *,
        tolerance: float = FORWARD_TOLERANCE,
        scale: float | None = None,
    ) -> None:
        """Compare numbers; an error is a share of ``scale``.

        Args:
            scale: by default the largest recorded value, but at least one.
        """
        ours, recorded = np.asarray(ours, np.float64), np.asarray(recorded, np.float64)
        if ours.size != recorded.size:
            self.failures.append(f"{name} is {list(ours.shape)}, not {list(recorded.shape)}")
            return
        ours = ours.reshape(recorded.shape)
        self.num_values += recorded.size
        if not recorded.size:
            return
        if scale is None:
            scale = max(1.0, float(np.abs(recorded).max()))
        if np.array_equal(ours, recorded):
            return
        error = float(np.abs(ours - recorded).max()) / max(scale, 1e-30)
        self.largest_error = max(self.largest_error, error)
        if not error <= tolerance:  # NaN is above every tolerance
            self.failures.append(f"{name} differs by {error:.1e}, more than {tolerance:.0e}")

    def gradient(self, name: str, ours: Any, recorded: np.ndarray, *, scale: float) -> None:
        """Compare a gradient; errors are shares of the largest entry."""
        self.close(name, ours, recorded, tolerance=GRADIENT_TOLERANCE, scale=scale)

    def equal(self, name: str, ours: Any, recorded: Any) -> None:
        """Compare ids, texts and counts, which must be the same."""
        if isinstance(recorded, np.ndarray) or isinstance(ours, np.ndarray):
            ours, recorded = np.asarray(ours), np.asarray(recorded)
            self.num_values += recorded.size
            is_equal = ours.shape == recorded.shape and np.array_equal(ours, recorded)
        else:
            self.num_values += 1
            is_equal = ours == recorded
        if not is_equal:
            shown = f": {str(ours)[:40]!r}, not {str(recorded)[:40]!r}"
            self.failures.append(f"{name} differs{shown if np.size(ours) < 20 else ''}")

    @property
    def message(self) -> str:
        """What is wrong, in one line; empty where nothing is."""
        more = len(self.failures) - NUM_NAMED_FAILURES
        named = "; ".join(self.failures[:NUM_NAMED_FAILURES])
        return f"{named}; and {more} more" if more > 0 else named


@dataclass(frozen=True)
class Recordings:
    """A folder of recordings.

    Args:
        folder: holds them, ``recordings.json``, ``tiny_config.json`` and ``tiny_params.npz``.
        vocabulary: folder of the tokenizer's three files; None: the one ``recordings.json`` names.
    """

    folder: Path
    vocabulary: Path | None = None

    @cached_property
    def notes(self) -> dict[str, Any]:
        """``recordings.json``, or nothing where it is absent."""
        path = self.folder / "recordings.json"
        return json.loads(path.read_text("utf-8")) if path.is_file() else {}

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of a file."""
        with np.load(self.folder / name, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}

    def json(self, name: str) -> Any:
        """The content of a JSON file."""
        return json.loads((self.folder / name).read_text("utf-8"))

    @cached_property
    def parameters(self) -> dict[str, np.ndarray]:
        """The weights that everything was recorded with."""
        return self.arrays("tiny_params.npz")

    def model(self, **changes: Any) -> ModelConfig:
        """The sizes of the recorded model, without dropout."""
        original = self.json("tiny_config.json")
        settings = {
            "vocab_size": original["vocab_size"],
            "hidden_size": original["hidden_size"],
            "num_layers": original["num_hidden_layers"],
            "num_heads": original["num_attention_heads"],
            "max_positions": original["max_position_embeddings"],
            "region_feature_size": original["image_embedding_size"],
            "activation": original["hidden_act"],
            "hidden_dropout": 0.0,
            "attention_dropout": 0.0,
        }
        return ModelConfig(**settings | changes)

    @cached_property
    def tokenizer_config(self) -> TokenizerConfig:
        """Where the tokenizer's files are."""
        folder = self.vocabulary
        if folder is None:
            named = str(self.notes.get("tokenizer", "")).split(" (")[0]
            folder = self.folder / named if named else None
        if folder is None or not folder.is_dir():
            raise UserError(
                f"{self.folder} names no folder with a vocabulary (found {folder}); give --vocab"
            )
        files = [next(iter(sorted(folder.glob(f"*{name}"))), None) for name in VOCABULARY_NAMES]
        if None in files:
            raise UserError(f"{folder} lacks one of *{', *'.join(VOCABULARY_NAMES)}; give --vocab")
        return TokenizerConfig(*files)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The original's tokenizer."""
        config = self.tokenizer_config
        return Tokenizer.from_files(config.encoder_json, config.vocab_bpe, config.vocab_txt)

    @cached_property
    def small_tokenizer(self) -> Tokenizer:
        """The same with the rows of the recorded model."""
        config = self.tokenizer_config
        rows = self.folder / "mini_vocab.txt"
        return Tokenizer.from_files(config.encoder_json, config.vocab_bpe, rows)


@dataclass(frozen=True)
class Recording:
    """One file of a folder."""

    home: Recordings
    name: str
    comparison: Comparison = field(default_factory=Comparison)

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays."""
        return self.home.arrays(self.name)

    @cached_property
    def content(self) -> Any:
        """Its JSON."""
        return self.home.json(self.name)

    @cached_property
    def note(self) -> Mapping[str, Any]:
        """What ``recordings.json`` says of it; keys of its own ``cfg/`` are added."""
        noted = dict(self.home.notes.get("recordings", {}).get(self.name, {}))
        return noted | self.settings

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Its ``cfg/`` values by name."""
        values = {}
        for key, value in self.arrays.items():
            if key.startswith("cfg/"):
                values[key.removeprefix("cfg/")] = value.item() if value.ndim == 0 else value
        return values
