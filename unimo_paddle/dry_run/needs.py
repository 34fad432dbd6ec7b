"""The files that a run reads, whether they are there, and how those that are not are made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unimo_paddle.checkpoint import latest_checkpoint
from unimo_paddle.config import RunConfig
from unimo_paddle.data.scenes import IMAGES_ONLY, SceneConfig
from unimo_paddle.data.scenes.dataset import check_manifest
from unimo_paddle.data.shards import files_of
from unimo_paddle.errors import UserError
from unimo_paddle.tasks.vocabulary import VOCABULARY_DIR
from unimo_paddle.trainer import ASSETS_DIR, CHECKPOINT_DIR

# Settings of a task and of its data that name files or folders, in the order of telling.
PATH_SETTINGS = (
    *("train", "pairs", "splits", "features", "image_ids", "objects", "image_dir", "regions"),
    *("texts", "statements", "images", "rewrites", "mined", "split_rewrites", "answers"),
)
VOCABULARY_SETTINGS = ("encoder_json", "vocab_bpe", "vocab_txt", "folder")
CONFIGS_DIR = Path("configs")
SECTION_FOLDERS = ("model", "data", "ablation")  # within it, of files that are no run files
FORMATS = "docs/data.md says what it holds"
ORIGINAL = "the authors' own files, or public ones in their place: docs/finetuning.md"


@dataclass(frozen=True)
class Need:
    """Something that a run reads.

    Args:
        setting: that names it.
        remedy: how it is made.
        is_needed: by training; otherwise a later evaluation reads it.
        is_made: training makes it where it is absent.
    """

    setting: str
    path: Path
    remedy: str
    is_needed: bool = True
    is_made: bool = False

    @property
    def is_there(self) -> bool:
        """Whether the file, folder or every shard exists."""
        try:
            return all(path.exists() for path in files_of(self.path))
        except UserError:  # of shards some are missing
            return False

    @property
    def is_missing(self) -> bool:
        """Whether training would end for want of it."""
        return self.is_needed and not self.is_made and not self.is_there


def needs_of(config: RunConfig) -> list[Need]:
    """What a run reads: data, vocabulary, weights to start from."""
    return [*_data(config), *_vocabulary(config), *_start(config)]


def _data(config: RunConfig) -> Iterator[Need]:
    data = config.task.data
    if getattr(data, "source", "files") == "scenes":
        folder = Path(data.scenes_dir)
        if folder.exists():
            check_manifest(folder, data.scenes)
        yield Need("task.data.scenes_dir", folder, _scenes(folder, data.scenes), is_made=True)
        names: tuple[str, ...] = ("rewrites", "mined", "split_rewrites", "statements")
    else:
        names = PATH_SETTINGS
    measured = config.evaluation.splits
    for section, owner in (("task.data", data), ("task", config.task)):
        for name in names:
            for part, path in _paths(getattr(owner, name, None)):
                setting = f"{section}.{name}{part and f'.{part}'}"
                is_needed = part in ("", "train", *measured)
                remedy = _remedy(config, name, part, path)
                yield Need(setting, path, remedy, is_needed=is_needed)


def _scenes(folder: Path, scenes: SceneConfig) -> str:
    changed = [
        f" --{name} {value}"
        for name, value in vars(scenes).items()
        if value != getattr(SceneConfig(), name)
    ]
    return f"python tools/prepare_data.py scenes --output {folder}{''.join(changed)}"


def _paths(value: Any) -> list[tuple[str, Path]]:
    """The paths that a setting names, each with its key where there are several."""
    if isinstance(value, dict):
        return [(key, Path(path)) for key, path in value.items()]
    if isinstance(value, str | Path):
        return [("", Path(value))]
    return [("", Path(path)) for path in value or () if isinstance(path, str | Path)]


def _remedy(config: RunConfig, name: str, part: str, path: Path) -> str:
    data = config.task.data
    if name in ("rewrites", "mined", "split_rewrites") and hasattr(data, "pairs"):
        folder = Path(data.scenes_dir)
        pairs = data.pairs or folder / "train.jsonl"
        if name == "split_rewrites":
            pairs = data.splits.get(part) or folder / f"{part}.jsonl"
        command = _mine(config) if name == "mined" else "rewrite"
        stores = f" --regions {' '.join(data.regions)}" if data.regions else ""
        return f"python tools/prepare_data.py {command} --pairs {pairs}{stores} --output {path}"
    if name == "regions":
        # What the classes are called is what captions take as their tags.
        names = " --names objects_vocab.txt" if getattr(data, "with_tags", False) else ""
        return (
            "python tools/prepare_data.py regions --format tsv FEATURES.tsv "
            f"--output {path}{names} (other formats, or your own detector: docs/regions.md)"
        )
    is_original = getattr(data, "source", None) == "original"
    return getattr(data, "prepare", None) or (ORIGINAL if is_original else FORMATS)


def _mine(config: RunConfig) -> str:
    """The command with what may be mined from and what may not; ``contrast`` says what is asked."""
    data, contrast, command = config.task.data, config.task.contrast, "mine"
    if data.source == "scenes":
        folder = Path(data.scenes_dir)
        images, texts = folder / IMAGES_ONLY, [folder / "texts.txt"]
        splits = [folder / f"{name}.jsonl" for name in ("test", "test_novel")]
    else:
        images, texts = data.images or "IMAGES_DIR", list(data.texts) or ["TEXTS.txt"]
        splits = list(data.splits.values())
    if contrast.images_per_pair:
        command += f" --images {images}"
    if contrast.texts_per_pair or not contrast.images_per_pair:
        command += f" --texts {' '.join(map(str, texts))}"
    if splits:
        command += f" --splits {' '.join(map(str, splits))}"
    return command


def _vocabulary(config: RunConfig) -> Iterator[Need]:
    tokenizer = config.task.data.tokenizer
    for name in VOCABULARY_SETTINGS:
        path = getattr(tokenizer, name)
        if path is not None:
            remedy = "of the released UNIMO, whose vocabulary is RoBERTa's: docs/weights.md"
            if Path(path).parts[-2:] == (ASSETS_DIR, VOCABULARY_DIR):
                remedy = _training(Path(path).parents[1], f"{ASSETS_DIR}/{VOCABULARY_DIR}")
            yield Need(f"task.data.tokenizer.{name}", Path(path), remedy)


def _start(config: RunConfig) -> Iterator[Need]:
    if config.train.start_from is None:
        return
    path = Path(config.train.start_from)
    if path.name.startswith("step-"):
        remedy = (
            "python tools/convert_checkpoint.py --from original --input FOLDER_OF_RELEASED_WEIGHTS "
            f"--output {path.parent}"
        )
        yield Need("train.start_from", path, remedy)
        return
    newest = latest_checkpoint(path / CHECKPOINT_DIR)
    yield Need("train.start_from", newest or path / CHECKPOINT_DIR, _training(path, CHECKPOINT_DIR))


def _training(run: Path, part: str) -> str:
    """The command that makes a run, where a run file says so."""
    found = sorted(
        path
        for path in CONFIGS_DIR.rglob(f"{run.name}.yaml")
        if path.parent.name not in SECTION_FOLDERS
    )
    if not found:
        return f"'{part}' of a run of tools/train.py with --output_dir {run}"
    return f"python tools/train.py --config {found[0]}"
