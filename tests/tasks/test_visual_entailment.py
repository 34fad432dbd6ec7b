"""Visual entailment: records of all kinds, padding, learning, settings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unimo_paddle.adversarial import AdversarialConfig
from unimo_paddle.data.fields import collate
from unimo_paddle.data.loader import Loader
from unimo_paddle.data.records import Fault
from unimo_paddle.errors import UserError
from unimo_paddle.optimizer import OptimizerConfig, build_optimizer
from unimo_paddle.program import (
    Runner,
    build_service,
)
from unimo_paddle.tasks.visual_entailment import (
    EntailmentDataConfig,
    VisualEntailmentConfig,
    VisualEntailmentTask,
)
from unimo_paddle.updates import build_update

# each input must tell in the outputs
LOUD = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "initializer_range": 0.2}

pytestmark = pytest.mark.usefixtures("static_graph")


@pytest.fixture(scope="module")
def make_task(on_scenes):
    """A prepared task on the built-in scenes: ({field of the data: value}, fields) -> task."""

    def make(data: dict[str, Any] | None = None, **changes: Any) -> VisualEntailmentTask:
        return on_scenes(VisualEntailmentConfig, EntailmentDataConfig, data, changes, model=LOUD)

    return make


@pytest.fixture(scope="module")
def task(make_task) -> VisualEntailmentTask:
    return make_task()


@pytest.fixture(scope="module")
def images(tiny_settings: dict[str, Any]) -> Path:
    return Path(tiny_settings["task"]["data"]["scenes_dir"]) / "images"


@pytest.fixture
def read_lines_of(make_task, images: Path, tmp_path: Path):
    """Read a file of these lines beside the images: (name, lines) -> records."""

    def read(name: str, lines: list[str], **data: Any) -> Any:
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), "utf-8")
        files = {"source": "files", "train": str(tmp_path / name), "image_dir": str(images)}
        return make_task(files | data, labels=("match", "no-match")).read_split("train")

    return read


GOOD_LINE = {"image": "00000.png", "hypothesis": "a star", "label": "match", "id": "a"}


def test_scenes_have_a_record_for_each_triple(task: VisualEntailmentTask) -> None:
    records = task.read_split("test")
    assert len(records) == 6 * 3
    assert {record.label for record in records} == set(task.config.labels)


def test_table_of_matching_pairs_is_read(read_lines_of) -> None:
    rows = ["image\tcaption\tlabel", "00000.png\ta dog .\tmatch", "00001.png\tcat\tno-match"]
    found = [(x.image.name, x.hypothesis, x.label) for x in read_lines_of("pairs.tsv", rows)]
    assert found == [("00000.png", "a dog .", "match"), ("00001.png", "cat", "no-match")]


def test_table_without_a_header_is_read_by_the_columns_of_the_settings(read_lines_of) -> None:
    columns = ("label", "image", "hypothesis")
    records = read_lines_of("pairs.tsv", ["match\t00000.png\ta dog"], columns=columns)
    assert (records[0].hypothesis, records[0].label) == ("a dog", "match")


DAMAGE = [
    ({"label": "perhaps"}, "label 'perhaps' is none of match, no-match"),
    ({"image": "none.png"}, "file 'none.png' does not exist"),
    ({"image": "../00000.png"}, "must be relative and stay inside the folder"),
    ({"hypothesis": " "}, "'hypothesis' is empty"),
    ({"hypothesis": 5}, "'hypothesis' must be text, not '5'"),
    ({"id": "a"}, "id 'a' occurred before"),
    ({"id": [1]}, "'id' must be text or a whole number, not '[1]'"),
]


@pytest.mark.parametrize(("changes", "message"), DAMAGE)
def test_damaged_line_is_left_out_with_its_place_and_reason(
    read_lines_of, caplog, changes: dict[str, Any], message: str
) -> None:
    lines = [json.dumps(GOOD_LINE), json.dumps(GOOD_LINE | {"id": "b"} | changes)]
    assert len(read_lines_of("pairs.jsonl", lines)) == 1
    (told,) = [x.getMessage() for x in caplog.records if x.getMessage().startswith("skipped ")]
    assert "pairs.jsonl:2: " in told and message in told


def test_line_without_a_sentence_is_refused(task: VisualEntailmentTask, images: Path) -> None:
    with pytest.raises(Fault, match="key 'hypothesis' is missing; found image"):
        task.parse({"image": str(images / "00000.png")})


def test_folder_of_images_has_no_effect_on_scenes() -> None:
    with pytest.raises(UserError, match=r"have no effect on task\.data\.source scenes"):
        EntailmentDataConfig(source="scenes", image_dir="images")


def test_folder_of_listed_files_has_no_effect_on_json_lines() -> None:
    with pytest.raises(UserError, match=r"file_list_root has no effect on .*source files"):
        EntailmentDataConfig(file_list_root="files")


def test_texts_longer_than_the_positions_are_refused(make_task) -> None:
    with pytest.raises(UserError, match=r"max_text_length is 65, .* holds texts of 64 tokens"):
        make_task({"max_text_length": 65})


def test_padding_is_invisible(task: VisualEntailmentTask) -> None:
    sample, runner = task.encode(task.read_split("test")[0]), Runner()
    program = build_service(task, task.services[0])
    runner.start(program)
    alone, padded = (
        runner.run(program, collate([sample], task.inputs, multiple_of=size))["probabilities"]
        for size in (1, 60)
    )
    np.testing.assert_allclose(padded, alone, atol=1e-5)


def test_predictions_keep_the_id_of_the_input(make_task, images: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    unnamed = {name: value for name, value in GOOD_LINE.items() if name != "id"}
    path.write_text(f"{json.dumps(GOOD_LINE)}\n{json.dumps(unnamed)}\n", "utf-8")
    files = {"source": "files", "train": str(path), "splits": {"dev": str(path)}}
    task = make_task(files | {"image_dir": str(images)}, labels=("match", "no-match"))
    outputs = {"probabilities": np.array([[0.2, 0.8], [0.9, 0.1]]), "index": np.arange(2)}
    predictions = task.predictions("dev", lambda name, stream: outputs)
    assert predictions[0] == {
        "index": 0,
        "id": "a",
        "label": "no-match",
        "probabilities": {"match": 0.2, "no-match": 0.8},
    }
    assert "id" not in predictions[1]
    assert task.score("dev", lambda name, stream: outputs)["accuracy"] == 0.5


ADVERSARIAL = [AdversarialConfig(), AdversarialConfig(steps=2), AdversarialConfig(1, "text")]


@pytest.mark.parametrize("adversarial", ADVERSARIAL, ids=["plain", "both", "text"])
def test_updates_lower_the_loss(make_task, adversarial: AdversarialConfig) -> None:
    task = make_task(adversarial=adversarial, head_dropout=0.0)
    # So few that a tiny model has learnt them by heart after some updates.
    (stream,) = task.training_streams(12)
    stream = replace(stream, records=stream.records[:12])
    optimizer = build_optimizer(OptimizerConfig(learning_rate=3e-3, schedule="constant"), 40)
    update = build_update(task, 12, stream.fields, optimizer, seed=0, num_passes=1)
    runner = Runner()
    update.start(runner)
    batches = Loader([stream], seed=0).batches(0, 40)
    losses = []
    for step in range(40):
        losses.append(float(update.run(runner, batches, step)["loss"]))
        optimizer.schedule.step(step + 1)
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
