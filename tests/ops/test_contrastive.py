"""The contrastive operator against its reference: forward, gradients, both graphs, wrong inputs."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from unimo_paddle.errors import UserError
from unimo_paddle.ops import _core
from unimo_paddle.ops.contrastive import (
    contrastive_logsumexp,
    contrastive_logsumexp_reference,
    one_way_contrastive_loss,
    one_way_contrastive_loss_reference,
)

NAMES = ("rows", "columns", "temperature", "row_group", "column_group", "row_duplicate",
         "column_duplicate")  # fmt: skip
EPSILON = float(np.finfo(np.float32).eps)


def make_inputs(
    num_rows: int, num_columns: int, size: int, *, temperature: float = 0.07, seed: int = 0
) -> dict[str, np.ndarray]:
    """Unit features with a few positives a row and a few duplicates."""
    generator = np.random.default_rng(seed)

    def unit(count: int) -> np.ndarray:
        features = generator.normal(size=(count, size))
        return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)

    num_groups = max(2, num_rows // 2)
    return {
        "rows": unit(num_rows),
        "columns": unit(num_columns),
        "temperature": np.array([temperature], np.float32),
        "row_group": generator.integers(0, num_groups, num_rows),
        "column_group": generator.integers(0, num_groups, num_columns),
        "row_duplicate": generator.integers(-1, num_groups, num_rows),
        "column_duplicate": generator.integers(-1, num_groups, num_columns),
    }


def make_upstream(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """A different gradient for every element of the four outputs."""
    generator = np.random.default_rng(5)
    counts = [len(inputs["rows"])] * 2 + [len(inputs["columns"])] * 2
    return [generator.normal(size=count).astype(np.float32) for count in counts]


def run(function, inputs: dict[str, np.ndarray], *, dtype: str = "float32") -> list[np.ndarray]:
    """The four outputs and the three gradients, in the dynamic graph."""
    tensors = [paddle.to_tensor(inputs[name]) for name in NAMES]
    tensors[:3] = [tensor.astype(dtype) for tensor in tensors[:3]]
    for tensor in tensors[:3]:
        tensor.stop_gradient = False
    outputs = function(*tensors)
    upstream = [paddle.to_tensor(gradient.astype(dtype)) for gradient in make_upstream(inputs)]
    paddle.autograd.backward(list(outputs), upstream)
    return [output.numpy() for output in outputs] + [tensor.grad.numpy() for tensor in tensors[:3]]


def assert_as_exact_as_reference(inputs: dict[str, np.ndarray]) -> None:
    """At most twice the float32 reference's own error from float64, and a few roundings more."""
    found = run(contrastive_logsumexp, inputs)
    native = run(contrastive_logsumexp_reference, inputs)
    truth = run(contrastive_logsumexp_reference, inputs, dtype="float64")
    largest_score = 1 / float(inputs["temperature"][0])
    total_upstream = sum(np.abs(gradient).sum() for gradient in make_upstream(inputs))
    for position, (a, b, exact) in enumerate(zip(found, native, truth, strict=True)):
        finite = np.isfinite(exact)
        np.testing.assert_array_equal(a[~finite], exact[~finite])
        # A rounded score of size s is off by s * eps, and exp makes that a relative error.
        scale = max(1.0, largest_score) * (1.0 if position < 4 else np.abs(exact).max() + 1.0)
        if position == 6:  # a sum over all pairs of (gradient) x (score) / temperature
            scale = max(1.0, largest_score) ** 2 * largest_score * total_upstream
        own_error = np.abs(b[finite] - exact[finite]).max(initial=0.0)
        np.testing.assert_allclose(
            a[finite], exact[finite], rtol=0, atol=2 * own_error + 4 * EPSILON * scale
        )


@pytest.mark.parametrize(
    ("num_rows", "num_columns", "size"),
    [
        (1, 1, 1),
        (1, 7, 5),
        (7, 1, 5),
        (5, 3, 1),
        (33, 17, 31),
        (64, 64, 64),
        (97, 211, 48),
        (193, 385, 256),
        (60, 50, 768),
        (40, 90, 1000),
    ],
)
def test_outputs_and_gradients_equal_the_reference(num_rows, num_columns, size):
    assert_as_exact_as_reference(make_inputs(num_rows, num_columns, size))


