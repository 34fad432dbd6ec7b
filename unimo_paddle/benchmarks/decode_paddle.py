"""Captions in Paddle: our exported graph, and the same weights stepped from Python."""

from __future__ import annotations

import functools
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import Tensor
from paddle.nn import functional as F
from safetensors.numpy import load_file, save_file

from unimo_paddle import distributed
from unimo_paddle.benchmarks.decoding import (
    NUM_BEAMS,
    NUM_TOKENS,
    WEIGHTS_NAME,
    Inputs,
    Sizes,
)
from unimo_paddle.data.images import ImageConfig
from unimo_paddle.data.text import CLS_ID, SEP_ID
from unimo_paddle.models import ModelConfig
from unimo_paddle.models.search import GenerationConfig
from unimo_paddle.ops.beam_search import beam_search_step
from unimo_paddle.predictor import load_graph
from unimo_paddle.process import tune_process
from unimo_paddle.program import Runner, build_forward
from unimo_paddle.tasks.captioning import CaptionDataConfig, CaptioningConfig, CaptioningTask
from unimo_paddle.tasks.writing import write_texts


def _make_task(
    sizes: Sizes, folder: Path, num_beams: int = NUM_BEAMS, num_tokens: int = NUM_TOKENS
) -> CaptioningTask:
    """Captions of regions; no end before the last token, so that all write as many."""
    model = ModelConfig(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.hidden_size,
        num_layers=sizes.num_layers,
        num_heads=sizes.num_heads,
        region_feature_size=sizes.feature_size,
    )
    image = ImageConfig(kind="regions", feature_size=sizes.feature_size)
    generation = GenerationConfig(
        rule="2k", beam_size=num_beams, max_length=num_tokens, min_length=num_tokens - 1
    )
    data = CaptionDataConfig(with_tags=False, image=image)
    return CaptioningConfig(data=data, generation=generation).build(model, folder)


def _feeds(task: CaptioningTask, inputs: Inputs) -> dict[str, np.ndarray]:
    batch, count, _ = inputs.features.shape
    return {
        "region_features": inputs.features,
        "region_boxes": inputs.boxes,
        "region_mask": np.ones((batch, count), np.float32),
        "input_ids": np.full((batch, 1), CLS_ID),
        "position_ids": np.full((batch, 1), task.model.first_position),
        "text_mask": np.ones((batch, 1), np.float32),
        "text_order": np.ones((batch, 1), np.int64),
    }


class _Form(ABC):
    """A caption of ``NUM_TOKENS`` tokens for each image."""

    @staticmethod
    def versions() -> dict[str, str]:
        """What the figures depend on."""
        return {"paddle": paddle.__version__}

    def results(self) -> np.ndarray:
        """The best text of each image [B, T]."""
        return self.run()

    @abstractmethod
    def run(self) -> np.ndarray:
        """Write."""


