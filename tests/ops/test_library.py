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


@pytest.mark.parametrize(("rows", "columns"), [([], [4, 3]), ([4, 3], [5])], ids=str)
def test_wrong_ranks_are_refused_while_a_graph_is_built(rows, columns):
    """Past the wrapper, whose own checks come before: a served program has none."""
    paddle.enable_static()
    try:
        with paddle.static.program_guard(paddle.static.Program()):
            feeds = [
                paddle.static.data("rows", rows, "float32"),
                paddle.static.data("columns", columns, "float32"),
                paddle.full([1], 1.0),
                *(paddle.static.data(f"ids_{number}", [-1], "int64") for number in range(4)),
            ]
            with pytest.raises(ValueError, match=r"must be matrices; they have \d and \d axes"):
                library.run_operator("unimo_contrastive_logsumexp", *feeds)
    finally:
        paddle.disable_static()


def test_a_library_that_was_never_built_is_one_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "LIBRARY_PATH", tmp_path / "_operators.so")
    library.load_operators.cache_clear()
    with pytest.raises(UserError, match=r"_operators\.so does not exist; build them with"):
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
