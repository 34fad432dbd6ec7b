"""The unified Transformer: segments, attention, names, and the same numbers in both graphs."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from unimo_paddle.errors import UserError
from unimo_paddle.models import ModelConfig, UnifiedTransformer
from unimo_paddle.models.embeddings import fourier_features
from unimo_paddle.models.unimo import attention_bias

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_layers": 2,
    "num_heads": 4,
    "max_positions": 20,
    "region_feature_size": 6,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "initializer_range": 0.5,  # so that every input moves the outputs far beyond rounding
}


def build(*, seed: int = 0, with_images: bool = True, poolers=("text", "image"), **changes):
    """Build a model; in dynamic graph a guard lets each model have the original's names."""
    paddle.seed(seed)
    with paddle.utils.unique_name.guard():
        config = ModelConfig(**{**SIZES, **changes})
        return UnifiedTransformer(config, with_images=with_images, poolers=poolers)


def make_feeds(*, batch: int = 2, regions: int = 3, tags: int = 2, text: int = 5) -> dict:
    rng = np.random.default_rng(0)
    return {
        "input_ids": rng.integers(4, 50, (batch, text)),
        "position_ids": np.tile(np.arange(2, 2 + text), (batch, 1)),
        "text_mask": np.ones((batch, text), "float32"),
        "region_features": rng.standard_normal((batch, regions, 6), dtype="float32"),
        "region_boxes": rng.random((batch, regions, 5), dtype="float32"),
        "region_mask": np.ones((batch, regions), "float32"),
        "tag_ids": rng.integers(4, 50, (batch, tags)),
        "tag_positions": np.tile(np.arange(2, 2 + tags), (batch, 1)),
        "tag_mask": np.ones((batch, tags), "float32"),
    }


def encode(model: UnifiedTransformer, feeds: dict, **options):
    return model(**{name: paddle.to_tensor(value) for name, value in feeds.items()}, **options)


def hidden_of(model: UnifiedTransformer, feeds: dict) -> np.ndarray:
    return encode(model, feeds).hidden.numpy()


SEGMENTS = {
    "text": ("input_ids", "position_ids", "text_mask"),
    "regions": ("region_features", "region_boxes", "region_mask"),
    "tags": ("tag_ids", "tag_positions", "tag_mask"),
}


@pytest.mark.parametrize("segment", SEGMENTS)
def test_padding_is_invisible(segment: str):
    model, feeds = build(), make_feeds()
    padded = dict(feeds)
    for name in SEGMENTS[segment]:
        width = [(0, 0), (0, 2)] + [(0, 0)] * (feeds[name].ndim - 2)
        padded[name] = np.pad(feeds[name], width, constant_values=0 if "mask" in name else 1)
    expected, found = encode(model, feeds), encode(model, padded)
    for name in SEGMENTS:
        length = getattr(expected, name).shape[1]
        np.testing.assert_allclose(
            getattr(found, name)[:, :length].numpy(), getattr(expected, name).numpy(), atol=1e-5
        )


def test_a_sample_of_nothing_but_padding_stays_finite():
    model, feeds = build(), make_feeds()
    for name in ("text_mask", "region_mask", "tag_mask"):
        feeds[name][0] = 0.0
    assert np.isfinite(hidden_of(model, feeds)).all()


def test_images_that_are_embedded_already_are_read_alike():
    model, feeds = build(location_frequencies=1), make_feeds()
    names = ("region_features", "region_boxes")
    rows = model.embed_regions(*(paddle.to_tensor(feeds[name]) for name in names))
    others = {name: value for name, value in feeds.items() if name not in names}
    found = encode(model, others, region_rows=rows).hidden.numpy()
    np.testing.assert_allclose(found, hidden_of(model, feeds), atol=1e-6)


