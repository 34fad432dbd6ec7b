"""RoBERTa's weights: our model computes what RoBERTa does, here written out in NumPy."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle
import pytest
from safetensors.numpy import save_file

from unimo_paddle.convert import convert
from unimo_paddle.convert.roberta import TABLE
from unimo_paddle.errors import UserError

VOCAB_SIZE, WIDTH, NUM_LAYERS, NUM_HEADS, NUM_POSITIONS = 40, 16, 2, 4, 14
TOLERANCE = 1e-5  # of the largest value, where that is above one
Arrays = dict[str, np.ndarray]


def make_roberta(prefix: str = "roberta.", *, has_head: bool = True) -> Arrays:
    """Random weights under Hugging Face's names, matrices [out, in], and the position buffer."""
    generator = np.random.RandomState(11)

    def normal(*shape: int) -> np.ndarray:
        return 0.3 * generator.randn(*shape).astype("float32")

    def linear(name: str, inputs: int, outputs: int) -> Arrays:
        return {f"{name}.weight": normal(outputs, inputs), f"{name}.bias": normal(outputs)}

    def norm(name: str) -> Arrays:
        return {f"{name}.weight": 1.0 + normal(WIDTH), f"{name}.bias": normal(WIDTH)}

    arrays = {
        "embeddings.word_embeddings.weight": normal(VOCAB_SIZE, WIDTH),
        "embeddings.position_embeddings.weight": normal(NUM_POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": normal(1, WIDTH),
        "embeddings.position_ids": np.arange(NUM_POSITIONS)[None],
        **norm("embeddings.LayerNorm"),
        **linear("pooler.dense", WIDTH, WIDTH),
    }
    for index in range(NUM_LAYERS):
        layer = f"encoder.layer.{index}"
        for part in ("query", "key", "value"):
            arrays |= linear(f"{layer}.attention.self.{part}", WIDTH, WIDTH)
        arrays |= linear(f"{layer}.attention.output.dense", WIDTH, WIDTH)
        arrays |= norm(f"{layer}.attention.output.LayerNorm")
        arrays |= linear(f"{layer}.intermediate.dense", WIDTH, 4 * WIDTH)
        arrays |= linear(f"{layer}.output.dense", 4 * WIDTH, WIDTH)
        arrays |= norm(f"{layer}.output.LayerNorm")
    arrays = {prefix + name: values for name, values in arrays.items()}
    if has_head:
        arrays |= linear("lm_head.dense", WIDTH, WIDTH) | norm("lm_head.layer_norm")
        arrays["lm_head.bias"] = normal(VOCAB_SIZE)
    return arrays


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


def softmax(x: np.ndarray) -> np.ndarray:
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def run_roberta(arrays: Arrays, ids: np.ndarray, mask: np.ndarray) -> tuple:
    """RoBERTa's forward pass in float64: last hidden states [B, T, D] and logits [B, T, V]."""
    weights = {n.removeprefix("roberta."): x.astype("float64") for n, x in arrays.items()}

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def split(x: np.ndarray) -> np.ndarray:
        return x.reshape(*ids.shape, NUM_HEADS, -1).transpose(0, 2, 1, 3)

    words = weights["embeddings.word_embeddings.weight"]
    positions = weights["embeddings.position_embeddings.weight"][2 : 2 + ids.shape[1]]
    token_type = weights["embeddings.token_type_embeddings.weight"][0]
    hidden = norm("embeddings.LayerNorm", words[ids] + positions + token_type)
    for index in range(NUM_LAYERS):
        layer = f"encoder.layer.{index}"
        q, k, v = (
            split(linear(f"{layer}.attention.self.{part}", hidden))
            for part in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(WIDTH / NUM_HEADS)
        seen = softmax(np.where(mask[:, None, None] > 0, scores, -np.inf)) @ v
        seen = seen.transpose(0, 2, 1, 3).reshape(hidden.shape)
        attended = linear(f"{layer}.attention.output.dense", seen)
        hidden = norm(f"{layer}.attention.output.LayerNorm", hidden + attended)
        inner = gelu(linear(f"{layer}.intermediate.dense", hidden))
        hidden = norm(f"{layer}.output.LayerNorm", hidden + linear(f"{layer}.output.dense", inner))
    head = norm("lm_head.layer_norm", gelu(linear("lm_head.dense", hidden)))
    return hidden, head @ words.T + weights["lm_head.bias"]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Arrays], Path]:
    """Write arrays as ``model.safetensors`` with metadata as PyTorch's programs do."""

    def write(arrays: Arrays) -> Path:
        path = tmp_path / "model.safetensors"
        save_file(arrays, path, {"format": "pt"})
        return path

    return write