@pytest.mark.parametrize("temperature", [1e-4, 1e-2, 1.0, 100.0])
def test_extreme_temperatures_equal_the_reference(temperature):
    assert_as_exact_as_reference(make_inputs(19, 23, 16, temperature=temperature))


def test_one_group_makes_every_pair_positive():
    inputs = make_inputs(9, 8, 4)
    inputs["row_group"][:] = inputs["column_group"][:] = 3
    assert_as_exact_as_reference(inputs)
    outputs = run(contrastive_logsumexp, inputs)
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-6)


def test_rows_without_positives_give_minus_infinity_and_no_gradient():
    inputs = make_inputs(6, 6, 4)
    inputs["row_group"][:] = np.arange(6)
    inputs["column_group"][:] = np.arange(6)
    inputs["row_group"][2] = 99
    assert_as_exact_as_reference(inputs)
    assert run(contrastive_logsumexp, inputs)[1][2] == -np.inf


def test_ignored_pairs_leave_nothing_to_sum():
    inputs = make_inputs(4, 5, 3)
    inputs["row_group"][:] = 0
    inputs["column_group"][:] = 1
    inputs["row_duplicate"][:] = inputs["column_duplicate"][:] = 8
    outputs = run(contrastive_logsumexp, inputs)
    assert all((output == -np.inf).all() for output in outputs[:4])
    assert all((gradient == 0).all() for gradient in outputs[4:])


def test_duplicate_minus_one_ignores_nothing():
    inputs = make_inputs(8, 8, 4)
    inputs["row_duplicate"][:] = inputs["column_duplicate"][:] = -1
    scores = inputs["rows"].astype(float) @ inputs["columns"].T / inputs["temperature"]
    expected = np.log(np.exp(scores).sum(axis=1))
    np.testing.assert_allclose(run(contrastive_logsumexp, inputs)[0], expected, rtol=1e-6)


def test_a_duplicate_of_the_same_group_stays_positive():
    inputs = make_inputs(2, 2, 4)
    inputs["row_group"][:] = inputs["column_group"][:] = 0
    inputs["row_duplicate"][:] = inputs["column_duplicate"][:] = 7
    outputs = run(contrastive_logsumexp, inputs)
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert np.isfinite(outputs[0]).all()


def test_nan_in_gives_nan_out():
    inputs = make_inputs(20, 30, 8)
    inputs["row_duplicate"][:] = -1
    inputs["rows"][4, 3] = np.nan
    row_all, _, column_all, _, row_gradient, column_gradient, temperature_gradient = run(
        contrastive_logsumexp, inputs
    )
    np.testing.assert_array_equal(np.isnan(row_all), np.arange(20) == 4)
    assert np.isnan(column_all).all()
    assert np.isnan(row_gradient[4]).all() and np.isnan(column_gradient).all()
    assert np.isnan(temperature_gradient).all()


def test_results_are_equal_to_the_bit_when_repeated():
    inputs = make_inputs(130, 70, 24)
    for first, second in zip(
        run(contrastive_logsumexp, inputs), run(contrastive_logsumexp, inputs), strict=True
    ):
        np.testing.assert_array_equal(first, second)


def test_an_output_left_unused_has_no_gradient():
    inputs = make_inputs(12, 10, 6)
    gradients = []
    for function in (contrastive_logsumexp, contrastive_logsumexp_reference):
        tensors = [paddle.to_tensor(inputs[name]) for name in NAMES]
        tensors[0].stop_gradient = False
        function(*tensors).column_all.sum().backward()
        gradients.append(tensors[0].grad.numpy())
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_features_get_gradients_of_their_type(dtype):
    inputs = make_inputs(9, 11, 8)
    tensors = [paddle.to_tensor(inputs[name]) for name in NAMES]
    tensors[:2] = [tensor.astype(dtype) for tensor in tensors[:2]]
    tensors[0].stop_gradient = False
    outputs = contrastive_logsumexp(*tensors)
    outputs.row_all.sum().backward()
    assert outputs.row_all.dtype == paddle.float32
    assert str(tensors[0].grad.dtype).endswith(dtype)
    widened = [tensor.detach().astype("float32") for tensor in tensors[:2]] + tensors[2:]
    expected = contrastive_logsumexp_reference(*widened).row_all
    np.testing.assert_allclose(outputs.row_all.numpy(), expected.numpy(), rtol=1e-5)