def test_the_sequence_is_regions_then_tags_then_text():
    encoding = encode(build(), make_feeds())
    joined = paddle.concat([encoding.regions, encoding.tags, encoding.text], axis=1)
    assert [encoding.regions.shape[1], encoding.tags.shape[1], encoding.text.shape[1]] == [3, 2, 5]
    np.testing.assert_array_equal(joined.numpy(), encoding.hidden.numpy())


@pytest.mark.parametrize("segment", SEGMENTS)
def test_a_segment_alone_is_the_whole_sequence(segment: str):
    feeds = make_feeds()
    encoding = encode(build(), {name: feeds[name] for name in SEGMENTS[segment]})
    others = [name for name in SEGMENTS if name != segment]
    assert getattr(encoding, segment) is encoding.hidden
    assert [getattr(encoding, name) for name in others] == [None, None]


def with_order(feeds: dict, order: list[int]) -> dict:
    return {**feeds, "text_order": np.tile(np.array(order), (len(feeds["input_ids"]), 1))}


def changed_positions(feeds: dict, name: str, column: int) -> np.ndarray:
    """Return which positions of the sequence move when one column of an input changes."""
    model = build()
    other = dict(feeds)
    other[name] = feeds[name].copy()
    other[name][:, column] = (feeds[name][:, column] + 1) % 50
    difference = np.abs(hidden_of(model, feeds) - hidden_of(model, other))
    return difference.max(axis=(0, 2)) > 1e-4


def test_without_order_everything_sees_everything():
    assert changed_positions(make_feeds(), "input_ids", 4).all()


def test_equal_orders_are_no_order():
    model, feeds = build(), make_feeds()
    np.testing.assert_array_equal(
        hidden_of(model, with_order(feeds, [0] * 5)), hidden_of(model, feeds)
    )


def test_a_later_target_token_does_not_change_what_comes_before():
    feeds = with_order(make_feeds(), [0, 0, 1, 2, 3])
    moved = changed_positions(feeds, "input_ids", 3)
    assert moved.tolist() == [False] * 8 + [True, True]


def test_the_target_sees_source_regions_and_tags():
    feeds = with_order(make_feeds(), [0, 0, 1, 2, 3])
    assert changed_positions(feeds, "input_ids", 1).all()
    assert changed_positions(feeds, "region_features", 0).all()
    assert changed_positions(feeds, "tag_ids", 0).all()


def test_captions_are_hidden_from_the_image():
    feeds = with_order(make_feeds(), [1, 2, 3, 4, 5])
    moved = changed_positions(feeds, "input_ids", 0)
    assert moved.tolist() == [False] * 5 + [True] * 5


def test_the_attention_bias_by_hand():
    mask = paddle.to_tensor([[1.0, 1.0, 1.0, 0.0]])
    order = paddle.to_tensor([[0, 1, 2, 3]])
    visible = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    expected = (np.array([visible], "float32") - 1.0) * 1e4
    np.testing.assert_array_equal(attention_bias(mask, order).numpy(), expected)


def test_attention_is_collected_when_asked_for():
    model, feeds = build(), make_feeds()
    feeds["text_mask"][1, 3:] = 0.0
    assert encode(model, feeds).attentions is None
    attentions = encode(model, feeds, collect_attention=True).attentions
    assert [x.shape for x in attentions] == [[2, 4, 10, 10]] * 2
    np.testing.assert_allclose(attentions[0].sum(axis=-1).numpy(), 1.0, atol=1e-6)
    assert attentions[1].numpy()[1, :, :8, 8:].max() < 1e-20
    assert attentions[1].numpy()[0, :, :, 8:].min() > 0.0


def test_layers_run_from_the_embedding_to_the_last_hidden_states():
    encoding = encode(build(), make_feeds())
    assert len(encoding.layers) == 3
    assert encoding.layers[-1] is encoding.hidden


def test_positions_left_out_are_continuous():
    model, feeds = build(), make_feeds()
    expected = hidden_of(model, feeds)
    feeds.pop("position_ids")
    np.testing.assert_array_equal(hidden_of(model, feeds), expected)