@pytest.fixture
def convert_roberta(write, tmp_path: Path):
    """Convert arrays and return the summary; the output is ``tmp_path / "ours"``."""
    return lambda arrays, **options: convert(
        "roberta", write(arrays), tmp_path / "ours", **{"num_heads": NUM_HEADS} | options
    )


@pytest.fixture
def ours(load_converted, tmp_path: Path):
    """Our hidden states and logits for a text, with the converted weights."""

    def run(ids: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        model, head = load_converted(tmp_path / "ours")
        hidden = model(paddle.to_tensor(ids), None, paddle.to_tensor(mask)).hidden
        return hidden.numpy(), head(hidden).numpy()

    return run


@pytest.fixture
def text() -> tuple[np.ndarray, np.ndarray]:
    """Ids [2, 7] and mask of two texts, the second padded."""
    ids = np.random.RandomState(3).randint(4, VOCAB_SIZE, (2, 7))
    mask = np.ones((2, 7), "float32")
    ids[1, 5:], mask[1, 5:] = 1, 0.0
    return ids, mask


@pytest.mark.parametrize("prefix", ["roberta.", ""])
def test_our_model_computes_what_roberta_does(convert_roberta, ours, text, prefix: str) -> None:
    arrays, (ids, mask) = make_roberta(prefix), text
    convert_roberta(arrays)
    hidden, logits = ours(ids, mask)
    expected_hidden, expected_logits = run_roberta(arrays, ids, mask)
    real = mask > 0
    scale = max(1.0, np.abs(expected_hidden[real]).max())
    assert np.abs(hidden[real] - expected_hidden[real]).max() < TOLERANCE * scale
    found, expected = softmax(logits[real].astype("float64")), softmax(expected_logits[real])
    assert np.abs(found - expected).max() < TOLERANCE


def test_logits_differ_by_one_number_a_position(convert_roberta, ours, text) -> None:
    arrays, (ids, mask) = make_roberta(), text
    convert_roberta(arrays)
    difference = (ours(ids, mask)[1] - run_roberta(arrays, ids, mask)[1])[mask > 0]
    assert np.ptp(difference, axis=-1).max() < 2e-5
    assert np.abs(difference).max() > 1e-2  # the row that was added does something


def test_settings_are_those_of_roberta(convert_roberta, load_converted, tmp_path: Path) -> None:
    convert_roberta(make_roberta())
    config = load_converted(tmp_path / "ours")[0].config
    assert (config.first_position, config.num_heads, config.activation) == (2, NUM_HEADS, "gelu")
    assert (config.max_positions, config.tie_word_embeddings) == (NUM_POSITIONS, True)


def test_a_config_beside_the_weights_gives_the_heads(convert_roberta, tmp_path: Path) -> None:
    config = {"num_attention_heads": 8, "hidden_act": "gelu", "layer_norm_eps": 1e-5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    summary = convert_roberta(make_roberta(), num_heads=None)
    assert "num_heads: 8, as the settings beside it say" in summary.notes


def test_what_is_dropped_is_told(convert_roberta) -> None:
    notes = "\n".join(convert_roberta(make_roberta()).notes)
    assert "pools with ReLU and not with tanh: roberta.pooler.dense.weight" in notes
    assert "the token type row was added" in notes and "roberta.embeddings.position_ids" in notes


def test_an_encoder_without_a_head_is_converted(convert_roberta) -> None:
    assert convert_roberta(make_roberta(has_head=False)).description.parts == ()


def test_a_decoder_that_is_the_embedding_is_left_out(convert_roberta) -> None:
    arrays = make_roberta()
    arrays["lm_head.decoder.weight"] = arrays["roberta.embeddings.word_embeddings.weight"].copy()
    arrays["lm_head.decoder.bias"] = arrays["lm_head.bias"].copy()
    assert "equals the word embedding: lm_head.decoder.weight" in str(convert_roberta(arrays).notes)


def test_the_bias_may_be_the_decoders(convert_roberta, tmp_path: Path, load_converted) -> None:
    arrays = make_roberta()
    arrays["lm_head.decoder.bias"] = arrays.pop("lm_head.bias")
    convert_roberta(arrays)
    bias = load_converted(tmp_path / "ours")[1].bias.numpy()
    np.testing.assert_array_equal(bias, arrays["lm_head.decoder.bias"])


def test_half_precision_is_widened(convert_roberta, load_converted, tmp_path: Path) -> None:
    arrays = {
        n: x if x.dtype == "int64" else x.astype("float16") for n, x in make_roberta().items()
    }
    convert_roberta(arrays)
    bias = load_converted(tmp_path / "ours")[1].bias.numpy()
    np.testing.assert_array_equal(bias, arrays["lm_head.bias"].astype("float32"))


def test_a_part_that_is_left_out_on_demand_is_told(convert_roberta) -> None:
    arrays = make_roberta() | {"classifier.dense.weight": np.ones((2, 2), "float32")}
    summary = convert_roberta(arrays, skip=["classifier.*"])
    assert "--skip classifier.* says (1): classifier.dense.weight" in summary.notes[0]


def drop(name: str) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.__delitem__(name)


def put(name: str, *shape: int, dtype: str = "float32") -> Callable[[Arrays], None]:
    return lambda arrays: arrays.update({name: np.zeros(shape, dtype)})


def spoil(name: str) -> Callable[[Arrays], None]:
    return lambda arrays: arrays[name].fill(np.nan)


QUERY = "roberta.encoder.layer.1.attention.self.query"
TYPES = "roberta.embeddings.token_type_embeddings.weight"
MISTAKES = {
    "no query": (drop(f"{QUERY}.weight"), "missing: encoder.layer.1.attention.self.query.weight;"),
    "no words": (drop("roberta.embeddings.word_embeddings.weight"), "missing: embeddings.word_emb"),
    "no token type": (drop(TYPES), "missing: embeddings.token_type_embeddings.weight;"),
    "no head bias": (drop("lm_head.bias"), "missing: lm_head.bias;"),
    "half a head": (drop("lm_head.dense.weight"), "missing: lm_head.dense.weight;"),
    "classifier": (put("classifier.dense.weight", 2, 2), "unknown: classifier.dense.weight;"),
    "other family": (put("bert.pooler.dense.weight", 2, 2), "unknown: bert.pooler.dense.weight;"),
    "with and without prefix": (put("pooler.dense.weight", 2), "with and without 'roberta.'"),
    "two token types": (put(TYPES, 2, WIDTH), f"{TYPES} is [2, 16] instead of [1, 16];"),
    "misshapen": (put(f"{QUERY}.bias", 3), "query_fc.b_0 is [3] instead of [16];"),
    "words of no width": (put("roberta.embeddings.word_embeddings.weight"), "word_embedding is []"),
    "other decoder": (
        put("lm_head.decoder.weight", VOCAB_SIZE, WIDTH),
        "lm_head.decoder.weight differs from roberta.embeddings.word_embeddings.weight",
    ),
    "other decoder bias": (
        put("lm_head.decoder.bias", VOCAB_SIZE),
        "lm_head.decoder.bias differs from lm_head.bias",
    ),
    "other type": (put("lm_head.bias", VOCAB_SIZE, dtype="int64"), "lm_head.bias is of type I64"),
    "not finite": (spoil("lm_head.bias"), "lm_head.bias holds 40 of 40 values that are no finite"),
}


@pytest.mark.parametrize(("change", "reason"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line_and_leave_no_output(
    convert_roberta, tmp_path: Path, change, reason: str
) -> None:
    arrays = make_roberta()
    change(arrays)
    with pytest.raises(UserError) as caught:
        convert_roberta(arrays)
    assert reason in str(caught.value) and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("{", "config.json is not JSON"),
        ("[]", "config.json holds a list"),
        ('{"hidden_act": "mish"}', "hidden_act is 'mish'; known are gelu"),
        (
            '{"position_embedding_type": "relative"}',
            "position_embedding_type is 'relative'",
        ),
        ('{"num_attention_heads": "many"}', "num_heads is 'many'; give a whole number"),
    ],
)
def test_unfit_configs_are_refused(convert_roberta, tmp_path: Path, config, reason) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError) as caught:
        convert_roberta(make_roberta(), num_heads=None)
    assert reason in str(caught.value)


def test_names_lead_back() -> None:
    names = [n.removeprefix("roberta.") for n in make_roberta()]
    known = [name for name in names if TABLE.to_ours(name)]
    assert len(known) == len(names) - 4  # token type, positions' buffer and the pooler's two
    assert [TABLE.to_theirs(TABLE.to_ours(name)) for name in known] == known
