"""Captions by Hugging Face's generate with our weights."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file
from torch.nn import functional as F
from transformers import BertConfig, BertLMHeadModel, DynamicCache

from unimo_paddle.benchmarks.decoding import (
    FIRST_POSITION,
    NUM_BEAMS,
    NUM_TOKENS,
    WEIGHTS_NAME,
    Inputs,
    Sizes,
)

_CLS_ID, _PAD_ID, _SEP_ID = 0, 1, 2
_EPSILON = 1e-5
# Of our name and Hugging Face's, in each layer.
_LINEARS = {
    "multi_head_att_query_fc": "attention.self.query",
    "multi_head_att_key_fc": "attention.self.key",
    "multi_head_att_value_fc": "attention.self.value",
    "multi_head_att_output_fc": "attention.output.dense",
    "ffn_fc_0": "intermediate.dense",
    "ffn_fc_1": "output.dense",
}
_NORMS = {
    "post_att_layer_norm": "attention.output.LayerNorm",
    "post_ffn_layer_norm": "output.LayerNorm",
}


@functools.cache
def _load(sizes: Sizes, folder: str, num_regions: int) -> tuple[BertLMHeadModel, dict]:
    """The model, and our weights as tensors.

    Positions count the regions, too, which have none with us: the table begins with them.
    """
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    arrays = load_file(Path(folder) / WEIGHTS_NAME)
    weights = {name: torch.from_numpy(value) for name, value in arrays.items()}
    config = BertConfig(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.hidden_size,
        num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads,
        intermediate_size=4 * sizes.hidden_size,
        max_position_embeddings=num_regions + NUM_TOKENS + 1,
        type_vocab_size=1,
        layer_norm_eps=_EPSILON,
        is_decoder=True,
        bos_token_id=_CLS_ID,
        pad_token_id=_PAD_ID,
        eos_token_id=_SEP_ID,
    )
    model = BertLMHeadModel(config).eval()
    count = num_regions + NUM_TOKENS + 1
    positions = torch.zeros(count, sizes.hidden_size)
    shown = weights["pos_embedding"][FIRST_POSITION:]
    positions[num_regions:] = shown[: count - num_regions]
    state = {
        "bert.embeddings.word_embeddings.weight": weights["word_embedding"],
        "bert.embeddings.position_embeddings.weight": positions,
        "bert.embeddings.token_type_embeddings.weight": torch.zeros(1, sizes.hidden_size),
        **_norm("bert.embeddings.LayerNorm", weights, "pre_encoder_layer_norm"),
        **_linear("cls.predictions.transform.dense", weights, "mask_lm_trans_fc"),
        **_norm("cls.predictions.transform.LayerNorm", weights, "mask_lm_trans_layer_norm"),
        "cls.predictions.bias": weights["mask_lm_out_fc.b_0"],
        "cls.predictions.decoder.weight": weights["word_embedding"],
        "cls.predictions.decoder.bias": weights["mask_lm_out_fc.b_0"],
    }
    for i in range(sizes.num_layers):
        for ours, theirs in _LINEARS.items():
            state |= _linear(
                f"bert.encoder.layer.{i}.{theirs}", weights, f"encoder_layer_{i}_{ours}"
            )
        for ours, theirs in _NORMS.items():
            state |= _norm(f"bert.encoder.layer.{i}.{theirs}", weights, f"encoder_layer_{i}_{ours}")
    model.load_state_dict(state, strict=True)
    return model, weights


def _linear(theirs: str, weights: dict, ours: str) -> dict[str, torch.Tensor]:
    weight = weights[f"{ours}.w_0"].T.contiguous()
    return {f"{theirs}.weight": weight, f"{theirs}.bias": weights[f"{ours}.b_0"]}


def _norm(theirs: str, weights: dict, ours: str) -> dict[str, torch.Tensor]:
    return {
        f"{theirs}.weight": weights[f"{ours}_scale"],
        f"{theirs}.bias": weights[f"{ours}_bias"],
    }


class HuggingFace:
    """The regions fill a cache; generate goes on from it and skips the words in their place."""

    def __init__(self, inputs: Inputs) -> None:
        case = inputs.case
        self.model, self.weights = _load(case.sizes, case.folder, case.num_regions)
        self.features = torch.from_numpy(inputs.features)
        self.boxes = torch.from_numpy(inputs.boxes)
        self.ids = torch.full((case.batch, case.num_regions + 1), _PAD_ID)
        self.ids[:, -1] = _CLS_ID

    @staticmethod
    def versions() -> dict[str, str]:
        """What the figures depend on."""
        return {"torch": torch.__version__, "transformers": transformers.__version__}

    def run(self) -> np.ndarray:
        """Encode and generate."""
        with torch.inference_mode():
            cache = self._encode()
            cache.batch_repeat_interleave(NUM_BEAMS)
            texts = self.model.generate(
                self.ids,
                attention_mask=torch.ones_like(self.ids),
                cache=cache,
                num_beams=NUM_BEAMS,
                do_sample=False,
                max_new_tokens=NUM_TOKENS,
                min_new_tokens=NUM_TOKENS - 1,
            )
        return texts[:, self.ids.shape[1] :].numpy()

    def results(self) -> np.ndarray:
        """The best text of each image [B, T]."""
        return self.run()

    def _encode(self) -> DynamicCache:
        """Keys and values of the regions, which see each other."""
        weights, cache = self.weights, DynamicCache(config=self.model.config)
        projected = self.features @ weights["image_emb.w_0"] + weights["image_emb.b_0"]
        places = self.boxes @ weights["image_loc.w_0"] + weights["image_loc.b_0"]
        scale, bias = (weights[f"v_pre_encoder_layer_norm_{part}"] for part in ("scale", "bias"))
        hidden = F.layer_norm(projected + places, scale.shape, scale, bias, _EPSILON)
        batch, count, _ = hidden.shape
        visible = torch.zeros(batch, 1, count, count)  # a mask, so that none is made up
        for layer in self.model.bert.encoder.layer:
            hidden = layer(hidden, attention_mask=visible, cache=cache)
        return cache
