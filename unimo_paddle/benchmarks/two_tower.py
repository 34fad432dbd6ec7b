"""What people would take instead: a two-tower contrastive model in PyTorch, as CLIP is built.

"Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020): a vision
Transformer over patches and a Transformer over tokens, contrasted in batches. It reads the same
files with the same crops, flips and vocabulary as ours, and is measured by the same code; model,
loss and optimizer are PyTorch's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from unimo_paddle.benchmarks import Row
from unimo_paddle.data.image_files import read_image
from unimo_paddle.data.images import ImageConfig, choose_view, pixels_of, resize
from unimo_paddle.data.sources import PairRecord, read_pairs
from unimo_paddle.data.text import Tokenizer
from unimo_paddle.metrics.retrieval import recall_both_ways

EVALUATION_BATCH = 250
LOWEST_TEMPERATURE = 0.01


@dataclass(frozen=True)
class TwoTowerConfig:
    """Sizes and how it is trained; the defaults are the usual ones for so few photographs."""

    width: int = 256
    num_layers: int = 4  # of each tower
    num_heads: int = 4
    vocab_size: int = 5000
    max_tokens: int = 40
    image_size: int = 160
    patch_size: int = 16
    crop_scale: float = 0.6
    dropout: float = 0.0
    batch_size: int = 96
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    warmup_share: float = 0.05  # of the minutes
    temperature: float = 0.07  # where it starts

    @property
    def image(self) -> ImageConfig:
        """How photographs are cropped and flipped."""
        return ImageConfig(
            image_size=self.image_size, patch_size=self.patch_size, crop_scale=self.crop_scale
        )


class Tower(nn.Module):
    """A Transformer with learnt positions; the mean of its real rows, projected to length one."""

    def __init__(self, config: TwoTowerConfig, num_rows: int) -> None:
        super().__init__()
        width = config.width
        self.positions = nn.Parameter(0.02 * torch.randn(num_rows, width))
        layer = nn.TransformerEncoderLayer(
            width,
            config.num_heads,
            4 * width,
            config.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, width, bias=False)

    def forward(self, rows: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features [B, D] of rows [B, L, D]; the mask [B, L] is True where a row is real."""
        padded = None if mask is None else ~mask
        hidden = self.norm(self.layers(rows + self.positions[: rows.shape[1]], None, padded))
        if mask is None:
            pooled = hidden.mean(dim=1)
        else:
            weights = mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        return F.normalize(self.projection(pooled), dim=-1)


