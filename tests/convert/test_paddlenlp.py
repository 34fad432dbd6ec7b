"""PaddleNLP's UNIMO: its recorded outputs with our model, and back to its files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from unimo_paddle.convert import convert, parameters, read_parameter, write_parameter
from unimo_paddle.convert.paddlenlp import TABLE, open_paddlenlp
from unimo_paddle.errors import UserError
from unimo_paddle.models.generation import Writer
from unimo_paddle.models.search import GenerationConfig, Vocabulary

TOLERANCE = 1e-5  # of the largest recorded value, where that is above one
CONFIG = {"num_attention_heads": 2, "hidden_act": "gelu", "normalize_before": False}
DECODER = "lm_head.decoder_weight"


def in_their_names(arrays: dict[str, np.ndarray], prefix: str = "unimo.") -> dict[str, np.ndarray]:
    theirs = {TABLE.to_theirs(name): values for name, values in arrays.items()}
    assert None not in theirs
    return {n if n.startswith("lm_head.") else prefix + n: x for n, x in theirs.items()}


@pytest.fixture
def arrays(make_arrays) -> dict[str, np.ndarray]:
    """A small UNIMO of PaddleNLP's, with its language head."""
    made = in_their_names(make_arrays(parameters.TYPES, parameters.LANGUAGE_HEAD))
    return made | {DECODER: made["unimo.embeddings.word_embeddings.weight"]}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder of PaddleNLP's: (arrays, config, name of the file with the arrays)."""

    def write(arrays, config=CONFIG, name: str = "model.safetensors") -> Path:
        folder = tmp_path / "theirs"
        folder.mkdir()
        if name.endswith(".npz"):
            np.savez(folder / name, **arrays)
        else:
            save_file(arrays, folder / name, {"format": "np"})
        if config is not None:
            (folder / "config.json").write_text(json.dumps(config))
        return folder

    return write


# ---- the recordings


@pytest.fixture(scope="module")
def recordings(shared_dir: Path) -> Path:
    return shared_dir / "reference" / "paddlenlp"


@pytest.fixture
def recorded_model(recordings: Path, load_converted, tmp_path: Path):
    """Our model and head with the recorded weights, converted by the product."""
    convert("paddlenlp", recordings, tmp_path / "ours")
    return load_converted(tmp_path / "ours")


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def assert_close(found: paddle.Tensor, expected: np.ndarray, rows: np.ndarray) -> None:
    scale = max(1.0, np.abs(expected[rows]).max())
    assert np.abs(found.numpy()[rows] - expected[rows]).max() < TOLERANCE * scale


def assert_recorded(model, head, inputs: dict, expected: dict, prefix: str, rows) -> None:
    encoding = model(**{name: paddle.to_tensor(value) for name, value in inputs.items()})
    for index, hidden in enumerate(encoding.layers):
        assert_close(hidden, expected[f"{prefix}_hidden_{index}"], rows)
    assert_close(encoding.hidden, expected[f"{prefix}_last_hidden"], rows)
    assert_close(head(encoding.hidden), expected[f"{prefix}_logits"], rows)


def test_recorded_reading_is_reproduced(recorded_model, recordings: Path) -> None:
    expected = read(recordings / "forward.npz")
    mask = (expected["bi_attention_mask"][:, 0, 0] == 0).astype("float32")
    inputs = {
        "input_ids": expected["bi_input_ids"],
        "position_ids": expected["bi_position_ids"],
        "type_ids": expected["bi_token_type_ids"],
        "text_mask": mask,
    }
    # Their padded rows see the text, ours see everything evenly: only real rows mean something.
    assert_recorded(*recorded_model, inputs, expected, "bi", mask > 0)


