"""Captions: records of all kinds, and the original's numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unimo_paddle.adversarial import AdversarialConfig, PerturbedLoss, scaled_start
from unimo_paddle.data.fields import collate
from unimo_paddle.data.images import ImageConfig
from unimo_paddle.data.loader import Loader
from unimo_paddle.data.records import Fault
from unimo_paddle.data.scenes import SceneConfig
from unimo_paddle.data.text import SEP_ID, TokenizerConfig
from unimo_paddle.errors import UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.optimizer import OptimizerConfig, build_optimizer
from unimo_paddle.program import (
    ACCUMULATOR_SUFFIX,
    GRADIENT_SUFFIX,
    Runner,
    build_pass,
    build_service,
)
from unimo_paddle.tasks.captioning import CaptionDataConfig, CaptioningConfig, CaptioningTask
from unimo_paddle.tasks.language import LanguageConfig
from unimo_paddle.tasks.segments import TARGETS
from unimo_paddle.updates import AdversarialPass, build_update

FORWARD_TOLERANCE = 1e-5  # of the largest recorded value, where that is above one
GRADIENT_TOLERANCE = 1e-3  # of the largest entry of each recorded gradient or perturbation
PADDING_TOLERANCE = 1e-4  # of a sum of float32 logarithms in another order
PLACE = (0, 0, 0)
REGIONS = ImageConfig(kind="regions", max_regions=10, feature_size=32)
# The sizes in tiny_config.json; the recordings have no dropout.
ORIGINAL_MODEL = ModelConfig(
    vocab_size=1000,
    hidden_size=64,
    num_layers=3,
    num_heads=4,
    max_positions=130,
    region_feature_size=32,
    hidden_dropout=0.0,
    attention_dropout=0.0,
)

pytestmark = pytest.mark.usefixtures("static_graph")


@pytest.fixture(scope="module")
def official(shared_dir: Path) -> Path:
    return shared_dir / "reference" / "official"


def recorded(folder: Path, name: str) -> dict[str, Any]:
    with np.load(folder / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def recorded_batch(recording: dict[str, Any]) -> dict[str, np.ndarray]:
    """What the original was fed, under our names; its list of targets becomes one a sample."""
    regions, tags = recording["in/image_loc"].shape[1], recording["in/obj_word"].shape[1]
    mask = recording["in/input_mask"].diagonal(axis1=1, axis2=2)
    text_mask = mask[:, regions + tags :].copy()
    rows, columns = np.divmod(recording["in/tgt_pos"][:, 0], text_mask.shape[1])
    ids = recording["in/tgt_label"][:, 0]
    chosen = [rows == row for row in range(len(mask))]
    samples = [
        {"target_positions": columns[x], "target_ids": ids[x], "target_weights": np.ones(x.sum())}
        for x in chosen
    ]
    return {
        "input_ids": recording["in/word"][..., 0],
        "position_ids": recording["in/pos"][..., 0],
        "text_mask": text_mask,
        "text_order": np.cumsum(text_mask, axis=1).astype("int64") * text_mask.astype("int64"),
        "tag_ids": recording["in/obj_word"][..., 0],
        "tag_positions": recording["in/obj_pos"][..., 0],
        "tag_mask": mask[:, regions : regions + tags].copy(),
        "region_features": recording["in/image_embedding"],
        "region_boxes": recording["in/image_loc"],
        "region_mask": mask[:, :regions].copy(),
        **collate(samples, TARGETS),
    }


class Watcher(Runner):
    """A runner that remembers what was fed as perturbations."""

    def __init__(self) -> None:
        super().__init__()
        self.perturbations: list[dict[str, np.ndarray]] = []

    def run(self, program, batch, names=None):
        fed = {name: np.array(x) for name, x in batch.items() if name.endswith("_perturbation")}
        self.perturbations.append(fed)
        return super().run(program, batch, names)


@dataclass(frozen=True)
class Replay:
    """A recorded adversarial update, and ours from the same weights, inputs and draws."""

    recording: dict[str, Any]
    losses: list[float]  # of each step
    perturbations: list[dict[str, np.ndarray]]  # used in each step
    perturbation_gradients: list[dict[str, np.ndarray]]  # of each step
    gradients: dict[str, np.ndarray]  # of the parameters


# What the files do not say: the perturbed sides, and the draws of each.
SIDES = {
    "img2txt_villa": ("both", {"text": "raw_uniform_0", "image": "raw_uniform_1"}),
    "img2txt_plain": ("text", {"text": "raw_uniform_0"}),
}
ARGUMENTS = {"text": "text_perturbation", "image": "region_perturbation"}


@pytest.fixture(scope="module")
def replays(official: Path):
    done: dict[str, Replay] = {}

    def get(name: str) -> Replay:
        if name not in done:
            done[name] = replay(official, name)
        return done[name]

    return get


def replay(folder: Path, name: str) -> Replay:
    recording = recorded(folder, name)
    sides, draws = SIDES[name]
    adversarial = AdversarialConfig(
        steps=int(recording["cfg/adv_step"]),
        sides=sides,
        learning_rate=float(recording["cfg/adv_lr"]),
        initial_magnitude=float(recording["cfg/adv_init_mag"]),
        max_norm=float(recording["cfg/adv_max_norm"]),
        norm="l2",
        kl_weight=float(recording["cfg/adv_kl_weight"]),
        with_clean=bool(recording["cfg/with_pure_model"]),
    )
    config = CaptioningConfig(
        data=CaptionDataConfig(source="original", image=REGIONS),
        language=LanguageConfig(label_smoothing=float(recording["cfg/label_smooth"])),
        adversarial=adversarial,
    )
    task = CaptioningTask(config, ORIGINAL_MODEL, folder / "nowhere")
    perturbed = task.perturbed_loss()
    batch, runner = recorded_batch(recording), Watcher()
    pass_ = AdversarialPass(task, perturbed, task.inputs, seed=0, share=1.0)
    program = pass_.programs[0]
    runner.start(program)
    runner.restore(program, recorded(folder, "tiny_params"))
    start = {}
    for side, key in draws.items():
        mask = batch[perturbed.sides[side].mask]
        uniform = recording[f"out/{key}"][:, : mask.shape[1]]
        start[ARGUMENTS[side]] = scaled_start(uniform, mask, adversarial)
    losses = [float(step["loss"]) for step in pass_.steps(runner, batch, start, PLACE)]
    return Replay(
        recording,
        losses,
        list(runner.perturbations),
        perturbation_gradients(task, perturbed, runner, batch),
        {name: runner.value(name + ACCUMULATOR_SUFFIX) for name in program.parameter_names},
    )


def perturbation_gradients(
    task: CaptioningTask, perturbed: PerturbedLoss, runner: Watcher, batch: dict
) -> list[dict[str, np.ndarray]]:
    """What each step's perturbations were moved along, by a program of the sides' losses alone."""
    names = [item.name for item in perturbed.fields]

    def side_losses(network: Any, tensors: Any) -> dict[str, Any]:
        logits = [perturbed.logits(network, tensors, {name: tensors[name]}) for name in names]
        total = sum(perturbed.cross_entropy(item, tensors) for item in logits)
        return {"loss": total / float(perturbed.config.steps)}

    fields = (*task.inputs, *perturbed.fields)
    program = build_pass(task, fields, side_losses, seed=0, share=0.0, by=names)
    outputs = {name: name + GRADIENT_SUFFIX for name in names}
    gradients = []
    for step in list(runner.perturbations):
        values = runner.run(program, batch | step, list(outputs.values()))
        gradients.append({name: values[output] for name, output in outputs.items()})
    return gradients


# (recording, step, side, name of the side in the recording's keys)
STEPS = [("img2txt_villa", step, side, f"_{side}") for step in (0, 1) for side in ARGUMENTS]
STEPS += [("img2txt_plain", 0, "text", "")]


@pytest.mark.parametrize("name", SIDES)
def test_loss_is_the_original_one(replays, name: str) -> None:
    expected = float(replays(name).recording["out/loss"][0])
    assert sum(replays(name).losses) == pytest.approx(expected, rel=FORWARD_TOLERANCE)


@pytest.mark.parametrize("what", ["delta", "grad_delta"])
@pytest.mark.parametrize(("name", "step", "side", "key"), STEPS)
def test_each_perturbation_and_its_gradient_are_the_original_ones(
    replays, name: str, step: int, side: str, key: str, what: str
) -> None:
    replay = replays(name)
    expected = replay.recording[f"out/step{step}/{what}{key}"]
    found = replay.perturbations if what == "delta" else replay.perturbation_gradients
    error = np.abs(found[step][ARGUMENTS[side]] - expected).max()
    assert error <= GRADIENT_TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("name", SIDES)
def test_gradient_of_every_parameter_is_the_original_one(replays, name: str) -> None:
    recording, gradients = replays(name).recording, replays(name).gradients
    names = {key.removeprefix("grad/") for key in recording if key.startswith("grad/")}
    assert names == set(gradients)
    # Softmax ignores the key's bias, whose gradient is rounding: judge it by the query's.
    scales = {
        name: np.abs(recording[f"grad/{name.replace('key_fc.b_0', 'query_fc.b_0')}"]).max()
        for name in names
    }
    errors = {
        name: np.abs(gradients[name] - recording[f"grad/{name}"]).max() / scales[name]
        for name in names
    }
    assert {name: error for name, error in errors.items() if error > GRADIENT_TOLERANCE} == {}


# ---- our own records


@pytest.fixture(scope="module")
def make_task(tiny_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory):
    """A prepared task on the built-in scenes: {field of the config: value} -> task."""
    settings = tiny_settings["task"]["data"]

    def make(data: dict[str, Any] | None = None, **changes: Any) -> CaptioningTask:
        config = CaptioningConfig(
            data=CaptionDataConfig(
                source="scenes",
                scenes_dir=settings["scenes_dir"],
                scenes=SceneConfig(**settings["scenes"]),
                tokenizer=TokenizerConfig(vocab_size=300),
                image=ImageConfig(image_size=32, patch_size=8),
                max_tags=8,
                **(data or {}),
            ),
            **{"language": LanguageConfig(max_target_length=48), **changes},
        )
        sizes = {**tiny_settings["model"], "hidden_dropout": 0.0, "attention_dropout": 0.0}
        task = CaptioningTask(config, ModelConfig(**sizes), tmp_path_factory.mktemp("assets"))
        task.prepare(0)
        return task

    return make


@pytest.fixture(scope="module")
def task(make_task) -> CaptioningTask:
    return make_task()


@pytest.fixture(scope="module")
def image(tiny_settings: dict[str, Any]) -> str:
    return str(Path(tiny_settings["task"]["data"]["scenes_dir"]) / "images" / "00000.png")


def test_every_caption_of_a_line_is_a_record(task: CaptioningTask) -> None:
    records = task.read_split("test")
    assert len(records) == 6 * 5
    assert len({record.image_id for record in records}) == 6


def test_lines_without_a_name_of_their_image_are_different_images(
    make_task, tmp_path: Path
) -> None:
    regions = {"features": [[0.0] * 192], "boxes": [[0, 0, 1, 1]], "width": 2, "height": 2}
    line = json.dumps({"regions": regions, "captions": ["a star", "a dot"]})
    path = tmp_path / "captions.jsonl"
    path.write_text(f"{line}\n{line}\n", "utf-8")
    task = make_task({"with_tags": False})
    task.data = replace(task.data, source="files", image=replace(REGIONS, feature_size=192))
    ids = [record.image_id for record in task.read(path)]
    assert ids == ["image 0", "image 0", "image 1", "image 1"]


def test_names_of_objects_are_encoded_as_a_text(task: CaptioningTask, image: str) -> None:
    record = task.parse({"image": image, "caption": "a star", "tags": ["red star", "ground"]})
    expected = [0, *task.tokenizer.encode("red star ground"), SEP_ID][:8]
    assert task.encode(record)["tag_ids"].tolist() == expected


def test_names_of_too_many_objects_lose_their_end(task: CaptioningTask, image: str) -> None:
    record = task.parse({"image": image, "caption": "a star", "tags": ["square"] * 20})
    ids = task.encode(record)["tag_ids"].tolist()
    assert len(ids) == 8 and ids[-1] != SEP_ID


def test_caption_that_is_too_long_keeps_its_end_token(task: CaptioningTask, image: str) -> None:
    record = task.parse({"image": image, "caption": "a star " * 60})
    sample = task.encode(record)
    assert len(sample["input_ids"]) == 48 and sample["input_ids"][-1] == SEP_ID
    assert len(sample["target_ids"]) == 47 and sample["target_ids"][-1] == SEP_ID


def test_image_without_a_caption_can_be_encoded(task: CaptioningTask, image: str) -> None:
    record = task.parse({"image": image})
    assert not task.is_labelled(record)
    assert task.encode(record)["input_ids"].tolist() == [0, SEP_ID]


def test_several_captions_of_one_item_are_refused(task: CaptioningTask, image: str) -> None:
    with pytest.raises(Fault, match="one item for each"):
        task.parse({"image": image, "captions": ["a star", "a dot"]})


@pytest.mark.parametrize("with_tags", [False, True])
def test_padding_is_invisible(make_task, image: str, with_tags: bool) -> None:
    task = make_task({"with_tags": with_tags})
    item = {"image": image, "caption": "a red star", "tags": ["star"]}
    sample, runner = task.encode(task.parse(item)), Runner()
    program = build_service(task, task.services[0])
    runner.start(program)
    alone, padded = (
        runner.run(program, collate([sample], task.inputs, multiple_of=size)) for size in (1, 40)
    )
    np.testing.assert_allclose(
        padded["log_likelihood"], alone["log_likelihood"], rtol=PADDING_TOLERANCE
    )
    assert padded["num_tokens"] == alone["num_tokens"] == len(sample["target_ids"])


def test_predictions_name_their_images(task: CaptioningTask) -> None:
    runner = Runner()
    program = build_service(task, task.services[0])
    runner.start(program)

    def serve(name: str, stream: Any) -> dict[str, np.ndarray]:
        samples = [stream.encode(record, None) for record in stream.records]
        batch = collate(samples, stream.fields)
        return runner.run(program, batch) | {"index": np.arange(len(samples))}

    records, predictions = task.read_split("test"), task.predictions("test", serve)
    assert [x["image_id"] for x in predictions] == [record.image_id for record in records]
    assert task.score("test", serve)["nats_per_token"] > 0


ADVERSARIAL = [
    AdversarialConfig(),
    AdversarialConfig(steps=2),
    AdversarialConfig(steps=1, sides="image", norm="infinity", with_clean=False),
]


@pytest.mark.parametrize("adversarial", ADVERSARIAL, ids=["plain", "both", "image"])
def test_updates_lower_the_loss(make_task, adversarial: AdversarialConfig) -> None:
    task = make_task({"with_tags": False}, adversarial=adversarial)
    (stream,) = task.training_streams(16)
    optimizer = build_optimizer(OptimizerConfig(learning_rate=3e-3, schedule="constant"), 40)
    update = build_update(task, 16, stream.fields, optimizer, seed=0, num_passes=1)
    runner = Runner()
    update.start(runner)
    batches = Loader([stream], seed=0).batches(0, 40)
    losses = []
    for step in range(40):
        losses.append(float(update.run(runner, batches, step)["loss"]))
        optimizer.schedule.step(step + 1)
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_tags": 0}, "max_tags is 0; give at least 1"),
        ({"objects": "objects.ids"}, "objects needs task.data.source original"),
    ],
)
def test_wrong_setting_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CaptionDataConfig(**changes)


def test_captions_longer_than_the_positions_are_refused(tiny_settings, tmp_path: Path) -> None:
    config = CaptioningConfig(
        data=CaptionDataConfig(image=ImageConfig(image_size=32, patch_size=8), max_tags=8),
        language=LanguageConfig(max_target_length=65),
    )
    with pytest.raises(UserError, match=r"max_target_length is 65.*holds texts of 64 tokens"):
        CaptioningTask(config, ModelConfig(**tiny_settings["model"]), tmp_path)