class TwoTower(nn.Module):
    """A tower for images and one for texts."""

    def __init__(self, config: TwoTowerConfig) -> None:
        super().__init__()
        patch, width = config.patch_size, config.width
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.words = nn.Embedding(config.vocab_size, width)
        nn.init.normal_(self.words.weight, std=0.02)
        self.image_tower = Tower(config, config.image.grid_size**2)
        self.text_tower = Tower(config, config.max_tokens)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Unit features [B, D] of pixels [B, H, W, 3] uint8."""
        scaled = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        return self.image_tower(self.patches(scaled).flatten(2).transpose(1, 2))

    def embed_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Unit features [B, D] of token ids [B, T]."""
        return self.text_tower(self.words(ids), mask)

    def loss(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Symmetric InfoNCE over the batch."""
        scale = self.log_scale.exp().clamp(max=1.0 / LOWEST_TEMPERATURE)
        scores = scale * self.embed_images(pixels) @ self.embed_texts(ids, mask).T
        own = torch.arange(len(scores))
        return 0.5 * (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own))


class _Data:
    """Batches of the pairs, in a new order each epoch, with a random caption of each."""

    def __init__(
        self, records: Sequence[PairRecord], tokenizer: Tokenizer, config: TwoTowerConfig, seed: int
    ) -> None:
        self._records, self._tokenizer, self._config = records, tokenizer, config
        self._rng = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Without end; the next batch is made while one is learnt."""
        with ThreadPoolExecutor(1) as executor:
            numbers = self._numbers()
            ahead = executor.submit(self._batch, next(numbers))
            while True:
                ready = ahead.result()
                ahead = executor.submit(self._batch, next(numbers))
                yield ready

    def _numbers(self) -> Iterator[np.ndarray]:
        size, left = self._config.batch_size, np.empty(0, np.int64)
        while True:
            while len(left) < size:
                left = np.concatenate([left, self._rng.permutation(len(self._records))])
            yield left[:size]
            left = left[size:]

    def _batch(self, numbers: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        pixels, texts = [], []
        for number in numbers:
            record = self._records[number]
            text = record.captions[self._rng.integers(len(record.captions))]
            image = read_image(record.image)
            view = choose_view(image, self._config.image, rng=self._rng, captions=[text])
            pixels.append(resize(pixels_of(image, view), self._config.image_size))
            texts.append(text)
        return torch.from_numpy(np.stack(pixels)), *encode(texts, self._tokenizer, self._config)


def encode(
    texts: Sequence[str], tokenizer: Tokenizer, config: TwoTowerConfig
) -> tuple[Tensor, Tensor]:
    """Token ids [B, T] between [CLS] and [SEP], and which of them are real."""
    ids = [
        [tokenizer.cls_id, *row[: config.max_tokens - 2], tokenizer.sep_id]
        for row in tokenizer.encode_batch(texts)
    ]
    padded = np.full((len(ids), max(map(len, ids))), tokenizer.pad_id, np.int64)
    for row, filled in zip(ids, padded, strict=True):
        filled[: len(row)] = row
    return torch.from_numpy(padded), torch.from_numpy(padded != tokenizer.pad_id)


def run(
    pairs: Path,
    split: Path,
    *,
    minutes: float,
    threads: int,
    seed: int,
    config: TwoTowerConfig | None = None,
) -> Row:
    """Train for some minutes on pairs, then measure retrieval on the pairs of a split.

    Returns:
        what was seen, and the recall of both directions with 95 % bootstrap intervals.
    """
    config = config or TwoTowerConfig()
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    records = read_pairs(pairs).records
    captions = [caption for record in records for caption in record.captions]
    tokenizer = Tokenizer.train(captions, config.vocab_size)
    model = TwoTower(config)
    losses = _train(model, _Data(records, tokenizer, config, seed), minutes, config)
    found: Row = {
        "parameters": sum(x.numel() for x in model.parameters()),
        "updates": len(losses),
        "pairs seen": len(losses) * config.batch_size,
        "pairs a second": len(losses) * config.batch_size / (60.0 * minutes),
        "loss": float(np.mean(losses[-50:])),
    }
    return found | _measure(model, read_pairs(split).records, tokenizer, config)


def _train(model: TwoTower, batches: _Data, minutes: float, config: TwoTowerConfig) -> list[float]:
    """The losses of all updates; the learning rate follows the clock: warm-up, then a cosine."""
    decayed = [x for x in model.parameters() if x.dim() > 1]
    others = [x for x in model.parameters() if x.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.98),
    )
    losses: list[float] = []
    begin = time.monotonic()
    progress = tqdm(total=round(60 * minutes), unit="s", desc="two towers")
    for batch in batches:
        share = (time.monotonic() - begin) / (60.0 * minutes)
        if share >= 1.0:
            break
        warm = min(1.0, share / config.warmup_share)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * share))
        loss = model.loss(*batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        progress.update(round(60 * minutes * share) - progress.n)
        progress.set_postfix_str(f"update {len(losses)}, loss {np.mean(losses[-50:]):.3f}")
    progress.close()
    return losses


@torch.no_grad()
def _measure(
    model: TwoTower, records: Sequence[PairRecord], tokenizer: Tokenizer, config: TwoTowerConfig
) -> dict[str, float]:
    model.eval()
    images, texts = [], []
    for start in range(0, len(records), EVALUATION_BATCH):
        part = records[start : start + EVALUATION_BATCH]
        pixels = [resize(read_image(record.image), config.image_size) for record in part]
        images.append(model.embed_images(torch.from_numpy(np.stack(pixels))).numpy())
        captions = [caption for record in part for caption in record.captions]
        texts.append(model.embed_texts(*encode(captions, tokenizer, config)).numpy())
    groups = np.array([record.group for record in records])
    owners = np.repeat(groups, [len(record.captions) for record in records])
    return recall_both_ways(
        np.concatenate(images), np.concatenate(texts), groups, owners, interval_seed=0
    )