def run_static(function, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """A loss of all four outputs over projected features, and the gradient of the projection."""
    paddle.enable_static()
    try:
        program, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(program, startup), paddle.utils.unique_name.guard():
            feeds = []
            for name in NAMES:
                array = inputs[name]
                shape = [1] if name == "temperature" else [-1, *array.shape[1:]]
                feeds.append(paddle.static.data(name, shape, str(array.dtype)))
            size = inputs["rows"].shape[1]
            weight = paddle.create_parameter(
                [size, size], "float32", default_initializer=paddle.nn.initializer.Assign(
                    np.random.default_rng(1).normal(size=(size, size)).astype(np.float32))
            )  # fmt: skip
            outputs = function(paddle.matmul(feeds[0], weight), *feeds[1:])
            loss = paddle.add_n([output.mean() for output in outputs])
            ((_, gradient),) = paddle.static.append_backward(loss, parameter_list=[weight])
        executor = paddle.static.Executor(paddle.CPUPlace())
        with paddle.static.scope_guard(paddle.static.Scope()):
            executor.run(startup)
            return executor.run(program, feed=inputs, fetch_list=[loss, gradient])
    finally:
        paddle.disable_static()


@pytest.mark.parametrize("num_rows", [3, 40])
def test_the_static_graph_trains_through_the_operator(num_rows):
    inputs = make_inputs(num_rows, 9, 4, temperature=1.0)
    inputs["row_group"] = np.arange(num_rows) % 9
    inputs["column_group"] = np.arange(9) % min(num_rows, 9)
    loss, gradient = run_static(contrastive_logsumexp, inputs)
    expected_loss, expected_gradient = run_static(contrastive_logsumexp_reference, inputs)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rows", np.zeros([4], np.float32), "rows has shape"),
        ("rows", np.zeros([4, 3], np.float64), "rows is float64"),
        ("columns", np.zeros([5, 2], np.float32), "columns has shape"),
        ("temperature", np.zeros([2], np.float32), "temperature has shape"),
        ("temperature", np.zeros([1], np.float64), "temperature is float64"),
        ("row_group", np.zeros([5], np.int64), "row_group has shape"),
        ("column_group", np.zeros([5], np.int32), "column_group is int32"),
        ("row_duplicate", np.zeros([4, 1], np.int64), "row_duplicate has shape"),
        ("column_duplicate", np.zeros([4], np.int64), "column_duplicate has shape"),
    ],
)
def test_arguments_that_do_not_fit_are_named(name, value, message):
    inputs = make_inputs(4, 5, 3)
    inputs[name] = value
    with pytest.raises(UserError, match=message):
        contrastive_logsumexp(*(paddle.to_tensor(inputs[key]) for key in NAMES))


@pytest.mark.parametrize("sizes", [(0, 5, 3), (4, 0, 3), (4, 5, 0)], ids=str)
@pytest.mark.parametrize("function", [contrastive_logsumexp, _core.contrastive_forward])
def test_empty_rows_and_columns_are_refused(function, sizes):
    inputs = {"rows": np.zeros((sizes[0], sizes[2]), np.float32)}
    inputs["columns"] = np.zeros((sizes[1], sizes[2]), np.float32)
    inputs["temperature"] = np.ones(1, np.float32)
    for side, count in (("row", sizes[0]), ("column", sizes[1])):
        inputs |= {f"{side}_{kind}": np.zeros(count, np.int64) for kind in ("group", "duplicate")}
    if function is contrastive_logsumexp:
        with pytest.raises(UserError, match="none may be empty"):
            contrastive_logsumexp(*(paddle.to_tensor(inputs[name]) for name in NAMES))
    else:
        with pytest.raises(ValueError, match="rows and columns must not be empty"):
            _core.contrastive_forward(**inputs, num_threads=1)


def test_sizes_unknown_to_the_graph_are_checked_when_it_runs():
    inputs = make_inputs(4, 5, 3)
    inputs["row_group"] = np.zeros(3, np.int64)
    with pytest.raises(ValueError, match="row_group must be int64 of shape"):
        run_static(contrastive_logsumexp, inputs)


