"""The beam step against its reference under both rules, in both graphs, and wrong inputs."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from unimo_paddle.errors import UserError
from unimo_paddle.ops import _core
from unimo_paddle.ops.beam_search import RULES, beam_search_step, beam_search_step_reference

END_TOKEN = 1


def make_inputs(
    batch: int, beams: int, vocabulary: int, *, num_blocked: int = 0, finished: float = 0.2
) -> dict[str, np.ndarray]:
    """Random logits, running scores, finished beams and blocked tokens."""
    generator = np.random.default_rng(3)
    return {
        "logits": (2 * generator.normal(size=(batch, beams, vocabulary))).astype(np.float32),
        "scores": -generator.gamma(2, size=(batch, beams)).astype(np.float32),
        "finished": generator.random((batch, beams)) < finished,
        "blocked_tokens": generator.integers(-1, vocabulary, (batch, beams, num_blocked)),
    }


def run(inputs: dict[str, np.ndarray], step: int, **settings) -> dict[str, np.ndarray]:
    """The operator in the dynamic graph."""
    tensors = {name: paddle.to_tensor(array) for name, array in inputs.items()}
    blocked_tokens = tensors.pop("blocked_tokens") if inputs["blocked_tokens"].size else None
    tensors.pop("blocked_tokens", None)
    result = beam_search_step(
        **tensors,
        step=paddle.to_tensor([step]),
        end_token=END_TOKEN,
        blocked_tokens=blocked_tokens,
        **settings,
    )
    return {name: tensor.numpy() for name, tensor in result._asdict().items()}


def run_reference(inputs: dict[str, np.ndarray], step: int, **settings) -> list[np.ndarray]:
    return list(beam_search_step_reference(**inputs, step=step, end_token=END_TOKEN, **settings))


def assert_equal(found: dict[str, np.ndarray], expected: list[np.ndarray]) -> None:
    """Choices are equal; scores up to a few roundings of the log-softmax."""
    for (name, array), truth in zip(found.items(), expected, strict=True):
        assert array.dtype == truth.dtype, name
        if array.dtype == np.float32:
            np.testing.assert_allclose(array, truth, rtol=1e-6, atol=4e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(array, truth, err_msg=name)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 2.0])
@pytest.mark.parametrize(
    ("batch", "beams", "vocabulary", "num_blocked", "step", "min_length"),
    [(1, 1, 2, 0, 0, 0), (2, 3, 2, 1, 0, 2), (3, 4, 101, 4, 2, 5), (2, 5, 1003, 9, 7, 0)],
)
def test_a_step_equals_the_reference(
    batch, beams, vocabulary, num_blocked, step, min_length, length_penalty, rule
):
    inputs = make_inputs(batch, beams, vocabulary, num_blocked=num_blocked)
    settings = {"rule": rule, "length_penalty": length_penalty, "min_length": min_length}
    assert_equal(run(inputs, step, **settings), run_reference(inputs, step, **settings))


def test_finished_beams_of_the_original_rule_keep_their_score_and_compete():
    inputs = make_inputs(1, 2, 6, finished=0)
    inputs["finished"][0] = [True, False]
    inputs["scores"][0] = [-0.5, -9.0]
    result = run(inputs, 4, length_penalty=0.6)
    assert result["scores"][0, 0] == np.float32(-0.5)
    assert result["tokens"][0, 0] == END_TOKEN and result["parents"][0, 0] == 0
    assert result["finished"][0, 0]


def test_the_original_rule_marks_a_beam_that_takes_the_end_token():
    inputs = make_inputs(1, 1, 5, finished=0)
    inputs["logits"][..., END_TOKEN] = 30
    result = run(inputs, 0)
    assert result["tokens"][0, 0] == END_TOKEN and result["finished"][0, 0]


@pytest.mark.parametrize("rule", RULES)
def test_the_end_token_waits_for_the_minimum_length(rule):
    inputs = make_inputs(2, 3, 20, finished=0)
    inputs["logits"][..., END_TOKEN] = 30
    early = run(inputs, 3, min_length=4, rule=rule)
    assert (early["tokens"] != END_TOKEN).all() and (early["ended_parents"] == -1).all()
    late = run(inputs, 4, min_length=4, rule=rule)
    assert (late["tokens"] == END_TOKEN).any() or (late["ended_parents"] >= 0).any()


def test_the_original_rule_penalises_a_blocked_token_only_after_its_choice():
    """The authors' program at beam size 1 still takes it, at a price of 65000."""
    inputs = make_inputs(1, 1, 9, num_blocked=1, finished=0)
    best = int(inputs["logits"].argmax())
    free = run(inputs, 0)
    inputs["blocked_tokens"][:] = best
    blocked = run(inputs, 0)
    assert free["tokens"].item() == blocked["tokens"].item() == best
    np.testing.assert_allclose(free["scores"] - blocked["scores"], 65000, rtol=1e-6)


