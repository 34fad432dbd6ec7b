"""Replays of recorded metrics, schedules, decay, training steps, the loss of retrieval, tokens."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import paddle

from unimo_paddle import losses
from unimo_paddle.metrics.classification import accuracy, accuracy_and_f1, f1, matthews
from unimo_paddle.metrics.generation import corpus_bleu
from unimo_paddle.metrics.original import NAMES
from unimo_paddle.metrics.ranking import mean_average_precision, mean_reciprocal_rank
from unimo_paddle.metrics.regression import pearson_and_spearman
from unimo_paddle.metrics.retrieval import recall_of_scores
from unimo_paddle.optimizer import (
    OptimizerConfig,
    build_optimizer,
    is_decayed,
    schedule_settings,
)
from unimo_paddle.program import Runner, build_training
from unimo_paddle.reference.layouts import text_fields
from unimo_paddle.reference.networks import NO_ASSETS
from unimo_paddle.reference.recordings import Comparison, Recording
from unimo_paddle.tasks.classification import ClassificationConfig

EXACT = 1e-12  # metrics are the same arithmetic in float64
ORIGINAL = "original"


# ---- metrics


def check_metrics(recording: Recording) -> None:
    """Accuracy, F1, Matthews, correlations, recall, ranks, BLEU."""
    content, comparison = recording.content, recording.comparison
    for number, case in enumerate(content.get("classification", [])):
        _check_classification(comparison, f"classification {number}", case)
    for number, case in enumerate(content.get("regression", [])):
        ours = pearson_and_spearman(case["preds"], case["labels"])
        _named(comparison, f"regression {number}", ours, case["pearson_and_spearman"])
    for number, case in enumerate(content.get("recall_at_k", [])):
        if (recording.home.folder / case["file"]).is_file():
            arrays = recording.home.arrays(case["file"])
            _named(comparison, f"recall {number}", _recall(arrays), case["result"])
    if "mrr_map" in content:
        queries, scores, labels = zip(*content["mrr_map"]["preds"], strict=True)
        ours = {
            NAMES["mrr"]: mean_reciprocal_rank(queries, scores, labels, compatibility=ORIGINAL),
            NAMES["map"]: mean_average_precision(queries, scores, labels, compatibility=ORIGINAL),
        }
        _named(comparison, "ranks", ours, content["mrr_map"])
    for number, case in enumerate(content.get("bleu", [])):
        _check_bleu(comparison, f"bleu {number}", case)


def _check_classification(comparison: Comparison, name: str, case: dict[str, Any]) -> None:
    pair = case["preds"], case["labels"]
    ours: dict[str, Any] = {
        "simple_accuracy": lambda: {"accuracy": accuracy(*pair)},
        "matthews_corrcoef": lambda: {"matthews": matthews(*pair)},
        "f1_score": lambda: {"f1": f1(*pair, compatibility=ORIGINAL)},
        "acc_and_f1": lambda: accuracy_and_f1(*pair, compatibility=ORIGINAL),
    }
    for key in case:
        if key in ours:
            _named(comparison, f"{name} {key}", ours[key](), case[key])


def _recall(arrays: dict[str, np.ndarray]) -> dict[str, float]:
    matrix, owners = arrays["score_matrix"], arrays["text2img"]
    image_of_text = {int(text): int(image) for text, image in owners}
    return recall_of_scores(
        matrix[:, 0], matrix[:, 1].astype(int), matrix[:, 2].astype(int), image_of_text
    )


def _check_bleu(comparison: Comparison, name: str, case: dict[str, Any]) -> None:
    ours = corpus_bleu(case["hyps"], case["refs"], smooth=case["smooth"], compatibility=ORIGINAL)
    score, precisions, penalty, ratio, hypothesis_length, reference_length = case["result"]
    comparison.close(f"{name} score", ours.score, score, tolerance=EXACT)
    comparison.close(f"{name} precisions", ours.precisions, precisions, tolerance=EXACT)
    comparison.close(f"{name} penalty", ours.brevity_penalty, penalty, tolerance=EXACT)
    comparison.close(f"{name} ratio", ours.length_ratio, ratio, tolerance=EXACT)
    lengths = (ours.hypothesis_length, ours.reference_length)
    comparison.equal(f"{name} lengths", lengths, (hypothesis_length, reference_length))


def _named(
    comparison: Comparison, name: str, ours: dict[str, float], recorded: dict[str, Any]
) -> None:
    """Compare values under the original's names; where it has NaN ours must be 0."""
    for key, value in recorded.items():
        if key not in NAMES:
            continue
        if value == "nan" or (isinstance(value, float) and math.isnan(value)):
            value = 0.0
        comparison.close(f"{name} {key}", ours[NAMES[key]], value, tolerance=EXACT)