def test_recorded_writing_is_reproduced(recorded_model, recordings: Path) -> None:
    inputs = read(recordings / "decode_inputs.npz")
    expected = read(recordings / "forward.npz")
    real = inputs["input_ids"] != 0
    is_target = (inputs["token_type_ids"] == 1) & real
    feeds = {
        "input_ids": inputs["input_ids"],
        "position_ids": inputs["position_ids"],
        "type_ids": inputs["token_type_ids"],
        "text_mask": real.astype("float32"),
        "text_order": np.cumsum(is_target, axis=1).astype("int64"),
    }
    assert_recorded(*recorded_model, feeds, expected, "s2s", real)


def right_padded(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Their left-padded prompts as our texts: the source, and the target's first token."""
    counts = (inputs["input_ids"] != 0).sum(axis=1)

    def move(values: np.ndarray) -> np.ndarray:
        moved = np.zeros_like(values)
        for row, (value, count) in enumerate(zip(values, counts, strict=True)):
            moved[row, :count] = value[-count:]
        return moved

    types = move(inputs["token_type_ids"])
    return {
        "input_ids": move(inputs["input_ids"]),
        "position_ids": move(inputs["position_ids"]),
        "text_mask": (np.arange(types.shape[1]) < counts[:, None]).astype("float32"),
        "text_order": types,
    }


def generation_of(case: dict) -> GenerationConfig:
    """Their settings of a recorded case as ours."""
    kwargs = dict(case["kwargs"])
    strategy = kwargs.pop("decode_strategy")
    names = {"num_beams": "beam_size", "num_return_sequences": "num_texts"}
    settings = {names.get(name, name): value for name, value in kwargs.items()}
    if strategy == "sampling":
        return GenerationConfig(search="sample", max_length=case["max_new_tokens"], **settings)
    settings = {"beam_size": 1, "length_penalty": 0.0} | settings
    rule = "2k" if strategy == "beam_search" else "original"  # a single beam is greedy
    return GenerationConfig(
        rule=rule, repeats_include_source=True, max_length=case["max_new_tokens"], **settings
    )


def test_recorded_texts_are_written(recorded_model, recordings: Path) -> None:
    model, head = recorded_model
    config = json.loads((recordings / "config.json").read_text())
    forbidden = tuple(config[f"{name}_token_id"] for name in ("unk", "pad", "bos"))
    end_token = config["eos_token_id"]
    vocabulary = Vocabulary(config["vocab_size"], end_token, forbidden)
    feeds = {
        name: paddle.to_tensor(value)
        for name, value in right_padded(read(recordings / "decode_inputs.npz")).items()
    }
    cases = json.loads((recordings / "generate.json").read_text())
    assert len(cases) == 17
    for case in cases:
        writer = Writer(model, head, generation_of(case), vocabulary)
        texts = writer.write(model(**feeds), *feeds.values())
        found = texts.tokens.numpy().reshape(-1, case["max_new_tokens"])
        expected = [[token for token in ids if token != 0] for ids in case["ids"]]
        for ids, row in zip(expected, found, strict=True):
            assert row[: len(ids)].tolist() == ids, case["name"]
            assert set(row[len(ids) :]) <= {end_token}, case["name"]
        if "beam" in case["name"]:  # scores of other searches are means of their own kinds
            scores = np.array(case["scores"])
            np.testing.assert_allclose(texts.scores.numpy().reshape(scores.shape), scores, 1e-4)


def test_recorded_weights_come_back_to_the_bit(recordings: Path, tmp_path: Path) -> None:
    convert("paddlenlp", recordings, tmp_path / "ours")
    convert("ours", tmp_path / "ours" / "step-0", tmp_path / "theirs", destination="paddlenlp")
    found, expected = (
        load_file(tmp_path / "theirs" / "model.safetensors"),
        read(recordings / "state_dict.npz"),
    )
    assert set(found) == set(expected)
    assert [n for n in found if not np.array_equal(found[n], expected[n])] == []
    config = json.loads((recordings / "config.json").read_text())
    written = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert {n: written[n] for n in config if n in written} == {
        n: value for n, value in config.items() if n in written
    }
    assert {"num_attention_heads", "hidden_act", "type_vocab_size"} <= set(written) & set(config)


# ---- reading


@pytest.mark.parametrize("name", ["model.safetensors", "state_dict.npz"])
def test_both_kinds_of_file_are_read(write, arrays, tmp_path: Path, name: str) -> None:
    convert("paddlenlp", write(arrays, name=name), tmp_path / "ours")
    settings = yaml.safe_load((tmp_path / "ours" / "model.yaml").read_text())
    expected = {"first_position": 0, "type_vocab_size": 2, "num_heads": 2, "num_layers": 2}
    assert expected.items() <= settings.items()


def test_positions_are_moved_to_where_the_originals_texts_begin(
    write, arrays, tmp_path: Path
) -> None:
    summary = convert("paddlenlp", write(arrays), tmp_path / "files", destination="original")
    positions = read_parameter(tmp_path / "files" / "pos_embedding")
    theirs = arrays["unimo.embeddings.position_embeddings.weight"]
    np.testing.assert_array_equal(positions[2:], theirs)
    assert not positions[:2].any()
    assert "positions were moved: texts begin at 2 there, here at 0" in summary.notes


def test_the_file_may_be_named_itself(write, arrays, tmp_path: Path) -> None:
    path = write(arrays) / "model.safetensors"
    assert convert("paddlenlp", path, tmp_path / "ours").description.has_language_head


def test_transposed_and_compressed_arrays_are_read(write, arrays) -> None:
    folder = write(arrays)
    turned = {name: np.asfortranarray(values) for name, values in arrays.items()}
    (folder / "model.safetensors").unlink()
    np.savez_compressed(folder / "state_dict.npz", **turned)
    source = open_paddlenlp(folder)
    for name in source.shapes:
        theirs = TABLE.to_theirs(name)
        expected = arrays[theirs if theirs in arrays else f"unimo.{theirs}"]
        np.testing.assert_array_equal(source.read(name), expected)


def test_relu_is_kept(write, arrays, tmp_path: Path) -> None:
    convert("paddlenlp", write(arrays, CONFIG | {"hidden_act": "relu"}), tmp_path / "ours")
    settings = yaml.safe_load((tmp_path / "ours" / "model.yaml").read_text())
    assert settings["activation"] == "relu"


def test_a_model_without_prefix_and_head_is_read(write, make_arrays, tmp_path: Path) -> None:
    folder = write(in_their_names(make_arrays(parameters.TYPES), prefix=""))
    assert convert("paddlenlp", folder, tmp_path / "ours").description.parts == ("type embedding",)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (None, "there is no"),
        ({"num_attention_heads": 2}, "does not give hidden_act"),
        ({"hidden_act": "gelu"}, "does not give num_attention_heads"),
        (CONFIG | {"normalize_before": True}, "normalize_before is True"),
    ],
)
def test_unfit_configs_are_refused(write, arrays, tmp_path: Path, config, reason) -> None:
    with pytest.raises(UserError) as caught:
        convert("paddlenlp", write(arrays, config), tmp_path / "ours")
    assert reason in str(caught.value) and "config.json" in str(caught.value)
    assert not (tmp_path / "ours").exists()