@pytest.mark.parametrize("name", ["role", "turn", "type"])
def test_optional_embeddings_are_added(name: str):
    size = "type_vocab_size" if name == "type" else f"num_{name}s"
    model, feeds = build(**{size: 3}), make_feeds()
    names = {parameter.name for parameter in model.parameters()}
    feeds[f"{name}_ids"] = np.zeros((2, 5), "int64")
    zeros = hidden_of(model, feeds)
    feeds[f"{name}_ids"] = np.ones((2, 5), "int64")
    assert f"{name}_embedding" in names
    assert np.abs(hidden_of(model, feeds) - zeros).max() > 1e-3


def test_a_region_perturbation_is_added_to_the_features():
    model, feeds = build(), make_feeds()
    delta = np.full((2, 3, 6), 0.3, "float32")
    moved = {**feeds, "region_features": feeds["region_features"] + delta}
    found = encode(model, feeds, region_perturbation=paddle.to_tensor(delta)).hidden
    np.testing.assert_allclose(found.numpy(), hidden_of(model, moved), atol=1e-6)


def test_a_text_perturbation_gets_a_gradient_and_spares_the_tags():
    model, feeds = build(), make_feeds()
    delta = paddle.to_tensor(np.random.default_rng(1).random((2, 5, 16), dtype="float32"))
    delta.stop_gradient = False
    encoding = encode(model, feeds, text_perturbation=delta)
    (encoding.hidden**3).sum().backward()
    moved = np.abs((encoding.layers[0] - encode(model, feeds).layers[0]).numpy()).max(axis=2)
    assert np.abs(delta.grad.numpy()).max(axis=2).min() > 0.0
    assert moved[:, :5].max() == 0.0
    assert moved[:, 5:].min() > 1e-3


def test_a_text_perturbation_is_added_before_the_norm():
    model, feeds = build(), make_feeds()
    found = encode(model, feeds, text_perturbation=paddle.full([2, 5, 16], 0.1))
    # The norm takes a constant away.
    np.testing.assert_allclose(found.hidden.numpy(), hidden_of(model, feeds), atol=1e-4)


def test_the_location_features_by_hand():
    box = paddle.to_tensor([[[0.0, 0.2, 0.5, 0.8, 0.3]]])  # centre 0.25, 0.5
    angles = np.pi * np.array([0.25, 0.5, 0.5, 1.0])
    expected = np.concatenate([np.sin(angles), np.cos(angles)])
    np.testing.assert_allclose(fourier_features(box, 2).numpy()[0, 0], expected, atol=1e-6)


def test_location_frequencies_widen_the_box_and_nothing_else():
    shapes = {p.name: p.shape for p in build().parameters()}
    wide_model = build(location_frequencies=3)
    wide = {p.name: p.shape for p in wide_model.parameters()}
    assert wide == {**shapes, "image_loc.w_0": [17, 16]}
    assert np.isfinite(hidden_of(wide_model, make_feeds())).all()


def test_pooling_is_a_rectified_layer_on_the_first_row():
    model = build()
    encoding = encode(model, make_feeds())
    for pooled, rows, pooler in (
        (model.pooled_text(encoding), encoding.text, model.text_pooler),
        (model.pooled_image(encoding), encoding.regions, model.image_pooler),
    ):
        product = rows[:, 0].numpy() @ pooler.weight.numpy() + pooler.bias.numpy()
        np.testing.assert_allclose(pooled.numpy(), np.maximum(product, 0.0), atol=1e-5)


def test_pooling_with_a_mask_reads_the_mean_of_real_tokens():
    model = build()
    feeds = make_feeds()
    feeds["text_mask"][0, 3:] = 0.0
    encoding = encode(model, feeds)
    pooled = model.pooled_text(encoding, paddle.to_tensor(feeds["text_mask"]))
    text = encoding.text.numpy()
    means = np.stack([text[0, :3].mean(axis=0), text[1].mean(axis=0)])
    product = means @ model.text_pooler.weight.numpy() + model.text_pooler.bias.numpy()
    np.testing.assert_allclose(pooled.numpy(), np.maximum(product, 0.0), atol=1e-5)


