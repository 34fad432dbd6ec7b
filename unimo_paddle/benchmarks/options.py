"""What the options of ``tools/benchmark.py`` may be."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

_NAMES = {int: "whole number", float: "number"}


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """A type for ``argparse``: a number of this kind above 0."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:  # NaN is neither
            raise argparse.ArgumentTypeError(f"{text} is no {_NAMES[kind]} above 0")
        return value

    return read
