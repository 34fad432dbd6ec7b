"""Parameters: the original's names, counts and initial values, alike in every program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml

from unimo_paddle import losses
from unimo_paddle.models import (
    ClassificationHead,
    EntailmentHead,
    LanguageHead,
    MatchHead,
    ModelConfig,
    ProjectionHead,
    RegionClassificationHead,
    RegionRegressionHead,
    Temperature,
    UnifiedTransformer,
)

CONFIG_DIR = Path(__file__).resolve().parents[2] / "configs" / "model"
SMALL = ModelConfig(
    vocab_size=30,
    hidden_size=8,
    num_layers=1,
    num_heads=2,
    max_positions=12,
    region_feature_size=5,
    hidden_dropout=0.0,
    attention_dropout=0.0,
)
NAMES_OF_ONE_LAYER = """
word_embedding pos_embedding pre_encoder_layer_norm_scale pre_encoder_layer_norm_bias
image_emb.w_0 image_emb.b_0 image_loc.w_0 image_loc.b_0
v_pre_encoder_layer_norm_scale v_pre_encoder_layer_norm_bias
encoder_layer_0_multi_head_att_query_fc.w_0 encoder_layer_0_multi_head_att_query_fc.b_0
encoder_layer_0_multi_head_att_key_fc.w_0 encoder_layer_0_multi_head_att_key_fc.b_0
encoder_layer_0_multi_head_att_value_fc.w_0 encoder_layer_0_multi_head_att_value_fc.b_0
encoder_layer_0_multi_head_att_output_fc.w_0 encoder_layer_0_multi_head_att_output_fc.b_0
encoder_layer_0_post_att_layer_norm_scale encoder_layer_0_post_att_layer_norm_bias
encoder_layer_0_ffn_fc_0.w_0 encoder_layer_0_ffn_fc_0.b_0
encoder_layer_0_ffn_fc_1.w_0 encoder_layer_0_ffn_fc_1.b_0
encoder_layer_0_post_ffn_layer_norm_scale encoder_layer_0_post_ffn_layer_norm_bias
pooled_fc_text.w_0 pooled_fc_text.b_0 pooled_fc_image.w_0 pooled_fc_image.b_0
"""


@pytest.fixture
def static_graph():
    """A fresh static program under construction: main and startup."""
    paddle.enable_static()
    main, startup = paddle.static.Program(), paddle.static.Program()
    try:
        with (
            paddle.static.scope_guard(paddle.static.Scope()),
            paddle.static.program_guard(main, startup),
            paddle.utils.unique_name.guard(),
        ):
            yield main, startup
    finally:
        paddle.disable_static()


def declare_inputs(feature_size: int = 5) -> dict:
    def data(name: str, *sizes: int, dtype: str) -> paddle.Tensor:
        return paddle.static.data(name, [-1, -1, *sizes], dtype)

    inputs = {name: data(name, dtype="int64") for name in ("input_ids", "position_ids")}
    inputs |= {name: data(name, dtype="float32") for name in ("text_mask", "region_mask")}
    inputs["region_features"] = data("region_features", feature_size, dtype="float32")
    inputs["region_boxes"] = data("region_boxes", 5, dtype="float32")
    return inputs


def make_feeds() -> dict:
    rng = np.random.default_rng(0)
    return {
        "input_ids": rng.integers(4, 30, (2, 4)),
        "position_ids": np.tile(np.arange(2, 6), (2, 1)),
        "text_mask": np.ones((2, 4), "float32"),
        "region_mask": np.ones((2, 3), "float32"),
        "region_features": rng.standard_normal((2, 3, 5), dtype="float32"),
        "region_boxes": rng.random((2, 3, 5), dtype="float32"),
    }


def names_in(program: paddle.static.Program) -> list[str]:
    return sorted(parameter.name for parameter in program.global_block().all_parameters())


def count(layers: list[paddle.nn.Layer]) -> int:
    return sum(int(np.prod(p.shape)) for layer in layers for p in layer.parameters())


def read_config(name: str) -> ModelConfig:
    return ModelConfig(**yaml.safe_load((CONFIG_DIR / f"{name}.yaml").read_text()))


def test_names_are_the_original_ones(static_graph: tuple):
    model = UnifiedTransformer(SMALL)
    assert sorted(p.name for p in model.parameters()) == sorted(NAMES_OF_ONE_LAYER.split())


def test_a_model_of_texts_has_no_parameters_for_images(static_graph: tuple):
    model = UnifiedTransformer(SMALL, with_images=False, poolers=())
    expected = [
        n for n in NAMES_OF_ONE_LAYER.split() if not n.startswith(("image", "v_pre", "pooled"))
    ]
    assert sorted(p.name for p in model.parameters()) == sorted(expected)


@pytest.mark.parametrize(
    ("make_head", "shapes"),
    [
        (lambda c: ClassificationHead(c, 3), {"cls_out_3_w": [8, 3], "cls_out_3_b": [3]}),
        (lambda c: ClassificationHead(c, 1), {"cls_out_1_w": [8, 1], "cls_out_1_b": [1]}),
        (
            lambda c: EntailmentHead(c),
            {
                "cls_out_w_0": [8, 2048],
                "cls_out_b_0": [2048],
                "cls_out_w_1": [2048, 3],
                "cls_out_b_1": [3],
            },
        ),
        (lambda c: MatchHead(c), {"match_fc.w_0": [8, 1], "match_fc.b_0": [1]}),
        (
            lambda c: RegionRegressionHead(c),
            {"region_regression_fc.w_0": [8, 5], "region_regression_fc.b_0": [5]},
        ),
        (
            lambda c: RegionClassificationHead(c, 7),
            {"region_class_fc.w_0": [8, 7], "region_class_fc.b_0": [7]},
        ),
        (
            lambda c: ProjectionHead(c, "image_projection", 6),
            {"image_projection.w_0": [8, 6], "image_projection.b_0": [6]},
        ),
        (lambda c: Temperature(), {"log_inverse_temperature": [1]}),
    ],
)
def test_heads_have_these_parameters(static_graph: tuple, make_head, shapes: dict):
    assert {p.name: p.shape for p in make_head(SMALL).parameters()} == shapes


@pytest.mark.parametrize("is_tied", [True, False])
def test_the_language_head_has_its_own_matrix_only_when_untied(static_graph: tuple, is_tied: bool):
    config = ModelConfig(vocab_size=30, hidden_size=8, num_heads=2, tie_word_embeddings=is_tied)
    model = UnifiedTransformer(config)
    head = LanguageHead(config, model.word_embedding if is_tied else None)
    own = {p.name: p.shape for p in head.parameters() if p.name.startswith("mask_lm")}
    expected = {
        "mask_lm_trans_fc.w_0": [8, 8],
        "mask_lm_trans_fc.b_0": [8],
        "mask_lm_trans_layer_norm_scale": [8],
        "mask_lm_trans_layer_norm_bias": [8],
        "mask_lm_out_fc.b_0": [30],
    }
    assert own == (expected if is_tied else {**expected, "mask_lm_out_fc.w_0": [8, 30]})


@pytest.mark.parametrize(
    ("name", "total"), [("base", 124646402), ("large", 355360770)], ids=["base", "large"]
)
def test_a_released_classifier_has_as_many_numbers(static_graph: tuple, name: str, total: int):
    config = read_config(name)
    model = UnifiedTransformer(config, with_images=False, poolers=("text",))
    assert count([model, ClassificationHead(config, 2)]) == total


@pytest.mark.parametrize("name", ["tiny", "small", "base", "large"])
def test_every_model_file_is_a_valid_config(name: str):
    assert read_config(name).hidden_size >= 64


def test_training_and_evaluation_have_the_same_names(static_graph: tuple):
    training = sorted(p.name for p in UnifiedTransformer(SMALL).parameters())
    evaluation_program = paddle.static.Program()
    with (
        paddle.static.program_guard(evaluation_program, paddle.static.Program()),
        paddle.utils.unique_name.guard(),
    ):
        model = UnifiedTransformer(SMALL)
        model.eval()
        model(**declare_inputs())
    assert names_in(evaluation_program) == training


@pytest.mark.parametrize("is_tied", [True, False])
def test_every_parameter_gets_a_gradient(static_graph: tuple, is_tied: bool):
    main, startup = static_graph
    config = ModelConfig(
        **{**vars(SMALL), "tie_word_embeddings": is_tied, "location_frequencies": 1}
    )
    model = UnifiedTransformer(config)
    head = LanguageHead(config, model.word_embedding if is_tied else None)
    match, temperature = MatchHead(config), Temperature()
    image_projection = ProjectionHead(config, "image_projection", 4)
    text_projection = ProjectionHead(config, "text_projection", 4)
    inputs = declare_inputs()
    encoding = model(**inputs)
    pooled_text, pooled_image = model.pooled_text(encoding), model.pooled_image(encoding)
    features = image_projection(encoding.regions[:, 0]), text_projection(encoding.text[:, 0])
    scores = paddle.matmul(*features, transpose_y=True) / temperature()
    positive = paddle.diagonal(scores)
    loss = losses.symmetric_contrastive(
        paddle.logsumexp(scores, 1), positive, paddle.logsumexp(scores, 0), positive
    )
    loss = loss + match(pooled_text, pooled_image).sum()
    loss = loss + losses.token_cross_entropy(
        head(paddle.flatten(encoding.text, 0, 1)),
        paddle.flatten(inputs["input_ids"]),
        paddle.flatten(inputs["text_mask"]),
    )
    gradients = paddle.static.append_backward(loss)
    executor = paddle.static.Executor(paddle.CPUPlace())
    executor.run(startup)
    values = executor.run(main, feed=make_feeds(), fetch_list=[g for _, g in gradients])
    assert sorted(p.name for p, _ in gradients) == names_in(main)
    assert all(np.abs(value).max() > 0.0 for value in values)
    assert all(np.isfinite(value).all() for value in values)


def test_static_graph_equals_dynamic_graph(static_graph: tuple):
    main, startup = static_graph
    encoding = UnifiedTransformer(SMALL)(**declare_inputs())
    executor = paddle.static.Executor(paddle.CPUPlace())
    executor.run(startup)
    names = names_in(main)
    scope = paddle.static.global_scope()
    weights = {name: np.array(scope.find_var(name).get_tensor()) for name in names}
    (expected,) = executor.run(main, feed=make_feeds(), fetch_list=[encoding.text])
    paddle.disable_static()
    with paddle.utils.unique_name.guard():
        model = UnifiedTransformer(SMALL)
    for parameter in model.parameters():
        parameter.set_value(weights[parameter.name])
    found = model(**{name: paddle.to_tensor(value) for name, value in make_feeds().items()})
    np.testing.assert_allclose(found.text.numpy(), expected, atol=1e-6)


@pytest.fixture(scope="module")
def initial_values() -> dict:
    """Values right after construction, of a model wide enough for statistics, and every head."""
    paddle.seed(3)
    config = ModelConfig(
        vocab_size=400, hidden_size=64, num_layers=1, num_heads=2, region_feature_size=50
    )
    with paddle.utils.unique_name.guard():
        model = UnifiedTransformer(config)
        layers = [model, LanguageHead(config, model.word_embedding), MatchHead(config)]
        layers += [EntailmentHead(config), ClassificationHead(config, 3), Temperature()]
        layers += [RegionRegressionHead(config), ProjectionHead(config, "image_projection", 32)]
    return {p.name: p.numpy() for layer in layers for p in layer.parameters()}


def test_weights_start_as_a_normal_cut_at_two_deviations(initial_values: dict):
    special = ("layer_norm", "match_fc", "log_inverse", "region_regression")
    weights = {
        name: value
        for name, value in initial_values.items()
        if value.ndim == 2 and not name.startswith(special) and value.size >= 1000
    }
    assert len(weights) >= 13
    for name, value in weights.items():
        # A normal cut at two deviations keeps 0.88 of its deviation.
        assert 0.016 < value.std() < 0.0192, name
        assert 0.035 < np.abs(value).max() <= 0.04, name


def test_biases_start_at_zero_and_scales_at_one(initial_values: dict):
    exceptions = {"mask_lm_trans_layer_norm_bias", "match_fc.b_0", "log_inverse_temperature"}
    vectors = {n: v for n, v in initial_values.items() if v.ndim == 1 and n not in exceptions}
    assert len(vectors) >= 20
    for name, value in vectors.items():
        np.testing.assert_array_equal(value, float(name.endswith("_scale")), err_msg=name)


def test_region_regression_starts_with_one_guess_for_all(initial_values: dict):
    np.testing.assert_array_equal(initial_values["region_regression_fc.w_0"], 0.0)


def test_the_bias_of_the_language_norm_starts_at_one(initial_values: dict):
    np.testing.assert_array_equal(initial_values["mask_lm_trans_layer_norm_bias"], 1.0)


def test_the_match_layer_starts_as_xavier_with_a_uniform_bias(initial_values: dict):
    weight, bias = initial_values["match_fc.w_0"], initial_values["match_fc.b_0"]
    bound = np.sqrt(6.0 / (64 + 1))
    assert 0.8 * bound < np.abs(weight).max() <= bound
    assert 0.0 < np.abs(bias[0]) <= 1.0
