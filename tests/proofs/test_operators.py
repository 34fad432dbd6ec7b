"""Promise 11: thousands of random calls of every operator compute what is slow, or are refused.

The calls run in a process of their own, for a crash must be seen as one: this file is its program,
too. Wrong calls differ from right ones in the shape, the type or the numbers of one tensor. They
are made through the wrappers and, for shapes that a static graph cannot know, past them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
import pytest

from unimo_paddle.ops import _core
from unimo_paddle.ops.beam_search import RULES, beam_search_step, beam_search_step_reference
from unimo_paddle.ops.contrastive import (
    contrastive_logsumexp,
    contrastive_logsumexp_reference,
    one_way_contrastive_loss,
    one_way_contrastive_loss_reference,
)
from unimo_paddle.ops.decode_attention import Memory, decode_attention, decode_attention_reference
from unimo_paddle.ops.few_rows import few_rows_product, few_rows_product_reference
from unimo_paddle.ops.library import run_operator
from unimo_paddle.ops.pick_rows import pick_rows

NUM_SHORT, NUM_ALL = 250, 5_000  # calls of each operator
SHARE_WRONG = 0.5  # of the calls
TYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool")
# A refusal says of which operator it is, or is Paddle's own of an operation that took its place.
KNOWN = ("contrastive", "beam_search_step", "decode_attention", "few_rows_product", "pick_rows")
KNOWN += ("InvalidArgument", "InvalidType", "Unimplemented", "NotFound")
# Half precision and long sums; a wrong number is off by far more.
TOLERANCE, HALF_TOLERANCE = 2e-4, 4e-2

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


# ---- the operators


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


def with_gradients(function: Callable) -> Callable[..., list]:
    """Outputs, and the gradients of their finite parts by rows, columns and temperature."""

    def run(**tensors: paddle.Tensor) -> list:
        learnt = [tensors[name] for name in ("rows", "columns", "temperature")]
        for tensor in learnt:
            tensor.stop_gradient = False
        outputs = function(**tensors)
        outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
        parts = [paddle.where(paddle.isfinite(x), x, paddle.zeros_like(x)).sum() for x in outputs]
        sum(parts).backward()
        return [*outputs, *(tensor.grad for tensor in learnt)]

    return run


def in_float64(function: Callable) -> Callable[..., list]:
    """A reference that sees floating numbers in double precision."""

    def run(**tensors: paddle.Tensor) -> list:
        floats = {n: x.astype("float64") for n, x in tensors.items() if x.is_floating_point()}
        return function(**tensors | floats)

    return run


def make_one_way(rng: Random) -> tuple[Arrays, dict[str, Any]]:
    arrays, settings = make_contrastive(rng)
    return {**arrays, "weights": rng.random(len(arrays["rows"]), "float32")}, settings


CONTRASTIVE = ("rows", "columns", "temperature", "row_group", "column_group", "row_duplicate",
               "column_duplicate")  # fmt: skip


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


def alone(function: Callable) -> Callable[..., list]:
    return lambda **arguments: [function(**arguments)]


OPERATORS = {
    "contrastive": Operator(
        make_contrastive,
        with_gradients(contrastive_logsumexp),
        in_float64(with_gradients(contrastive_logsumexp_reference)),
        with_gradients(
            lambda **t: tuple(
                run_operator("unimo_contrastive_logsumexp", *(t[n] for n in CONTRASTIVE))[:4]
            )
        ),
    ),
    "one_way": Operator(
        make_one_way,
        with_gradients(one_way_contrastive_loss),
        in_float64(with_gradients(one_way_contrastive_loss_reference)),
        with_gradients(
            lambda **t: run_operator(
                "unimo_contrastive_one_way", *(t[n] for n in (*CONTRASTIVE, "weights"))
            )[0]
        ),
    ),
    "beam_search": Operator(
        make_beam, lambda **a: list(beam_search_step(**a)), expect_beam, raw_beam
    ),
    "decode_attention": Operator(
        make_attention, attention(decode_attention), attention(decode_attention_reference)
    ),
    "few_rows": Operator(make_product, alone(few_rows_product), alone(few_rows_product_reference)),
    "pick_rows": Operator(make_picks, alone(pick_rows), expect_picks),
}


# ---- wrong calls


def spoil(arrays: Arrays, rng: Random) -> str:
    """Change one tensor; return what was done."""
    name = str(rng.choice(list(arrays)))
    array, kind = arrays[name], rng.integers(7)
    axis = int(rng.integers(max(array.ndim, 1)))
    if kind == 0 and array.ndim:
        arrays[name] = np.concatenate([array, array.take([0] if array.shape[axis] else [], axis)],
                                      axis)  # fmt: skip
    elif kind == 1 and array.ndim:
        arrays[name] = np.delete(array, slice(0, 1), axis)
    elif kind == 2:
        arrays[name] = np.expand_dims(array, axis)
    elif kind == 3 and array.ndim and array.shape[axis]:
        arrays[name] = array.take(0, axis)
    elif kind == 4 and array.ndim:
        arrays[name] = np.moveaxis(array, axis, 0).copy()
    elif kind == 5 and array.dtype == np.int64 and array.size:
        array = arrays[name] = array.copy()
        far = [-1, -2, 2**31, -(2**31), 2**62, -(2**63), int(array.max()) + 1, 1_000]
        array.flat[rng.integers(array.size)] = far[rng.integers(len(far))]
    else:
        arrays[name] = array[:0] if array.ndim else array
    return f"{name} {array.shape} -> {arrays[name].shape}"


def tensors_of(arrays: Arrays, changed: tuple[str, str] | None) -> dict[str, paddle.Tensor]:
    """The arrays as tensors, one perhaps of another type."""
    tensors = {name: paddle.to_tensor(array) for name, array in arrays.items()}
    if changed:
        name, kind = changed
        tensors[name] = tensors[name].astype(kind)
    return tensors


def as_arrays(outputs: list) -> list[np.ndarray]:
    arrays = []
    for output in outputs:
        if isinstance(output, paddle.Tensor):
            is_half = output.dtype in (paddle.bfloat16, paddle.float16)
            output = (output.astype("float32") if is_half else output).numpy()
        arrays.append(np.asarray(output))
    return arrays


def difference(found: list[np.ndarray], expected: list[np.ndarray], tolerance: float) -> str:
    """How outputs differ from those of the reference; nothing when they do not."""
    for number, (a, b) in enumerate(zip(found, expected, strict=True)):
        if a.shape != b.shape:
            return f"output {number} has shape {a.shape}, not {b.shape}"
        a, b = a.astype("float64"), b.astype("float64")
        largest = np.abs(b[np.isfinite(b)]).max(initial=1.0)
        if not np.allclose(a, b, rtol=tolerance, atol=tolerance * largest, equal_nan=True):
            return f"output {number} differs by {np.nanmax(np.abs(a - b))} of {largest}"
    return ""


def call_once(operator: Operator, rng: Random) -> tuple[str, str]:
    """Make one call; return what happened, and what is wrong with that, if anything."""
    arrays, settings = operator.make(rng)
    is_wrong, change, changed = rng.random() < SHARE_WRONG, "", None
    if is_wrong and rng.random() < 0.25:
        changed = (str(rng.choice(list(arrays))), str(rng.choice(TYPES)))
        change = f"{changed[0]} {arrays[changed[0]].dtype} -> {changed[1]}"
    elif is_wrong:
        change = spoil(arrays, rng)
    # Paddle itself leaves out an optional tensor of no numbers; the wrappers refuse or replace it.
    is_raw = operator.raw and rng.random() < 0.4 and all(a.size for a in arrays.values())
    call = operator.raw if is_raw else operator.call
    try:
        found = as_arrays(call(**tensors_of(arrays, changed), **settings))
    except (ValueError, RuntimeError, TypeError) as error:
        message = str(error)
        if not is_wrong:
            return "refused", f"a right call is refused: {message[-300:]}"
        return "refused", "" if any(name in message for name in KNOWN) else f"unclear: {message}"
    try:
        expected = as_arrays(operator.expect(**tensors_of(arrays, changed), **settings))
    except Undefined:
        return "computed", ""
    except Exception as error:
        return "computed", f"{change}: computed what the reference cannot ({error!r:.200})"
    is_half = changed is not None and changed[1] in ("float16", "bfloat16")
    wrong = difference(found, expected, HALF_TOLERANCE if is_half else TOLERANCE)
    return "computed", wrong and f"{change or 'a right call'}: {wrong}"


def main(names: str, first_seed: int, num_calls: int) -> None:
    """Make calls of operators; end with an exit code and one line a mistake."""
    is_sound = True
    for name in names.split(","):
        counts, mistakes = Counter(), []
        for seed in range(first_seed, first_seed + num_calls):
            # Known also when the process ends within the call.
            print(f"\r{name} {seed}", end="", file=sys.stderr, flush=True)
            what, wrong = call_once(OPERATORS[name], np.random.default_rng(seed))
            counts[what] += 1
            if wrong:
                mistakes.append(f"{name}, seed {seed}: {wrong}")
        print("\n".join(mistakes[:20]))
        print(f"{name}: {len(mistakes)} mistakes; {dict(counts)}")
        # A search that refuses all, or nothing, proves nothing.
        is_sound &= min(counts["computed"], counts["refused"]) > num_calls / 10 and not mistakes
    sys.exit(0 if is_sound else 1)


def check(names: str, first_seed: int, num_calls: int, instruction_set: str = "") -> None:
    command = [sys.executable, __file__, names, str(first_seed), str(num_calls)]
    environment = {**os.environ, "UNIMO_INSTRUCTION_SET": instruction_set}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout[-3000:]}{done.stderr[-1500:]}"


def test_random_calls_compute_or_are_refused() -> None:
    check(",".join(OPERATORS), 0, NUM_SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATORS)
def test_thousands_of_calls_compute_or_are_refused(name: str) -> None:
    check(name, NUM_SHORT, NUM_ALL)


# The bfloat16 form is chosen by name only, and is less exact than the reference allows here.
FORMS = [form for form in _core.instruction_sets() if form != "avx512_bf16"]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["contrastive", "one_way"])
def test_every_instruction_set_computes_or_refuses(name: str, form: str) -> None:
    check(name, 10**6, NUM_ALL // 2, form)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
