"""What the tests of conversion share: small checkpoints of every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml

from unimo_paddle.checkpoint import load_checkpoint
from unimo_paddle.convert import parameters, write_parameter
from unimo_paddle.models import LanguageHead, ModelConfig, UnifiedTransformer

SIZES = {
    **{"V": 30, "D": 16, "P": 12, "I": 64, "F": 6, "L": 5, "R": 3, "U": 4, "K": 2},
    **{"n D": 160, "classes": 7, "names": 9, "size": 8},
}
NUM_LAYERS = 2

MakeShapes = Callable[..., dict[str, tuple[int, ...]]]
MakeArrays = Callable[..., dict[str, np.ndarray]]


@pytest.fixture(scope="session")
def make_shapes() -> MakeShapes:
    """Shapes of a small text model with more groups: (*groups, num_layers=2, **sizes)."""

    def make(
        *groups: parameters.Group, num_layers: int = NUM_LAYERS, **sizes: int
    ) -> dict[str, tuple[int, ...]]:
        known: dict[parameters.Size, int] = SIZES | sizes
        layers = [parameters.layer_group(i) for i in range(num_layers)]
        return {
            name: tuple(known.get(size, size) for size in shape)
            for group in (parameters.EMBEDDINGS, *layers, *groups)
            for name, shape in group.shapes.items()
        }

    return make


@pytest.fixture(scope="session")
def make_arrays(make_shapes: MakeShapes) -> MakeArrays:
    """Random arrays of those shapes, as far from each other as in a trained model."""

    def make(*groups: parameters.Group, **sizes: int) -> dict[str, np.ndarray]:
        generator = np.random.RandomState(5)
        shapes = make_shapes(*groups, **sizes)
        arrays = {n: 0.3 * generator.randn(*s).astype("float32") for n, s in shapes.items()}
        return {n: x + np.float32(n.endswith("_scale")) for n, x in arrays.items()}

    return make


@pytest.fixture
def original_dir(make_arrays: MakeArrays, tmp_path: Path) -> Path:
    """A folder as the original writes it: a small model of texts with its language head."""
    folder = tmp_path / "original"
    write_all(folder, make_arrays(parameters.LANGUAGE_HEAD))
    return folder


def write_all(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    folder.mkdir()
    for name, values in arrays.items():
        write_parameter(folder / name, values)


@pytest.fixture
def eager() -> Iterator[None]:
    """Dynamic graph, and parameter names of its own."""
    paddle.disable_static()
    with paddle.utils.unique_name.guard():
        yield


@pytest.fixture
def load_converted(eager: None) -> Callable[[Path], tuple[UnifiedTransformer, LanguageHead]]:
    """Build the model that ``model.yaml`` of a conversion tells, with its weights."""

    def load(folder: Path) -> tuple[UnifiedTransformer, LanguageHead]:
        config = ModelConfig(**yaml.safe_load((folder / "model.yaml").read_text("utf-8")))
        model = UnifiedTransformer(config, with_images=False, poolers=())
        head = LanguageHead(config, model.word_embedding)
        arrays = load_checkpoint(folder / "step-0").arrays
        named = {p.name: p for layer in (model, head) for p in layer.parameters()}
        assert set(named) == set(arrays)
        for name, parameter in named.items():
            parameter.set_value(arrays[name])
        model.eval()
        head.eval()
        return model, head

    return load
