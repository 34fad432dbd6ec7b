"""The compiled library: loading it, a missing one, and serving it from a fresh process."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import paddle
import pytest

from unimo_paddle.errors import UserError
from unimo_paddle.ops import library
from unimo_paddle.ops.contrastive import contrastive_logsumexp

SERVE = """
import sys
import numpy as np
from paddle import inference
from unimo_paddle.ops.library import load_operators

load_operators()
config = inference.Config(sys.argv[1] + ".json", sys.argv[1] + ".pdiparams")
config.disable_mkldnn()
predictor = inference.create_predictor(config)
for name, array in np.load(sys.argv[1] + ".npz").items():
    predictor.get_input_handle(name).copy_from_cpu(array)
predictor.run()
np.save(sys.argv[1], predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu())
"""


def test_operators_loaded_twice_compute_the_same():
    rows = paddle.to_tensor(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32))
    ids, one = paddle.arange(5), paddle.ones([1])
    results = []
    for _ in range(2):
        library.load_operators.cache_clear()
        library.load_operators()
        results.append(contrastive_logsumexp(rows, rows, one, ids, ids, ids, ids).row_all.numpy())
    expected = np.log(np.exp(rows.numpy() @ rows.numpy().T).sum(axis=1))
    np.testing.assert_allclose(results[0], expected, rtol=1e-5)
    np.testing.assert_array_equal(results[0], results[1])


IDS = [("int64", [4])] * 4
ROW, MEMORY = ("float32", [1, 2, 4]), [("float32", [1, 1, 4, 3])] * 2 + [("float32", [1, 3])]


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "message"),
    [
        (
            "contrastive_logsumexp",
            [("float32", []), ("float32", [4, 3])],
            None,
            "they have 0 and 2",
        ),
        ("contrastive_logsumexp", [("float32", [4, 3]), ("float32", [3])], None, "have 2 and 1"),
        ("few_rows_product", [("float32", [2, 4]), ("float32", [4])], (None, False), "1 and 2"),
        ("few_rows_product", [("float32", []), ("float32", [4, 5])], (None, False), "2 and 0"),
        ("pick_rows", [("int64", [4]), ("int64", [1, 2])], (None,), "they have 2 and 1 axes"),
        ("pick_rows", [("int64", [1, 4]), ("int64", [2])], (None,), "they have 1 and 2 axes"),
        (
            "decode_attention",
            [ROW, ROW, ROW, *MEMORY, ("int64", [1, 2, 1]), ("float32", [2])],
            (),
            "they have 3 and 1 axes",
        ),
    ],
)
def test_wrong_ranks_past_the_wrapper_are_refused_when_the_program_runs(
    name, inputs, attributes, message
):
    """A served program has no wrapper; and what infers shapes must not read past them."""
    paddle.enable_static()
    try:
        program = paddle.static.Program()
        with paddle.static.program_guard(program):
            if attributes is None:
                inputs, attributes = [*inputs, ("float32", [1]), *IDS], ()
            tensors = [paddle.ones(shape, kind) for kind, shape in inputs]
            outputs = library.run_operator(f"unimo_{name}", *tensors, *attributes)
        with pytest.raises(ValueError, match=message):
            paddle.static.Executor().run(program, fetch_list=outputs[:1])
    finally:
        paddle.disable_static()


def test_a_library_that_was_never_built_is_one_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "LIBRARY_PATH", tmp_path / "_operators.so")
    library.load_operators.cache_clear()
    with pytest.raises(UserError, match=r"_operators\.so does not exist; build them with"):
        library.load_operators()


@pytest.mark.parametrize(
    ("file", "told"), [("3.2.9\n", r"Paddle 3\.2\.9"), (None, "Paddle of unknown version")]
)
def test_a_library_built_for_another_paddle_is_one_clear_error(monkeypatch, tmp_path, file, told):
    path = tmp_path / "_operators.so"
    path.touch()
    if file is not None:
        path.with_name("_operators.paddle_version").write_text(file)
    monkeypatch.setattr(library, "LIBRARY_PATH", path)
    library.load_operators.cache_clear()
    installed = paddle.version.full_version
    message = f"are built for {told}, but {installed} is installed: .*; build .* 'make install'"
    with pytest.raises(UserError, match=message):
        library.load_operators()


def test_a_fresh_process_serves_an_exported_program_with_equal_numbers(tmp_path):
    features = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    ids = np.arange(6)
    path = tmp_path / "model"
    paddle.enable_static()
    try:
        program = paddle.static.Program()
        with paddle.static.program_guard(program):
            rows = paddle.static.data("rows", [-1, 4])
            group = paddle.static.data("group", [-1], "int64")
            one = paddle.full([1], 1.0)
            outputs = contrastive_logsumexp(rows, rows, one, group, group, group, group)
            result = outputs.row_all - outputs.row_positive
        executor = paddle.static.Executor(paddle.CPUPlace())
        feed = {"rows": features, "group": ids}
        (expected,) = executor.run(program, feed=feed, fetch_list=[result])
        paddle.static.save_inference_model(
            str(path), [rows, group], [result], executor, program=program
        )
    finally:
        paddle.disable_static()
    np.savez(path.with_suffix(".npz"), **feed)
    subprocess.run([sys.executable, "-c", SERVE, str(path)], check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(path.with_suffix(".npy")), expected)