@pytest.mark.parametrize(
    ("num_rows", "num_columns", "size"), [(1, 1, 1), (7, 30, 5), (300, 41, 64), (50, 450, 33)]
)
def test_the_one_way_loss_and_its_gradients_equal_the_reference(num_rows, num_columns, size):
    inputs = make_inputs(num_rows, num_columns, size)
    weights = np.random.default_rng(3).random(num_rows).astype(np.float32)
    results = []
    for function in (one_way_contrastive_loss, one_way_contrastive_loss_reference):
        tensors = [paddle.to_tensor(inputs[name]) for name in NAMES]
        for tensor in tensors[:3]:
            tensor.stop_gradient = False
        loss = function(*tensors, paddle.to_tensor(weights))
        (3 * loss).backward()
        results.append([loss.numpy()] + [tensor.grad.numpy() for tensor in tensors[:3]])
    for found, expected in zip(*results, strict=True):
        largest = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * largest + 1e-5)


def test_the_one_way_loss_trains_in_the_static_graph():
    inputs = make_inputs(30, 9, 4, temperature=1.0)

    def composed(function):
        def four_outputs(*tensors):
            weights = paddle.full_like(tensors[0][:, 0], 0.1)
            weights.stop_gradient = True
            return [function(*tensors, weights)]

        return four_outputs

    loss, gradient = run_static(composed(one_way_contrastive_loss), inputs)
    expected_loss, expected_gradient = run_static(
        composed(one_way_contrastive_loss_reference), inputs
    )
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("instruction_set", [*_core.instruction_sets()])
def test_every_instruction_set_of_this_processor_gives_the_same_answer(instruction_set):
    inputs = make_inputs(230, 410, 40)
    outputs = _core.contrastive_forward(**inputs, num_threads=2, instruction_set=instruction_set)
    gradients = _core.contrastive_backward(
        **inputs,
        outputs=list(outputs),
        upstream=make_upstream(inputs),
        num_threads=2,
        instruction_set=instruction_set,
    )
    # bfloat16 keeps eight bits: it is chosen by name only.
    tolerance = 0.1 if instruction_set == "avx512_bf16" else 1e-4
    truth = run(contrastive_logsumexp_reference, inputs, dtype="float64")
    for found, expected in zip((*outputs, *gradients), truth, strict=True):
        finite = np.isfinite(expected)
        np.testing.assert_array_equal(np.isfinite(found), finite)
        np.testing.assert_allclose(
            found[finite],
            expected[finite],
            rtol=tolerance,
            atol=tolerance * np.abs(expected[finite]).max(),
        )


def test_the_environment_chooses_the_instruction_set(monkeypatch):
    inputs = make_inputs(20, 30, 8)
    monkeypatch.setenv("UNIMO_INSTRUCTION_SET", "portable")
    chosen = run(contrastive_logsumexp, inputs)
    named = _core.contrastive_forward(**inputs, num_threads=1, instruction_set="portable")
    for found, expected in zip(chosen, named, strict=False):
        np.testing.assert_array_equal(found, expected)
    monkeypatch.setenv("UNIMO_INSTRUCTION_SET", "sse9")
    with pytest.raises(
        ValueError, match=r"UNIMO_INSTRUCTION_SET is 'sse9'; this build runs .*portable"
    ):
        run(contrastive_logsumexp, inputs)


def test_the_peak_is_measured_and_grows_with_the_width_of_the_instructions():
    peaks = {
        name: _core.peak_gflops(num_threads=1, seconds=0.02, instruction_set=name)
        for name in _core.instruction_sets()
    }
    assert peaks[_core.instruction_sets()[0]] > 0.8 * peaks["portable"] > 0


@pytest.mark.parametrize("num_threads", [1, 2, 3, 8])
def test_the_module_on_arrays_equals_the_operator_for_any_number_of_threads(num_threads):
    inputs = make_inputs(150, 110, 20)
    outputs = _core.contrastive_forward(**inputs, num_threads=num_threads)
    gradients = _core.contrastive_backward(
        **inputs, outputs=list(outputs), upstream=make_upstream(inputs), num_threads=num_threads
    )
    for found, expected in zip(
        (*outputs, *gradients), run(contrastive_logsumexp, inputs), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_the_module_on_arrays_refuses_wrong_shapes():
    inputs = make_inputs(4, 5, 3)
    inputs["column_group"] = inputs["column_group"][:-1]
    with pytest.raises(ValueError, match=r"column_group has shape \[4\]; expected \[5\]"):
        _core.contrastive_forward(**inputs, num_threads=1)
