"""The published recipes for COCO, Flickr30k and SNLI-VE: on public files, and on the authors' own.

The public files are small true examples in the layouts of their projects, imported by the commands
of docs/finetuning.md.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, Tool
from tests.data.regions.samples import (
    FEATURE_SIZE,
    NUM_CLASSES,
    detect,
    lxmert_line,
    uniter_arrays,
    write_lines,
)
from tests.test_configs import build_programs
from unimo_paddle import settings
from unimo_paddle.config import RunConfig, parse_training
from unimo_paddle.dry_run.needs import needs_of

DATA = ROOT / "configs" / "data"
FINETUNE = ROOT / "configs" / "finetune"
NAMES = ("coco_captioning", "flickr30k_retrieval", "snli_ve")
SIZES = ("base", "large")
RECIPES = [f"{name}_{size}" for name in NAMES for size in SIZES]
# Parts of the documented commands that make what a recipe reads.
COMMANDS = {
    "coco_captioning": ("--set coco", "data/coco/regions"),
    "flickr30k_retrieval": ("--set flickr30k", "data/flickr30k/regions"),
    "snli_ve": ("snli_ve --lower_case --input", "data/flickr30k/regions"),
}
REGIONS = "python tools/prepare_data.py regions --format tsv FEATURES.tsv --output"
OTHERS = "(other formats, or your own detector: docs/regions.md)"
TINY = {
    "model.vocab_size": 300,
    "model.hidden_size": 16,
    "model.num_layers": 1,
    "model.num_heads": 2,
    "model.region_feature_size": FEATURE_SIZE,
    "task.data.image.feature_size": FEATURE_SIZE,
    "task.data.tokenizer.encoder_json": "null",
    "task.data.tokenizer.vocab_bpe": "null",
    "task.data.tokenizer.vocab_txt": "null",
    "task.data.tokenizer.vocab_size": 300,
    "train.start_from": "null",
    "train.num_epochs": 1,
    "train.batch_size": 3,
    "output_dir": "run",
}
FEWER = {
    "coco_captioning": {"task.adversarial.steps": 1},
    "flickr30k_retrieval": {"task.negatives": 1},
    "snli_ve": {"task.adversarial.steps": 1},
}


def name_of(recipe: str) -> str:
    return recipe.rpartition("_")[0]


def load(recipe: str) -> RunConfig:
    return settings.load(RunConfig, FINETUNE / f"{recipe}.yaml")


def load_original(recipe: str) -> RunConfig:
    """With the data section of the authors' own files, named on the command line."""
    section = DATA / f"{name_of(recipe)}_original.yaml"
    config, _ = parse_training(
        ["--config", str(FINETUNE / f"{recipe}.yaml"), "--task.data", str(section)]
    )
    return config


# ---- both variants


@pytest.mark.parametrize("recipe", RECIPES)
def test_public_files_are_read_by_default_and_one_word_selects_the_original(
    recipe: str, tmp_path: Path
) -> None:
    assert load(recipe).task.data.source == "files"
    for folder in ("data", "model"):
        (tmp_path / folder).symlink_to(ROOT / "configs" / folder)
    (tmp_path / "finetune").mkdir()
    word = f"{name_of(recipe)}.yaml"
    text = (FINETUNE / f"{recipe}.yaml").read_text("utf-8")
    assert text.count(f"/{word}") == 1
    path = tmp_path / "finetune" / "run.yaml"
    path.write_text(text.replace(f"/{word}", f"/{name_of(recipe)}_original.yaml"), "utf-8")
    config = settings.load(RunConfig, path)
    assert config.task.data.source == "original"
    assert config == load_original(recipe)


