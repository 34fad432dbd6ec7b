"""Serves an exported bundle through Paddle Inference; knows no layer and no training."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from paddle import inference

import unimo_paddle.tasks  # noqa: F401  registers the tasks
from unimo_paddle.convert.parameter_files import check_parameters
from unimo_paddle.data.fields import Field, Sample, collate
from unimo_paddle.data.records import Fault
from unimo_paddle.errors import BadSample, UserError
from unimo_paddle.ops.library import load_operators
from unimo_paddle.settings import load
from unimo_paddle.tasks.bundle import (
    ASSETS_DIR,
    FORMAT_VERSION,
    MANIFEST_NAME,
    SETTINGS_NAME,
    BundleSettings,
    check_files,
)
from unimo_paddle.tasks.finetuning import PREDICT
from unimo_paddle.tasks.reranking import SCORE_PAIRS
from unimo_paddle.tasks.writing import GENERATE, LARGEST_SEED, SEED

GRAPH_SUFFIXES = (".json", ".pdiparams")  # of the files that Paddle writes for a graph
FIELD_TYPES = ("int64", "int32", "float32", "bool", "uint8")

# A file, pixels [H, W, 3] uint8 RGB, or what a line of the task's data files holds of an image.
Image = str | Path | np.ndarray | Mapping[str, Any]


class Predictor:
    """The functions of a bundle, in the calling process.

    Args:
        bundle: a folder written by ``tools/export.py``.
        batch_size: images or texts of one run of the graph.
    """

    def __init__(self, bundle: str | Path, *, batch_size: int = 64) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; give at least 1")
        folder = Path(bundle)
        manifest = _read_manifest(folder)
        load_operators()
        self.batch_size = batch_size
        settings = load(BundleSettings, folder / SETTINGS_NAME)
        self._task = settings.task.build(settings.model, folder / ASSETS_DIR)
        self._graphs = {
            name: _Graph(folder / name, entry) for name, entry in manifest["services"].items()
        }

    def embed_images(self, images: Sequence[Image]) -> np.ndarray:
        """Return unit features [N, D] of image files or of pixels [H, W, 3] uint8 RGB.

        A model that reads labelled boxes or a detector's regions is given them:
        ``[{"image": path, "objects": [...]}]``, ``[{"regions": {...}}]`` or, where
        ``task.data.regions`` names a store of them, the path alone. Image paths are relative to
        the current folder.
        """
        return self._embed("embed_images", images, self._encode_image)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit features [N, D]; their inner product with an image's is the similarity."""
        return self._embed("embed_texts", texts, self._encode_text)

    def score_pairs(self, images: Sequence[Image], texts: Sequence[str]) -> np.ndarray:
        """Return a joint score [N] of each image with the text at its place; higher fits better.

        Image and text are read together, a pass of the network for every pair.
        """
        if len(images) != len(texts):
            raise UserError(
                f"score_pairs: {len(images)} images and {len(texts)} texts; give one text an image"
            )
        encode_image = self._encode_once(self._encode_image)
        encode_text = self._encode_once(self._encode_text)
        pairs = list(zip(images, texts, strict=True))
        return self._embed(
            "score_pairs", pairs, lambda pair: {**encode_image(pair[0]), **encode_text(pair[1])}
        )

    def find_images(
        self,
        text: str,
        images: Sequence[Image],
        *,
        features: np.ndarray | None = None,
        first: int = 50,
    ) -> list[tuple[int, float]]:
        """Return the images that fit a text best, as (place in ``images``, score), best first.

        Two stages: separate scores find the first ones, joint scores put them in order. A bundle
        without joint scores leaves it at the first stage.

        Args:
            features: of the images, by ``embed_images``, where they are at hand.
            first: how many are found.
        """
        if first < 1:
            raise UserError(f"find_images: first is {first}; give at least 1")
        features = self.embed_images(images) if features is None else features
        (query,) = self.embed_texts([text])
        scores = features @ query
        found = np.argsort(-scores, kind="stable")[:first]
        scores = scores[found]
        if self.serves(SCORE_PAIRS):
            scores = self.score_pairs([images[i] for i in found], [text] * len(found))
        order = np.argsort(-scores, kind="stable")
        return [(int(found[i]), float(scores[i])) for i in order]

    @staticmethod
    def _encode_once(encode: Callable[[Any], Sample]) -> Callable[[Any], Sample]:
        """Encode what comes several times in a row, as a path or the same object, once."""
        last: list[tuple[Any, Sample]] = []

        def encode_next(item: Any) -> Sample:
            if not (last and last[0][0] is item):
                last[:] = [(item, encode(item))]
            return last[0][1]

        return encode_next

    def _encode_image(self, image: Image) -> Sample:
        shown = image.get("image", "") if isinstance(image, Mapping) else image
        is_array = isinstance(shown, np.ndarray)
        found = f"{list(shown.shape)} {shown.dtype}" if is_array else repr(shown)
        is_pixels = is_array and shown.ndim == 3 and shown.shape[2] == 3 and shown.size
        if not isinstance(shown, str | Path) and not (is_pixels and shown.dtype == np.uint8):
            raise UserError(f"embed_images: {found} is no path and no pixels [H, W, 3] uint8")
        return self._task.encode_image(image)

    def _encode_text(self, text: str) -> Sample:
        if not isinstance(text, str):
            raise UserError(f"embed_texts: {text!r} is no text; give a list of str")
        return self._task.encode_text(text)

    def predict(
        self, items: Sequence[Mapping[str, Any]], *, first: int = 0
    ) -> list[dict[str, Any]]:
        """Return a prediction for each item of a fine-tuned task.

        Items hold what a line of the task's data files holds, without the label:
        ``[{"text_a": "a fine film"}]`` of a classifier, ``[{"image": path, "question": text}]``
        of one that answers questions. Image paths are relative to the current folder.

        Args:
            first: number of the first item, where they are a part of more; messages count from it.
        """
        samples = [
            self._encode_item(item, number, self._task.encode, PREDICT)
            for number, item in enumerate(self._listed(items), first)
        ]
        return self._task.decode(self._run(PREDICT, samples))

    def generate(
        self,
        items: Sequence[str | Mapping[str, Any]],
        *,
        prefix: str = "",
        seed: int = 0,
        first: int = 0,
    ) -> list[dict[str, Any]]:
        """Write a text for each item: ``{"text": ..., "score": ...}``, and ``texts`` if several.

        Args:
            items: what a line of the task's data files holds, without the target; a text stands
                for ``{"src": text}``.
            prefix: what every text begins with.
            seed: of texts that are drawn; each item draws by itself.
            first: as of ``predict``; items draw by their number among all.
        """
        if not 0 <= seed < LARGEST_SEED:
            raise UserError(f"{GENERATE}: seed is {seed}; give 0 to {LARGEST_SEED - 1}")

        def begin(record: Any) -> Sample:
            return self._task.begin(record, prefix)

        samples = []
        for number, item in enumerate(self._listed(items, GENERATE), first):
            named = {"src": item} if isinstance(item, str) else item
            sample = self._encode_item(named, number, begin, GENERATE)
            samples.append(sample | {SEED.name: np.int64(seed + number)})
        return self._task.decode_texts(self._run(GENERATE, samples), prefix)

    def caption(self, images: Sequence[Image], *, prefix: str = "", seed: int = 0) -> list[str]:
        """Write a caption for each image: a file, pixels [H, W, 3] uint8 RGB, or an item."""
        items = [_item_of(image) for image in self._listed(images, GENERATE)]
        return [made["text"] for made in self.generate(items, prefix=prefix, seed=seed)]

    def answer(self, image: Image, question: str) -> str:
        """The likeliest answer to a question about an image."""
        (prediction,) = self.predict([{**_item_of(image), "question": question}])
        if "answer" not in prediction:
            raise UserError("answer: this bundle answers no questions; export a run of task vqa")
        return prediction["answer"]

    def serves(self, name: str) -> bool:
        """Whether the bundle has a service of this name."""
        return name in self._graphs

    @property
    def draws(self) -> bool:
        """Whether texts are drawn, by a seed; beams are not."""
        fields = self._graphs[GENERATE].fields if self.serves(GENERATE) else ()
        return any(field.name == SEED.name for field in fields)

    def _encode_item(
        self, item: Mapping[str, Any], number: int, encode: Callable[[Any], Sample], name: str
    ) -> Sample:
        if not isinstance(item, Mapping):
            raise UserError(f"{name}: item {number} is {item!r}; give a dictionary")
        try:
            return encode(self._task.parse(item))
        except (Fault, BadSample) as bad:
            raise UserError(f"{name}: item {number}: {bad}; mend or remove it") from bad

    def _embed(
        self, name: str, items: Sequence[Any], encode: Callable[[Any], Sample]
    ) -> np.ndarray:
        self._check_service(name)
        samples = []
        for number, item in enumerate(self._listed(items, name)):
            try:
                samples.append(encode(item))
            except Fault as fault:
                raise UserError(f"{name}: item {number}: {fault}; mend or remove it") from fault
            except BadSample as bad:
                raise UserError(f"{bad}; remove or replace it") from bad
        (values,) = self._run(name, samples).values()
        return values

    def _listed(self, items: Sequence[Any], name: str = PREDICT) -> Sequence[Any]:
        self._check_service(name)
        if isinstance(items, str | Path | Mapping) or not len(items):
            raise UserError(f"{name} needs a list of at least one item, not {items!r}")
        return items

    def _check_service(self, name: str) -> None:
        if name not in self._graphs:
            known = ", ".join(self._graphs)
            raise UserError(f"this bundle has no {name}; it serves {known}")

    def _run(self, name: str, samples: Sequence[Sample]) -> dict[str, np.ndarray]:
        """The outputs of a graph for all samples, in batches."""
        parts = [
            self._graphs[name].run(samples[start : start + self.batch_size])
            for start in range(0, len(samples), self.batch_size)
        ]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _item_of(image: Image) -> Mapping[str, Any]:
    """The item of an image of which nothing else is known, or the one that is given."""
    if isinstance(image, Mapping):
        return image
    return {"image": image if isinstance(image, np.ndarray) else str(image)}


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Read what a bundle serves, and check that it is whole and of this program's format."""
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise UserError(f"{folder} is no bundle: it has no {MANIFEST_NAME}; run tools/export.py")
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: not JSON; run tools/export.py again") from error
    version = manifest.get("version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} is of format {str(version)[:20]}, but this program reads "
            f"{FORMAT_VERSION}; run tools/export.py again"
        )
    try:
        services = {name: _fields(entry) for name, entry in manifest["services"].items()}
        listed = dict(manifest["files"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"[:100]
        raise UserError(f"{path} is damaged ({problem}); run tools/export.py again") from error
    graphs = {f"{name}{suffix}" for name in services for suffix in GRAPH_SUFFIXES}
    outside = [name for name in [*services, *listed] if not _is_inside(name)]
    unlisted = sorted({*graphs, SETTINGS_NAME} - set(listed))
    if outside or unlisted:
        wrong = f"names {outside[0][:80]!r}" if outside else f"does not list {unlisted[0][:80]!r}"
        raise UserError(f"{path} is damaged: it {wrong}; run tools/export.py again")
    check_files(folder, listed)
    for name in services:
        check_parameters(folder / f"{name}.pdiparams")
    return manifest


def _fields(entry: Mapping[str, Any]) -> list[Field]:
    """What a graph is fed, as its entry in the manifest says; its outputs are words."""
    if not all(isinstance(name, str) for name in entry["outputs"]):
        raise ValueError(f"outputs {entry['outputs']!r}")
    fields = [
        Field(item["name"], tuple(item["shape"]), item["dtype"], item["pad"])
        for item in entry["inputs"]
    ]
    for field in fields:
        is_sized = all(size is None or isinstance(size, int) for size in field.shape)
        if not is_sized or field.dtype not in FIELD_TYPES or not isinstance(field.pad, int | float):
            raise ValueError(f"field {field}")
    return fields


def _is_inside(name: str) -> bool:
    return name.isprintable() and not os.path.isabs(name) and ".." not in Path(name).parts


def load_graph(path: Path) -> Any:
    """An exported graph in Paddle's inference engine, on the threads of ``OMP_NUM_THREADS``."""
    names = [f"{path}{suffix}" for suffix in GRAPH_SUFFIXES]
    config = inference.Config(*names)
    config.disable_glog_info()
    # On by default; one of its passes drops operations silently in Paddle 3.3.
    config.disable_mkldnn()
    # One by default, and then for the whole process.
    config.set_cpu_math_library_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        return inference.create_predictor(config)
    except (RuntimeError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        problem = " ".join(str(error).split())[-200:]
        raise UserError(
            f"Paddle cannot load the graph {names[0]}: {problem}; run tools/export.py again"
        ) from error


class _Graph:
    """One exported graph with the fields it is fed."""

    def __init__(self, path: Path, entry: dict[str, Any]) -> None:
        self.fields = _fields(entry)
        self._predictor = load_graph(path)
        # Paddle gives the outputs names of its own, in the order in which they were saved.
        names = self._predictor.get_output_names()
        self._outputs = dict(zip(entry["outputs"], names, strict=True))

    def run(self, samples: Sequence[Sample]) -> dict[str, np.ndarray]:
        batch = collate(list(samples), self.fields)
        for name in self._predictor.get_input_names():
            self._predictor.get_input_handle(name).copy_from_cpu(batch[name])
        self._predictor.run()
        return {
            key: self._predictor.get_output_handle(name).copy_to_cpu()
            for key, name in self._outputs.items()
        }
