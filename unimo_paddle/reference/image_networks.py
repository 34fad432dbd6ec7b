"""Replays of what the original's networks for images with texts computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from paddle import Tensor

from unimo_paddle.data.images import ImageConfig
from unimo_paddle.reference.adversarial import check_steps, read_adversarial
from unimo_paddle.reference.layouts import region_fields, tag_fields, target_fields, text_fields
from unimo_paddle.reference.networks import NO_ASSETS, check
from unimo_paddle.reference.recordings import Recording
from unimo_paddle.tasks.base import Tensors
from unimo_paddle.tasks.captioning import CaptionDataConfig, CaptioningConfig
from unimo_paddle.tasks.language import LanguageConfig
from unimo_paddle.tasks.retrieval import CANDIDATE, RetrievalConfig, RetrievalDataConfig
from unimo_paddle.tasks.visual_entailment import EntailmentDataConfig, VisualEntailmentConfig

NUM_BRANCHES = 3  # the original's evaluation adds up the losses of as many equal branches


def _pair_fields(recorded: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    first = recorded["in/image_loc"].shape[1]
    return text_fields(recorded, first=first) | region_fields(recorded)


def _regions(recording: Recording) -> ImageConfig:
    size = recording.home.model().region_feature_size
    return ImageConfig(kind="regions", feature_size=size)


def _watch(network: Any) -> dict[str, Tensor]:
    """The sequence, its segments, and what the head was given and gave."""
    seen: dict[str, Tensor] = {}
    network.transformer.register_forward_post_hook(
        lambda _layer, _inputs, encoding: seen.update(
            seq_all=encoding.hidden,
            seq_text=encoding.text,
            seq_visual=encoding.regions,
            embedded=encoding.layers[0],
        )
    )
    network.head.register_forward_post_hook(
        lambda _layer, inputs, output: seen.update(
            pooled_text=inputs[0], pooled_visual=inputs[1], logits=output
        )
    )
    return seen


def check_retrieval(recording: Recording) -> None:
    """Matching scores; with several candidates the circle loss and its accuracy, too."""
    settings, arrays = recording.settings, recording.arrays
    size, num_regions = int(settings["samples_num"]), arrays["in/image_loc"].shape[1]
    data = RetrievalDataConfig(
        source="original", compatibility="original", image=_regions(recording)
    )
    config = RetrievalConfig(
        data=data,
        negatives=max(1, size // 2),
        margin=float(settings["margin"]),
        scale=float(settings["scale_circle"]),
        use_sigmoid=bool(settings["use_sigmoid"]),
        head_dropout=0.0,
    )
    task = config.build(recording.home.model(), NO_ASSETS)

    def compute(network: Any, batch: Tensors) -> dict[str, Tensor]:
        seen = _watch(network)
        outputs = {}
        if size > 1:
            outputs = task.loss(network, batch)
            outputs |= {"acc": outputs["accuracy"], "score": network.score_candidates(batch)}
        else:
            # Of one candidate the original's accuracy says nothing, and its loss is NaN.
            outputs["score"] = task.predict(network, batch)["score"]
        embedded = seen.pop("embedded")
        seen |= {"emb_visual": embedded[:, :num_regions], "emb_text": embedded[:, num_regions:]}
        return {**seen, "match_logit": seen["logits"], **outputs}

    pairs = _pair_fields(arrays)
    if size == 1:
        recording.arrays.pop("out/acc", None)
        check(recording, task, task.inputs, compute, pairs)
        return
    batch = {CANDIDATE + x: value.reshape(-1, size, *value.shape[1:]) for x, value in pairs.items()}
    # The original also takes even numbers of candidates, with one caption more than images.
    fields = [replace(item, shape=(size, *item.shape[1:])) for item in task.candidates]
    check(recording, task, fields, compute, batch)


def check_entailment(recording: Recording) -> None:
    """Evaluation, or training with perturbations."""
    arrays = recording.arrays
    num_labels = arrays["out/probs" if "out/probs" in arrays else "out/probs_pure"].shape[1]
    config = VisualEntailmentConfig(
        data=EntailmentDataConfig(
            source="original", compatibility="original", image=_regions(recording)
        ),
        labels=tuple(map(str, range(num_labels))),
        head_dropout=0.0,
        adversarial=read_adversarial(recording),
    )
    task = config.build(recording.home.model(), NO_ASSETS)
    batch = _pair_fields(arrays) | {"labels": arrays["in/labels"][:, 0]}

    def compute(network: Any, tensors: Tensors) -> dict[str, Tensor]:
        first: dict[str, Tensor] = {}
        network.head.expand.register_forward_post_hook(
            lambda _layer, _inputs, output: first.update(fc0=output)
        )
        seen = _watch(network)
        terms = task.loss(network, tensors)
        probabilities = task.predict(network, tensors)["probabilities"]
        outputs = {**seen, **first, **terms, "loss_all": terms["loss"] * float(NUM_BRANCHES)}
        return {**outputs, "probs": probabilities, "probs_pure": probabilities}

    if config.adversarial.steps:
        clean = {"probs_pure": lambda network, tensors: compute(network, tensors)["probs_pure"]}
        check_steps(recording, task, batch, clean)
    else:
        check(recording, task, (*task.inputs, *task.targets), compute, batch)


def check_captioning(recording: Recording) -> None:
    """Captions from regions and tags, with perturbations where they are recorded."""
    arrays, settings = recording.arrays, recording.settings
    config = CaptioningConfig(
        data=CaptionDataConfig(
            source="original", compatibility="original", image=_regions(recording)
        ),
        language=LanguageConfig(label_smoothing=float(settings["label_smooth"])),
        adversarial=read_adversarial(recording),
    )
    task = config.build(recording.home.model(), NO_ASSETS)
    first = arrays["in/image_loc"].shape[1] + arrays["in/obj_word"].shape[1]
    text = text_fields(arrays, first=first)
    batch = text | region_fields(arrays) | tag_fields(arrays)
    batch |= target_fields(arrays, text["input_ids"].shape)
    check_steps(recording, task, batch, {})