@pytest.mark.parametrize("recipe", RECIPES)
def test_variants_differ_in_where_records_are_from_and_in_nothing_else(recipe: str) -> None:
    public, original = load(recipe), load_original(recipe)
    sources = ("source", "train", "splits", "prepare", "regions")
    sources += tuple({"objects", "file_list_root", "features"} & vars(public.task.data).keys())
    kept = {name: getattr(original.task.data, name) for name in sources}
    data = replace(public.task.data, **kept)
    assert replace(public, task=replace(public.task, data=data)) == original


@pytest.mark.parametrize("name", NAMES)
def test_the_originals_variant_builds_its_programs(name: str, tmp_path: Path, static_graph) -> None:
    config = load_original(f"{name}_base")
    programs = build_programs(replace(config, model=replace(config.model, num_layers=1)), tmp_path)
    assert all(program.fetches for program in programs)


# ---- what a dry run tells


@pytest.mark.parametrize("name", NAMES)
def test_every_missing_file_is_told_with_its_command(
    name: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = load(f"{name}_base").task.data
    told = {need.setting: need for need in needs_of(load(f"{name}_base"))}
    for setting, path in {"train": data.train, "splits.dev": data.splits["dev"]}.items():
        need = told[f"task.data.{setting}"]
        assert need.is_missing and str(need.path) == path and need.remedy == data.prepare
    assert not told["task.data.splits.test"].is_needed
    store = told["task.data.regions"]
    names = " --names objects_vocab.txt" if name == "coco_captioning" else ""
    assert store.is_missing and store.remedy == f"{REGIONS} {store.path}{names} {OTHERS}"
    documented = [f"python tools/prepare_data.py {line}" for line in documented_commands()]
    assert data.prepare in documented


@pytest.mark.parametrize("name", NAMES)
def test_the_authors_own_files_are_told_by_name(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = load_original(f"{name}_base").task.data
    needs = [need for need in needs_of(load_original(f"{name}_base")) if need.is_missing]
    told = {str(need.path): need.remedy for need in needs}
    assert "the authors' own files" in told[data.train] and "finetuning.md" in told[data.train]


def test_a_dry_run_prints_files_and_commands(run_tool: Tool, tmp_path: Path) -> None:
    recipe = FINETUNE / "coco_captioning_base.yaml"
    options = ("--dry_run", "--model.num_layers", 1)
    done = run_tool("train", "--config", recipe, *options, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    command = "karpathy --lower_case --set coco --input dataset_coco.json --no_images"
    for line in (
        "missing  data/coco/dev.jsonl (task.data.splits.dev)",
        f"to make it: python tools/prepare_data.py {command}",
        "missing  data/coco/regions (task.data.regions)",
        f"to make it: {REGIONS} data/coco/regions --names objects_vocab.txt {OTHERS}",
        "(20 epochs over 566,747 records)",
    ):
        assert line in done.stdout


# ---- small true examples of the public files


def documented_commands() -> list[str]:
    """What docs/finetuning.md types after ``python tools/prepare_data.py`` for these recipes."""
    text = (ROOT / "docs" / "finetuning.md").read_text("utf-8")
    (section,) = re.findall(r"## Published recipes on public files\n(.*?)\n## ", text, re.S)
    joined = re.sub(r"\\\n\s*", "", section)
    return re.findall(r"^python tools/prepare_data\.py (.*)$", joined, re.M)


def write_karpathy(
    path: Path, names: dict[str, str], folder_of: Callable[[str], str | None]
) -> None:
    """Karpathy's file: of each image its split, two sentences, and perhaps a folder."""
    images = []
    for number, (name, split) in enumerate(names.items()):
        raw = [f"A dog in place {number}.", f"Number {number} is red ."]
        sentences = [
            {"tokens": text.split(), "raw": text, "imgid": number, "sentid": 2 * number + i}
            for i, text in enumerate(raw)
        ]
        image = {"filename": name, "imgid": number, "split": split, "sentences": sentences}
        image["sentids"] = [sentence["sentid"] for sentence in sentences]
        folder = folder_of(name)
        images.append(image | ({"filepath": folder, "cocoid": 100 + number} if folder else {}))
    path.write_text(json.dumps({"images": images, "dataset": path.stem}), "utf-8")


SPLITS = ("train", "train", "restval", "val", "val", "test", "test")


def write_coco(folder: Path) -> None:
    """Captions by Karpathy, and LXMERT's regions of both archives of images."""
    sources = ["train", "train", *["val"] * 5]
    names = [f"COCO_{s}2014_{30 + n:012d}.jpg" for n, s in enumerate(sources)]
    splits = dict(zip(names, SPLITS, strict=True))
    write_karpathy(folder / "dataset_coco.json", splits, lambda name: name.split("_")[1])
    for source in ("train", "val"):
        found = [
            lxmert_line(detect(name.removesuffix(".jpg"), number))
            for number, name in enumerate(names)
            if f"{source}2014" in name
        ]
        write_lines(folder / f"{source}2014_obj36.tsv", found)
    things = ["dog", "tree,trees", "sky", "car"]
    assert len(things) == NUM_CLASSES - 1
    write_lines(folder / "objects_vocab.txt", things)


FLICKR30K = [str(1000092795 + number) for number in range(7)]


def write_flickr30k(folder: Path) -> None:
    """Captions by Karpathy, and UNITER's regions."""
    splits = ("train", "train", "train", *SPLITS[3:])
    names = dict(zip((f"{name}.jpg" for name in FLICKR30K), splits, strict=True))
    write_karpathy(folder / "dataset_flickr30k.json", names, lambda name: None)
    (folder / "flickr30k").mkdir()
    for number, name in enumerate(FLICKR30K):
        path = folder / "flickr30k" / f"flickr30k_{int(name):012d}.npz"
        np.savez_compressed(path, **uniter_arrays(detect(name, number)))


def write_snli_ve(folder: Path) -> None:
    """Hypotheses about images of Flickr30k, and UNITER's regions of these."""
    write_flickr30k(folder)
    (folder / "SNLI-VE").mkdir()
    labels = ("entailment", "neutral", "contradiction")
    for split, images in {"train": FLICKR30K[:2], "dev": FLICKR30K[3:5]}.items():
        lines = [
            {
                "Flickr30K_ID": image,
                "annotator_labels": [label] * 5,
                "captionID": f"{image}.jpg#0",
                "gold_label": label,
                "pairID": f"{image}.jpg#0r1{label[0]}",
                "sentence1": "A dog is red .",
                "sentence2": f"It is {label} .",
            }
            for image in images
            for label in labels
        ]
        write_lines(folder / f"SNLI-VE/snli_ve_{split}.jsonl", [json.dumps(x) for x in lines])


EXAMPLES = {
    "coco_captioning": write_coco,
    "flickr30k_retrieval": write_flickr30k,
    "snli_ve": write_snli_ve,
}


@pytest.mark.parametrize(
    "name",
    # Four processes each: in a hurry one stands for all.
    [*(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[:-1]), NAMES[-1]],
)
def test_updates_on_public_files_that_the_documented_commands_imported(
    name: str, run_tool: Tool, tmp_path: Path
) -> None:
    EXAMPLES[name](tmp_path)
    commands = [
        line for line in documented_commands() if any(part in line for part in COMMANDS[name])
    ]
    assert len(commands) == len(COMMANDS[name])
    for line in commands:
        done = run_tool("prepare_data", *shlex.split(line), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    changes = {**TINY, **FEWER[name]}
    options = [part for key, value in changes.items() for part in (f"--{key}", value)]
    recipe = FINETUNE / f"{name}_base.yaml"
    done = run_tool("train", "--config", recipe, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # An epoch of six captions or triples; of their three images it would be one update.
    assert [path.name for path in (tmp_path / "run/checkpoints").glob("step-*")] == ["step-2"]
    assert "with_tags adds nothing" not in done.stderr
