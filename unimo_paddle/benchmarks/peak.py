"""The limits: what arithmetic alone and memory alone can do, at the threads of the process."""

from __future__ import annotations

import os

from unimo_paddle.benchmarks.cases import BenchmarkError

_SECONDS = 0.2  # long enough for the clock to settle, short enough to share a slice of noise


class _Limit:
    """A number that the compiled module measures; takes part in the rounds like any form."""

    function: str

    def __init__(self, inputs: object) -> None:
        from unimo_paddle.ops import _core

        if not hasattr(_core, self.function):
            raise BenchmarkError(
                f"the compiled operators have no {self.function}: they are older than this "
                "benchmark; build them again with 'make install'"
            )
        self._measure = getattr(_core, self.function)

    @staticmethod
    def versions() -> dict[str, str]:
        """Nothing beyond the package itself."""
        return {}

    def run(self) -> float:
        """Return the number."""
        return self._measure(num_threads=int(os.environ["OMP_NUM_THREADS"]), seconds=_SECONDS)


class Peak(_Limit):
    """The rate of fused multiply-adds in registers: GFLOP/s of float32."""

    function = "peak_gflops"


class ReadRate(_Limit):
    """The rate at which memory is read: bytes a second."""

    function = "read_rate"
