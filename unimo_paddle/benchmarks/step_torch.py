"""Updates of an equal model in PyTorch, from the same weights."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from unimo_paddle.benchmarks.step import (
    BETAS,
    CLIP_NORM,
    EPSILON,
    FIRST_POSITION,
    LEARNING_RATE,
    NUM_COMPARED,
    WEIGHT_DECAY,
    WEIGHTS_NAME,
    Inputs,
    StepSizes,
)

Weights = dict[str, Tensor]  # of ours, by name


def _linear(weights: Weights, *names: str) -> nn.Linear:
    """A layer that does what ours of these names do, side by side."""
    matrix = torch.cat([weights[f"{name}.w_0"] for name in names], dim=1)
    layer = nn.Linear(*matrix.shape)
    layer.weight.data.copy_(matrix.T)
    layer.bias.data.copy_(torch.cat([weights[f"{name}.b_0"] for name in names]))
    return layer


def _norm(weights: Weights, name: str) -> nn.LayerNorm:
    layer = nn.LayerNorm(len(weights[f"{name}_scale"]), eps=1e-5)
    layer.weight.data.copy_(weights[f"{name}_scale"])
    layer.bias.data.copy_(weights[f"{name}_bias"])
    return layer


class _Layer(nn.Module):
    def __init__(self, weights: Weights, name: str, num_heads: int) -> None:
        super().__init__()
        parts = [f"{name}_multi_head_att_{part}_fc" for part in ("query", "key", "value")]
        self.num_heads = num_heads
        self.joined = _linear(weights, *parts)
        self.output = _linear(weights, f"{name}_multi_head_att_output_fc")
        self.attention_norm = _norm(weights, f"{name}_post_att_layer_norm")
        self.expand = _linear(weights, f"{name}_ffn_fc_0")
        self.contract = _linear(weights, f"{name}_ffn_fc_1")
        self.output_norm = _norm(weights, f"{name}_post_ffn_layer_norm")

    def forward(self, hidden: Tensor) -> Tensor:
        batch, length, width = hidden.shape
        shape = (batch, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = self.joined(hidden).view(shape).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        joined = attended.transpose(1, 2).reshape(batch, length, width)
        hidden = self.attention_norm(hidden + self.output(joined))
        return self.output_norm(hidden + self.contract(F.gelu(self.expand(hidden))))


class _Model(nn.Module):
    def __init__(self, weights: Weights, sizes: StepSizes) -> None:
        super().__init__()
        self.words = nn.Embedding.from_pretrained(weights["word_embedding"], freeze=False)
        self.positions = nn.Embedding.from_pretrained(weights["pos_embedding"], freeze=False)
        self.text_norm = _norm(weights, "pre_encoder_layer_norm")
        self.feature = _linear(weights, "image_emb")
        self.location = _linear(weights, "image_loc")
        self.image_norm = _norm(weights, "v_pre_encoder_layer_norm")
        layers = range(sizes.num_layers)
        self.layers = nn.ModuleList(
            _Layer(weights, f"encoder_layer_{number}", sizes.num_heads) for number in layers
        )
        self.transform = _linear(weights, "mask_lm_trans_fc")
        self.transform_norm = _norm(weights, "mask_lm_trans_layer_norm")
        self.word_bias = nn.Parameter(weights["mask_lm_out_fc.b_0"].clone())
        self.image_projection = _linear(weights, "image_projection")
        self.text_projection = _linear(weights, "text_projection")
        self.log_scale = nn.Parameter(weights["log_inverse_temperature"].clone())

    def encode(self, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden

    def forward(
        self,
        features: Tensor,
        boxes: Tensor,
        ids: Tensor,
        hidden_ids: Tensor,
        positions: Tensor,
        labels: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The losses of words and of contrast."""
        count = features.shape[1]
        places = self.positions.weight[FIRST_POSITION : FIRST_POSITION + ids.shape[1]]
        image = self.image_norm(self.feature(features) + self.location(boxes))
        text = self.text_norm(self.words(ids) + places)
        hidden_text = self.text_norm(self.words(hidden_ids) + places)
        rows = self.encode(torch.cat([image, hidden_text], dim=1))[:, count:]
        chosen = rows.gather(1, positions.unsqueeze(-1).expand(-1, -1, rows.shape[-1]))
        transformed = self.transform_norm(F.gelu(self.transform(chosen.flatten(0, 1))))
        logits = F.linear(transformed, self.words.weight, self.word_bias)
        words = F.cross_entropy(logits, labels.flatten())
        images = F.normalize(self.image_projection(self.encode(image)[:, 0]), dim=-1)
        texts = F.normalize(self.text_projection(self.encode(text)[:, 0]), dim=-1)
        scores = self.log_scale.exp() * images @ texts.T
        own = torch.arange(len(scores))
        contrast = 0.5 * (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own))
        return words, contrast


class Eager:
    """One update after the other, of the same batch."""

    def __init__(self, inputs: Inputs) -> None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        case = inputs.case
        self._model = _Model(load_file(Path(case.folder) / WEIGHTS_NAME), case.sizes)
        self._compute = self._model
        decayed = [x for x in self._model.parameters() if x.dim() > 1 or x is self._scale]
        others = [x for x in self._model.parameters() if x.dim() == 1 and x is not self._scale]
        groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(
            groups,
            lr=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            betas=BETAS,
            eps=EPSILON,
            fused=True,
        )
        labels = np.take_along_axis(inputs.ids, inputs.positions, axis=1)
        self._batch = [torch.from_numpy(x) for x in (*inputs[1:], labels)]
        self._losses: list[list[float]] = []

    @property
    def _scale(self) -> Tensor:
        """Our rule decays all but biases and norms."""
        return self._model.log_scale

    @staticmethod
    def versions() -> dict[str, str]:
        """What the figures depend on."""
        return {"torch": torch.__version__}

    def run(self) -> None:
        """An update."""
        words, contrast = self._compute(*self._batch)
        self._optimizer.zero_grad(set_to_none=True)
        (words + contrast).backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), CLIP_NORM)
        self._optimizer.step()
        self._losses.append([float(words.detach()), float(contrast.detach())])

    def results(self) -> np.ndarray:
        """The losses of the first updates: [updates, 2]."""
        return np.array(self._losses[:NUM_COMPARED])


class Compiled(Eager):
    """The same, compiled."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self._compute = torch.compile(self._model, fullgraph=True)
