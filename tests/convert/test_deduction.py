"""The model deduced from shapes: every released one, and what is missing, unknown or misshapen."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path

import pytest

from unimo_paddle import models
from unimo_paddle.convert import deduce, parameters
from unimo_paddle.errors import UserError
from unimo_paddle.models import ModelConfig, heads
from unimo_paddle.settings import build

RELEASED_HEADS = {
    "classifier_2": ("text pooler", "classification head of 2"),
    "regression": ("text pooler", "regression head"),
    "retrieval": ("images", "text pooler", "image pooler", "match head"),
    "visual_entailment": ("images", "text pooler", "image pooler", "entailment head"),
    "seq2seq": ("language head",),
    "img2txt": ("images", "language head"),
    "seq2seq_dialog": ("dialogue embeddings", "language head"),
}
IMAGE_NAMES = sorted(parameters.IMAGES.shapes)
ALL_GROUPS = (*parameters.GROUPS[1:], parameters.classification_group(3))
# A part of one parameter is there or not, and nothing is missing.
NAMES_NOT_ALONE = [name for g in ALL_GROUPS for name in g.shapes if len(g.shapes) > 1]


@pytest.fixture(scope="module")
def released(shared_dir: Path) -> dict:
    path = shared_dir / "reference" / "official" / "official_param_shapes.json"
    return json.loads(path.read_text())


def shapes_of(entry: dict) -> dict[str, tuple[int, ...]]:
    layers = {
        name.replace("{i}", str(index)): tuple(shape)
        for index in range(entry["n_layers"])
        for name, shape in entry["layer_template"].items()
    }
    return layers | {name: tuple(shape) for name, shape in entry["other"].items()}


@pytest.mark.parametrize("head", RELEASED_HEADS)
@pytest.mark.parametrize(("size", "layers", "width"), [("base", 12, 768), ("large", 24, 1024)])
def test_every_released_model_is_known(released, size, layers, width, head: str) -> None:
    entry = released[f"{size}/{head}"]
    found = deduce(shapes_of(entry))
    assert found.num_values == entry["total_params"]
    assert found.parts == RELEASED_HEADS[head]
    config = build(ModelConfig, found.sizes | {"num_heads": width // 64})
    assert (config.num_layers, config.hidden_size) == (layers, width)
    assert (config.vocab_size, config.max_positions) == (50265, 514)
    assert (config.num_roles, config.num_turns) == ((3, 16) if "dialog" in head else (0, 0))


def test_no_released_model_is_left_out(released) -> None:
    assert {name.partition("/")[2] for name in released} == set(RELEASED_HEADS)


def test_sizes_come_from_the_shapes(make_shapes) -> None:
    groups = (parameters.IMAGES, parameters.DIALOGUE, parameters.TYPES, parameters.LANGUAGE_HEAD)
    sizes = deduce(make_shapes(*groups, num_layers=3, I=40, L=13)).sizes
    assert sizes == {
        "vocab_size": 30,
        "hidden_size": 16,
        "num_layers": 3,
        "ffn_size": 40,
        "max_positions": 12,
        "num_roles": 3,
        "num_turns": 4,
        "type_vocab_size": 2,
        "tie_word_embeddings": True,
        "region_feature_size": 6,
        "location_frequencies": 2,
    }


def test_output_words_of_their_own_are_not_tied(make_shapes) -> None:
    groups = (parameters.LANGUAGE_HEAD, parameters.UNTIED_WORDS)
    assert deduce(make_shapes(*groups)).sizes["tie_word_embeddings"] is False


def test_every_part_at_once_is_known(make_shapes) -> None:
    found = deduce(make_shapes(*ALL_GROUPS))
    assert set(found.parts) == {group.name for group in ALL_GROUPS}


@pytest.mark.parametrize("name", IMAGE_NAMES)
def test_one_image_parameter_asks_for_all_six(make_shapes, name: str) -> None:
    shapes = make_shapes()
    shapes[name] = make_shapes(parameters.IMAGES)[name]
    with pytest.raises(UserError) as caught:
        deduce(shapes)
    assert [other for other in IMAGE_NAMES if other not in str(caught.value)] == [name]


@pytest.mark.parametrize("name", NAMES_NOT_ALONE)
def test_every_parameter_of_a_part_is_needed(make_shapes, name: str) -> None:
    shapes = make_shapes(*ALL_GROUPS)
    del shapes[name]
    with pytest.raises(UserError, match=f"missing: {name};"):
        deduce(shapes)


@pytest.mark.parametrize("name", sorted(parameters.layer_group(1).shapes))
def test_every_parameter_of_a_layer_is_needed(make_shapes, name: str) -> None:
    shapes = make_shapes()
    del shapes[name]
    with pytest.raises(UserError, match=f"missing: {name};"):
        deduce(shapes)


@pytest.mark.parametrize("name", sorted(parameters.EMBEDDINGS.shapes))
def test_every_parameter_of_the_embeddings_is_needed(make_shapes, name: str) -> None:
    shapes = make_shapes()
    del shapes[name]
    with pytest.raises(UserError, match=f"missing: {name};"):
        deduce(shapes)


def test_a_layer_between_others_is_needed(make_shapes) -> None:
    shapes = make_shapes(num_layers=3)
    shapes = {n: s for n, s in shapes.items() if not n.startswith("encoder_layer_1_")}
    with pytest.raises(UserError, match=r"missing: encoder_layer_1_.* and 8 more"):
        deduce(shapes)


def test_a_head_without_the_pooler_it_reads_is_incomplete(make_shapes) -> None:
    shapes = make_shapes(parameters.classification_group(2))
    with pytest.raises(UserError, match=r"missing: pooled_fc_text\.w_0, pooled_fc_text\.b_0;"):
        deduce(shapes)


@pytest.mark.parametrize(
    "name",
    [
        "word_embeddings",
        "encoder_layer_01_ffn_fc_0.w_0",
        "encoder_layer_1000_ffn_fc_0.w_0",
        "encoder_layer_0_ffn_fc_2.w_0",
        "cls_out_0_w",
        "cls_out_2_v",
        "word_embedding_moment1_0",
        "../word_embedding",
    ],
)
def test_unknown_names_are_listed(make_shapes, name: str) -> None:
    with pytest.raises(UserError) as caught:
        deduce(make_shapes() | {name: (16, 16)})
    assert f"unknown: {name};" in str(caught.value)


def test_names_with_line_breaks_stay_in_one_line(make_shapes) -> None:
    with pytest.raises(UserError) as caught:
        deduce(make_shapes() | {"word\nembedding": (1,)})
    assert "\n" not in str(caught.value) and r"word\nembedding" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("word_embedding", (30, 15), "[30, 16]"),
        ("word_embedding", (480,), "[30, 16]"),
        ("pos_embedding", (12, 0), "[12, 16]"),
        ("pre_encoder_layer_norm_bias", (16, 1), "[16]"),
        ("encoder_layer_1_ffn_fc_1.w_0", (16, 64), "[64, 16]"),
        ("mask_lm_out_fc.b_0", (31,), "[30]"),
        ("cls_out_3_w", (16, 4), "[16, 3]"),
        ("cls_out_w_1", (2047, 7), "[2048, 7]"),
        ("match_fc.w_0", (16, 2), "[16, 1]"),
        ("image_projection.w_0", (24, 8), "[a multiple of 16, 8]"),
        ("image_emb.b_0", (6,), "[16]"),
    ],
)
def test_misshapen_parameters_are_named_alone(make_shapes, name, shape, expected) -> None:
    shapes = make_shapes(*ALL_GROUPS)
    assert name in shapes
    with pytest.raises(UserError) as caught:
        deduce(shapes | {name: shape})
    assert f"misshapen: {name} is {list(shape)} instead of {expected};" in str(caught.value)


def test_rows_of_a_location_are_five_and_four_a_frequency(make_shapes) -> None:
    with pytest.raises(UserError, match=r"misshapen: image_loc\.w_0 has 7 rows"):
        deduce(make_shapes(parameters.IMAGES, L=7))


def test_nothing_is_no_model() -> None:
    with pytest.raises(UserError, match="missing: word_embedding, pos_embedding"):
        deduce({})


HEADS = {
    "ClassificationHead": lambda config: models.ClassificationHead(config, 3),
    "EntailmentHead": models.EntailmentHead,
    "LanguageHead": lambda config: models.LanguageHead(replace(config, tie_word_embeddings=False)),
    "MatchHead": models.MatchHead,
    "ProjectionHead": lambda config: models.ProjectionHead(config, "image_projection", 4),
    "ObjectNamesHead": lambda config: models.ObjectNamesHead(config, 5),
    "RegionClassificationHead": lambda config: models.RegionClassificationHead(config, 5),
    "RegionRegressionHead": models.RegionRegressionHead,
    "Temperature": lambda config: models.Temperature(),
}


def test_no_head_is_forgotten_here() -> None:
    layers = {
        name
        for name, value in vars(heads).items()
        if inspect.isclass(value) and value.__module__ == heads.__name__
    }
    assert layers == set(HEADS)


@pytest.mark.parametrize("name", HEADS)
def test_parameters_of_every_head_are_known(eager: None, name: str) -> None:
    config = ModelConfig(vocab_size=30, hidden_size=16, num_heads=2)
    names = [parameter.name for parameter in HEADS[name](config).parameters()]
    assert names and [n for n in names if parameters.find_group(n) is None] == []


def test_a_model_with_everything_is_deduced(eager: None) -> None:
    sizes = {
        **{"vocab_size": 30, "hidden_size": 16, "num_layers": 2, "ffn_size": 24},
        **{"max_positions": 9, "region_feature_size": 6, "location_frequencies": 3},
        **{"type_vocab_size": 2, "num_roles": 3, "num_turns": 4},
    }
    model = models.UnifiedTransformer(ModelConfig(**sizes, num_heads=2))
    found = deduce({p.name: tuple(p.shape) for p in model.parameters()})
    assert found.sizes == sizes