def check_recall(recording: Recording) -> None:
    """Recall of a recorded table of scores, whose values are in ``metrics.json``."""
    path = recording.home.folder / "metrics.json"
    cases = recording.home.json("metrics.json").get("recall_at_k", []) if path.is_file() else []
    mine = [case for case in cases if case["file"] == recording.name]
    if not mine:
        recording.comparison.failures.append("metrics.json holds no result of it")
    for case in mine:
        _named(recording.comparison, "recall", _recall(recording.arrays), case["result"])


# ---- training


def check_schedules(recording: Recording) -> None:
    """The learning rate of every update."""
    for name, case in recording.content.items():
        config = OptimizerConfig(**schedule_settings(case["args"]))
        schedule = build_optimizer(config, int(case["args"]["num_train_steps"])).schedule
        rates = []
        for step in range(len(case["lr"])):
            schedule.step(step)
            rates.append(schedule.get_lr())
        top = max(case["lr"])
        recording.comparison.close(name, rates, case["lr"], tolerance=1e-6, scale=top)


def check_decay(recording: Recording) -> None:
    """Which parameters are not decayed."""
    for name, is_excluded in recording.content.items():
        recording.comparison.equal(name, not is_decayed(name), bool(is_excluded))


def check_training(recording: Recording) -> None:
    """Steps of training a classifier: losses, gradient norms, rates, parameters."""
    arrays, comparison = recording.arrays, recording.comparison
    weight_decay, learning_rate, warmup_steps, max_steps = map(float, arrays["cfg"][:4])
    rule = OptimizerConfig(
        learning_rate=learning_rate,
        warmup_steps=int(warmup_steps),
        weight_decay=weight_decay,
        form=ORIGINAL,
    )
    optimizer = build_optimizer(rule, int(max_steps))
    num_steps = len(arrays["loss"])
    batches = [_training_batch(arrays, step) for step in range(num_steps)]
    head = next(key for key in arrays if "/cls_out_" in key and key.endswith("_b"))
    labels = tuple(map(str, range(arrays[head].size)))
    config = ClassificationConfig(labels=labels, head_dropout=0.0)
    task = config.build(recording.home.model(), NO_ASSETS)
    runner = Runner()
    program = build_training(task, (*task.inputs, *task.targets), optimizer, seed=0)
    runner.start(program)
    runner.restore(program, recording.home.parameters)
    for step, batch in enumerate(batches):
        rate = optimizer.schedule.get_lr()
        recorded = arrays["lr"][step]
        comparison.close(f"rate {step}", rate, recorded, tolerance=1e-6, scale=learning_rate)
        terms = runner.run(program, batch)
        comparison.close(f"loss {step}", terms["loss"], arrays["loss"][step])
        norm = arrays["global_grad_norm"][step]
        comparison.close(f"gradient norm {step}", terms["gradient_norm"], norm)
        optimizer.schedule.step(step + 1)
        for key, value in arrays.items():
            name = key.removeprefix(f"step{step + 1}/")
            if name != key:
                _compare_trained(recording, name, runner.value(name), value, step + 1)