@functools.cache
def _export(
    sizes: Sizes, folder: Path, num_beams: int, num_tokens: int
) -> tuple[CaptioningTask, Any]:
    """The graph in Paddle Inference; its weights, fresh ones, go into the folder."""
    tune_process()
    distributed.start()
    task = _make_task(sizes, folder, num_beams, num_tokens)

    def write(network: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return write_texts(network, batch, task.generation, end_token=SEP_ID)

    runner = Runner()
    program = build_forward(task, task.writing_inputs, write)
    runner.start(program)
    save_file(runner.state([program]), folder / WEIGHTS_NAME)
    with tempfile.TemporaryDirectory() as graph, paddle.static.scope_guard(runner.scope):
        paddle.static.save_inference_model(
            f"{graph}/captions",
            list(program.feeds.values()),
            list(program.fetches.values()),
            runner.executor,
            program=program.main,
        )
        return task, load_graph(Path(graph) / "captions")


class Exported(_Form):
    """Our graph."""

    def __init__(self, inputs: Inputs) -> None:
        case = inputs.case
        folder = Path(case.folder)
        task, self.predictor = _export(case.sizes, folder, case.num_beams, case.num_tokens)
        self.feeds = _feeds(task, inputs)

    def run(self) -> np.ndarray:
        """Feed, run, fetch."""
        for name in self.predictor.get_input_names():
            self.predictor.get_input_handle(name).copy_from_cpu(self.feeds[name])
        self.predictor.run()
        names = self.predictor.get_output_names()
        return self.predictor.get_output_handle(names[0]).copy_to_cpu()[:, 0]


@functools.cache
def _network(sizes: Sizes, folder: Path) -> tuple[CaptioningTask, Any]:
    """The dynamic network with the weights of the folder."""
    tune_process()
    task = _make_task(sizes, folder)
    network = task.build_network()
    network.eval()
    weights = load_file(folder / WEIGHTS_NAME)
    for parameter in network.parameters():
        parameter.set_value(weights[parameter.name])
    return task, network


class Stepped(_Form):
    """What is usually written by hand: a cache for every beam, picked anew at every step."""

    def __init__(self, inputs: Inputs) -> None:
        task, self.network = _network(inputs.case.sizes, Path(inputs.case.folder))
        feeds = _feeds(task, inputs)
        self.feeds = {name: paddle.to_tensor(value) for name, value in feeds.items()}
        self.batch = inputs.case.batch
        self.first_position = task.model.first_position

    def run(self) -> np.ndarray:
        """Encode, then a step for each token."""
        with paddle.no_grad():
            return self._write().numpy()

    def _write(self) -> Tensor:
        network, beams = self.network, NUM_BEAMS
        encoding = network.transformer(**self.feeds)
        caches = [
            tuple(part.repeat_interleave(beams, axis=1) for part in memory)
            for memory in encoding.memories
        ]  # of [H, B * K, L, d]
        logits = network.head(encoding.text[:, 0]).repeat_interleave(beams, axis=0)
        scores = paddle.full([self.batch, beams], -1e4)
        scores[:, 0] = 0.0
        finished = paddle.zeros([self.batch, beams], "bool")
        first_rows = paddle.arange(self.batch).unsqueeze(1) * beams
        tokens = None
        for step in range(NUM_TOKENS):
            best = beam_search_step(
                logits.reshape([self.batch, beams, -1]),
                scores,
                finished,
                paddle.to_tensor([step]),
                end_token=SEP_ID,
                rule="2k",
                min_length=NUM_TOKENS - 1,
            )
            scores, finished = best.scores, best.finished
            rows = (best.parents + first_rows).flatten()
            new = best.tokens.reshape([-1, 1])
            tokens = new if tokens is None else paddle.concat([tokens[rows], new], axis=1)
            if step == NUM_TOKENS - 1:
                break
            caches = [tuple(part.index_select(rows, axis=1) for part in pair) for pair in caches]
            logits, caches = self._step(new, self.first_position + 1 + step, caches)
        return tokens.reshape([self.batch, beams, -1])[:, 0]

    def _step(self, tokens: Tensor, position: int, caches: list) -> tuple[Tensor, list]:
        transformer = self.network.transformer
        hidden = transformer.text_embedding(tokens, paddle.full_like(tokens, position))
        extended = []
        for layer, cache in zip(transformer.stack.layers, caches, strict=True):
            attention = layer.attention
            split = [0, 0, attention.num_heads, attention.head_size]
            query, *new = (
                fc(hidden).reshape(split).transpose([2, 0, 1, 3])
                for fc in (attention.query, attention.key, attention.value)
            )
            keys, values = (paddle.concat(pair, axis=2) for pair in zip(cache, new, strict=True))
            extended.append((keys, values))
            scores = paddle.matmul(query * attention.head_size**-0.5, keys, transpose_y=True)
            attended = paddle.matmul(F.softmax(scores), values)
            attended = attended.transpose([1, 2, 0, 3]).flatten(2)
            hidden = layer.attention_norm(hidden, attended, attention.output, layer.dropout)
            expanded = layer.activate(layer.expand(hidden))
            hidden = layer.output_norm(hidden, expanded, layer.contract, layer.dropout)
        return self.network.head(hidden[:, 0]), extended
