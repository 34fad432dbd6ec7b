"""The compiled operator library: found beside this file, registered with Paddle once."""

from __future__ import annotations

import functools
from pathlib import Path

import paddle
from paddle.utils import cpp_extension

from unimo_paddle.errors import UserError

LIBRARY_PATH = Path(__file__).with_name("_operators.so")
VERSION_SUFFIX = ".paddle_version"  # of the file beside it that names the Paddle it was built for


@functools.cache
def load_operators() -> None:
    """Register the compiled operators with Paddle; every call after the first does nothing.

    A fresh process must do so before it runs or serves a program that contains them.
    """
    if not LIBRARY_PATH.is_file():
        raise UserError(
            f"the compiled operators are missing: {LIBRARY_PATH} does not exist; "
            "build them with 'pip install -e .' in the repository"
        )
    _check_paddle()
    cpp_extension.load_op_meta_info_and_register_op(str(LIBRARY_PATH))


def _check_paddle() -> None:
    """Refuse a library that was built for another Paddle.

    Its symbols may be gone there, or worse, be there and lay their arguments out in another way.
    """
    path = LIBRARY_PATH.with_suffix(VERSION_SUFFIX)
    built_for = path.read_text("utf-8").strip() if path.is_file() else "of unknown version"
    installed = paddle.version.full_version
    if built_for != installed:
        raise UserError(
            f"the compiled operators are built for Paddle {built_for}, but {installed} is "
            f"installed: {LIBRARY_PATH}; build them again with 'make install' or "
            "'pip install -e .' in the repository"
        )


def run_operator(name: str, *arguments: object) -> list[paddle.Tensor]:
    """Call a registered operator in the static or the dynamic graph and return its outputs.

    Args:
        name: the operator's registered name.
        arguments: its inputs, None for an absent optional one, then its attributes; the types are
            exact (a float attribute takes no int).
    """
    load_operators()
    outputs = paddle._C_ops._run_custom_op(name, *arguments)
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


@functools.cache
def _dtypes(names: tuple[str, ...]) -> tuple[paddle.dtype, ...]:
    """Paddle's types of these names."""
    return tuple(getattr(paddle, name) for name in names)


def check_axes(operator: str, name: str, tensor: paddle.Tensor, axes: str) -> None:
    """Refuse a tensor with another number of axes than are named, as in ``B, K, t``.

    ``...`` stands for any number of them. Paddle ends the process when an operator refuses its
    inputs while a static graph is built, so its wrapper must.
    """
    names = axes.split(", ")
    is_open = "..." in names
    least, found = len(names) - is_open, len(tensor.shape)
    if found < least or (found > least and not is_open):
        raise UserError(f"{operator}: {name} has shape {list(tensor.shape)}; expected [{axes}]")


def check_tensor(
    operator: str,
    name: str,
    tensor: paddle.Tensor,
    *,
    shape: tuple[int, ...],
    dtypes: tuple[str, ...],
) -> None:
    """Refuse a tensor of the wrong type or shape; -1 stands for any size on either side."""
    if tensor.dtype in _dtypes(dtypes) and tuple(tensor.shape) == shape:
        return
    found_type = str(tensor.dtype).rpartition(".")[2].lower()
    if found_type not in dtypes:
        raise UserError(f"{operator}: {name} is {found_type}; expected {' or '.join(dtypes)}")
    found = tuple(tensor.shape)
    fits = len(found) == len(shape) and all(
        expected == size or -1 in (expected, size)
        for expected, size in zip(shape, found, strict=True)
    )
    if not fits:
        raise UserError(f"{operator}: {name} has shape {list(found)}; expected {list(shape)}")
