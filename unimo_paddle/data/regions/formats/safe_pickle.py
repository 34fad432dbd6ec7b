"""Pickles of arrays, texts and numbers in plain containers; anything else is refused unread.

A pickle can run any program when it is read. Here the only things that it may name are those that
arrays are made of.
"""

from __future__ import annotations

import codecs
import collections
import io
import pickle
from typing import Any

import numpy as np
from numpy._core import multiarray

from unimo_paddle.data.records import Fault

# What NumPy's arrays, OrderedDict and Python 2's bytes are pickled with, by module and name.
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): codecs.encode,
    **{
        (f"numpy.{core}.multiarray", name): getattr(multiarray, name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which is none of arrays, texts and numbers"
            ) from None


def load_pickle(data: bytes, what: str) -> Any:
    """Read a pickle of plain data; a ``Fault`` names what it holds beside that."""
    try:
        # Python 2 wrote texts and the bytes of arrays alike; latin1 keeps both.
        return _Unpickler(io.BytesIO(data), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise Fault(f"{what} is no pickle that may be read: {error}") from None
    except Exception as error:  # a damaged pickle can raise anything
        reason = f"{type(error).__name__}: {str(error)[:60]}"
        raise Fault(f"{what} is a damaged pickle ({reason})") from None
