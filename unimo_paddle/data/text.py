"""Text to ids and back: byte-level BPE with the ids of the original, from files or trained."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from unimo_paddle.errors import UserError

logger = logging.getLogger(__name__)

# The order of RoBERTa's dictionary; [MASK] is its last row.
CLS_ID, PAD_ID, SEP_ID, UNK_ID = 0, 1, 2, 3
FIRST_SPECIALS = ("[CLS]", "[PAD]", "[SEP]", "[UNK]")
MASK_TOKEN = "[MASK]"
NUM_BYTES = 256

ENCODER_NAME, MERGES_NAME, VOCAB_NAME = "encoder.json", "vocab.bpe", "vocab.txt"


@dataclass(frozen=True)
class TokenizerConfig:
    """Where the vocabulary comes from: a folder, three files, or training on the corpus."""

    encoder_json: Path | None = None  # token text -> BPE id, as GPT-2's encoder.json
    vocab_bpe: Path | None = None  # merges in order, as GPT-2's vocab.bpe
    vocab_txt: Path | None = None  # one row an id of the model: a BPE id or a special name
    folder: Path | None = None  # holds the three files by our names, as assets/vocabulary of a run
    vocab_size: int = 8192  # rows of the vocabulary that is trained when no files are given

    def __post_init__(self) -> None:
        given = [path is not None for path in (self.encoder_json, self.vocab_bpe, self.vocab_txt)]
        if any(given) and not all(given):
            raise UserError(
                "tokenizer: encoder_json, vocab_bpe and vocab_txt belong together; "
                f"{sum(given)} of 3 given; give all, or none to train a vocabulary"
            )
        if self.folder is not None and any(given):
            raise UserError(
                "tokenizer.folder and tokenizer.encoder_json name two vocabularies; give one"
            )
        _check_vocab_size(self.vocab_size)


def build_tokenizer(config: TokenizerConfig, texts: Callable[[], Iterable[str]]) -> Tokenizer:
    """Load the tokenizer that the configuration names, or train one on the texts.

    Args:
        texts: asked only where a vocabulary is trained.
    """
    if config.folder is not None:
        return Tokenizer.load(config.folder)
    if config.vocab_txt is None:
        return Tokenizer.train(texts(), config.vocab_size)
    return Tokenizer.from_files(config.encoder_json, config.vocab_bpe, config.vocab_txt)


class Tokenizer:
    """Byte-level BPE: no prefix space, no lower-casing, special names inside text are plain text.

    The BPE works with its own ids (``encoder.json``); row ``i`` of ``vocab.txt`` names the BPE id
    (or the special token) that is id ``i`` of the model. A BPE id without a row becomes [UNK].

    Args:
        encoder: BPE token text -> BPE id, 0 .. n-1.
        merges: pairs of token texts in order of their rank.
        rows: the rows of ``vocab.txt``.
        where: named in messages.
    """

    def __init__(
        self,
        encoder: dict[str, int],
        merges: Sequence[tuple[str, str]],
        rows: Sequence[str],
        *,
        where: str = "vocabulary",
    ) -> None:
        _check_encoder(encoder, where)
        _check_merges(encoder, merges, where)
        bpe_ids = _check_rows(rows, len(encoder), where)
        self._encoder, self._merges, self._rows = encoder, merges, tuple(rows)
        self._bpe = tokenizers.Tokenizer(models.BPE(vocab=encoder, merges=list(merges)))
        self._bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)

        self._ids = [UNK_ID] * len(encoder)
        self._bytes = [b""] * len(rows)
        byte_of = {symbol: byte for byte, symbol in enumerate(_byte_symbols())}
        texts = {bpe_id: text for text, bpe_id in encoder.items()}
        for row, bpe_id in bpe_ids.items():
            self._ids[bpe_id] = row
            self._bytes[row] = bytes(
                byte for symbol in texts[bpe_id] for byte in _symbol_bytes(symbol, byte_of)
            )

        self.vocab_size = len(rows)
        self.cls_id, self.pad_id, self.sep_id, self.unk_id = CLS_ID, PAD_ID, SEP_ID, UNK_ID
        self.mask_id = len(rows) - 1
        self.is_special = np.ones(len(rows), bool)  # [V], also rows that are only place holders
        self.is_special[list(bpe_ids)] = False
        opens = np.array([text.startswith(b" ") for text in self._bytes])
        self.opens_word = opens | self.is_special  # [V]
        self.is_special.setflags(write=False)
        self.opens_word.setflags(write=False)

    @classmethod
    def from_files(
        cls, encoder_json: Path | str, vocab_bpe: Path | str, vocab_txt: Path | str
    ) -> Tokenizer:
        """Load a vocabulary in the original's three files."""
        encoder = _read_encoder(Path(encoder_json))
        merges = _read_merges(Path(vocab_bpe))
        rows = _read_text(Path(vocab_txt)).split("\n")
        while rows and not rows[-1].strip():
            rows.pop()
        return cls(encoder, merges, [row.rstrip("\r") for row in rows], where=str(vocab_txt))

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, *, min_frequency: int = 2) -> Tokenizer:
        """Train a vocabulary of exactly ``vocab_size`` rows on the texts.

        Words keep their leading space, as in the original. A corpus with fewer pieces than asked
        for leaves rows named ``madeupwordNNNN`` that no text reaches.
        """
        _check_vocab_size(vocab_size)
        bpe = tokenizers.Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - len(FIRST_SPECIALS) - 1,
            min_frequency=min_frequency,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
        bpe.train_from_iterator(texts, trainer)
        model = json.loads(bpe.to_str())["model"]
        merges = [tuple(pair) for pair in model["merges"]]
        words = [str(bpe_id) for bpe_id in range(len(model["vocab"]))]
        missing = vocab_size - len(words) - len(FIRST_SPECIALS) - 1
        if missing:
            logger.info("the corpus gives %d pieces; %d rows stay unused", len(words), missing)
        unused = [f"madeupword{number:04d}" for number in range(missing)]
        return cls(model["vocab"], merges, [*FIRST_SPECIALS, *words, *unused, MASK_TOKEN])

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without special tokens."""
        ids = self._ids
        return [ids[bpe_id] for bpe_id in self._bpe.encode(text).ids]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts, on all cores."""
        ids = self._ids
        return [
            [ids[bpe_id] for bpe_id in encoding.ids]
            for encoding in self._bpe.encode_batch(list(texts))
        ]

    def rows_of(self, bpe_ids: Iterable[int]) -> list[int]:
        """Ids of a text that is already tokenized into BPE ids (of ``encoder.json``)."""
        ids = self._ids
        return [ids[bpe_id] if 0 <= bpe_id < len(ids) else self.unk_id for bpe_id in bpe_ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; special ids are left out, broken UTF-8 becomes the replacement sign."""
        return b"".join(self._bytes[int(i)] for i in ids).decode("utf-8", errors="replace")

    def save(self, folder: Path | str) -> None:
        """Write the three files that ``load`` reads into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        encoder = json.dumps(self._encoder, ensure_ascii=False)
        (folder / ENCODER_NAME).write_text(encoder, encoding="utf-8")
        merges = ["#version: 0.2", *(f"{left} {right}" for left, right in self._merges)]
        (folder / MERGES_NAME).write_text("\n".join(merges) + "\n", encoding="utf-8")
        (folder / VOCAB_NAME).write_text("\n".join(self._rows) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str) -> Tokenizer:
        """Load what ``save`` wrote."""
        folder = Path(folder)
        return cls.from_files(folder / ENCODER_NAME, folder / MERGES_NAME, folder / VOCAB_NAME)


def split_at_words(ids: Sequence[int], opens_word: np.ndarray, max_length: int) -> list[list[int]]:
    """Cut long ids into pieces of at most ``max_length`` that begin where a word begins.

    A single word longer than ``max_length`` is cut inside, since nothing else is left.
    """
    assert max_length >= 1, f"max_length must be at least 1, not {max_length}"
    pieces, start = [], 0
    while len(ids) - start > max_length:
        end = start + max_length
        while end > start and not opens_word[ids[end]]:
            end -= 1
        end = end if end > start else start + max_length
        pieces.append(list(ids[start:end]))
        start = end
    return [*pieces, list(ids[start:])] if len(ids) > start else pieces


def _check_vocab_size(vocab_size: int) -> None:
    smallest = NUM_BYTES + len(FIRST_SPECIALS) + 1
    if vocab_size < smallest:
        raise UserError(
            f"tokenizer.vocab_size {vocab_size} is too small; give at least {smallest}, for "
            f"{NUM_BYTES} bytes and {len(FIRST_SPECIALS) + 1} special tokens"
        )


def _check_encoder(encoder: dict[str, int], where: str) -> None:
    if sorted(encoder.values()) != list(range(len(encoder))):
        raise UserError(f"{where}: the BPE ids of the encoder are not 0 .. {len(encoder) - 1}")
    missing = [symbol for symbol in _byte_symbols() if symbol not in encoder]
    if missing:
        raise UserError(
            f"{where}: the encoder lacks {len(missing)} of the {NUM_BYTES} byte symbols "
            f"(first {missing[0]!r}); it is not a byte-level BPE encoder"
        )


def _check_merges(encoder: dict[str, int], merges: Sequence[tuple[str, str]], where: str) -> None:
    for rank, (left, right) in enumerate(merges):
        for piece in (left, right, left + right):
            if piece not in encoder:
                raise UserError(
                    f"{where}: merge {rank} ({left} {right}) needs {piece!r}, which the encoder "
                    "lacks; the merges and the encoder belong to different vocabularies"
                )


def _check_rows(rows: Sequence[str], num_bpe_ids: int, where: str) -> dict[int, int]:
    """Check the rows of vocab.txt and give {row: BPE id} of the rows that are no special name."""
    expected = {**dict(enumerate(FIRST_SPECIALS)), len(rows) - 1: MASK_TOKEN}
    for row, name in expected.items():
        found = rows[row] if 0 <= row < len(rows) else "nothing"
        if found != name:
            raise UserError(
                f"{where}: row {row + 1} of {len(rows)} must be {name}, not {found!r}; the rows "
                f"begin with {' '.join(FIRST_SPECIALS)} and end with {MASK_TOKEN}"
            )
    bpe_ids, seen = {}, {}
    for row, text in enumerate(rows):
        if text in seen:
            raise UserError(f"{where}: rows {seen[text] + 1} and {row + 1} are both {text!r}")
        seen[text] = row
        if row in expected or text.startswith("madeupword"):
            continue
        if not (text.isascii() and text.isdigit()):
            raise UserError(
                f"{where}: row {row + 1} is {text[:40]!r}; a row is a BPE id, a special name or "
                "madeupwordNNNN"
            )
        if int(text) >= num_bpe_ids:
            raise UserError(
                f"{where}: row {row + 1} names BPE id {text}, but the encoder has {num_bpe_ids}"
            )
        bpe_ids[row] = int(text)
    return bpe_ids


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"vocabulary file {path} cannot be read: {reason}; check it") from None


