"""Readers in a worker: the batches of a run, its updates without them, and images one by one."""

from __future__ import annotations

import io
from functools import cached_property

import cv2
import numpy as np
import paddle
from PIL import Image

from unimo_paddle.benchmarks.reader import IMAGE_SIZE, ImageCase, ReaderCase
from unimo_paddle.config import build_trainer, parse_training
from unimo_paddle.data.image_files import decode_image
from unimo_paddle.data.images import ImageConfig, View, choose_view, pixels_of, resize
from unimo_paddle.data.loader import Loader
from unimo_paddle.process import tune_process

QUALITY = 90  # of the JPEG files
DETAIL = 40  # cells a side of the coarsest noise in an image


class _Run:
    """A run of ``tools/train.py`` before its first update."""

    works_with_others = True  # one repeat a round, for a batch is made but once

    def __init__(self, case: ReaderCase) -> None:
        tune_process()
        config, _ = parse_training(case.command_line())
        self.trainer = build_trainer(config)
        streams = self.trainer.task.training_streams(config.train.batch_size)
        self.loader = Loader(streams, seed=config.seed, num_workers=0)
        self.num_batches = case.num_batches
        self.step = 0

    @staticmethod
    def versions() -> dict[str, str]:
        """Of what is measured."""
        return {"paddle": paddle.__version__}

    def results(self) -> float:
        """Sum of all numbers of the first batch."""
        return float(sum(x.sum(dtype=np.float64) for x in self.loader.batch(0).values()))


class Batches(_Run):
    """The loader alone."""

    def run(self) -> None:
        """Make the next batches."""
        for _ in range(self.num_batches):
            self.loader.batch(self.step)
            self.step += 1


class Updates(_Run):
    """Updates from batches that were made before."""

    @cached_property
    def _batches(self) -> list[dict[str, np.ndarray]]:
        return [self.loader.batch(index) for index in range(self.num_batches)]

    def run(self) -> None:
        """One update a batch."""
        trainer = self.trainer
        for batch in self._batches:
            trainer.update.run(trainer.runner, iter([batch]), self.step)
            self.step += 1


class _Images:
    """Files in memory, read again and again."""

    def __init__(self, case: ImageCase) -> None:
        cv2.setNumThreads(1)
        self._files = make_files(case)
        self._rng = np.random.default_rng(0)
        self._config = ImageConfig(image_size=IMAGE_SIZE)

    @staticmethod
    def versions() -> dict[str, str]:
        """Of what is measured."""
        return {"OpenCV": cv2.__version__, "Pillow": Image.__version__}

    def run(self) -> None:
        """Read all files."""
        for data in self._files:
            self.read(data)

    def results(self) -> float:
        """Numbers of all images."""
        return float(sum(np.asarray(self.read(data)).size for data in self._files))

    def read(self, data: bytes) -> np.ndarray:
        """A crop of a file: [IMAGE_SIZE, IMAGE_SIZE, 3] uint8."""
        raise NotImplementedError

    def _view(self, height: int, width: int) -> View:
        return choose_view(np.empty((height, width, 0)), self._config, rng=self._rng)


class Ours(_Images):
    """As the streams read: format and damage checked, flipped at random."""

    def read(self, data: bytes) -> np.ndarray:
        """See ``_Images``."""
        pixels = decode_image(data, where="a file in memory", min_side=IMAGE_SIZE)
        return resize(pixels_of(pixels, self._view(*pixels.shape[:2])), IMAGE_SIZE)


class OpenCv(_Images):
    """Decode, crop, resize."""

    def read(self, data: bytes) -> np.ndarray:
        """See ``_Images``."""
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        part = pixels_of(pixels, self._view(*pixels.shape[:2]))
        size = (IMAGE_SIZE, IMAGE_SIZE)
        return cv2.cvtColor(cv2.resize(part, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)


class Pillow(_Images):
    """What a data set of torchvision does for RandomResizedCrop."""

    def read(self, data: bytes) -> np.ndarray:
        """See ``_Images``."""
        image = Image.open(io.BytesIO(data)).convert("RGB")
        view = self._view(image.height, image.width)
        box = (view.left, view.top, view.left + view.width, view.top + view.height)
        size = (IMAGE_SIZE, IMAGE_SIZE)
        return np.asarray(image.crop(box).resize(size, Image.Resampling.BILINEAR))


def make_files(case: ImageCase) -> list[bytes]:
    """JPEG files with the smooth areas and the detail of photographs, the same at every call."""
    rng = np.random.default_rng(0)
    files = []
    for _ in range(case.count):
        image = np.zeros((case.height, case.width, 3), np.float32)
        for octave in range(4):  # as in nature, finer detail is fainter
            cells = DETAIL * 2**octave // 8
            noise = rng.standard_normal((cells, cells, 3), dtype=np.float32) / 2**octave
            image += cv2.resize(noise, (case.width, case.height), interpolation=cv2.INTER_CUBIC)
        pixels = np.clip(128 + 40 * image, 0, 255).astype(np.uint8)
        _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        files.append(data.tobytes())
    return files