def test_another_decoder_is_refused(write, arrays, tmp_path: Path) -> None:
    arrays[DECODER] = arrays[DECODER] + np.float32(1.0)
    with pytest.raises(UserError, match=r"lm_head\.decoder_weight differs from unimo\.emb"):
        convert("paddlenlp", write(arrays), tmp_path / "ours")


def test_missing_parameters_have_their_names(write, arrays, tmp_path: Path) -> None:
    del arrays["unimo.encoder.layers.1.norm2.bias"]
    with pytest.raises(UserError, match=r"missing: unimo\.encoder\.layers\.1\.norm2\.bias;"):
        convert("paddlenlp", write(arrays), tmp_path / "ours")


# ---- writing


@pytest.fixture
def ours(make_arrays, tmp_path: Path) -> Callable[..., Path]:
    """A checkpoint of ours with more groups: (*groups) -> its path."""

    def make(*groups: parameters.Group) -> Path:
        folder = tmp_path / "original"
        folder.mkdir()
        for name, values in make_arrays(*groups).items():
            write_parameter(folder / name, values)
        convert("original", folder, tmp_path / "ours", num_heads=2)
        return tmp_path / "ours" / "step-0"

    return make


def test_positions_and_token_types_are_fitted(ours, make_arrays, tmp_path: Path) -> None:
    path = ours(parameters.LANGUAGE_HEAD)
    summary = convert("ours", path, tmp_path / "theirs", destination="paddlenlp")
    written = load_file(tmp_path / "theirs" / "model.safetensors")
    positions = make_arrays(parameters.LANGUAGE_HEAD)["pos_embedding"]
    found = written["unimo.embeddings.position_embeddings.weight"]
    np.testing.assert_array_equal(found, positions[2:])
    np.testing.assert_array_equal(written["unimo.embeddings.token_type_embeddings.weight"], 0.0)
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert (config["max_position_embeddings"], config["type_vocab_size"]) == (10, 2)
    assert "positions below 2" in str(summary.notes) and "token types" in str(summary.notes)


