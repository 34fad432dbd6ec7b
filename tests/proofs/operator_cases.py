"""The operators under test: random right arguments, what a user calls, and the slow truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle

from unimo_paddle.ops.beam_search import RULES, beam_search_step, beam_search_step_reference
from unimo_paddle.ops.contrastive import (
    contrastive_logsumexp,
    contrastive_logsumexp_reference,
    one_way_contrastive_loss,
    one_way_contrastive_loss_reference,
)
from unimo_paddle.ops.decode_attention import Memory, decode_attention, decode_attention_reference
from unimo_paddle.ops.few_rows import few_rows_product, few_rows_product_reference
from unimo_paddle.ops.layer import (
    add_norm,
    add_norm_reference,
    bias_gelu,
    bias_gelu_reference,
    masked_softmax,
    masked_softmax_reference,
    split_heads,
)
from unimo_paddle.ops.library import run_operator
from unimo_paddle.ops.pick_rows import pick_rows

TYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool")

Arrays = dict[str, np.ndarray]
Random = np.random.Generator


@dataclass(frozen=True)
class Operator:
    """An operator under test.

    Args:
        make: random right arguments: tensors as arrays, and settings.
        call: the outputs of tensors and settings, as a user calls it.
        expect: the same by the reference.
        raw: the same past the wrapper's checks; None where there are none.
    """

    make: Callable[[Random], tuple[Arrays, dict[str, Any]]]
    call: Callable[..., list]
    expect: Callable[..., list]
    raw: Callable[..., list] | None = None


def size(rng: Random, most: int, least: int = 1) -> int:
    """A size that is often at an edge."""
    edges = [n for n in (least, 1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65) if least <= n]
    edge = int(rng.choice([n for n in edges if n <= most]))
    return edge if rng.random() < 0.5 else int(rng.integers(least, most + 1))


def normal(rng: Random, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype="float32")


class Undefined(Exception):
    """What the arguments ask for is no number, so that any will do; memory must stay sound."""


def as_arrays(outputs: list) -> list[np.ndarray]:
    arrays = []
    for output in outputs:
        if isinstance(output, paddle.Tensor):
            is_half = output.dtype in (paddle.bfloat16, paddle.float16)
            output = (output.astype("float32") if is_half else output).numpy()
        arrays.append(np.asarray(output))
    return arrays


def make_contrastive(rng: Random) -> tuple[Arrays, dict[str, Any]]:
    rows, columns, depth = size(rng, 70), size(rng, 140), size(rng, 80)
    groups = size(rng, 40)
    ids = {
        f"{side}_{kind}": rng.integers(-1, groups, count)
        for kind in ("group", "duplicate")
        for side, count in (("row", rows), ("column", columns))
    }
    scale = depth**-0.5
    temperature = np.array([10.0 ** rng.uniform(-1, 1)], "float32")
    features = {
        "rows": scale * normal(rng, rows, depth),
        "columns": scale * normal(rng, columns, depth),
    }
    return {**features, "temperature": temperature, **ids}, {}  # fmt: skip


def with_gradients(
    function: Callable, names: tuple[str, ...] = ("rows", "columns", "temperature")
) -> Callable[..., list]:
    """Outputs, and the gradients of their finite parts by the tensors of these names."""

    def run(**arguments: Any) -> list:
        learnt = [arguments[name] for name in names]
        for tensor in learnt:
            tensor.stop_gradient = False
        outputs = function(**arguments)
        outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
        parts = [paddle.where(paddle.isfinite(x), x, paddle.zeros_like(x)).sum() for x in outputs]
        sum(parts).backward()
        return [*outputs, *(tensor.grad for tensor in learnt)]

    return run


def in_float64(function: Callable) -> Callable[..., list]:
    """A reference that sees floating numbers in double precision."""

    def run(**arguments: Any) -> list:
        tensors = {n: x for n, x in arguments.items() if isinstance(x, paddle.Tensor)}
        floats = {n: x.astype("float64") for n, x in tensors.items() if x.is_floating_point()}
        return function(**arguments | floats)

    return run


def make_one_way(rng: Random) -> tuple[Arrays, dict[str, Any]]:
    arrays, settings = make_contrastive(rng)
    return {**arrays, "weights": rng.random(len(arrays["rows"]), "float32")}, settings


CONTRASTIVE = ("rows", "columns", "temperature", "row_group", "column_group")
CONTRASTIVE += ("row_duplicate", "column_duplicate")


def make_beam(rng: Random) -> tuple[Arrays, dict[str, Any]]:
    batch, beams, vocabulary = size(rng, 4, 0), size(rng, 6), size(rng, 130, 2)
    shape = (batch, beams)
    arrays = {
        "logits": 3 * normal(rng, *shape, vocabulary),
        "scores": -rng.gamma(2, size=shape).astype("float32"),
        "finished": rng.random(shape) < 0.2,
        "step": np.array([rng.integers(0, 9)]),
    }
    if rng.random() < 0.5:
        count = int(rng.integers(0, 5))
        arrays["blocked_tokens"] = rng.integers(-1, vocabulary, (*shape, count))
    return arrays, {
        "end_token": int(rng.integers(0, vocabulary)),
        "rule": str(rng.choice(RULES)),
        "length_penalty": float(rng.choice([0.0, 0.6, 1.5])),
        "min_length": int(rng.integers(0, 4)),
    }


def expect_beam(**arguments: Any) -> list:
    """The reference, which knows no batch of none."""
    arrays = {n: x.numpy() for n, x in arguments.items() if isinstance(x, paddle.Tensor)}
    batch, beams = arrays["scores"].shape
    if not batch:
        kinds = ("float32", "int64", "int64", "bool", "float32", "int64")
        return [np.zeros((0, beams), kind) for kind in kinds]
    vocabulary = arrays["logits"].shape[-1]
    logits = arguments["logits"].astype("float32").numpy().reshape(batch, beams, vocabulary)
    if "blocked_tokens" in arrays:  # what is no token can be taken by no beam
        blocked = arrays["blocked_tokens"]
        arrays["blocked_tokens"] = np.where(blocked < vocabulary, blocked, -1)
    step = int(arrays.pop("step").item())
    if step < 0:
        raise Undefined
    return list(beam_search_step_reference(**arguments | arrays | {"step": step, "logits": logits}))


def raw_beam(
    *, end_token: int, rule: str, length_penalty: float, min_length: int, **t: Any
) -> list:
    tensors = (t["logits"], t["scores"], t["finished"], t["step"], t.get("blocked_tokens"))
    settings = (end_token, min_length, length_penalty, RULES.index(rule))
    return run_operator("unimo_beam_search_step", *tensors, *settings)


def make_attention(rng: Random) -> tuple[Arrays, dict[str, Any]]:
    batch, texts, heads = size(rng, 3), size(rng, 6), size(rng, 4)
    depth, length, words = size(rng, 33), size(rng, 40, 0), size(rng, 20)
    width, capacity = heads * depth, words - 1 + int(rng.integers(0, 3))
    table = rng.integers(0, texts, (batch, texts, words))
    table[..., -1] = np.arange(texts)
    return {
        **{name: normal(rng, batch, texts, width) for name in ("query", "keys", "values")},
        "memory_keys": normal(rng, heads, batch, depth, length),
        "memory_values": normal(rng, heads, batch, length, depth),
        "memory_bias": np.where(rng.random((batch, length)) < 0.2, -1e4, 0).astype("float32"),
        "ancestors": table,
        "cache": normal(rng, 2, capacity, batch, texts, width),
    }, {}


def attention(function: Callable) -> Callable[..., list]:
    """The outputs of a form of attention, the cache cut to its words."""

    def run(**t: paddle.Tensor) -> list:
        memory = Memory(t["memory_keys"], t["memory_values"], t["memory_bias"])
        arguments = (t["query"], t["keys"], t["values"], memory, t["ancestors"], t["cache"].clone())
        attended, cache = function(*arguments)
        return [attended, cache[:, : t["ancestors"].shape[2]]]

    return run


def make_product(rng: Random) -> tuple[Arrays, dict[str, Any]]:
    rows, depth, columns = size(rng, 60, 0), size(rng, 150), size(rng, 150)
    is_transposed = bool(rng.random() < 0.5)
    shape = (columns, depth) if is_transposed else (depth, columns)
    lead = (rows,) if rng.random() < 0.5 else (2, rows // 2)
    arrays = {"rows": normal(rng, *lead, depth), "matrix": normal(rng, *shape)}
    if rng.random() < 0.5:
        arrays["bias"] = normal(rng, columns)
    return arrays, {"is_transposed": is_transposed}


def make_picks(rng: Random) -> tuple[Arrays, dict[str, Any]]:
    batch, given, chosen = size(rng, 4, 0), size(rng, 6), size(rng, 8, 0)
    kind = str(rng.choice([name for name in TYPES if name != "bfloat16"]))
    has_behind = rng.random() < 0.5
    tail = (size(rng, 9, 0 if has_behind else 1),)
    if not has_behind and rng.random() < 0.5:
        tail = (*tail, size(rng, 4))
    values = rng.integers(0, 2, (batch, given, *tail)).astype(kind)
    arrays = {"values": values, "rows": rng.integers(0, given, (batch, chosen))}
    if has_behind:
        arrays["behind"] = rng.integers(0, 2, (batch, chosen)).astype(kind)
    return arrays, {}


def expect_picks(values: paddle.Tensor, rows: paddle.Tensor, behind: Any = None) -> list:
    """By NumPy, for Paddle gathers fewer types than the operator."""
    if rows.dtype != paddle.int64 or (behind is not None and behind.dtype != values.dtype):
        raise TypeError(f"{rows.dtype}, {values.dtype}")
    array, table = as_arrays([values])[0], rows.numpy()
    if (table < 0).any() or table.shape[0] != array.shape[0]:
        raise ValueError(f"{table.shape}, {array.shape}")
    picked = array[np.arange(len(array))[:, None], table]
    if behind is None:
        return [picked]
    return [np.concatenate([picked, as_arrays([behind])[0][..., None]], axis=-1)]


def make_norm(rng: Random) -> tuple[Arrays, dict[str, Any]]:
    width = size(rng, 140, 4)  # of fewer numbers the deviation may be next to nothing
    shape = (size(rng, 9, 0), *((size(rng, 70),) if rng.random() < 0.5 else ()), width)
    arrays = {name: normal(rng, *shape) for name in ("rows", "residual")}
    return arrays | {name: normal(rng, width) for name in ("bias", "scale", "shift")}, {
        "epsilon": float(rng.choice([1e-5, 1e-3]))
    }


def make_gelu(rng: Random) -> tuple[Arrays, dict[str, Any]]:
    width = size(rng, 140)
    shape = (size(rng, 140, 0), width) if rng.random() < 0.5 else (width,)
    return {"rows": 3 * normal(rng, *shape), "bias": normal(rng, width)}, {}


def make_heads(rng: Random) -> tuple[Arrays, dict[str, Any]]:
    num_heads = size(rng, 5)
    width = num_heads * size(rng, 40)
    arrays = {"rows": normal(rng, size(rng, 4, 0), size(rng, 70), width)}
    settings = {"num_heads": num_heads, "factor": float(rng.choice([1.0, 0.3]))}
    return arrays | {"bias": normal(rng, width)}, settings


def expect_heads(
    rows: paddle.Tensor, bias: paddle.Tensor, num_heads: int, factor: float
) -> paddle.Tensor:
    """The reference, whose reshape knows no axis of nothing."""
    if rows.ndim != 3:
        raise ValueError(f"{rows.shape}")
    heads = ((rows + bias) * factor).unflatten(-1, [num_heads, bias.shape[0] // num_heads])
    return heads.transpose([2, 0, 1, 3])


def make_softmax(rng: Random) -> tuple[Arrays, dict[str, Any]]:
    shape = (size(rng, 4), size(rng, 4, 0), size(rng, 33), size(rng, 70))
    mask = np.where(rng.random(shape[1:]) < 0.2, -1e4, 0).astype("float32")
    return {"scores": 4 * normal(rng, *shape), "mask": mask}, {}


def alone(function: Callable) -> Callable[..., list]:
    return lambda **arguments: [function(**arguments)]


def past_checks(name: str, inputs: tuple[str, ...], num_outputs: int) -> Callable[..., list]:
    """An operator with gradients, called as its wrapper would."""
    return with_gradients(
        lambda **t: tuple(run_operator(name, *(t[key] for key in inputs))[:num_outputs])
    )


def of_layer(make: Callable, function: Callable, reference: Callable, *names: str) -> Operator:
    """An operator of layers, with gradients by these tensors; it takes float32 alone."""

    def expect(**arguments: Any) -> list:
        if any(x.dtype != paddle.float32 for x in arguments.values() if hasattr(x, "dtype")):
            raise TypeError("all must be float32")
        return in_float64(with_gradients(reference, names))(**arguments)

    return Operator(make, with_gradients(function, names), expect)


OPERATORS = {
    "contrastive": Operator(
        make_contrastive,
        with_gradients(contrastive_logsumexp),
        in_float64(with_gradients(contrastive_logsumexp_reference)),
        past_checks("unimo_contrastive_logsumexp", CONTRASTIVE, 4),
    ),
    "one_way": Operator(
        make_one_way,
        with_gradients(one_way_contrastive_loss),
        in_float64(with_gradients(one_way_contrastive_loss_reference)),
        past_checks("unimo_contrastive_one_way", (*CONTRASTIVE, "weights"), 1),
    ),
    "beam_search": Operator(
        make_beam, lambda **a: list(beam_search_step(**a)), expect_beam, raw_beam
    ),
    "decode_attention": Operator(
        make_attention, attention(decode_attention), attention(decode_attention_reference)
    ),
    "few_rows": Operator(make_product, alone(few_rows_product), alone(few_rows_product_reference)),
    "pick_rows": Operator(make_picks, alone(pick_rows), expect_picks),
    "add_norm": of_layer(
        *(make_norm, add_norm, add_norm_reference),
        *("rows", "bias", "residual", "scale", "shift"),
    ),
    "bias_gelu": of_layer(make_gelu, bias_gelu, bias_gelu_reference, "rows", "bias"),
    "split_heads": of_layer(make_heads, split_heads, expect_heads, "rows", "bias"),
    "masked_softmax": of_layer(make_softmax, masked_softmax, masked_softmax_reference, "scores"),
}
