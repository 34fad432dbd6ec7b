"""The functions of cuda_library.cu on torch's tensors, for cuda_benchmark.py."""

from __future__ import annotations

import ctypes

import torch

DEVICE = "cuda"
TEMPERATURE = 0.05
PRECISIONS = {"float32": 0, "tf32": 1}


def struct(name: str, pointers: str, sizes: str = "") -> type[ctypes.Structure]:
    """A C struct of pointers, then of 64-bit sizes."""
    fields = [(field, ctypes.c_void_p) for field in pointers.split()]
    fields += [(field, ctypes.c_int64) for field in sizes.split()]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


ContrastiveInputs = struct(
    "ContrastiveInputs",
    "rows columns temperature row_group column_group row_duplicate column_duplicate",
    "num_rows num_columns size",
)
Statistics = struct("Statistics", "row_all row_positive column_all column_positive")
Gradients = struct("Gradients", "rows columns temperature")
BeamInputs = struct(
    "BeamInputs",
    "logits scores finished step blocked_tokens",
    "batch beams vocabulary num_blocked",
)
BeamOutputs = struct("BeamOutputs", "scores tokens parents finished ended_scores ended_parents")


class BeamSettings(ctypes.Structure):
    """Like ``BeamSearchSettings``."""

    _fields_ = [
        ("end_token", ctypes.c_int64),
        ("min_length", ctypes.c_int64),
        ("length_penalty", ctypes.c_float),
        ("rule", ctypes.c_int),
    ]


def load_library(path: str) -> ctypes.CDLL:
    """The functions of cuda_library.cu."""
    library = ctypes.CDLL(path)
    for name in ("forward_workspace", "backward_workspace", "beam_workspace"):
        getattr(library, name).restype = ctypes.c_size_t
    library.tensor_core_products.restype = ctypes.c_double
    return library


def pointers(*tensors: torch.Tensor) -> list[int]:
    """Where the tensors lie."""
    return [tensor.data_ptr() for tensor in tensors]


def stream() -> ctypes.c_void_p:
    """The stream that torch works on, which a graph records."""
    return ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)


def workspace(num_bytes: int) -> torch.Tensor:
    """Memory for a kernel."""
    return torch.empty(num_bytes + 1, dtype=torch.uint8, device=DEVICE)


class Ours:
    """The symmetric loss of N pairs by our kernels, with room for its gradients."""

    def __init__(self, library: ctypes.CDLL, rows: torch.Tensor, columns: torch.Tensor) -> None:
        count, size = rows.shape
        self.library = library
        self.temperature = torch.tensor([TEMPERATURE], device=DEVICE)
        labels = torch.arange(count, device=DEVICE)
        alone = torch.full_like(labels, -1)
        self.keep = (rows, columns, labels, alone)
        self.inputs = ContrastiveInputs(
            *pointers(rows, columns, self.temperature, labels, labels, alone, alone),
            *(count, count, size),
        )
        self.statistics = [torch.full((count,), torch.nan, device=DEVICE) for _ in range(4)]
        share = 0.5 / count
        self.upstream = [torch.full((count,), s * share, device=DEVICE) for s in (1, -1, 1, -1)]
        self.gradients = [torch.full_like(x, torch.nan) for x in (rows, columns, self.temperature)]
        sizes = [
            getattr(library, f"{way}_workspace")(ctypes.byref(self.inputs))
            for way in ("forward", "backward")
        ]
        self.workspace = workspace(max(sizes))

    def forward(self, precision: str) -> None:
        self.library.forward(
            ctypes.byref(self.inputs),
            ctypes.byref(Statistics(*pointers(*self.statistics))),
            PRECISIONS[precision],
            ctypes.c_void_p(self.workspace.data_ptr()),
            stream(),
        )

    def backward(self, precision: str) -> None:
        self.library.backward(
            ctypes.byref(self.inputs),
            ctypes.byref(Statistics(*pointers(*self.statistics))),
            ctypes.byref(Statistics(*pointers(*self.upstream))),
            ctypes.byref(Gradients(*pointers(*self.gradients))),
            PRECISIONS[precision],
            ctypes.c_void_p(self.workspace.data_ptr()),
            stream(),
        )

    def run(self, precision: str) -> list[torch.Tensor]:
        """The loss and the three gradients."""
        self.forward(precision)
        self.backward(precision)
        row_all, row_positive, column_all, column_positive = self.statistics
        loss = ((row_all - row_positive) + (column_all - column_positive)).mean() / 2
        return [loss, *self.gradients]
