"""Measures the CUDA forms on a GPU, checks them against float64, and sets torch beside them.

    cmake -S . -B build/cuda -DUNIMO_PADDLE=OFF -DUNIMO_PYTHON=OFF -DUNIMO_TESTS=ON
    cmake --build build/cuda --parallel
    python csrc/tests/cuda_benchmark.py build/cuda/libcuda_library.so > result.md

needs torch with CUDA, and no Paddle. Times are medians, read from the GPU's own events.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import statistics
import subprocess
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from cuda_library import (
    DEVICE,
    PRECISIONS,
    TEMPERATURE,
    BeamInputs,
    BeamOutputs,
    BeamSettings,
    Ours,
    load_library,
    pointers,
    stream,
    workspace,
)

MMA = "tf32 by mma.sync from registers"


def milliseconds(work: Callable[[], object], samples: int = 9, least: float = 10.0) -> float:
    """The median over samples of at least ``least`` milliseconds each, of one call."""

    def sample(calls: int) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(calls):
            work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / calls

    sample(2)
    calls = max(1, round(least / max(sample(2), 1e-3)))
    return statistics.median(sample(calls) for _ in range(samples))


def replayed(work: Callable[[], object]) -> Callable[[], object]:
    """The same work as a CUDA graph: without the time that its launches take on the CPU."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        work()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def plain_loss(
    rows: torch.Tensor, columns: torch.Tensor, temperature: torch.Tensor
) -> torch.Tensor:
    """The loss as it is usually written."""
    logits = rows @ columns.T / temperature
    target = torch.arange(len(rows), device=rows.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def tuned_loss(
    rows: torch.Tensor, columns: torch.Tensor, temperature: torch.Tensor
) -> torch.Tensor:
    """The same with as few passes over the scores as torch.compile can be led to."""
    logits = (rows / temperature) @ columns.T
    return ((logits.logsumexp(1) + logits.logsumexp(0)) / 2 - logits.diagonal()).mean()


def by_torch(
    loss: Callable[..., torch.Tensor], rows: torch.Tensor, columns: torch.Tensor
) -> list[torch.Tensor]:
    """The loss and the three gradients."""
    temperature = torch.tensor([TEMPERATURE], device=DEVICE, dtype=rows.dtype)
    leaves = [x.detach().requires_grad_() for x in (rows, columns, temperature)]
    value = loss(*leaves)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


def features(count: int, size: int) -> list[torch.Tensor]:
    """Unit vectors; a row and its column are 0.7 alike."""
    generator = torch.Generator(DEVICE).manual_seed(count + size)
    rows, noise = (torch.randn(count, size, device=DEVICE, generator=generator) for _ in range(2))
    rows, noise = F.normalize(rows), F.normalize(noise)
    return [rows, F.normalize(rows + noise)]


def errors(found: list[torch.Tensor], truth: list[torch.Tensor]) -> str:
    """Relative to the truth, by norms: of the loss, the rows', columns', temperature's gradient."""
    parts = [
        ((a.double() - b.reshape(a.shape)).norm() / b.norm()).item() for a, b in zip(found, truth)
    ]
    return " / ".join(f"{part:.1e}" for part in parts)


def measure_limits(library: ctypes.CDLL) -> dict[str, float]:
    """What this card reaches: TFLOP/s of products, GB/s of a copy (read and written)."""
    limits = {}
    a, b = (torch.randn(8192, 8192, device=DEVICE) for _ in range(2))
    for precision in PRECISIONS:
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        time = milliseconds(partial(torch.matmul, a, b), least=40.0)
        limits[f"{precision} product of torch"] = 2.0 * 8192**3 / time * 1e-9
    torch.backends.cuda.matmul.allow_tf32 = False
    blocks = 8 * torch.cuda.get_device_properties(0).multi_processor_count
    sink = torch.empty(blocks * 256, device=DEVICE)

    def launch() -> float:
        pointer = ctypes.c_void_p(sink.data_ptr())
        return library.tensor_core_products(blocks, 20000, pointer, stream())

    limits[MMA] = launch() / milliseconds(launch, least=40.0) * 1e-9
    source, target = (torch.randn(1 << 29, device=DEVICE) for _ in range(2))
    time = milliseconds(partial(target.copy_, source))
    limits["copy"] = 2.0 * source.nbytes / time * 1e-6
    return limits


class Case:
    """Features of one size, the truth for them where it is wanted, and the lines of the table."""

    def __init__(self, count: int, size: int, with_truth: bool) -> None:
        self.count, self.size = count, size
        self.rows, self.columns = features(count, size)
        self.truth = None
        if with_truth:
            self.truth = by_torch(tuned_loss, self.rows.double(), self.columns.double())
        self.product = 2.0 * count * count * size * 1e-9  # GFLOP

    def line(
        self,
        name: str,
        parts: list[float],
        products: int,
        memory: int,
        found: list[torch.Tensor],
        share: str = "",
    ) -> None:
        """Prints the milliseconds of the parts, and what follows from them."""
        total = sum(parts)
        ways = " + ".join(f"{part:.3f}" for part in parts) if len(parts) > 1 else ""
        error = errors(found, self.truth) if self.truth else ""
        print(
            f"| {self.count} | {self.size} | {name} | {total:.2f} | {ways} "
            f"| {products * self.product / total:.1f} | {share} | {memory / 2**20:.0f} | {error} |",
            flush=True,
        )

    def measure_ours(self, library: ctypes.CDLL, peak: float) -> None:
        """Both precisions. The share of the limit counts what the tensor cores really do."""
        ours = Ours(library, self.rows, self.columns)
        for precision, tensor_products in (("float32", 3), ("tf32", 1)):
            found = [x.clone() for x in ours.run(precision)]
            parts = [milliseconds(partial(way, precision)) for way in (ours.forward, ours.backward)]
            done = [tensor_products * way * self.product for way in (1, 3)]
            share = ", ".join(f"{100 * d / t / peak:.0f} %" for d, t in zip(done, parts))
            self.line(f"ours, {precision}", parts, 4, ours.workspace.nbytes, found, share)

    def measure_torch(self, name: str, loss: Callable[..., torch.Tensor]) -> None:
        """Both precisions. The gradients do not count as memory."""
        work = partial(by_torch, loss, self.rows, self.columns)
        for precision in PRECISIONS:
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
            found = work()
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated() + self.rows.nbytes + self.columns.nbytes
            work()
            memory = torch.cuda.max_memory_allocated() - before
            self.line(f"{name}, {precision}", [milliseconds(work)], 3, memory, found)
        torch.backends.cuda.matmul.allow_tf32 = False


class BeamStep:
    """A step of 32 samples, 4 beams, 50265 tokens; logits of eight steps take turns.

    They are 206 MB, so that the second-level cache does not hold them from turn to turn.
    """

    shape = (32, 4, 50265)
    num_steps = 8

    def __init__(self, library: ctypes.CDLL) -> None:
        batch, beams = self.shape[:2]
        generator = torch.Generator(DEVICE).manual_seed(1)
        self.library = library
        self.logits = [
            2 * torch.randn(self.shape, device=DEVICE, generator=generator)
            for _ in range(self.num_steps)
        ]
        self.scores = torch.randn(batch, beams, device=DEVICE, generator=generator)
        self.finished = torch.zeros(batch, beams, dtype=torch.bool, device=DEVICE)
        self.step = torch.tensor([9], device=DEVICE)
        self.blocked = torch.full((batch, beams, 1), -1, device=DEVICE)
        like = torch.empty_like
        self.tokens, self.parents, ended_parents = (like(self.blocked) for _ in range(3))
        self.others = (like(self.scores), like(self.finished), like(self.scores), ended_parents)
        score, finished, ended, ended_parents = self.others
        self.outputs = BeamOutputs(
            *pointers(score, self.tokens, self.parents, finished, ended, ended_parents)
        )
        inputs = self.inputs(self.logits[0])
        sizes = [
            library.beam_workspace(ctypes.byref(inputs), ctypes.byref(self.settings(rule)))
            for rule in (0, 1)
        ]
        self.workspace = workspace(max(sizes))

    def inputs(self, logits: torch.Tensor) -> ctypes.Structure:
        """What the kernels read."""
        tensors = (logits, self.scores, self.finished, self.step, self.blocked)
        return BeamInputs(*pointers(*tensors), *self.shape, 1)

    def settings(self, rule: int) -> BeamSettings:
        """The end token is 2, and may come."""
        return BeamSettings(2, 3, 0.6, rule)

    def ours(self, rule: int, logits: torch.Tensor) -> None:
        """One step by our kernels."""
        self.library.beam_step(
            ctypes.byref(self.inputs(logits)),
            ctypes.byref(self.settings(rule)),
            ctypes.byref(self.outputs),
            ctypes.c_void_p(self.workspace.data_ptr()),
            stream(),
        )

    def of_samples(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The best 2 K of a sample, by torch."""
        total = self.scores[:, :, None] + F.log_softmax(logits, -1)
        return total.flatten(1).topk(2 * self.shape[1])

    def of_beams(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The best K of a beam, by torch."""
        return F.log_softmax(logits, -1).topk(self.shape[1])

    def measure(self, copy: float) -> None:
        """Prints the lines of the table, and whether the choice is torch's."""

        def every(work: Callable[[torch.Tensor], object]) -> None:
            for logits in self.logits:
                work(logits)

        for name, work in (
            ("ours, original", partial(self.ours, 0)),
            ("ours, 2k", partial(self.ours, 1)),
            ("torch, log_softmax and topk of a beam", self.of_beams),
            ("torch, log_softmax and topk of a sample", self.of_samples),
        ):
            plain = milliseconds(partial(every, work)) / self.num_steps * 1e3
            graph = milliseconds(replayed(partial(every, work))) / self.num_steps * 1e3
            rate = self.logits[0].nbytes / graph * 1e-3
            print(
                f"| {name} | {plain:.1f} | {graph:.1f} | {rate:.0f} | {100 * rate / copy:.0f} % |"
            )
        same = True
        for logits in self.logits:
            self.ours(1, logits)
            ids = (self.parents * self.shape[2] + self.tokens).flatten(1)
            same &= torch.equal(ids, self.of_samples(logits)[1][:, : self.shape[1]])
        print(f"\nTokens and parents of all steps (2k) equal torch's: {'yes' if same else 'NO'}.")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", help="libcuda_library.so of the build")
    parser.add_argument("--parts", nargs="+", default=["contrastive", "beam"])
    parser.add_argument("--counts", nargs="+", type=int, default=[4096, 8192, 16384, 32768])
    parser.add_argument("--features", nargs="+", type=int, default=[256, 768])
    parser.add_argument("--checked", type=int, default=16384, help="largest N held to float64")
    args = parser.parse_args()
    library = load_library(args.library)
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    print(
        f"{torch.cuda.get_device_name(0)}, driver {driver}, CUDA {torch.version.cuda}, "
        f"torch {torch.__version__}. {datetime.date.today()}."
    )
    limits = measure_limits(library)
    print("\n| limit | measured |\n| --- | ---: |")
    for name, value in limits.items():
        print(f"| {name} | {value:.0f} {'GB/s' if name == 'copy' else 'TFLOP/s'} |")
    if "contrastive" in args.parts:
        print("\n| N = M | D | form | ms | forward + backward | TFLOP/s | of limit | MiB | error |")
        print("| ---: | ---: | --- | ---: | --- | ---: | --- | ---: | --- |")
        compiled = torch.compile(tuned_loss, dynamic=True)
        for size in args.features:
            for count in args.counts:
                case = Case(count, size, count <= args.checked)
                case.measure_ours(library, limits[MMA])
                case.measure_torch("torch", plain_loss)
                case.measure_torch("torch, compiled", compiled)
                del case
                torch.cuda.empty_cache()
    if "beam" in args.parts:
        print("\n| form | us a call | us in a graph | GB/s of logits | of copy |")
        print("| --- | ---: | ---: | ---: | ---: |")
        BeamStep(library).measure(limits["copy"])


if __name__ == "__main__":
    main()
