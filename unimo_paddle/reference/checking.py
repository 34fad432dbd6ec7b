"""Runs every recording of a folder whose name it knows."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from unimo_paddle import distributed
from unimo_paddle.errors import UserError
from unimo_paddle.models.packing import padding_kept
from unimo_paddle.reference import decoding, image_networks, networks, numbers, readers
from unimo_paddle.reference.recordings import Recording, Recordings

logger = logging.getLogger(__name__)

PASSED, FAILED, UNKNOWN = "passed", "FAILED", "unknown"

# By pattern of the file's name; the first that fits decides.
CHECKS: tuple[tuple[str, Callable[[Recording], None]], ...] = (
    ("cls*.npz", networks.check_text_heads),
    ("reg*.npz", networks.check_text_heads),
    ("retrieval_train_*.npz", image_networks.check_retrieval),
    ("retrieval_dev_*.npz", image_networks.check_retrieval),
    ("circle_loss*.npz", numbers.check_circle_loss),
    ("ve_eval*.npz", image_networks.check_entailment),
    ("ve_train_*.npz", image_networks.check_entailment),
    ("seq2seq_*.npz", networks.check_seq2seq),
    ("img2txt_*.npz", image_networks.check_captioning),
    ("tokenizer*.json", numbers.check_tokenizer),
    ("reader_image_raw*.npz", readers.check_raw_images),
    ("reader_*.npz", readers.check_reader),
    ("metrics*.json", numbers.check_metrics),
    ("recall_case*.npz", numbers.check_recall),
    ("lr_schedules*.json", numbers.check_schedules),
    ("weight_decay_excluded*.json", numbers.check_decay),
    ("train_cls_*.npz", numbers.check_training),
    ("decode_*.json", decoding.check_decoding),
)
# What recordings are made of or belong to.
COMPANIONS = (
    "recordings.json",
    "tiny_config.json",
    "tiny_params.npz",
    "official_param_shapes.json",
    "decode_*_inputs.npz",
    "decode_out_bias*.npz",
    "*.txt",
    "*.md",
)


@dataclass(frozen=True)
class Row:
    """What came of one file.

    Args:
        largest_error: as a share of the largest recorded value, or of a gradient's largest entry.
        message: what is wrong, or why nothing was compared.
    """

    name: str
    verdict: str
    num_values: int = 0
    largest_error: float = 0.0
    message: str = ""


def check_folder(folder: Path, vocabulary: Path | None = None) -> Iterator[Row]:
    """Compare every file of a folder, one after the other.

    Args:
        vocabulary: folder of the tokenizer's files; None: the one that ``recordings.json`` names.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder of recordings; check --dir")
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    if not names:
        raise UserError(f"{folder} holds no recordings; check --dir")
    distributed.start()
    home = Recordings(folder, vocabulary)
    for name in names:
        if not _fits(name, COMPANIONS):
            yield _check(home, name)


def _check(home: Recordings, name: str) -> Row:
    check = next((check for pattern, check in CHECKS if fnmatch.fnmatch(name, pattern)), None)
    if check is None:
        return Row(name, UNKNOWN, message="no check knows this name")
    recording = Recording(home, name)
    try:
        with padding_kept():
            check(recording)
    except Exception as error:  # one broken file must not hide the others
        logger.debug("%s", name, exc_info=True)
        return Row(name, FAILED, message=f"{type(error).__name__}: {' '.join(str(error).split())}")
    result = recording.comparison
    verdict = FAILED if result.failures or not result.num_values else PASSED
    message = result.message or ("" if result.num_values else "nothing was compared")
    return Row(name, verdict, result.num_values, result.largest_error, message)


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def format_rows(rows: list[Row]) -> str:
    """A table of all rows, and how many passed."""
    width = max((len(row.name) for row in rows), default=0)
    lines = [f"{'file':<{width}}  {'values':>9}  {'error':>8}  verdict"]
    lines += [format_row(row, width) for row in rows]
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in VERDICTS}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return "\n".join([*lines, told])


VERDICTS = (PASSED, FAILED, UNKNOWN)


def format_row(row: Row, width: int) -> str:
    """One line of the table."""
    error = f"{row.largest_error:.1e}" if row.num_values else "-"
    message = f": {row.message}" if row.message else ""
    return f"{row.name:<{width}}  {row.num_values:>9}  {error:>8}  {row.verdict}{message}"
