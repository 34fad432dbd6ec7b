"""Makes random calls of operators: ``python operator_calls.py NAME,... FIRST_SEED NUM_CALLS``.

Wrong calls differ from right ones in the shape, the type or the numbers of one tensor. They are
made through the wrappers and, for shapes that a static graph cannot know, past them.
"""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import paddle
from operator_cases import OPERATORS, TYPES, Arrays, Operator, Random, Undefined, as_arrays

SHARE_WRONG = 0.5  # of the calls
# A refusal says of which operator it is, or is Paddle's own of an operation that took its place.
KNOWN = ("contrastive", "beam_search_step", "decode_attention", "few_rows_product", "pick_rows")
KNOWN += ("add_norm", "bias_gelu", "split_heads", "masked_softmax")
KNOWN += ("InvalidArgument", "InvalidType", "Unimplemented", "NotFound")
# Half precision and long sums; a wrong number is off by far more.
TOLERANCE, HALF_TOLERANCE = 2e-4, 4e-2


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


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
