"""Pictures of pre-training: what is retrieved, what is filled in, where words look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from unimo_paddle import pictures
from unimo_paddle.data.image_files import read_image
from unimo_paddle.data.images import unpatchify
from unimo_paddle.data.loader import Stream
from unimo_paddle.data.shards import is_there
from unimo_paddle.data.text import Tokenizer
from unimo_paddle.tasks.base import Arrays
from unimo_paddle.tasks.pretraining_data import PretrainingEncoder

NUM_GALLERY = 500  # images of a split that captions are searched in
NUM_CAPTIONS = 5  # rows of the retrieval sheet
NUM_RETRIEVED = 6  # images a row
NUM_FILLED = 6  # images whose hidden patches are filled in
NUM_WORDS = 17  # words of the caption whose attention is shown
TILE_SIZE = 256  # pixels that retrieved photographs are read with at least

Serve = Callable[[str, Stream], Arrays]


def draw_retrieval(encoder: PretrainingEncoder, split: str, serve: Serve) -> np.ndarray:
    """Draw fixed captions of the split, each with the images found for it, best first."""
    records = encoder.read_split(split)[:NUM_GALLERY]
    # Captions from all over the split: neighbours may be alike.
    places = np.linspace(0, len(records) - 1, min(NUM_CAPTIONS, len(records))).astype(int)
    asked = [replace(records[i], captions=records[i].captions[:1]) for i in places]
    images = serve("embed_images", encoder.image_stream(records))
    texts = serve("embed_texts", encoder.caption_stream(asked))
    scores = texts["text_features"] @ images["image_features"].T
    found = np.argsort(-scores, axis=1, kind="stable")[:, :NUM_RETRIEVED]
    found = images["index"][found]
    chosen = [asked[i] for i in texts["index"]]
    return pictures.retrieval_sheet(
        [record.captions[0] for record in chosen],
        [[_shown(records[i].image) for i in row] for row in found],
        [
            [records[i].group == record.group for i in row]
            for record, row in zip(chosen, found, strict=True)
        ],
    )


def _shown(path: Path) -> np.ndarray:
    """The pixels of an image; grey where its regions came without them."""
    if is_there(path):
        return read_image(path, min_side=TILE_SIZE)
    return np.full((TILE_SIZE, TILE_SIZE, 3), pictures.WRONG, np.uint8)


def draw_filling(encoder: PretrainingEncoder, split: str, serve: Serve) -> np.ndarray:
    """Draw images of the split, what the network sees of them, and what it fills in."""
    records = encoder.read_split(split)[:NUM_FILLED]
    outputs = serve("fill_regions", encoder.joint_stream(records))
    config = encoder.config.image
    is_hidden = outputs["hidden_regions"][:, 1:].astype(bool)
    return pictures.masked_patches(
        [unpatchify(features, config) for features in outputs["region_features"]],
        ~is_hidden.reshape(-1, config.grid_size, config.grid_size),
        [unpatchify(features, config) for features in outputs["filled_features"]],
    )


def draw_attention(encoder: PretrainingEncoder, split: str, serve: Serve) -> np.ndarray:
    """Draw where the words of one caption look in their image, the first that can be read."""
    records = encoder.read_split(split)[:NUM_FILLED]
    outputs = serve("attend_regions", encoder.joint_stream(records))
    config = encoder.config.image
    ids, attention = outputs["input_ids"][0], outputs["attention"][0]
    ids = ids[: 1 + int(np.argmax(ids == encoder.tokenizer.sep_id))]  # without padding
    words, weights = _by_word(encoder.tokenizer, ids, attention)
    cells = weights[:, 1:].reshape(len(words), config.grid_size, config.grid_size)
    image = unpatchify(outputs["region_features"][0], config)
    return pictures.attention_map(image, words[:NUM_WORDS], cells[:NUM_WORDS])


def _by_word(
    tokenizer: Tokenizer, ids: np.ndarray, attention: np.ndarray
) -> tuple[list[str], np.ndarray]:
    """Words between [CLS] and [SEP], and the attention [W, R] of each, the mean of its pieces."""
    inner = range(1, len(ids) - 1)
    starts = [i for i in inner if i == 1 or tokenizer.opens_word[ids[i]]]
    ends = [*starts[1:], len(ids) - 1]
    pieces = list(zip(starts, ends, strict=True))
    words = [tokenizer.decode(ids[start:end]).strip() for start, end in pieces]
    return words, np.stack([attention[start:end].mean(axis=0) for start, end in pieces])
