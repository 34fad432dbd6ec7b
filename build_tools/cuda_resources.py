"""The registers, spills and shared memory of the contrastive CUDA kernels, as a Markdown table.

    python build_tools/cuda_resources.py > docs/results/contrastive_cuda_resources.md

needs nvcc on the path, and no GPU.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "csrc" / "contrastive" / "cuda" / "contrastive_cuda.cu"
THREADS = 256  # of a block, in every kernel but the two that merge sums
REGISTERS = 65536  # of a multiprocessor
SHARED_BYTES = {80: 164 * 1024, 90: 228 * 1024}  # of a multiprocessor, by architecture
RESERVED_BYTES = 1024  # of shared memory, for each block

TITLE = """\
# What the contrastive CUDA kernels occupy

Made by `python build_tools/cuda_resources.py`, from what `ptxas` reports ({version}).
The table says what fits; [the benchmark](contrastive_cuda_benchmark.md) says how fast it is.

A block has {threads} threads (`MergeKernel`: 64, `TemperatureKernel`: 32). Blocks are how many of
{threads} threads the registers and the shared memory of one multiprocessor hold; the three tile
kernels are written for two. What they spill is stored before the loop over the depth and loaded
again in it, once for each 16 of the depth; a loop that is not unrolled spills less and was slower.

| kernel | precision | architecture | registers | bytes spilled, loaded | shared bytes | blocks |
|---|---|---|---|---|---|---|"""

# The name says what the kernel is, whether it splits float32 (ILb1E), and its shared memory (Li).
KERNEL = re.compile(r"run_kernelINS_\d+([A-Za-z]+?Kernel)(?:ILb([01])EE)?ELi(\d+)E")
PRECISIONS = {"1": "float32", "0": "tf32", None: ""}


@dataclass(frozen=True)
class Resources:
    """What one kernel occupies on one architecture."""

    kernel: str
    precision: str
    architecture: int
    registers: int
    spill_stores: int
    spill_loads: int
    shared_bytes: int

    @property
    def blocks(self) -> int:
        """How many blocks of ``THREADS`` a multiprocessor holds: registers come in eights."""
        by_registers = REGISTERS // (-(-self.registers // 8) * 8 * THREADS)
        by_shared = SHARED_BYTES[self.architecture] // (self.shared_bytes + RESERVED_BYTES)
        return min(by_registers, by_shared, 2048 // THREADS)

    def row(self) -> str:
        """One row of the table."""
        cells = (
            self.kernel,
            self.precision,
            f"sm_{self.architecture}",
            self.registers,
            f"{self.spill_stores}, {self.spill_loads}",
            self.shared_bytes,
            self.blocks,
        )
        return "| " + " | ".join(str(cell) for cell in cells) + " |"


def nvcc(*arguments: str) -> subprocess.CompletedProcess:
    """Runs nvcc and keeps what it says."""
    return subprocess.run(["nvcc", *arguments], capture_output=True, text=True, check=True)


def compile_report(architecture: int) -> str:
    """What ptxas says of every kernel."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["-std=c++17", "-O3", f"-arch=sm_{architecture}", "-Xptxas", "-v", "-cubin"]
        files = ["-I", str(ROOT / "csrc"), "-o", f"{folder}/kernels.cubin", str(SOURCE)]
        return nvcc(*options, *files).stderr


def parse(report: str, architecture: int) -> list[Resources]:
    """The kernels of one report."""
    pattern = (
        r"entry function '(\S+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers"
    )
    found = []
    for name, stores, loads, registers in re.findall(pattern, report, re.DOTALL):
        kernel, split, shared = KERNEL.search(name).groups()
        numbers = (int(registers), int(stores), int(loads), int(shared))
        found.append(Resources(kernel, PRECISIONS[split], architecture, *numbers))
    return found


def main() -> None:
    """Prints the table."""
    release = re.search(r"release [\d.]+, V[\d.]+", nvcc("--version").stdout).group(0)
    print(TITLE.format(version=f"CUDA {release}", threads=THREADS))
    found = [one for sm in SHARED_BYTES for one in parse(compile_report(sm), sm)]
    for one in sorted(found, key=lambda one: (one.kernel, one.precision, one.architecture)):
        print(one.row())


if __name__ == "__main__":
    main()
