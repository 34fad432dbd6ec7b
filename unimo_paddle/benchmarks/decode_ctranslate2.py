"""Texts by CTranslate2 from a decoder of the size of ours."""

from __future__ import annotations

import functools
import os
import tempfile

import ctranslate2
import numpy as np
from ctranslate2.specs import TransformerDecoderModelSpec
from ctranslate2.specs.common_spec import Activation

from unimo_paddle.benchmarks.decoding import NUM_BEAMS, NUM_TOKENS, Inputs, Sizes

_SCALE = 0.02  # of random weights


@functools.cache
def _load(sizes: Sizes) -> ctranslate2.Generator:
    """A post-norm decoder without cross attention, as ours is, its output tied to its words."""
    spec = TransformerDecoderModelSpec.from_config(
        sizes.num_layers,
        sizes.num_heads,
        pre_norm=False,
        activation=Activation.GELU,
        layernorm_embedding=True,
        no_final_norm=True,
    )
    generator = np.random.default_rng(0)
    size = sizes.hidden_size

    def linear(layer: object, before: int, after: int) -> None:
        layer.weight = _SCALE * generator.standard_normal((after, before), dtype="float32")
        layer.bias = np.zeros(after, np.float32)

    def norm(layer: object) -> None:
        layer.gamma, layer.beta = np.ones(size, np.float32), np.zeros(size, np.float32)

    decoder = spec.decoder
    words = _SCALE * generator.standard_normal((sizes.vocab_size, size), dtype="float32")
    decoder.embeddings.weight = words
    decoder.position_encodings.encodings = _SCALE * generator.standard_normal(
        (512, size), dtype="float32"
    )
    decoder.scale_embeddings = False
    norm(decoder.layernorm_embedding)
    for layer in decoder.layer:
        linear(layer.self_attention.linear[0], size, 3 * size)
        linear(layer.self_attention.linear[1], size, size)
        norm(layer.self_attention.layer_norm)
        linear(layer.ffn.linear_0, size, 4 * size)
        linear(layer.ffn.linear_1, 4 * size, size)
        norm(layer.ffn.layer_norm)
    decoder.projection.weight = words
    decoder.projection.bias = np.zeros(sizes.vocab_size, np.float32)
    spec.config.bos_token, spec.config.eos_token, spec.config.unk_token = "w0", "w2", "w3"
    spec.register_vocabulary([f"w{i}" for i in range(sizes.vocab_size)])
    with tempfile.TemporaryDirectory() as folder:
        spec.validate()
        spec.save(folder)
        return ctranslate2.Generator(
            folder,
            compute_type="float32",
            inter_threads=1,
            intra_threads=int(os.environ["OMP_NUM_THREADS"]),
        )


class EqualSize:
    """A prompt of a word in the place of every region, and one in the place of [CLS]."""

    def __init__(self, inputs: Inputs) -> None:
        case = inputs.case
        self.generator = _load(case.sizes)
        ids = np.random.default_rng(1).integers(
            3, case.sizes.vocab_size, (case.batch, case.num_regions)
        )
        self.prompts = [[*(f"w{i}" for i in row), "w0"] for row in ids]

    @staticmethod
    def versions() -> dict[str, str]:
        """What the figures depend on."""
        return {"ctranslate2": ctranslate2.__version__}

    def run(self) -> np.ndarray:
        """Read the prompts and write."""
        texts = self.generator.generate_batch(
            self.prompts,
            max_batch_size=len(self.prompts),
            beam_size=NUM_BEAMS,
            max_length=NUM_TOKENS,
            min_length=NUM_TOKENS,
            include_prompt_in_result=False,
        )
        return np.array([text.sequences_ids[0] for text in texts])

    def results(self) -> np.ndarray:
        """The best text of each prompt [B, T]."""
        return self.run()
