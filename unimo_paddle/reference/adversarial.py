"""Replays of recorded adversarial training: every perturbation, its gradient, and the update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from paddle import Tensor

from unimo_paddle.adversarial import IMAGE, TEXT, AdversarialConfig, PerturbedLoss, scaled_start
from unimo_paddle.program import GRADIENT_SUFFIX, Runner, build_forward, build_pass
from unimo_paddle.reference.networks import (
    compare_gradients,
    compare_outputs,
    gradients_of,
    restore,
)
from unimo_paddle.reference.recordings import Recording
from unimo_paddle.tasks.base import Task, Tensors
from unimo_paddle.updates import AdversarialPass

PLACE = (0, 0, 0)  # in a run; nothing is drawn, as nothing drops out
NORMS = {"l2": "l2", "inf": "infinity", "infinity": "infinity"}

Arrays = Mapping[str, np.ndarray]


def read_adversarial(recording: Recording) -> AdversarialConfig:
    """The settings of a recording; off where it has none."""
    settings, arrays = recording.settings, recording.arrays
    if "adv_step" not in settings:
        return AdversarialConfig()
    sides = "both" if "out/step0/delta_text" in arrays else _perturbed_side(recording)
    return AdversarialConfig(
        steps=int(settings["adv_step"]),
        sides=sides,
        learning_rate=float(settings["adv_lr"]),
        initial_magnitude=float(settings["adv_init_mag"]),
        max_norm=float(settings["adv_max_norm"]),
        norm=NORMS[str(settings.get("norm_type", "l2"))],
        kl_weight=float(settings.get("adv_kl_weight", 1.0)),
        with_clean=bool(settings.get("with_pure_model", True)),
    )


def _perturbed_side(recording: Recording) -> str:
    """The side of a recording that perturbs one: its perturbations tell by their width."""
    shape, arrays = recording.arrays["out/step0/delta"].shape, recording.arrays
    is_image = shape[1:] == arrays["in/image_embedding"].shape[1:]
    ids = arrays["in/word"] if "in/word" in arrays else arrays["in/src_ids"]
    is_text = shape[1:] == (ids.shape[1], recording.home.model().hidden_size)
    if is_image and is_text:
        return IMAGE if "image" in recording.name else TEXT
    return IMAGE if is_image else TEXT


def check_steps(
    recording: Recording,
    task: Task,
    batch: Arrays,
    clean: Mapping[str, Callable[[Any, Tensors], Tensor]],
) -> None:
    """Take all steps from the recorded draws and compare what each did, and their sum.

    Args:
        clean: outputs of the network without perturbations, by their recorded names.
    """
    perturbed = task.perturbed_loss()
    assert perturbed is not None, "a recording of adversarial training without steps"
    runner = Runner()
    fields = (*task.inputs, *task.targets)
    update = AdversarialPass(task, perturbed, fields, seed=0, share=1.0)
    restore(recording, runner, update.programs[0])
    used = [_start(recording, perturbed, batch)]
    total = 0.0
    for outputs in update.steps(runner, batch, used[0], PLACE):
        used.append({name: outputs[name] for name in used[0]})
        total += float(outputs["loss"])
    gradients = gradients_of(runner, update.programs[0])
    for step, perturbations in enumerate(used[:-1]):
        _compare_step(recording, task, runner, batch, perturbations, step=step)
    branches = _branches(recording, task, runner, batch, used[0])
    outputs: dict[str, np.ndarray] = {}
    if clean:
        program = build_forward(
            task, fields, lambda network, x: {name: get(network, x) for name, get in clean.items()}
        )
        outputs = runner.run(program, batch)
    compare_outputs(recording, {"loss": total, **branches, **outputs})
    compare_gradients(recording, gradients)


def _key(recording: Recording, step: int, what: str, side: str) -> str:
    """The recorded name of something of a side; alone, a side is not named."""
    named = f"out/step{step}/{what}_{side}"
    return named if named in recording.arrays else f"out/step{step}/{what}"


def _start(recording: Recording, perturbed: PerturbedLoss, batch: Arrays) -> Arrays:
    """The perturbations at the start, from the recorded draws."""
    config, arrays = perturbed.config, recording.arrays
    start = {}
    for number, name in enumerate(config.perturbed):
        side = perturbed.sides[name]
        key = f"out/raw_uniform_{name}"
        uniform = arrays[key if key in arrays else f"out/raw_uniform_{number}"]
        mask = batch[side.mask]
        uniform = uniform[:, : mask.shape[1]]
        if config.norm == "infinity" and config.initial_magnitude:
            uniform = uniform / np.float32(config.initial_magnitude)  # recorded scaled
        start[side.perturbation.name] = scaled_start(uniform, mask, config)
    return start


def _compare_step(
    recording: Recording,
    task: Task,
    runner: Runner,
    batch: Arrays,
    perturbations: Arrays,
    *,
    step: int,
) -> None:
    """Compare the perturbations that a step used, the losses there, and their gradients."""
    perturbed, arrays = task.perturbed_loss(), recording.arrays
    names = list(perturbations)

    def side_losses(network: Any, tensors: Tensors) -> dict[str, Tensor]:
        losses = {}
        for name in perturbed.config.perturbed:
            argument = perturbed.sides[name].perturbation.name
            logits = network(tensors, {argument: tensors[argument]})
            losses[name] = perturbed.cross_entropy(logits, tensors) / float(perturbed.config.steps)
        return {**losses, "loss": sum(losses.values())}

    fields = (*task.inputs, *task.targets, *perturbed.fields)
    program = build_pass(task, fields, side_losses, seed=0, share=0.0, by=names)
    outputs = runner.run(program, {**batch, **perturbations})
    for name in perturbed.config.perturbed:
        argument = perturbed.sides[name].perturbation.name
        place = f"step {step} {name}"
        key = _key(recording, step, "loss", name)
        recording.comparison.close(f"{place} loss", outputs[name], arrays[key])
        key = _key(recording, step, "delta", name)
        scale = max(float(np.abs(arrays[key]).max()), 1e-6)
        ours = perturbations[argument]
        recording.comparison.gradient(f"{place} perturbation", ours, arrays[key], scale=scale)
        key = _key(recording, step, "grad_delta", name)
        scale = float(np.abs(arrays[key]).max())
        ours = outputs[argument + GRADIENT_SUFFIX]
        recording.comparison.gradient(f"{place} gradient", ours, arrays[key], scale=scale)


def _branches(
    recording: Recording, task: Task, runner: Runner, batch: Arrays, perturbations: Arrays
) -> dict[str, np.ndarray]:
    """Sequences and logits of the first step's branches, which the original numbers."""
    perturbed = task.perturbed_loss()
    sides = [perturbed.sides[name].perturbation.name for name in perturbed.config.perturbed]
    arguments = ([None] if perturbed.config.with_clean else []) + sides
    if not any("_model0" in key for key in recording.arrays):
        return {}
    rows = np.flatnonzero(batch["target_weights"])

    def compute(network: Any, tensors: Tensors) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        for number, argument in enumerate(arguments):
            fed = {} if argument is None else {argument: tensors[argument]}
            hook = network.transformer.register_forward_post_hook(
                lambda _layer, _inputs, encoding, number=number: outputs.update(
                    {
                        f"seq_all_model{number}": encoding.hidden,
                        f"seq_text_model{number}": encoding.text,
                    }
                )
            )
            outputs[f"logits_model{number}"] = network(tensors, fed)
            hook.remove()
        return outputs

    fields = (*task.inputs, *task.targets, *perturbed.fields)
    program = build_forward(task, fields, compute)
    outputs = runner.run(program, {**batch, **perturbations})
    return {
        name: value[rows] if name.startswith("logits") else value for name, value in outputs.items()
    }