def test_the_2k_rule_never_takes_a_blocked_token():
    inputs = make_inputs(1, 2, 9, num_blocked=3, finished=0)
    order = np.argsort(-inputs["logits"], axis=-1)
    inputs["blocked_tokens"][:] = order[..., :3]
    result = run(inputs, 0, rule="2k")
    for parent, token in zip(result["parents"][0], result["tokens"][0], strict=True):
        assert token not in inputs["blocked_tokens"][0, parent]


def test_the_2k_rule_lets_only_the_first_k_ranks_end():
    logits = np.full([1, 2, 6], -9, np.float32)
    logits[0, 0, [3, 4, END_TOKEN]] = [5, 4, 3]  # the end token comes third of beam 0 ...
    logits[0, 1, END_TOKEN] = 9  # ... and first of beam 1, whose score puts it first of all
    inputs = make_inputs(1, 2, 6, finished=0) | {"logits": logits}
    inputs["scores"][0] = [-4.0, 0.0]
    result = run(inputs, 5, rule="2k", length_penalty=1.0)
    np.testing.assert_array_equal(result["ended_parents"], [[1, -1]])
    np.testing.assert_allclose(result["ended_scores"][0, 0], 0.0, atol=1e-5)
    np.testing.assert_array_equal(result["tokens"], [[3, 4]])
    assert not result["finished"].any()


def test_the_2k_rule_freezes_a_finished_sample():
    inputs = make_inputs(2, 3, 7, finished=0)
    inputs["finished"][1] = True
    result = run(inputs, 2, rule="2k")
    np.testing.assert_array_equal(result["scores"][1], inputs["scores"][1])
    np.testing.assert_array_equal(result["parents"][1], [0, 1, 2])
    np.testing.assert_array_equal(result["finished"], inputs["finished"])


@pytest.mark.parametrize("rule", RULES)
def test_equal_scores_rank_by_the_lower_id(rule):
    inputs = make_inputs(1, 3, 200, finished=0)
    inputs["logits"][:] = 0.5
    inputs["scores"][:] = -1
    result = run(inputs, 0, rule=rule)
    np.testing.assert_array_equal(result["parents"], [[0, 0, 0]])
    first_three = [0, 1, 2] if rule == "original" else [0, 2, 3]
    np.testing.assert_array_equal(result["tokens"], [first_three])


@pytest.mark.parametrize(("rule", "rest"), [("original", -np.inf), ("2k", -1e4)])
def test_the_first_step_continues_only_the_first_beam(rule, rest):
    inputs = make_inputs(2, 4, 50, finished=0)
    inputs["scores"][:] = rest
    inputs["scores"][:, 0] = 0
    result = run(inputs, 0, rule=rule)
    assert (result["parents"] == 0).all() and np.isfinite(result["scores"]).all()


@pytest.mark.parametrize("rule", RULES)
def test_nan_in_gives_nan_out(rule):
    inputs = make_inputs(2, 3, 40, finished=0)
    inputs["logits"][1, 2, 7] = np.nan
    result = run(inputs, 0, rule=rule)
    assert np.isfinite(result["scores"][0]).all() and np.isnan(result["scores"][1]).all()
    first_three = [0, 1, 2] if rule == "original" else [0, 2, 3]  # token 1 ends
    np.testing.assert_array_equal(result["tokens"][1], first_three)
    np.testing.assert_array_equal(result["parents"][1], [2, 2, 2])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_logits_are_ranked_like_their_float32_values(dtype):
    inputs = make_inputs(2, 3, 60, finished=0)
    half = paddle.to_tensor(inputs["logits"]).astype(dtype)
    inputs["logits"] = half.astype("float32").numpy()
    rest = [paddle.to_tensor(inputs[name]) for name in ("scores", "finished")]
    result = beam_search_step(half, *rest, paddle.to_tensor([1]), end_token=END_TOKEN)
    np.testing.assert_array_equal(result.tokens.numpy(), run(inputs, 1)["tokens"])


