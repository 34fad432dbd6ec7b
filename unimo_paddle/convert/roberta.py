"""RoBERTa as Hugging Face names it: the text half of UNIMO under other names.

The encoder and the language head are the same function (GELU by erf, a norm after each sum, the
vocabulary in fairseq's order, positions from 2), so most of it is a change of names. Three things
differ:

- A linear layer's matrix there is [out, in], here [in, out].
- RoBERTa adds its one token type row t to every word. UNIMO has no such row, so t is added to
  every row of the word embedding. The language head shares that embedding, so each of its logits
  changes from h.w to h.(w + t): all by the same h.t, which softmax ignores. Every probability, and
  with it every loss and every text written, stays what it was.
- RoBERTa pools with tanh, UNIMO with ReLU: that pooler is of no use here and is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unimo_paddle.convert.arrays import Arrays, check_equal, open_arrays
from unimo_paddle.convert.names import NameTable, match_names, without_prefix
from unimo_paddle.convert.parameters import check_names
from unimo_paddle.convert.sources import Source, leave_out, read_config, translate_settings
from unimo_paddle.errors import UserError

PREFIX = "roberta."
CONFIG_NAME = "config.json"
FIRST_POSITION = 2  # padding has position 1, as fairseq counts
WORDS, HEAD_BIAS = "word_embedding", "mask_lm_out_fc.b_0"  # ours
TOKEN_TYPES = "embeddings.token_type_embeddings.weight"
DECODER_WEIGHT, DECODER_BIAS = "lm_head.decoder.weight", "lm_head.decoder.bias"
POOLER = ("pooler.dense.weight", "pooler.dense.bias")
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
TABLE = NameTable(
    layers="encoder.layer.",
    of_a_layer={
        "attention.self.query": "multi_head_att_query_fc",
        "attention.self.key": "multi_head_att_key_fc",
        "attention.self.value": "multi_head_att_value_fc",
        "attention.output.dense": "multi_head_att_output_fc",
        "attention.output.LayerNorm": "post_att_layer_norm",
        "intermediate.dense": "ffn_fc_0",
        "output.dense": "ffn_fc_1",
        "output.LayerNorm": "post_ffn_layer_norm",
    },
    of_the_model={
        "embeddings.LayerNorm": "pre_encoder_layer_norm",
        "lm_head.dense": "mask_lm_trans_fc",
        "lm_head.layer_norm": "mask_lm_trans_layer_norm",
    },
    single={
        "embeddings.word_embeddings.weight": WORDS,
        "embeddings.position_embeddings.weight": "pos_embedding",
        "lm_head.bias": HEAD_BIAS,
    },
)


def open_roberta(path: Path, *, skip: Sequence[str] = ()) -> Source:
    """Open a safetensors file of RoBERTa, or the folder that holds ``model.safetensors``."""
    arrays = open_arrays(path, ("model.safetensors",))
    kept, notes = leave_out(arrays.shapes, skip, arrays.path)
    names = without_prefix(kept, PREFIX, arrays.path)
    apart = (TOKEN_TYPES, DECODER_WEIGHT, DECODER_BIAS, *POOLER, *BUFFERS)
    origins = match_names(TABLE, names, arrays.path, apart=apart)
    if DECODER_BIAS in names:
        origins.setdefault(HEAD_BIAS, names[DECODER_BIAS])
        check_equal(arrays, names[DECODER_BIAS], origins[HEAD_BIAS])
    if DECODER_WEIGHT in names:
        check_names(arrays.path, missing=[n for n in (WORDS, HEAD_BIAS) if n not in origins])
        check_equal(arrays, names[DECODER_WEIGHT], origins[WORDS])
    token_type = _read_token_type(arrays, names, origins)
    transposed = {name for name in origins if name.endswith(".w_0")}

    def read(name: str) -> np.ndarray:
        values = arrays.read(origins[name])
        if name == WORDS:
            return values + token_type
        return np.ascontiguousarray(values.T) if name in transposed else values

    notes += ("the token type row was added to every row of the word embedding: no output changes",)
    pooler = [names[name] for name in POOLER if name in names]
    if pooler:
        notes += (f"left out, for UNIMO pools with ReLU and not with tanh: {', '.join(pooler)}",)
    if DECODER_WEIGHT in names:
        notes += (f"left out, for it equals the word embedding: {DECODER_WEIGHT}",)
    buffers = [names[name] for name in BUFFERS if name in names]
    if buffers:
        notes += (f"left out, for they only count: {', '.join(buffers)}",)
    shapes = {
        ours: arrays.shapes[theirs][::-1] if ours in transposed else arrays.shapes[theirs]
        for ours, theirs in origins.items()
    }
    settings = _settings(arrays.path.parent / CONFIG_NAME)
    return Source(arrays.path, shapes, read, settings, notes, label=TABLE.to_theirs)


def _read_token_type(
    arrays: Arrays, names: Mapping[str, str], origins: Mapping[str, str]
) -> np.ndarray:
    """The one row that RoBERTa adds to every word: [1, D]."""
    check_names(arrays.path, missing=[name for name in (TOKEN_TYPES,) if name not in names])
    shape = arrays.shapes[names[TOKEN_TYPES]]
    words = arrays.shapes.get(origins.get(WORDS, ""), ())
    if len(words) == 2 and shape != (1, words[-1]):
        wrong = f"{names[TOKEN_TYPES]} is {list(shape)} instead of {[1, words[-1]]}"
        check_names(arrays.path, misshapen=[wrong])
    return arrays.read(names[TOKEN_TYPES])


def _settings(path: Path) -> dict[str, Any]:
    """The settings that shapes do not tell; RoBERTa's own where there is no ``config.json``."""
    settings: dict[str, Any] = {"first_position": FIRST_POSITION, "activation": "gelu"}
    if not path.is_file():
        return settings
    config = read_config(path)
    kind = config.get("position_embedding_type", "absolute")
    if kind != "absolute":
        raise UserError(f"{path}: position_embedding_type is {kind!r}; only 'absolute' is UNIMO's")
    return settings | translate_settings(config, path)