@pytest.mark.parametrize("activation", ["gelu_tanh", "relu", "silu", "tanh"])
def test_other_activations_give_other_numbers(activation: str):
    feeds = make_feeds()
    difference = hidden_of(build(activation=activation), feeds) - hidden_of(build(), feeds)
    assert 1e-5 < np.abs(difference).max() < 10.0


def test_dropout_works_in_training_only():
    model, feeds = build(hidden_dropout=0.2, attention_dropout=0.2), make_feeds()
    assert np.abs(hidden_of(model, feeds) - hidden_of(model, feeds)).max() > 1e-3
    model.eval()
    np.testing.assert_array_equal(hidden_of(model, feeds), hidden_of(model, feeds))


def test_evaluation_equals_training_without_dropout():
    model, feeds = build(), make_feeds()
    trained = hidden_of(model, feeds)
    model.eval()
    # Training has operators of its own, which add up in another order.
    np.testing.assert_allclose(hidden_of(model, feeds), trained, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_heads": 3}, "model.num_heads 3 does not divide model.hidden_size 16"),
        ({"activation": "gellu"}, "model.activation is 'gellu'; choose one of gelu"),
        ({"hidden_dropout": 1.0}, "model.hidden_dropout is 1.0"),
        ({"attention_dropout": -0.1}, "model.attention_dropout is -0.1"),
        ({"vocab_size": 3}, "model.vocab_size is 3; give at least 5"),
        ({"num_layers": 0}, "model.num_layers is 0; give at least 1"),
        ({"ffn_size": 0}, "model.ffn_size is 0; give at least 1"),
        ({"first_position": 20}, "raise max_positions"),
        ({"location_frequencies": -1}, "model.location_frequencies is -1"),
        ({"patch_grid": -1}, "model.patch_grid is -1"),
        (
            {"patch_grid": 3, "region_feature_size": 27},
            "model.patch_grid is 3, but model.region_feature_size 27 is no patch of 2, 4, 8 ..",
        ),
        ({"patch_edge_size": -1}, "model.patch_edge_size is -1"),
        ({"patch_edge_size": 2}, "model.patch_edge_size is 2, but without convolutions nothing"),
        (
            {"patch_grid": 2, "region_feature_size": 48, "patch_edge_size": 4},
            "model.patch_edge_size is 4, but patches are 4 pixels a side; give a power of two",
        ),
        (
            {"patch_grid": 2, "region_feature_size": 48, "patch_edge_size": 3},
            "model.patch_edge_size is 3, but patches are 4 pixels a side; give a power of two",
        ),
        ({"patch_dictionary": -1}, "model.patch_dictionary is -1"),
        (
            {"patch_grid": 2, "region_feature_size": 192, "patch_dictionary": 8},
            "model.patch_dictionary is 8, but its entries are made of edges; give model.patch_edge",
        ),
        (
            {
                "patch_grid": 2,
                "region_feature_size": 192,
                "patch_edge_size": 4,
                "patch_dictionary": 3,
            },
            "model.patch_dictionary is 3; give at least 4 entries, or 0",
        ),
        ({"initializer_range": 0.0}, "model.initializer_range is 0.0"),
        ({"layer_norm_eps": -1e-5}, "model.layer_norm_eps is -1e-05"),
    ],
)
def test_an_impossible_config_is_refused_in_one_line(changes: dict, words: str):
    with pytest.raises(UserError, match=words) as caught:
        ModelConfig(**{**SIZES, **changes})
    assert "\n" not in str(caught.value)


def test_derived_sizes():
    config = ModelConfig(**SIZES, location_frequencies=2)
    assert (config.feed_forward_size, config.location_size, config.max_text_length) == (64, 13, 18)
    assert ModelConfig(**SIZES, ffn_size=40).feed_forward_size == 40
