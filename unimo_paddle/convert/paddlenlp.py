"""PaddleNLP's UNIMO, a model of texts, both ways.

Matrices are [in, out] on both sides, so it is a change of names. Two things differ: PaddleNLP
counts positions from 0, and has token types. Its own checkpoints (``.pdparams``) are pickles and
are not read; it loads the safetensors that are written here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from unimo_paddle.convert.arrays import check_equal, open_arrays
from unimo_paddle.convert.names import NameTable, match_names, without_prefix
from unimo_paddle.convert.parameters import Description, check_names, list_names
from unimo_paddle.convert.sources import (
    Source,
    foreign_settings,
    leave_out,
    read_config,
    translate_settings,
)
from unimo_paddle.errors import UserError

PREFIX = "unimo."
WEIGHT_NAMES = ("model.safetensors", "model_state.safetensors", "state_dict.npz")
CONFIG_NAME = "config.json"
DECODER_WEIGHT = "lm_head.decoder_weight"
WORDS, HEAD_BIAS = "word_embedding", "mask_lm_out_fc.b_0"
NUM_TOKEN_TYPES = 2  # source and target
ACTIVATIONS = ("gelu", "relu", "silu", "tanh")  # ours that it has under the same names
EPSILON = 1e-5  # of its layer norms, which cannot be set
TABLE = NameTable(
    layers="encoder.layers.",
    of_a_layer={
        "self_attn.q_proj": "multi_head_att_query_fc",
        "self_attn.k_proj": "multi_head_att_key_fc",
        "self_attn.v_proj": "multi_head_att_value_fc",
        "self_attn.out_proj": "multi_head_att_output_fc",
        "norm1": "post_att_layer_norm",
        "linear1": "ffn_fc_0",
        "linear2": "ffn_fc_1",
        "norm2": "post_ffn_layer_norm",
    },
    of_the_model={
        "encoder_norm": "pre_encoder_layer_norm",
        "lm_head.transform": "mask_lm_trans_fc",
        "lm_head.layer_norm": "mask_lm_trans_layer_norm",
    },
    single={
        "embeddings.word_embeddings.weight": WORDS,
        "embeddings.position_embeddings.weight": "pos_embedding",
        "embeddings.token_type_embeddings.weight": "type_embedding",
        "lm_head.decoder_bias": HEAD_BIAS,
    },
)


def open_paddlenlp(path: Path, *, skip: Sequence[str] = ()) -> Source:
    """Open PaddleNLP's UNIMO: a folder, or a file beside which ``config.json`` lies."""
    arrays = open_arrays(path, WEIGHT_NAMES)
    kept, notes = leave_out(arrays.shapes, skip, arrays.path)
    names = without_prefix(kept, PREFIX, arrays.path)
    origins = match_names(TABLE, names, arrays.path, apart=(DECODER_WEIGHT,))
    if DECODER_WEIGHT in names:
        check_names(arrays.path, missing=[n for n in (WORDS, HEAD_BIAS) if n not in origins])
        check_equal(arrays, names[DECODER_WEIGHT], origins[WORDS])
        notes += (f"left out, for it equals the word embedding: {names[DECODER_WEIGHT]}",)
    return Source(
        arrays.path,
        {ours: arrays.shapes[theirs] for ours, theirs in origins.items()},
        lambda name: arrays.read(origins[name]),
        {"first_position": 0} | _settings(arrays.path.parent / CONFIG_NAME),
        notes,
        label=_label,
    )


def _label(name: str) -> str | None:
    theirs = TABLE.to_theirs(name)
    return theirs if theirs is None or theirs.startswith("lm_head.") else PREFIX + theirs


def _settings(path: Path) -> dict[str, Any]:
    """The settings in ``config.json``, which cannot be left out: shapes tell no activation."""
    if not path.is_file():
        raise UserError(
            f"there is no {path}; put PaddleNLP's there: it says hidden_act and "
            "num_attention_heads, which the arrays do not"
        )
    config = read_config(path)
    for key in ("hidden_act", "num_attention_heads"):
        if key not in config:
            raise UserError(f"{path} does not give {key}; add it as the model was trained with it")
    if config.get("normalize_before"):
        raise UserError(
            f"{path}: normalize_before is {config['normalize_before']!r}; this model norms after "
            "each sum: such weights cannot be converted"
        )
    return translate_settings(config, path)


def write_paddlenlp(
    folder: Path, source: Source, description: Description, settings: dict[str, Any]
) -> tuple[str, ...]:
    """Write ``model.safetensors`` and ``config.json`` into ``folder``; return what was changed.

    What PaddleNLP has no place for is left out and told; what would make it compute something
    else is a ``UserError``.
    """
    _check_convertible(source.path, settings)
    arrays, left_out = {}, []
    for name in source.shapes:
        theirs = _label(name)
        if theirs is None:
            left_out.append(name)
        else:
            arrays[theirs] = source.read(name)
    notes = []
    if left_out:
        notes.append(
            f"left out, for PaddleNLP's UNIMO has no such part ({len(left_out)}): "
            f"{list_names(left_out)}"
        )
    positions, first = PREFIX + "embeddings.position_embeddings.weight", settings["first_position"]
    if first:
        arrays[positions] = arrays[positions][first:]
        notes.append(f"left out, for PaddleNLP counts from 0: positions below {first}")
    types = PREFIX + "embeddings.token_type_embeddings.weight"
    if types not in arrays:
        arrays[types] = np.zeros((NUM_TOKEN_TYPES, settings["hidden_size"]), np.float32)
        notes.append(f"added, for PaddleNLP wants them: {NUM_TOKEN_TYPES} token types of zeros")
    if description.has_language_head:
        arrays[DECODER_WEIGHT] = arrays[PREFIX + "embeddings.word_embeddings.weight"]
    shapes = {name: values.shape for name, values in arrays.items()}
    config = foreign_settings(settings) | {
        "model_type": "unimo",
        "architectures": ["UNIMOLMHeadModel" if description.has_language_head else "UNIMOModel"],
        "normalize_before": False,
        "max_position_embeddings": shapes[positions][0],
        "type_vocab_size": shapes[types][0],
    }
    # PaddleNLP reads arrays that say they are NumPy's.
    save_file(dict(sorted(arrays.items())), folder / "model.safetensors", {"format": "np"})
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    notes.append("config.json names no special tokens: add bos_token_id and others of your words")
    return tuple(notes)


def _check_convertible(path: Path, settings: Mapping[str, Any]) -> None:
    """Refuse what would make PaddleNLP's UNIMO compute something else from the same text."""
    lacking = {
        "role and turn embeddings": settings["num_roles"] or settings["num_turns"],
        "output words that are not the word embedding": not settings["tie_word_embeddings"],
        f"the activation {settings['activation']}": settings["activation"] not in ACTIVATIONS,
        f"a layer_norm_eps of {settings['layer_norm_eps']}": settings["layer_norm_eps"] != EPSILON,
    }
    found = [what for what, is_there in lacking.items() if is_there]
    if found:
        raise UserError(
            f"{path} has {' and '.join(found)}, which PaddleNLP's UNIMO cannot have; keep it here, "
            "or convert it to the original's format"
        )
