"""Replays of the original's readers: its files through our tasks, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unimo_paddle.data.fields import Batch, Field, collate
from unimo_paddle.data.images import ImageConfig
from unimo_paddle.data.loader import Encode, Loader
from unimo_paddle.data.original_order import by_epoch, by_seed, token_batches
from unimo_paddle.data.original_regions import parse_original_regions
from unimo_paddle.data.sweep import sweep
from unimo_paddle.reference.layouts import visible_matrix
from unimo_paddle.reference.networks import NO_ASSETS
from unimo_paddle.reference.recordings import Recording
from unimo_paddle.tasks.base import TaskConfig
from unimo_paddle.tasks.captioning import CaptionDataConfig, CaptioningConfig
from unimo_paddle.tasks.classification import ClassificationConfig
from unimo_paddle.tasks.dialogue import DialogueConfig
from unimo_paddle.tasks.finetuning import FineTuningTask
from unimo_paddle.tasks.language import LanguageConfig
from unimo_paddle.tasks.regression import RegressionConfig
from unimo_paddle.tasks.retrieval import CANDIDATE, RetrievalConfig, RetrievalDataConfig
from unimo_paddle.tasks.seq2seq import Seq2SeqConfig, Seq2SeqTask, SourceDataConfig
from unimo_paddle.tasks.text_records import TextDataConfig
from unimo_paddle.tasks.visual_entailment import EntailmentDataConfig, VisualEntailmentConfig

ORIGINAL = "original"
MAX_LENGTH = 514  # positions of the released models
NUM_TURNS = 16
IMAGE_PART = "part-00000"
SEGMENTS = ("region_mask", "tag_mask", "text_mask")  # in the order of the sequence
RAW_KEYS = ("n", "W", "H", "boxes", "emb", "probs")


def check_reader(recording: Recording) -> None:
    """Compare every recorded batch with ours; batches are also as many."""
    task_name = recording.note.get("task")
    if task_name not in READERS:
        recording.comparison.failures.append(f"recordings.json names no task for it ({task_name})")
        return
    batches = READERS[task_name](recording)
    count = 0
    for count, batch in enumerate(batches, 1):
        _compare_batch(recording, f"{count - 1}/", batch)
    recording.comparison.equal("number of batches", count, int(recording.arrays["n_batches"]))


def _build(recording: Recording, config: TaskConfig, **model: Any) -> FineTuningTask:
    """The task with the vocabulary of the recordings."""
    sizes = {"vocab_size": recording.home.tokenizer.vocab_size, "max_positions": MAX_LENGTH}
    task = config.build(recording.home.model(**sizes | model), NO_ASSETS)
    task.vocabulary.prepare(list)
    return task


def _input(recording: Recording, key: str = "input") -> Path:
    return recording.home.folder / recording.note[key]


# ---- texts


def _read_texts(recording: Recording) -> Iterator[Batch]:
    data = TextDataConfig(
        compatibility=ORIGINAL,
        tokenizer=recording.home.tokenizer_config,
        max_text_length=int(recording.note["max_text_length"]),
    )
    if recording.note["task"] == "regression":
        config: TaskConfig = RegressionConfig(data=data)
    else:
        labels = [x.max() for key, x in recording.arrays.items() if key.endswith("/labels")]
        count = max(2, 1 + int(max(labels)))
        config = ClassificationConfig(data=data, labels=tuple(map(str, range(count))))
    task = _build(recording, config)
    yield from _batches(recording, task, task.read(_input(recording)), _order_by_epoch)


def _read_sources(recording: Recording) -> Iterator[Batch]:
    note = recording.note
    is_dialogue = note["task"] == "dialogue"
    data = SourceDataConfig(
        compatibility=ORIGINAL,
        tokenizer=recording.home.tokenizer_config,
        max_source_length=int(note["max_src_len"]),
        is_tokenized=bool(note["tokenized_input"]),
        continuous_positions=bool(note.get("continuous_position", False)),
    )
    config = (DialogueConfig if is_dialogue else Seq2SeqConfig)(
        data=data, language=LanguageConfig(max_target_length=int(note["max_tgt_len"]))
    )
    turns = int(note.get("turn_type_size", NUM_TURNS))
    model = {"num_roles": 3, "num_turns": turns} if is_dialogue else {}
    task = _build(recording, config, **model)
    yield from _batches(recording, task, task.read(_input(recording)), by_seed)


def _order_by_epoch(count: int, epoch: int, seed: int) -> np.ndarray:
    return by_epoch(count, epoch)


def _batches(
    recording: Recording,
    task: FineTuningTask,
    records: Sequence[Any],
    order: Callable[[int, int, int], np.ndarray],
) -> Iterator[Batch]:
    """The batches of the recorded epochs, each with a smaller one at its end."""
    note = recording.note
    first = int(note.get("epoch", 0))
    seed = int(note.get("random_seed", note.get("seed", 0)) or 0)
    for epoch in range(first, first + int(note.get("epochs", 1))):
        ordered = records
        if note.get("shuffle"):
            ordered = [records[i] for i in order(len(records), epoch, seed)]
        # Without a batch size all records are one batch.
        batch_size = int(note.get("batch_size", len(records)))
        encode, fields = _encoding(task, ordered, is_decoding=bool(note.get("decode")))
        if note.get("in_tokens"):
            yield from _token_batches(ordered, encode, fields, batch_size)
            continue
        for batch, _ in sweep(ordered, encode, fields, batch_size):
            yield batch


def _encoding(
    task: FineTuningTask, records: Sequence[Any], *, is_decoding: bool
) -> tuple[Encode, tuple[Field, ...]]:
    """How records become samples: with targets where they have them, or the source alone."""
    if is_decoding and isinstance(task, Seq2SeqTask):
        return lambda record, rng: task.encode_source(record), task.encoded
    if is_decoding or not all(map(task.is_labelled, records)):
        return lambda record, rng: task.encode(record), task.inputs
    fields = (*task.inputs, *task.targets)
    return lambda record, rng: task.encode(record) | task.encode_targets(record), fields


def _token_batches(
    records: Sequence[Any], encode: Encode, fields: Sequence[Field], max_tokens: int
) -> Iterator[Batch]:
    samples = [encode(record, np.random.default_rng(0)) for record in records]
    lengths = [len(sample["input_ids"]) for sample in samples]
    for numbers in token_batches(lengths, max_tokens):
        yield collate([samples[i] for i in numbers], fields)


# ---- images


def _regions(recording: Recording, max_regions: int = 100) -> ImageConfig:
    sizes = [x.shape[-1] for key, x in recording.arrays.items() if key.endswith("image_embedding")]
    return ImageConfig(kind="regions", feature_size=sizes[0], max_regions=max_regions)


def _read_entailment(recording: Recording) -> Iterator[Batch]:
    labels = [x.max() for key, x in recording.arrays.items() if key.endswith("/labels")]
    data = EntailmentDataConfig(
        source=ORIGINAL,
        compatibility=ORIGINAL,
        tokenizer=recording.home.tokenizer_config,
        image=_regions(recording),
        max_text_length=int(recording.note["max_text_length"]),
        file_list_root=str(recording.home.folder),
    )
    names = tuple(map(str, range(max(3, 1 + int(max(labels))))))
    config = VisualEntailmentConfig(data=data, labels=names)
    task = _build(recording, config, region_feature_size=data.image.feature_size)
    yield from _batches(recording, task, task.read(_input(recording)), by_seed)


def _read_captions(recording: Recording) -> Iterator[Batch]:
    note = recording.note
    data = CaptionDataConfig(
        source=ORIGINAL,
        compatibility=ORIGINAL,
        tokenizer=recording.home.tokenizer_config,
        # The original's number counts the row of the whole image.
        image=_regions(recording, int(note["max_regions"]) - 1),
        max_tags=int(note["max_tags"]),
        objects=str(_input(recording, "objects")),
        file_list_root=str(recording.home.folder),
    )
    language = LanguageConfig(max_target_length=int(note["max_target_length"]))
    task = _build(
        recording,
        CaptioningConfig(data=data, language=language),
        region_feature_size=data.image.feature_size,
    )
    yield from _batches(recording, task, task.read(_input(recording)), by_seed)


def _read_retrieval(recording: Recording) -> Iterator[Batch]:
    note = recording.note
    is_training = note["phase"] == "train"
    split = "train" if is_training else "test"
    captions, features = str(_input(recording, "captions")), str(_input(recording, "features"))
    data = RetrievalDataConfig(
        source=ORIGINAL,
        compatibility=ORIGINAL,
        tokenizer=recording.home.tokenizer_config,
        image=_regions(recording),
        max_text_length=int(note["max_text_length"]),
        train=captions,
        splits={"test": captions},
        features={split: features},
        image_ids=str(_input(recording, "image_ids")) if "image_ids" in note else None,
    )
    negatives = int(note.get("negatives", 20)) // 2
    config = RetrievalConfig(data=data, negatives=negatives)
    task = _build(recording, config, region_feature_size=data.image.feature_size)
    if not is_training:
        yield from _all_pairs(recording, task)
        return
    (stream,) = task.training_streams(int(note["batch_size"]))
    loader = Loader([stream], seed=0)
    for step in range(int(recording.arrays["n_batches"])):
        batch = loader.batch(step)
        yield {
            name.removeprefix(CANDIDATE): value.reshape(-1, *value.shape[2:])
            for name, value in batch.items()
        }


def _all_pairs(recording: Recording, task: Any) -> Iterator[Batch]:
    """Every caption with every image, as the original scores them."""
    table = task.read_split("test")
    images = range(len(table.images))
    pairs = [(image, caption) for caption in range(len(table)) for image in images]

    def encode(pair: tuple[int, int], rng: Any) -> dict[str, np.ndarray]:
        image, caption = pair
        return task.encode_named(table.images[image]) | task.encode_text(table.captions[caption])

    for batch, _ in sweep(pairs, encode, task.inputs, int(recording.note["batch_size"])):
        yield batch


READERS: dict[str, Callable[[Recording], Iterator[Batch]]] = {
    "classification": _read_texts,
    "regression": _read_texts,
    "seq2seq": _read_sources,
    "dialogue": _read_sources,
    "retrieval": _read_retrieval,
    "visual_entailment": _read_entailment,
    "captioning": _read_captions,
}


# ---- comparison


def _compare_batch(recording: Recording, prefix: str, batch: Batch) -> None:
    """Compare a batch with the recorded arrays of this prefix; tokens exactly."""
    arrays, comparison = recording.arrays, recording.comparison
    has = lambda name: prefix + name in arrays  # noqa: E731
    ids = "src_ids" if has("src_ids") else "word"
    positions = "pos_ids" if has("pos_ids") else "pos"
    is_real = batch["text_mask"] > 0
    for theirs, ours in (
        (ids, "input_ids"),
        (positions, "position_ids"),
        ("obj_word", "tag_ids"),
        ("obj_pos", "tag_positions"),
        ("role", "role_ids"),
        ("turn", "turn_ids"),
    ):
        if not has(theirs):
            continue
        recorded, made = arrays[prefix + theirs][..., 0], batch[ours]
        if ours in ("role_ids", "turn_ids"):  # what stands in the padding has no effect
            recorded, made = recorded * is_real, made * is_real
        comparison.equal(prefix + theirs, made, recorded)
    if has("image_loc"):
        comparison.close(prefix + "image_loc", batch["region_boxes"], arrays[prefix + "image_loc"])
        recorded = arrays[prefix + "image_embedding"]
        comparison.close(prefix + "image_embedding", batch["region_features"], recorded)
    # In captions to be written the recorded mask holds what is before them.
    segments = SEGMENTS if has(ids) else SEGMENTS[:-1]
    comparison.equal(prefix + "input_mask", _mask(batch, segments), arrays[prefix + "input_mask"])
    for theirs, ours in (("token_mask", "text_mask"), ("image_mask", "region_mask")):
        if has(theirs):
            comparison.equal(prefix + theirs, batch[ours], arrays[prefix + theirs][..., 0])
    if has("labels") and "labels" in batch:
        comparison.close(prefix + "labels", batch["labels"], arrays[prefix + "labels"])
    if has("tgt_label"):
        real = batch["target_weights"] > 0
        starts = np.arange(len(real))[:, None] * batch["input_ids"].shape[1]
        recorded = arrays[prefix + "tgt_label"].ravel()
        comparison.equal(prefix + "tgt_label", batch["target_ids"][real], recorded)
        places = (batch["target_positions"] + starts)[real]
        comparison.equal(prefix + "tgt_pos", places, arrays[prefix + "tgt_pos"].ravel())


def _mask(batch: Batch, segments: Sequence[str]) -> np.ndarray:
    """Which position sees which, over these segments."""
    masks = {name: batch[name] for name in segments if name in batch}
    orders = [
        batch["text_order"]
        if name == "text_mask" and "text_order" in batch
        else np.zeros(mask.shape, np.int64)
        for name, mask in masks.items()
    ]
    return visible_matrix(np.concatenate(list(masks.values()), 1), np.concatenate(orders, 1))


def check_raw_images(recording: Recording) -> None:
    """Compare decoded regions of the recorded feature file, image by image."""
    inputs = recording.home.folder / "reader_inputs" / "retrieval_feats" / IMAGE_PART
    for line in inputs.read_text("utf-8").splitlines():
        name, width, height, count, boxes, features, probabilities = line.split("\t")
        if f"{name}/n" not in recording.arrays:
            continue
        regions = parse_original_regions(
            count,
            boxes,
            features,
            width=width,
            height=height,
            class_probabilities=probabilities,
        )
        values = (
            len(regions.boxes),
            regions.width,
            regions.height,
            regions.boxes,
            regions.features,
            regions.class_probabilities,
        )
        for key, value in zip(RAW_KEYS, values, strict=True):
            recorded = recording.arrays[f"{name}/{key}"]
            recording.comparison.equal(f"{name}/{key}", np.asarray(value), recorded)
