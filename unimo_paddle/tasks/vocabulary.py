"""The vocabulary of a task: from its run's assets, from files, or trained on its texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from unimo_paddle.data.publish import publish
from unimo_paddle.data.text import Tokenizer, TokenizerConfig, build_tokenizer
from unimo_paddle.errors import UserError
from unimo_paddle.models import ModelConfig

VOCABULARY_DIR = "vocabulary"


class Vocabulary:
    """Holds the tokenizer as soon as there is one.

    Args:
        assets_dir: of the run or bundle; a vocabulary in it is loaded at once.
    """

    def __init__(self, config: TokenizerConfig, model: ModelConfig, assets_dir: Path) -> None:
        self.config = config
        self.model = model
        self.tokenizer: Tokenizer | None = None
        if (assets_dir / VOCABULARY_DIR).is_dir():
            self._set(Tokenizer.load(assets_dir / VOCABULARY_DIR))

    def prepare(self, texts: Callable[[], Iterable[str]]) -> None:
        """Load the configured files, or train on the texts, where there is none yet."""
        if self.tokenizer is None:
            self._set(build_tokenizer(self.config, texts))

    def save(self, assets_dir: Path) -> None:
        """Write it into the assets, unless it is there."""
        assets_dir.mkdir(parents=True, exist_ok=True)
        if self.tokenizer is not None:
            publish(assets_dir / VOCABULARY_DIR, self.tokenizer.save)

    def _set(self, tokenizer: Tokenizer) -> None:
        if tokenizer.vocab_size != self.model.vocab_size:
            raise UserError(
                f"the vocabulary has {tokenizer.vocab_size} entries but model.vocab_size is "
                f"{self.model.vocab_size}; make them equal"
            )
        self.tokenizer = tokenizer
