"""The vocabulary of a task in the assets of its run."""

from __future__ import annotations

from pathlib import Path

import pytest

from unimo_paddle.data.text import TokenizerConfig
from unimo_paddle.models import ModelConfig
from unimo_paddle.tasks.vocabulary import Vocabulary


def test_a_vocabulary_that_is_half_written_is_not_there(tmp_path: Path, monkeypatch) -> None:
    vocabulary = Vocabulary(TokenizerConfig(vocab_size=300), ModelConfig(vocab_size=300), tmp_path)
    vocabulary.prepare(lambda: ["a dog", "a cat"])
    monkeypatch.setattr("unimo_paddle.data.text.MERGES_NAME", "no/such/folder/merges")
    with pytest.raises(OSError, match="no/such/folder"):
        vocabulary.save(tmp_path)
    assert not list(tmp_path.iterdir())
