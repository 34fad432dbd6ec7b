"""Weights of other programs into our checkpoints, and ours into theirs."""

from unimo_paddle.convert.conversion import DESTINATIONS, ORIGINS, Summary, convert
from unimo_paddle.convert.parameter_files import read_parameter, write_parameter
from unimo_paddle.convert.parameters import Description, deduce

__all__ = [
    "DESTINATIONS",
    "ORIGINS",
    "Description",
    "Summary",
    "convert",
    "deduce",
    "read_parameter",
    "write_parameter",
]
