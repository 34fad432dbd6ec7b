"""Replays of what the original's networks for texts computed: outputs, losses, gradients.

Everything goes through the tasks, their networks and the programs of training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from paddle import Tensor
from paddle.nn import functional as F

from unimo_paddle.data.fields import Field
from unimo_paddle.program import (
    ACCUMULATOR_SUFFIX,
    Compute,
    Runner,
    StaticProgram,
    build_forward,
    build_pass,
)
from unimo_paddle.reference.layouts import target_fields, text_fields
from unimo_paddle.reference.recordings import Recording
from unimo_paddle.tasks.base import Task, Tensors
from unimo_paddle.tasks.classification import ClassificationConfig
from unimo_paddle.tasks.dialogue import DialogueConfig
from unimo_paddle.tasks.language import LanguageConfig
from unimo_paddle.tasks.regression import RegressionConfig
from unimo_paddle.tasks.seq2seq import Seq2SeqConfig, SourceDataConfig

NO_ASSETS = Path("no-assets")
GRADIENT = "grad/"
SEPARATELY_COMPARED = ("raw_uniform", "step")  # outputs of adversarial steps
QUERY_OF_KEY = ("key_fc.b_0", "query_fc.b_0")


@dataclass(frozen=True)
class Replay:
    """What a program computed, and what it left in the accumulators."""

    outputs: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]


def replay(
    recording: Recording,
    task: Task,
    fields: Sequence[Field],
    compute: Compute,
    batch: Mapping[str, np.ndarray],
) -> Replay:
    """Run a program of a task with the recorded weights, with gradients where they are recorded."""
    runner = Runner()
    if any(key.startswith(GRADIENT) for key in recording.arrays):
        program = build_pass(task, fields, compute, seed=0, share=1.0)
    else:
        program = build_forward(task, fields, compute)
    restore(recording, runner, program)
    outputs = runner.run(program, batch)
    return Replay(outputs, gradients_of(runner, program))


def check(
    recording: Recording,
    task: Task,
    fields: Sequence[Field],
    compute: Compute,
    batch: Mapping[str, np.ndarray],
) -> None:
    """Replay a recording and compare its outputs and gradients."""
    result = replay(recording, task, fields, compute, batch)
    compare_outputs(recording, result.outputs)
    compare_gradients(recording, result.gradients)


def restore(recording: Recording, runner: Runner, program: StaticProgram) -> None:
    """Give a program the recorded weights; one that is not recorded is a failure."""
    runner.start(program)
    shapes = runner.shapes(program)
    for name in sorted(set(shapes) - set(recording.home.parameters)):
        recording.comparison.failures.append(f"the recorded weights lack {name}")
    runner.restore(program, recording.home.parameters)


def gradients_of(runner: Runner, program: StaticProgram) -> dict[str, np.ndarray]:
    """What the passes added up, by parameter."""
    return {name: runner.value(name + ACCUMULATOR_SUFFIX) for name in program.parameter_names}


def compare_gradients(recording: Recording, gradients: Mapping[str, np.ndarray]) -> None:
    """Compare every recorded gradient, and that there is no other."""
    arrays = recording.arrays
    names = {key.removeprefix(GRADIENT) for key in arrays if key.startswith(GRADIENT)}
    if not names:
        return
    recording.comparison.equal("names of gradients", sorted(gradients), sorted(names))
    for name in sorted(names & set(gradients)):
        # Softmax ignores a key's bias, whose gradient is rounding: judge it by the query's.
        judge = arrays.get(GRADIENT + name.replace(*QUERY_OF_KEY), arrays[GRADIENT + name])
        recorded, scale = arrays[GRADIENT + name], float(np.abs(judge).max())
        recording.comparison.gradient(f"gradient of {name}", gradients[name], recorded, scale=scale)


def compare_outputs(recording: Recording, outputs: Mapping[str, Any]) -> None:
    """Compare every recorded output; one without a counterpart is a failure.

    A recorded NaN (the original's loss of a single candidate) has none.
    """
    for key, value in recording.arrays.items():
        name = key.removeprefix("out/")
        if not key.startswith("out/") or not np.isfinite(value).all():
            continue
        if name in outputs:
            recording.comparison.close(name, outputs[name], value)
        elif not name.startswith(SEPARATELY_COMPARED):
            recording.comparison.failures.append(f"{name} has no counterpart")


# ---- texts


def check_text_heads(recording: Recording) -> None:
    """Classification and regression: embeddings, layers, logits, loss, gradients."""
    model = recording.home.model()
    num_outputs = recording.arrays["out/logits"].shape[1]
    labels = recording.arrays["in/labels"][:, 0]
    is_regression = labels.dtype.kind == "f"
    if is_regression:
        task = RegressionConfig(head_dropout=0.0).build(model, NO_ASSETS)
    else:
        names = tuple(map(str, range(num_outputs)))
        task = ClassificationConfig(labels=names, head_dropout=0.0).build(model, NO_ASSETS)

    def compute(network: Any, batch: Tensors) -> dict[str, Tensor]:
        seen = _watch_text(network.transformer, network.head)
        terms = task.loss(network, batch)
        logits = seen["logits"]
        probabilities = logits if is_regression else F.softmax(logits)
        return {**terms, **seen, "probs": probabilities}

    batch = text_fields(recording.arrays) | {"labels": labels}
    check(recording, task, (*task.inputs, *task.targets), compute, batch)


def _watch_text(transformer: Any, head: Any) -> dict[str, Tensor]:
    """A dictionary that the network's layers fill while it computes."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _layer, _inputs, output: seen.__setitem__(name, output)

    transformer.text_embedding.register_forward_post_hook(keep("emb_out"))
    for index, layer in enumerate(transformer.stack.layers):
        layer.attention_norm.register_forward_post_hook(keep(f"layer{index}_att"))
        layer.register_forward_post_hook(
            lambda _layer, _inputs, output, name=f"layer{index}": seen.update(
                {name: output[0], "seq": output[0]}
            )
        )
    head.register_forward_post_hook(
        lambda _layer, inputs, output: seen.update({"pooled_text": inputs[0], "logits": output})
    )
    return seen


def check_seq2seq(recording: Recording) -> None:
    """Generation from texts and dialogues: the sequence, logits, loss, gradients."""
    arrays, settings = recording.arrays, recording.settings
    is_dialogue = "in/role" in arrays
    changes: dict[str, Any] = {"tie_word_embeddings": bool(settings.get("weight_sharing", True))}
    if is_dialogue:
        tables = ("role_embedding", "turn_embedding")
        rows = [len(recording.home.parameters[name]) for name in tables]
        changes |= {"num_roles": rows[0], "num_turns": rows[1]}
    model = recording.home.model(**changes)
    config = (DialogueConfig if is_dialogue else Seq2SeqConfig)(
        data=SourceDataConfig(max_source_length=model.max_text_length),
        language=LanguageConfig(label_smoothing=float(settings.get("label_smooth", 0.0))),
    )
    task = config.build(model, NO_ASSETS)
    text = text_fields(arrays)
    batch = text | target_fields(arrays, text["input_ids"].shape)
    rows = np.flatnonzero(batch["target_weights"])

    def compute(network: Any, tensors: Tensors) -> dict[str, Tensor]:
        seen = watch_language(network)
        return {**task.loss(network, tensors), **seen}

    result = replay(recording, task, task.inputs, compute, batch)
    outputs = result.outputs
    for name in ("logits", "trans_ln"):
        outputs[name] = outputs[name][rows]
    compare_outputs(recording, outputs)
    compare_gradients(recording, result.gradients)


def watch_language(network: Any) -> dict[str, Tensor]:
    """The sequence, what the language head normalised, and its logits, with padded targets."""
    seen: dict[str, Tensor] = {}
    network.transformer.register_forward_post_hook(
        lambda _layer, _inputs, encoding: seen.update(seq=encoding.hidden)
    )
    network.head.norm.register_forward_post_hook(
        lambda _layer, _inputs, output: seen.update(trans_ln=output)
    )
    network.head.register_forward_post_hook(
        lambda _layer, _inputs, output: seen.update(logits=output)
    )
    return seen