def test_logits_of_all_beams_in_one_dimension_are_understood():
    inputs = make_inputs(3, 4, 21)
    flat = inputs | {"logits": inputs["logits"].reshape(12, 21)}
    assert_equal(run(flat, 1), list(run(inputs, 1).values()))


@pytest.mark.parametrize("num_blocked", [0, 2])
def test_a_static_loop_decodes_what_single_steps_decode(num_blocked):
    inputs = make_inputs(2, 3, 11, num_blocked=num_blocked, finished=0)
    expected = dict(inputs)
    for step in range(4):
        scores, tokens, parents, finished, _, _ = run_reference(expected, step)
        expected |= {"scores": scores, "finished": finished}
    paddle.enable_static()
    try:
        program = paddle.static.Program()
        with paddle.static.program_guard(program):
            feeds = {
                name: paddle.static.data(name, [-1, *array.shape[1:]], str(array.dtype))
                for name, array in inputs.items()
                if array.size
            }
            blocked_tokens = feeds.get("blocked_tokens")

            def body(step, scores, finished, tokens, parents):
                result = beam_search_step(
                    feeds["logits"], scores, finished, step,
                    end_token=END_TOKEN, blocked_tokens=blocked_tokens,
                )  # fmt: skip
                return [step + 1, *result[:1], result.finished, result.tokens, result.parents]

            step = paddle.full([1], 0, "int64")
            start = paddle.zeros_like(feeds["scores"]).astype("int64")
            state = [step, paddle.assign(feeds["scores"]), paddle.assign(feeds["finished"])]
            outputs = paddle.static.nn.while_loop(
                lambda step, *_: step < 4, body, [*state, start, start + 0]
            )
        feed = {name: array for name, array in inputs.items() if array.size}
        executor = paddle.static.Executor(paddle.CPUPlace())
        found = executor.run(program, feed=feed, fetch_list=outputs[1:])
    finally:
        paddle.disable_static()
    np.testing.assert_allclose(found[0], scores, rtol=1e-5, atol=1e-5)
    for array, truth in zip(found[1:], (finished, tokens, parents), strict=True):
        np.testing.assert_array_equal(array, truth)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_the_module_on_arrays_equals_the_operator_for_any_number_of_threads(num_threads):
    inputs = make_inputs(3, 4, 300, num_blocked=2)
    found = _core.beam_search_step(
        **inputs, step=np.array([2]), end_token=END_TOKEN, min_length=0,
        length_penalty=0.6, two_k=False, num_threads=num_threads,
    )  # fmt: skip
    expected = run(inputs, 2, length_penalty=0.6)
    for array, truth in zip(found, expected.values(), strict=True):
        np.testing.assert_array_equal(array, truth)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.zeros([2], np.float32)}, "scores has shape"),
        ({"scores": np.zeros([2, 3], np.float64)}, "scores is float64"),
        ({"finished": np.zeros([2, 4], bool)}, "finished has shape"),
        ({"finished": np.zeros([2, 3], np.int64)}, "finished is int64"),
        ({"logits": np.zeros([3, 3, 7], np.float32)}, "logits has shape"),
        ({"logits": np.zeros([2, 3, 1], np.float32)}, "end_token 1 is not one of the 1 tokens"),
        ({"blocked_tokens": np.zeros([2, 2, 1], np.int64)}, "blocked_tokens has shape"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change, message):
    with pytest.raises(UserError, match=message):
        run(make_inputs(2, 3, 7) | change, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "3k"}, "rule is '3k'; choose one of original, 2k"),
        ({"min_length": -1}, "min_length is -1"),
    ],
)
def test_settings_that_mean_nothing_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        run(make_inputs(1, 2, 4), 0, **settings)


def test_a_step_that_is_no_int64_is_named():
    tensors = [paddle.zeros([1, 2, 4]), paddle.zeros([1, 2]), paddle.zeros([1, 2], "bool")]
    with pytest.raises(UserError, match="step is int32"):
        beam_search_step(*tensors, paddle.zeros([1], "int32"), end_token=END_TOKEN)
