"""What is told of a run before it begins: what it reads, what it takes, that nothing is written."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from unimo_paddle import settings
from unimo_paddle.config import RunConfig
from unimo_paddle.dry_run.cost import Lengths, assumed_lengths, cost_of
from unimo_paddle.dry_run.needs import needs_of
from unimo_paddle.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "configs" / "finetune").glob("*.yaml"))
TEXTS = ["a red fish", "a blue dog and a red fish", "two dogs", "no fish at all"]
COMMAND = "python tools/prepare_data.py glue --set cola --input GLUE/CoLA"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A run file of a tiny classifier whose data are there, and whose output is not."""
    rows = "".join(f"{n % 2}\t{text}\n" for n, text in enumerate(TEXTS * 5))
    (tmp_path / "train.tsv").write_text(f"label\ttext_a\n{rows}", "utf-8")
    run = {
        "output_dir": str(tmp_path / "run"),
        "model": {"vocab_size": 300, "hidden_size": 16, "num_layers": 1, "num_heads": 2},
        "task": {
            "type": "classification",
            "data": {"train": str(tmp_path / "train.tsv"), "tokenizer": {"vocab_size": 300}},
        },
        "train": {"num_epochs": 2, "batch_size": 5},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run), "utf-8")
    return tmp_path / "run.yaml"


def test_complete_run_is_measured_and_leaves_nothing(run_tool, recipe: Path) -> None:
    before = sorted(recipe.parent.rglob("*"))
    done = run_tool("train", "--config", recipe, "--dry_run")
    assert done.returncode == 0, done.stderr
    assert re.search(r"updates +8 \(2 epochs over 20 records\)", done.stdout)
    assert "measured here:" in done.stdout and "measured: " in done.stdout
    assert done.stdout.splitlines()[-1] == "everything is here; nothing was trained"
    assert sorted(recipe.parent.rglob("*")) == before


def test_missing_data_are_told_with_the_command_that_makes_them(run_tool, recipe: Path) -> None:
    (recipe.parent / "train.tsv").unlink()
    given = ["--task.data.prepare", COMMAND, "--task.data.num_records", 100]
    done = run_tool("train", "--config", recipe, "--dry_run", *given)
    assert done.returncode == 2
    assert "missing  " + str(recipe.parent / "train.tsv") in done.stdout
    assert COMMAND in done.stdout
    assert "40 (2 epochs over 100 records)" in done.stdout
    assert done.stdout.splitlines()[-1] == "missing: 1 of 1 files; nothing was trained"
    trained = run_tool("train", "--config", recipe, *given)
    assert trained.returncode == 2
    assert trained.stderr.strip().splitlines()[-1].endswith(f"does not exist; make it: {COMMAND}")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_says_how_everything_it_reads_is_made(path: Path, static_graph) -> None:
    config = settings.load(RunConfig, path)
    needs = needs_of(config)
    assert needs and all(need.remedy for need in needs)
    for tool in re.findall(r"python (tools/\w+\.py)", " ".join(need.remedy for need in needs)):
        assert (ROOT / tool).is_file()
    commands = (ROOT / "tools" / "prepare_data.py").read_text("utf-8")
    for command in re.findall(r"prepare_data\.py (\w+)", " ".join(n.remedy for n in needs)):
        assert f'"{command}": ' in commands
    thin = replace(config, model=replace(config.model, num_layers=1))
    assert cost_of(thin, assumed_lengths(config.task)).operations > 0


@pytest.mark.parametrize("name", [path.stem for path in RECIPES if "base" in path.stem])
def test_published_recipe_says_what_it_is_expected_to_take(name: str) -> None:
    text = (ROOT / "configs" / "finetune" / f"{name}.yaml").read_text("utf-8")
    assert "Published: " in text and "Estimated, not measured, by --dry_run: " in text


