"""faiss, imported only by those who search: whoever trains needs not wait."""

from __future__ import annotations

import functools
import logging
import os
from types import ModuleType


@functools.cache
def load_faiss() -> ModuleType:
    """The library, on the threads of ``OMP_NUM_THREADS``."""
    # Its loader tells which of its builds it tried.
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    import faiss

    faiss.omp_set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "0")) or 1)
    return faiss