def _compare_trained(
    recording: Recording, name: str, ours: np.ndarray, recorded: np.ndarray, num_steps: int
) -> None:
    """Compare a parameter after some steps, each of which moves a number by about the rate."""
    label = f"{name} after step {num_steps}"
    if name.endswith("key_fc.b_0"):
        # Its true gradient is zero and what moves it is rounding, a step each time at most.
        reach = float(recording.arrays["cfg"][1]) * num_steps
        recording.comparison.close(label, ours, recorded, tolerance=1.0, scale=reach)
    else:
        recording.comparison.close(label, ours, recorded)


def _training_batch(arrays: dict[str, np.ndarray], step: int) -> dict[str, np.ndarray]:
    prefix = f"in{step}/"
    fed = {key.replace(prefix, "in/"): x for key, x in arrays.items() if key.startswith(prefix)}
    return text_fields(fed) | {"labels": fed["in/labels"][:, 0]}


# ---- the loss of retrieval


def check_circle_loss(recording: Recording) -> None:
    """The bare loss and its gradients."""
    arrays = recording.arrays
    for case in sorted({key.split("/")[0] for key in arrays}, key=int):
        positive, negative = (arrays[f"{case}/{name}"] for name in ("sp", "sn"))
        margin, scale = map(float, arrays[f"{case}/m_scale"])
        main = paddle.static.Program()
        with paddle.static.program_guard(main, paddle.static.Program()):
            feeds = [
                paddle.static.data(name, list(value.shape), "float32")
                for name, value in (("sp", positive), ("sn", negative))
            ]
            for feed in feeds:
                feed.stop_gradient = False
            loss = losses.circle_loss(*feeds, margin, scale)
            gradients = paddle.static.gradients([loss], feeds)
            executor = paddle.static.Executor(paddle.CPUPlace())
            values = executor.run(
                main, feed={"sp": positive, "sn": negative}, fetch_list=[loss, *gradients]
            )
        recording.comparison.close(f"{case} loss", values[0], arrays[f"{case}/loss"])
        for name, value in zip(("grad_sp", "grad_sn"), values[1:], strict=True):
            recorded = arrays[f"{case}/{name}"]
            scale = float(np.abs(recorded).max())
            recording.comparison.gradient(f"{case} {name}", value, recorded, scale=scale)


# ---- tokens


def check_tokenizer(recording: Recording) -> None:
    """Ids, pieces and decoded text of every string; special ids; which ids open a word."""
    content, comparison = recording.content, recording.comparison
    tokenizer = recording.home.tokenizer
    for name, value in content["special"].items():
        ours = name.removesuffix("_token_id") + "_id"
        if hasattr(tokenizer, ours):
            comparison.equal(name, getattr(tokenizer, ours), value)
    comparison.equal("vocabulary", tokenizer.vocab_size, content["vocab_size"])
    for number, case in enumerate(content["cases"]):
        ids = tokenizer.encode(case["text"])
        comparison.equal(f"ids {number}", ids, case["ids"])
        pieces = [int(token) if token.isdigit() else -1 for token in case["tokens"]]
        comparison.equal(f"pieces {number}", tokenizer.rows_of(pieces), case["ids"])
        comparison.equal(f"decoded {number}", tokenizer.decode(ids), case["decoded"])
    for number, case in enumerate(content.get("decode_cases", [])):
        comparison.equal(f"text {number}", tokenizer.decode(case["ids"]), case["decoded"])
    opens = (tokenizer.opens_word & ~tokenizer.is_special).astype(np.uint8)
    if "is_full_token_sum" in content:
        comparison.equal("words opened", int(opens.sum()), content["is_full_token_sum"])
    if "is_full_token_first64" in content:
        first = content["is_full_token_first64"]
        comparison.equal("first that open", opens[: len(first)].tolist(), first)
    if "is_full_token_sha1" in content:
        digest = hashlib.sha1(opens.tobytes()).hexdigest()
        comparison.equal("digest of words opened", digest, content["is_full_token_sha1"])
