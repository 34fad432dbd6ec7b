"""The limit: what the processor's arithmetic alone can do, at the threads of the process."""

from __future__ import annotations

import os

from unimo_paddle.benchmarks.cases import BenchmarkError, Inputs

_SECONDS = 0.2  # long enough for the clock to settle, short enough to share a slice of noise


class Peak:
    """The rate of fused multiply-adds in registers; takes part in the rounds like any form."""

    def __init__(self, inputs: Inputs) -> None:
        from unimo_paddle.ops import _core

        if not hasattr(_core, "peak_gflops"):
            raise BenchmarkError(
                "the compiled operators have no peak_gflops: they are older than this benchmark; "
                "build them again with 'make install'"
            )
        self._peak_gflops = _core.peak_gflops

    @staticmethod
    def versions() -> dict[str, str]:
        """Nothing beyond the package itself."""
        return {}

    def run(self) -> float:
        """Return GFLOP/s of float32."""
        return self._peak_gflops(num_threads=int(os.environ["OMP_NUM_THREADS"]), seconds=_SECONDS)
