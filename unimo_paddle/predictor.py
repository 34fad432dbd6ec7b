"""Serves an exported bundle through Paddle Inference; knows no layer and no training."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from paddle import inference

import unimo_paddle.tasks  # noqa: F401  registers the tasks
from unimo_paddle.data.fields import Field, Sample, collate
from unimo_paddle.errors import BadSample, UserError
from unimo_paddle.ops.library import load_operators
from unimo_paddle.settings import load
from unimo_paddle.tasks.bundle import ASSETS_DIR, MANIFEST_NAME, SETTINGS_NAME, BundleSettings

Image = str | Path | np.ndarray


class Predictor:
    """The functions of a bundle, in the calling process.

    Args:
        bundle: a folder written by ``tools/export.py``.
        batch_size: images or texts of one run of the graph.
    """

    def __init__(self, bundle: str | Path, *, batch_size: int = 64) -> None:
        folder = Path(bundle)
        if not (folder / MANIFEST_NAME).is_file():
            raise UserError(
                f"{folder} is no bundle: it has no {MANIFEST_NAME}; run tools/export.py"
            )
        load_operators()
        self.batch_size = batch_size
        manifest = json.loads((folder / MANIFEST_NAME).read_text("utf-8"))
        settings = load(BundleSettings, folder / SETTINGS_NAME)
        self._task = settings.task.build(settings.model, folder / ASSETS_DIR)
        self._graphs = {
            name: _Graph(folder / name, entry) for name, entry in manifest["services"].items()
        }

    def embed_images(self, images: Sequence[Image]) -> np.ndarray:
        """Return unit features [N, D] of image files or of pixels [H, W, 3] uint8 RGB."""
        return self._embed("embed_images", images, self._task.encode_image)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit features [N, D]; their inner product with an image's is the similarity."""
        return self._embed("embed_texts", texts, self._task.encode_text)

    def _embed(
        self, name: str, items: Sequence[Any], encode: Callable[[Any], Sample]
    ) -> np.ndarray:
        if name not in self._graphs:
            known = ", ".join(self._graphs)
            raise UserError(f"this bundle has no {name}; it serves {known}")
        if isinstance(items, str | Path) or not len(items):
            raise UserError(f"{name} needs a list of at least one item, not {items!r}")
        try:
            samples = [encode(item) for item in items]
        except BadSample as bad:
            raise UserError(f"{bad}; remove or replace it") from bad
        parts = [
            self._graphs[name].run(samples[start : start + self.batch_size])
            for start in range(0, len(samples), self.batch_size)
        ]
        return np.concatenate(parts)


class _Graph:
    """One exported graph with the fields it is fed."""

    def __init__(self, path: Path, entry: dict[str, Any]) -> None:
        self._fields = [
            Field(item["name"], tuple(item["shape"]), item["dtype"], item["pad"])
            for item in entry["inputs"]
        ]
        config = inference.Config(f"{path}.json", f"{path}.pdiparams")
        config.disable_glog_info()
        # On by default; one of its passes drops operations silently in Paddle 3.3.
        config.disable_mkldnn()
        self._predictor = inference.create_predictor(config)
        self._output = self._predictor.get_output_names()[0]

    def run(self, samples: Sequence[Sample]) -> np.ndarray:
        batch = collate(list(samples), self._fields)
        for name in self._predictor.get_input_names():
            self._predictor.get_input_handle(name).copy_from_cpu(batch[name])
        self._predictor.run()
        return self._predictor.get_output_handle(self._output).copy_to_cpu()