def test_run_to_start_from_is_found_among_the_run_files(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    config = settings.load(RunConfig, ROOT / "configs" / "finetune" / "stsb_base.yaml")
    (start,) = [need for need in needs_of(config) if need.setting == "train.start_from"]
    assert start.remedy == "python tools/train.py --config configs/finetune/mnli_base.yaml"


@pytest.mark.parametrize(
    ("folder", "remedy"),
    [
        ("vocab", "docs/weights.md"),
        ("runs/x/assets/vocabulary", "a run of tools/train.py with --output_dir runs/x"),
    ],
)
def test_a_missing_vocabulary_is_that_of_a_run_where_its_folder_says_so(
    folder: str, remedy: str
) -> None:
    tokenizer = {"vocab_size": 300, "folder": folder}
    config = settings.build(
        RunConfig, {"task": {"type": "classification", "data": {"tokenizer": tokenizer}}}
    )
    (need,) = [x for x in needs_of(config) if x.setting == "task.data.tokenizer.folder"]
    assert remedy in need.remedy


def test_a_section_that_is_called_like_a_run_does_not_make_it(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    config = settings.load(RunConfig, ROOT / "configs" / "finetune" / "snli_ve_base.yaml")
    config = replace(config, train=replace(config.train, start_from="runs/snli_ve"))
    (start,) = [need for need in needs_of(config) if need.setting == "train.start_from"]
    assert start.remedy.endswith("a run of tools/train.py with --output_dir runs/snli_ve")


def test_every_shard_and_store_of_a_run_is_needed(tmp_path: Path) -> None:
    config = settings.load(RunConfig, ROOT / "configs" / "pretrain" / "flickr8k_small.yaml")
    pattern, store = tmp_path / "{0..1}.tar", tmp_path / "regions"
    image = replace(config.task.data.image, kind="regions")
    data = replace(config.task.data, pairs=str(pattern), regions=[str(store)], image=image)
    needs = {
        need.setting: need
        for need in needs_of(replace(config, task=replace(config.task, data=data)))
    }
    assert needs["task.data.pairs"].is_missing
    assert f"prepare_data.py regions --format tsv FEATURES.tsv --output {store}" in (
        needs["task.data.regions"].remedy
    )
    (tmp_path / "0.tar").touch()
    assert needs["task.data.pairs"].is_missing
    (tmp_path / "1.tar").touch()
    assert not needs["task.data.pairs"].is_missing


def test_what_is_mined_is_told_with_what_must_not_be(tmp_path: Path) -> None:
    config = settings.load(RunConfig, ROOT / "configs" / "pretrain" / "scenes_cmcl.yaml")
    data = replace(config.task.data, scenes_dir="scenes", mined="out")
    remedies = {
        need.setting: need.remedy
        for need in needs_of(replace(config, task=replace(config.task, data=data)))
    }
    assert remedies["task.data.mined"].split("prepare_data.py ")[1] == (
        "mine --images scenes/images_only --texts scenes/texts.txt --splits scenes/test.jsonl "
        "scenes/test_novel.jsonl --pairs scenes/train.jsonl --output out"
    )


def test_scenes_are_made_on_first_use(tmp_path: Path) -> None:
    config = settings.load(RunConfig, ROOT / "configs" / "finetune" / "scenes_vqa.yaml")
    data = replace(config.task.data, scenes_dir=str(tmp_path / "scenes"))
    needs = needs_of(replace(config, task=replace(config.task, data=data)))
    assert not needs[0].is_missing
    assert needs[0].remedy.endswith("--num_train 20000")
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "other.txt").touch()
    with pytest.raises(UserError, match="no folder of scenes"):
        needs_of(replace(config, task=replace(config.task, data=data)))


def test_branches_and_steps_multiply_the_operations(static_graph) -> None:
    config = settings.load(RunConfig, ROOT / "configs" / "finetune" / "snli_ve_base.yaml")
    config = replace(config, model=replace(config.model, num_layers=1))
    plain = replace(config.task.adversarial, steps=0)
    lengths = Lengths(20, 101)
    cost = cost_of(config, lengths)
    alone = cost_of(replace(config, task=replace(config.task, adversarial=plain)), lengths)
    assert cost.operations == 12 * alone.operations
    assert cost.activation_bytes == 3 * alone.activation_bytes
    assert cost.state_bytes == alone.state_bytes * 20 / 16
