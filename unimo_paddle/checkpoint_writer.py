"""Checkpoints written beside the run that makes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from unimo_paddle.checkpoint import save_checkpoint

logger = logging.getLogger(__name__)


class CheckpointWriter:
    """Writes one checkpoint at a time on a thread of its own.

    The caller hands over copies of its arrays, so a save costs a run their copying alone (three
    times the parameters, in memory, until it is written). A save that comes while the one before
    is written waits for it. What a save raises is raised by the next call; leaving the context
    waits for the last one.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future | None = None

    def __enter__(self) -> CheckpointWriter:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for the last save; its error is raised, or told where one is under way."""
        self._thread.shutdown(wait=True)
        try:
            self.wait()
        except Exception as failure:
            if error is None:
                raise
            logger.error("%s", failure)

    def save(
        self,
        folder: Path,
        step: int,
        arrays: Mapping[str, np.ndarray],
        state: Mapping[str, Any],
        *,
        keep: int,
    ) -> None:
        """Begin to publish a checkpoint, as ``save_checkpoint`` does."""
        self.wait()
        self._pending = self._thread.submit(save_checkpoint, folder, step, arrays, state, keep=keep)

    def check(self) -> None:
        """Raise what a finished save raised."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Wait until the last save is on disk."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()
