"""What a run tells: lines on the console, VisualDL, and ``metrics.jsonl`` for programs.

Knows values and steps, no models. A resumed run goes on in the same files: what was logged after
the step it resumes from is removed first, so no step is there twice.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from visualdl import LogWriter
from visualdl.proto import record_pb2

import unimo_paddle

METRICS_NAME = "metrics.jsonl"
VISUALDL_NAME = "visualdl"
RECORDS_NAME = "vdlrecords.log"  # one file: VisualDL reads only one a folder
NUM_BUCKETS = 32
SMOOTHING = 0.7  # share of the earlier speed in the estimate of the time left
_FRAME_HEADER = struct.Struct("<Q")

logger = logging.getLogger(__name__)


class _Formatter(logging.Formatter):
    """The time and the message; from a warning on, the level too."""

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        line = f"{self.formatTime(record, '%H:%M:%S')} {level}{record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure_logging(*, rank: int = 0, path: Path | None = None) -> None:
    """Send the package's messages to the console and, where ``path`` is given, to a file.

    Other libraries speak from warnings on; ranks above 0 do so too.
    """
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    for handler in root.handlers[:]:
        # Paddle, when imported, gives the root a handler of its own: every line would come twice.
        if hasattr(handler, "is_unimo_paddle") or type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
            handler.close()
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(_Formatter())
        handler.is_unimo_paddle = True  # type: ignore[attr-defined]
        root.addHandler(handler)
    logging.captureWarnings(True)
    level = logging.INFO if rank == 0 else logging.WARNING
    logging.getLogger(unimo_paddle.__name__).setLevel(level)
    defaults = unimo_paddle.environment_defaults
    if defaults:
        logger.info("environment defaults: %s", " ".join(f"{k}={v}" for k, v in defaults.items()))


class RunLogger:
    """Writes the curves, pictures and progress of one run.

    Args:
        folder: the run's folder; none on ranks that stay silent.
        max_steps: updates of the whole run.
        start_step: updates done before; 0 begins the files anew.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        max_steps: int,
        start_step: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_silent = folder is None
        self._speed = _Speed(max_steps, start_step, clock)
        self._max_steps = max_steps
        self._is_resumed = start_step > 0
        if folder is None:
            return
        records = folder / VISUALDL_NAME / RECORDS_NAME
        records.parent.mkdir(parents=True, exist_ok=True)
        keep = start_step if self._is_resumed else -1
        _rewrite(folder / METRICS_NAME, _lines_until(folder / METRICS_NAME, keep))
        _rewrite(records, _frames_until(records, keep))
        self._metrics = open(folder / METRICS_NAME, "a", encoding="utf-8")  # noqa: SIM115
        with contextlib.redirect_stdout(io.StringIO()):  # it prints that the file exists
            self._writer = LogWriter(logdir=str(records.parent), file_name=records.name)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log named numbers of one step, such as ``train/loss``: a point each, together a line."""
        if self._is_silent:
            return
        numbers = {name: float(value) for name, value in values.items()}
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)
        # Strict JSON has no word for what is no number.
        line = {k: v if math.isfinite(v) else None for k, v in numbers.items()}
        self._metrics.write(json.dumps({"step": step, **line}) + "\n")
        self._metrics.flush()

    def progress(
        self, step: int, losses: Mapping[str, float], *, learning_rate: float, num_samples: int
    ) -> None:
        """Log losses, learning rate and speed, and print one line of them.

        Args:
            losses: by name, without prefix.
            num_samples: samples of one update, those of all ranks together.
        """
        samples_per_second, seconds_left = self._speed.measure(step, num_samples)
        self.scalars(
            step,
            {
                **{f"train/{name}": value for name, value in losses.items()},
                "train/learning_rate": learning_rate,
                "train/samples_per_second": samples_per_second,
            },
        )
        if not self._is_silent:
            logger.info(
                "%s",
                format_progress(
                    step,
                    self._max_steps,
                    losses,
                    learning_rate=learning_rate,
                    samples_per_second=samples_per_second,
                    seconds_left=seconds_left,
                ),
            )

    def histogram(self, step: int, tag: str, values: np.ndarray) -> None:
        """Log how values are distributed; what is no finite number is left out.

        Nothing is logged where they lie so far from 0 that no numbers are left to part buckets.
        """
        finite = np.asarray(values, dtype=np.float64).ravel()
        finite = finite[np.isfinite(finite)]
        if self._is_silent or not finite.size:
            return
        width = np.ptp(finite) or 1.0  # of equal values NumPy takes what is half of 1 around
        if width / NUM_BUCKETS > 2 * np.spacing(np.abs(finite).max()):
            self._writer.add_histogram(tag, finite, step, buckets=NUM_BUCKETS)

    def image(self, step: int, tag: str, image: np.ndarray) -> None:
        """Log a picture, [height, width, 3] uint8 in RGB order."""
        assert image.dtype == np.uint8 and image.ndim == 3, (image.dtype, image.shape)
        if not self._is_silent:
            # VisualDL takes an image without any value above 1 for one of shares of white, and
            # scales it in place.
            shown = image.copy()
            if shown.max(initial=0) <= 1:
                shown[...] = 0
            self._writer.add_image(tag, shown, step)

    def text(self, step: int, tag: str, text: str) -> None:
        """Log a text."""
        if not self._is_silent:
            self._writer.add_text(tag, text, step)

    def hyper_parameters(self, values: Mapping[str, Any], metrics: list[str]) -> None:
        """Log a nested tree of settings and the tags of the scalars that judge them."""
        if not self._is_silent and not self._is_resumed:
            self._writer.add_hparams(dict(_flatten(values)), metrics)

    def flush(self) -> None:
        """Write out what is still in memory."""
        if not self._is_silent:
            self._metrics.flush()
            self._writer.flush()

    def close(self) -> None:
        """End the files; the logger cannot be used afterwards."""
        if not self._is_silent:
            self._metrics.close()
            self._writer.close()

    def __enter__(self) -> RunLogger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def format_progress(
    step: int,
    max_steps: int,
    losses: Mapping[str, float],
    *,
    learning_rate: float,
    samples_per_second: float,
    seconds_left: float,
) -> str:
    """Write one line of aligned columns, such as ``step  20/300 | loss 3.127 | ...``."""
    width = len(str(max_steps))
    terms = " ".join(f"{name} {value:<#9.4g}" for name, value in losses.items())
    return (
        f"step {step:>{width}}/{max_steps} | {terms}| lr {learning_rate:.2e} | "
        f"{samples_per_second:#.4g} samples/s | {format_duration(seconds_left)} left"
    )


def format_duration(seconds: float) -> str:
    """Write a time as its two largest units: ``2 h 05 min``, ``3 min 20 s``, ``45 s``."""
    if not math.isfinite(seconds):
        return "? s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class _Speed:
    """Samples a second, and the time left by a smoothed time a step."""

    def __init__(self, max_steps: int, start_step: int, clock: Callable[[], float]) -> None:
        self._max_steps = max_steps
        self._clock = clock
        self._step, self._time = start_step, clock()
        self._seconds_per_step = math.nan

    def measure(self, step: int, num_samples: int) -> tuple[float, float]:
        """Return samples a second since the last call and the seconds left.

        Args:
            num_samples: samples of one update.
        """
        now = self._clock()
        pace = max(now - self._time, 1e-9) / max(1, step - self._step)
        if math.isnan(self._seconds_per_step):
            self._seconds_per_step = pace
        else:
            self._seconds_per_step += (1.0 - SMOOTHING) * (pace - self._seconds_per_step)
        self._step, self._time = step, now
        return num_samples / pace, self._seconds_per_step * max(0, self._max_steps - step)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names with numbers and words, all that VisualDL takes."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{key}.")
        elif isinstance(value, (int, float, str)) and not isinstance(value, bool):
            yield key, value
        else:
            yield key, str(value)


def _lines_until(path: Path, step: int) -> bytes:
    """The whole lines of the file that belong to no later step."""
    kept = []
    for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else []:
        with contextlib.suppress(ValueError, KeyError, TypeError):  # cut short by a kill
            if line.endswith(b"\n") and json.loads(line)["step"] <= step:
                kept.append(line)
    return b"".join(kept)


def _frames_until(path: Path, step: int) -> bytes:
    """The whole records of a VisualDL file, each behind its length, that are of no later step."""
    data = path.read_bytes() if path.is_file() else b""
    kept, start = [], 0
    while start + _FRAME_HEADER.size <= len(data):
        (length,) = _FRAME_HEADER.unpack_from(data, start)
        end = start + _FRAME_HEADER.size + length
        if end > len(data):
            break  # cut short by a kill
        record = record_pb2.Record()
        record.ParseFromString(data[start + _FRAME_HEADER.size : end])
        if all(value.id <= step for value in record.values):
            kept.append(data[start:end])
        start = end
    return b"".join(kept)


def _rewrite(path: Path, data: bytes) -> None:
    """Replace a file at once, or leave it absent when there is nothing to hold."""
    if not data:
        path.unlink(missing_ok=True)
        return
    beside = path.with_name(path.name + ".tmp")
    beside.write_bytes(data)
    os.replace(beside, path)
