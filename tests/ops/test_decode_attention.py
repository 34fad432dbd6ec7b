"""Attention of words in the making against its reference, in both graphs and over many steps."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import paddle
import pytest

from unimo_paddle.ops.decode_attention import (
    Memory,
    decode_attention,
    decode_attention_reference,
    no_words,
)

# Scores of 512 texts over 100,000 places take 205 MB; 64 MB of address space are left.
SCARCE = """
import resource
import paddle
from unimo_paddle.ops.decode_attention import Memory, decode_attention, no_words

length = 100_000
keys, values = paddle.zeros([1, 1, 1, length]), paddle.zeros([1, 1, length, 1])
memory = Memory(keys, values, paddle.zeros([1, length]))

def attend(texts):
    rows, table = paddle.zeros([1, texts, 1]), paddle.zeros([1, texts, 1], "int64")
    decode_attention(rows, rows, rows, memory, table, no_words(table[..., 0], 1))

attend(1)  # loads libraries
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
_, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20, hard))
try:
    attend(512)
except MemoryError:
    print("refused")
"""

SIZES = [  # B, K, H, d, L
    (1, 1, 1, 4, 1),
    (2, 5, 3, 16, 37),
    (3, 2, 2, 20, 0),
    (2, 7, 4, 64, 33),
]


def make_memory(rng: np.random.Generator, batch: int, heads: int, size: int, length: int) -> Memory:
    """Memory of samples, the second of which has two places less."""
    bias = np.zeros((batch, length), np.float32)
    bias[1:2, max(1, length - 2) :] = -1e4
    arrays = (
        rng.standard_normal((heads, batch, size, length), dtype="float32"),
        rng.standard_normal((heads, batch, length, size), dtype="float32"),
        bias,
    )
    return Memory(*map(paddle.to_tensor, arrays))


def make_step(
    rng: np.random.Generator, ancestors: np.ndarray, width: int
) -> tuple[list[paddle.Tensor], np.ndarray]:
    """Query, keys and values of a step, and the table with its words at the end."""
    batch, texts, _ = ancestors.shape
    rows = [2 * rng.standard_normal((batch, texts, width), dtype="float32") for _ in range(3)]
    own = np.broadcast_to(np.arange(texts)[:, None], (batch, texts, 1))
    return [paddle.to_tensor(row) for row in rows], np.concatenate([ancestors, own], axis=-1)


def shuffled(rng: np.random.Generator, ancestors: np.ndarray) -> np.ndarray:
    """The table after texts went on from others."""
    parents = rng.integers(0, ancestors.shape[1], ancestors.shape[:2])
    return np.take_along_axis(ancestors, parents[..., None], axis=1)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_step_of_a_long_text_equals_the_reference(size: tuple) -> None:
    batch, texts, heads, head_size, length = size
    rng = np.random.default_rng(0)
    memory = make_memory(rng, batch, heads, head_size, length)
    ancestors = np.zeros((batch, texts, 0), np.int64)
    cache = no_words(paddle.zeros([batch, texts], "int64"), heads * head_size)
    expected_cache = cache.clone()
    for step in range(20):  # the cache is replaced by a larger one twice
        rows, ancestors = make_step(rng, ancestors, heads * head_size)
        table = paddle.to_tensor(ancestors)
        found, cache = decode_attention(*rows, memory, table, cache)
        expected, expected_cache = decode_attention_reference(*rows, memory, table, expected_cache)
        np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=2e-5)
        np.testing.assert_array_equal(cache[:, : step + 1].numpy(), expected_cache.numpy())
        ancestors = shuffled(rng, ancestors)


def test_a_cache_grows_seldom() -> None:
    rng = np.random.default_rng(0)
    memory = make_memory(rng, 1, 1, 4, 3)
    ancestors = np.zeros((1, 2, 0), np.int64)
    cache = no_words(paddle.zeros([1, 2], "int64"), 4)
    capacities = []
    for _ in range(18):
        rows, ancestors = make_step(rng, ancestors, 4)
        _, cache = decode_attention(*rows, memory, paddle.to_tensor(ancestors), cache)
        capacities.append(cache.shape[1])
    assert capacities == [8] * 8 + [16] * 8 + [32] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="the address space is limited as Linux does")
def test_too_little_memory_is_an_error_and_not_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", SCARCE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr


def test_nan_stays_in_its_text() -> None:
    rng = np.random.default_rng(0)
    memory = make_memory(rng, 2, 2, 8, 5)
    rows, ancestors = make_step(rng, np.zeros((2, 3, 0), np.int64), 16)
    rows[0][1, 2] = float("nan")
    cache = no_words(paddle.zeros([2, 3], "int64"), 16)
    attended, _ = decode_attention(*rows, memory, paddle.to_tensor(ancestors), cache)
    broken = np.isnan(attended.numpy()).all(axis=-1)
    np.testing.assert_array_equal(broken, [[False] * 3, [False, False, True]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ancestors": np.array([[[0], [2]]])}, r"ancestors must lie in 0 \.\. 1"),
        ({"ancestors": np.zeros((1, 2, 3), np.int64)}, "3 words with the new one"),
        ({"keys": np.zeros((1, 3, 4), np.float32)}, "keys does not fit"),
        ({"query": np.zeros((1, 2, 6), np.float32)}, "heads of 4 numbers do not make rows of 6"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, message: str) -> None:
    rng = np.random.default_rng(0)
    rows, ancestors = make_step(rng, np.zeros((1, 2, 0), np.int64), 4)
    names = ("query", "keys", "values")
    arguments = dict(zip(names, rows, strict=True)) | {"ancestors": paddle.to_tensor(ancestors)}
    arguments |= {name: paddle.to_tensor(value) for name, value in change.items()}
    cache = no_words(paddle.zeros([1, 2], "int64"), 4)
    with pytest.raises(ValueError, match=message):
        decode_attention(**arguments, memory=make_memory(rng, 1, 1, 4, 3), cache=cache)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("query", [-1], r"query has shape \[-1\]; expected \[B, K, D\]"),
        ("values", [-1, 2], r"values has shape \[-1, 2\]; expected \[B, K, D\]"),
        ("memory_keys", [1, -1, 4], r"memory.keys has shape .*; expected \[H, B, d, L\]"),
        ("memory_bias", [-1, 1, -1], r"memory.bias has shape .*; expected \[B, L\]"),
        ("ancestors", [], r"ancestors has shape \[\]; expected \[B, K, t\]"),
        ("cache", [], r"cache has shape \[\]; expected \[2, C, B, K, D\]"),
        ("cache", [2], r"cache has shape \[2\]; expected \[2, C, B, K, D\]"),
    ],
)
def test_the_static_graph_refuses_wrong_ranks_while_it_is_built(name, shape, message) -> None:
    row = [-1, 2, 4]
    shapes = {"query": row, "keys": row, "values": row, "memory_keys": [1, -1, 4, -1]}
    shapes |= {"memory_values": [1, -1, -1, 4], "memory_bias": [-1, -1]}
    shapes |= {"ancestors": [-1, 2, -1], "cache": [2, -1, -1, 2, 4], name: shape}
    paddle.enable_static()
    try:
        with paddle.static.program_guard(paddle.static.Program()):
            feeds = [
                paddle.static.data(key, value, "int64" if key == "ancestors" else "float32")
                for key, value in shapes.items()
            ]
            with pytest.raises(ValueError, match=message):
                decode_attention(*feeds[:3], Memory(*feeds[3:6]), *feeds[6:])
    finally:
        paddle.disable_static()


def test_a_static_loop_attends_as_single_steps_do() -> None:
    rng = np.random.default_rng(0)
    batch, texts, heads, head_size = 2, 3, 2, 8
    memory = make_memory(rng, batch, heads, head_size, 5)
    hidden = rng.standard_normal((batch, texts, heads * head_size), dtype="float32")

    def advance(hidden, table, cache, memory):
        """Texts go on from their neighbours, and what they attended to is their next word."""
        own = paddle.cumsum(paddle.ones_like(hidden[..., :1]).astype("int64"), axis=1) - 1
        table = paddle.concat([table, own], axis=-1)
        hidden, cache = decode_attention(hidden, hidden, hidden, memory, table, cache)
        return hidden, paddle.roll(table, 1, axis=1), cache

    state = (paddle.to_tensor(hidden), paddle.zeros([batch, texts, 0], "int64"))
    state = (*state, no_words(paddle.zeros([batch, texts], "int64"), heads * head_size))
    for _ in range(12):
        state = advance(*state, memory)
    paddle.enable_static()
    try:
        program = paddle.static.Program()
        with paddle.static.program_guard(program):
            start = paddle.static.data("hidden", [-1, texts, heads * head_size], "float32")
            fed = Memory(
                paddle.static.data("keys", [heads, -1, head_size, -1], "float32"),
                paddle.static.data("values", [heads, -1, -1, head_size], "float32"),
                paddle.static.data("bias", [-1, -1], "float32"),
            )
            zero = paddle.zeros([1], "int64")
            table = paddle.zeros_like(start[..., :1]).astype("int64")[..., :zero]
            cache = no_words(start[..., 0], heads * head_size)
            outputs = paddle.static.nn.while_loop(
                lambda step, *_: step < 12,
                lambda step, *state: [step + 1, *advance(*state, fed)],
                [zero, paddle.assign(start), table, cache],
            )
        feed = {"hidden": hidden}
        feed |= {name: part.numpy() for name, part in memory._asdict().items()}
        (found,) = paddle.static.Executor().run(program, feed=feed, fetch_list=[outputs[1]])
    finally:
        paddle.disable_static()
    np.testing.assert_allclose(found, state[0].numpy(), atol=1e-5)