def test_what_it_has_no_place_for_is_told(ours, tmp_path: Path) -> None:
    path = ours(parameters.IMAGES, parameters.TEXT_POOLER)
    summary = convert("ours", path, tmp_path / "theirs", destination="paddlenlp")
    assert "no such part (8): image_emb.b_0, image_emb.w_0" in str(summary.notes)
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert config["architectures"] == ["UNIMOModel"]


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ([parameters.DIALOGUE], "has role and turn embeddings, which PaddleNLP's UNIMO cannot"),
        ([parameters.LANGUAGE_HEAD, parameters.UNTIED_WORDS], "has output words that are not"),
    ],
)
def test_what_it_cannot_compute_is_refused(ours, tmp_path: Path, groups, reason: str) -> None:
    path = ours(*groups)
    with pytest.raises(UserError) as caught:
        convert("ours", path, tmp_path / "theirs", destination="paddlenlp")
    assert reason in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["original", "ours"]


# ---- live


def test_paddlenlp_itself_loads_and_agrees(load_converted, tmp_path: Path) -> None:
    reason = "needs the extra [paddlenlp], which is not installed"
    transformers = pytest.importorskip("paddlenlp.transformers", reason=reason)
    config = transformers.UNIMOConfig(
        **{"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 64},
        **CONFIG,
        **{"max_position_embeddings": 12, "type_vocab_size": 2},
    )
    theirs = transformers.UNIMOLMHeadModel(config)
    theirs.eval()
    folder = tmp_path / "theirs"
    folder.mkdir()
    arrays = {name: value.numpy() for name, value in theirs.state_dict().items()}
    np.savez(folder / "state_dict.npz", **arrays)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    convert("paddlenlp", folder, tmp_path / "ours")
    model, head = load_converted(tmp_path / "ours")

    ids = paddle.to_tensor(np.random.RandomState(0).randint(4, 50, (2, 6)))
    feeds = {
        "position_ids": paddle.tile(paddle.arange(6), [2, 1]),
        "token_type_ids": paddle.zeros_like(ids),
        "attention_mask": paddle.zeros([2, 1, 1, 6]),
    }
    hidden = model(ids, None, paddle.ones([2, 6]), type_ids=feeds["token_type_ids"]).hidden
    expected = theirs(ids, **feeds)
    everything = np.ones((2, 6), bool)
    assert_close(head(hidden), expected.numpy(), everything)

    shutil.rmtree(folder)
    convert("ours", tmp_path / "ours" / "step-0", folder, destination="paddlenlp")
    again = transformers.UNIMOLMHeadModel.from_pretrained(str(folder))
    again.eval()
    assert_close(again(ids, **feeds), expected.numpy(), everything)
