"""Captions written by one exported graph, and by the same weights stepped from Python.

The peer is what plain Paddle offers: the dynamic graph from Python, an operation at a time, with
Paddle's matrix products. It has our caches, which no beam copies, and our beam-search operator.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from unimo_paddle import distributed
from unimo_paddle.benchmarks import Row, interleave
from unimo_paddle.data.fields import collate
from unimo_paddle.data.images import ImageConfig
from unimo_paddle.data.text import CLS_ID, SEP_ID
from unimo_paddle.models import ModelConfig, heads, transformer
from unimo_paddle.models.search import GenerationConfig
from unimo_paddle.ops.few_rows import few_rows_product, few_rows_product_reference
from unimo_paddle.predictor import load_graph
from unimo_paddle.program import Runner, build_forward
from unimo_paddle.tasks.captioning import CaptionDataConfig, CaptioningConfig, CaptioningTask
from unimo_paddle.tasks.writing import write_texts

NUM_REGIONS = (37, 101)
BATCHES = (1, 8, 32)
NUM_BEAMS = 5
NUM_TOKENS = 20


def run(
    num_rounds: int,
    *,
    model: ModelConfig | None = None,
    batches: tuple[int, ...] = BATCHES,
    num_regions: tuple[int, ...] = NUM_REGIONS,
) -> list[Row]:
    """One row for each batch and number of regions; raises if the two write different texts.

    Args:
        model: by default of base size.
    """
    distributed.start()
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(model or ModelConfig(), Path(folder))
        return [
            bench.measure(batch, regions, num_rounds)
            for regions in num_regions
            for batch in batches
        ]


class _Bench:
    """A captioning model with random weights, exported and as a dynamic network."""

    def __init__(self, model: ModelConfig, folder: Path) -> None:
        image = ImageConfig(kind="regions", feature_size=model.region_feature_size)
        data = CaptionDataConfig(with_tags=False, image=image)
        # No end before the last token, so that all write as many.
        generation = GenerationConfig(
            beam_size=NUM_BEAMS, max_length=NUM_TOKENS, min_length=NUM_TOKENS - 1
        )
        self.task: CaptioningTask = CaptioningConfig(data=data, generation=generation).build(
            model, folder
        )
        runner = Runner()
        program = build_forward(self.task, self.task.writing_inputs, self._write)
        runner.start(program)
        with paddle.static.scope_guard(runner.scope):
            paddle.static.save_inference_model(
                str(folder / "captions"),
                list(program.feeds.values()),
                list(program.fetches.values()),
                runner.executor,
                program=program.main,
            )
        weights = runner.state([program])
        self.weight_bytes = sum(value.nbytes for value in weights.values())
        self.predictor = load_graph(folder / "captions")
        paddle.disable_static()
        self.network = self.task.build_network()
        self.network.eval()
        for parameter in self.network.parameters():
            parameter.set_value(weights[parameter.name])

    def _write(self, network: Any, batch: dict[str, Any]) -> dict[str, Any]:
        return write_texts(network, batch, self.task.generation, end_token=SEP_ID)

    def measure(self, batch_size: int, num_regions: int, num_rounds: int) -> Row:
        """Times of both for one shape."""
        batch = self._batch(batch_size, num_regions)
        tensors = {name: paddle.to_tensor(value) for name, value in batch.items()}

        def ours() -> np.ndarray:
            for name in self.predictor.get_input_names():
                self.predictor.get_input_handle(name).copy_from_cpu(batch[name])
            self.predictor.run()
            names = self.predictor.get_output_names()
            return self.predictor.get_output_handle(names[0]).copy_to_cpu()

        def stepped() -> np.ndarray:
            with paddle.no_grad(), _plain_products():
                return self._write(self.network, tensors)["tokens"].numpy()

        np.testing.assert_array_equal(ours(), stepped())
        times = interleave(ours, stepped, num_rounds=num_rounds)
        read = self.weight_bytes * NUM_TOKENS / times["ours_ms"] / 1e6
        return {
            "B": batch_size,
            "regions": num_regions,
            **times,
            "ms/token": times["ours_ms"] / NUM_TOKENS,
            "weights GB/s": read,
        }

    def _batch(self, batch_size: int, num_regions: int) -> dict[str, np.ndarray]:
        generator = np.random.default_rng(0)
        size = self.task.model.region_feature_size
        samples = [
            {
                "region_features": generator.random((num_regions, size), dtype=np.float32),
                "region_boxes": generator.random((num_regions, 5), dtype=np.float32),
                "region_mask": np.ones(num_regions, np.float32),
                "input_ids": np.array([CLS_ID]),
                "position_ids": np.array([self.task.model.first_position]),
                "text_mask": np.ones(1, np.float32),
                "text_order": np.ones(1, np.int64),
            }
            for _ in range(batch_size)
        ]
        return collate(samples, self.task.writing_inputs)


@contextlib.contextmanager
def _plain_products() -> Iterator[None]:
    """Paddle's own matrix products in the steps of writing."""
    modules = (heads, transformer)
    for module in modules:
        module.few_rows_product = few_rows_product_reference
    try:
        yield
    finally:
        for module in modules:
            module.few_rows_product = few_rows_product