def _read_encoder(path: Path) -> dict[str, int]:
    try:
        encoder = json.loads(_read_text(path))
    except (json.JSONDecodeError, RecursionError):
        raise UserError(f"vocabulary file {path} is not JSON; it maps token texts to ids") from None
    if not isinstance(encoder, dict) or not all(type(i) is int for i in encoder.values()):
        raise UserError(f"vocabulary file {path} must be one JSON object: token text -> integer")
    return encoder


def _read_merges(path: Path) -> list[tuple[str, str]]:
    merges = []
    for number, line in enumerate(_read_text(path).split("\n"), 1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = tuple(line.rstrip("\r").split(" "))
        if len(pair) != 2 or not all(pair):
            raise UserError(f"vocabulary file {path}:{number}: {line[:40]!r} is not two tokens")
        merges.append(pair)
    return merges


@lru_cache(maxsize=1)
def _byte_symbols() -> tuple[str, ...]:
    """The printable character that stands for each byte in byte-level BPE (GPT-2)."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(NUM_BYTES, 2 * NUM_BYTES))
    return tuple(chr(byte) if byte in printable else chr(next(spare)) for byte in range(NUM_BYTES))


def _symbol_bytes(symbol: str, byte_of: dict[str, int]) -> bytes:
    # <|endoftext|> and the like hold characters that stand for no byte: they are their own text.
    return bytes([byte_of[symbol]]) if symbol in byte_of else symbol.encode("utf-8")
