"""The tree of all settings, and how a run is built from it."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unimo_paddle import distributed
from unimo_paddle.checkpoint import latest_checkpoint, load_checkpoint
from unimo_paddle.data.publish import sole_writer
from unimo_paddle.errors import UserError
from unimo_paddle.evaluation import EvaluationConfig, Evaluator
from unimo_paddle.models import ModelConfig
from unimo_paddle.optimizer import OptimizerConfig
from unimo_paddle.process import is_restarted
from unimo_paddle.program import Runner
from unimo_paddle.settings import Option, build, dump, parse, read_tree, save
from unimo_paddle.tasks import TaskConfig
from unimo_paddle.tasks.pretraining import PretrainingConfig
from unimo_paddle.trainer import ASSETS_DIR, CHECKPOINT_DIR, CONFIG_NAME, Trainer, TrainerConfig

logger = logging.getLogger(__name__)

MADE_FROM_NAME = "made_from.json"  # beside assets: the settings they were made for
LOCK_NAME = ".lock"  # in the folder of a run while it is trained

TRAIN_OPTIONS = (
    Option("resume", "continue the run in output_dir from its newest checkpoint"),
    Option("resume_if_any", "the same where there is a checkpoint, otherwise begin"),
    Option("dry_run", "tell what would run, what is missing and what it takes; train nothing"),
)
TRAIN_EXAMPLES = (
    "python tools/train.py --config configs/quickstart.yaml",
    "python tools/train.py --config configs/quickstart.yaml --train.max_steps 200 "
    "--output_dir runs/x",
    "python tools/train.py --config configs/quickstart.yaml --output_dir runs/x --resume",
    "python tools/train.py --config configs/finetune/sst2_base.yaml --dry_run",
)


@dataclass(frozen=True)
class RunConfig:
    """Everything a run depends on."""

    output_dir: str = "runs/run"  # folder of the run: settings, log, checkpoints
    seed: int = 0  # of initial weights, orders, augmentation, masking and dropout
    model: ModelConfig = field(default_factory=ModelConfig)
    task: TaskConfig = field(default_factory=PretrainingConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}; give at least 0")
        for name in getattr(self.task.data, "splits", {}):
            if not name or "/" in name:  # told now, and not when the run has ended
                raise UserError(
                    f"task.data.splits names {name!r}, which is to be a part of file names; rename "
                    "it to something without '/'"
                )


def parse_command(argv: Sequence[str]) -> tuple[RunConfig, dict[str, bool]]:
    """Read the command line of ``tools/train.py``; return the config and the options given."""
    return parse(
        RunConfig,
        argv,
        prog="tools/train.py",
        description="Train a model on the data and objectives of a run file.",
        examples=TRAIN_EXAMPLES,
        options=TRAIN_OPTIONS,
    )


def parse_training(argv: Sequence[str]) -> tuple[RunConfig, bool]:
    """Read the command line of ``tools/train.py``; return the config and whether to resume.

    In a job that a launcher has started again, ``--resume_if_any`` is given without being said.
    """
    config, options = parse_command(argv)
    is_begun = latest_checkpoint(Path(config.output_dir) / CHECKPOINT_DIR) is not None
    goes_on = options["resume_if_any"] or is_restarted()
    return config, options["resume"] or (goes_on and is_begun)


@contextmanager
def sole_run(folder: Path) -> Iterator[None]:
    """Keep a second run out of a run's folder, whose files it would take for leftovers.

    Only the first process of a job holds it: the others write nothing there by themselves.
    """
    distributed.start()
    if distributed.rank() > 0:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder / LOCK_NAME, folder):
        yield


def build_trainer(config: RunConfig, *, resume: bool = False) -> Trainer:
    """Prepare the task's assets, save the settings and build the trainer of a run.

    Nothing keeps another process out of the folder meanwhile: see ``sole_run``.
    """
    distributed.start()
    folder = Path(config.output_dir)
    newest = latest_checkpoint(folder / CHECKPOINT_DIR)
    _check_shared(folder, newest)
    if newest is None and resume:
        raise UserError(
            f"nothing to resume in {folder}: no checkpoint was saved; run without --resume"
        )
    if newest is not None and not resume:
        raise UserError(
            f"output_dir {folder} already holds checkpoints; add --resume to continue that run, "
            "or choose another output_dir"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if newest is None:
        if distributed.rank() == 0:
            _begin_assets(folder / ASSETS_DIR, config)
        distributed.gather_arrays({"begun": np.ones(1, np.int64)})  # the others wait for the first
    task = config.task.build(config.model, folder / ASSETS_DIR)
    task.prepare(config.seed)
    trainer = Trainer(
        task,
        config.train,
        config.optimizer,
        config.evaluation,
        output_dir=folder,
        seed=config.seed,
        settings=asdict(config),
    )
    if newest is not None:
        trainer.resume(newest)
        _tell_changes(folder / CONFIG_NAME, config)
    else:
        trainer.initialise()
    if distributed.rank() == 0:
        # Last: a resume that is refused leaves the settings that the checkpoints belong to.
        save(config, folder / CONFIG_NAME)
    return trainer


def _tell_changes(path: Path, config: RunConfig) -> None:
    """Name the settings that a resumed run changes: its result is not that of the run before."""
    before = read_tree(path).values if path.is_file() else {}
    for key, value, now in changes(before, dump(config)):
        logger.warning("%s was %s in the run that is resumed, and is %s now", key, value, now)


def changes(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The keys of ``before`` with another value in ``now``, and both; newer keys do not count."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name, value in before.items():
            yield from changes(value, now.get(name), f"{key}.{name}" if key else name)
    elif before != now:
        yield key, before, now


def _begin_assets(folder: Path, config: RunConfig) -> None:
    """Leave no vocabulary or visual words of a start that saved nothing and had other settings."""
    path = folder / MADE_FROM_NAME
    settings = dump(config)
    now = json.dumps({name: settings[name] for name in ("seed", "model", "task")}, indent=1) + "\n"
    if path.is_file() and path.read_text("utf-8") != now:
        shutil.rmtree(folder)
    folder.mkdir(exist_ok=True)
    path.write_text(now, "utf-8")


def _check_shared(folder: Path, newest: Path | None) -> None:
    """Refuse ranks that would go on from different steps: every machine must see one folder."""
    name = "none" if newest is None else newest.name
    name = np.frombuffer(name.encode(), np.uint8)
    names = [
        found["name"].tobytes().decode() for found in distributed.gather_arrays({"name": name})
    ]
    for rank, other in enumerate(names):
        if other != names[0]:
            raise UserError(
                f"output_dir {folder}: the newest checkpoint is {names[0]} for process 0 and "
                f"{other} for process {rank}; give all machines the same folder"
            )


def load_run(folder: Path) -> RunConfig:
    """Read the settings that a run saved."""
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise UserError(f"{folder} is no run: it has no {CONFIG_NAME}; name a folder of train.py")
    tree = read_tree(path)
    if not tree.values:  # which would be all defaults
        raise UserError(f"{path} is empty; write the settings of the run into it, or train again")
    return build(RunConfig, tree)


def load_evaluator(folder: Path, *, step: int | None = None) -> Evaluator:
    """Rebuild a run's task with the weights of its newest checkpoint, or of ``step``."""
    distributed.start()
    config = load_run(folder)
    checkpoints = folder / CHECKPOINT_DIR
    path = latest_checkpoint(checkpoints) if step is None else checkpoints / f"step-{step}"
    if path is None:
        raise UserError(f"{folder} has no checkpoint yet; train first")
    checkpoint = load_checkpoint(path)
    task = config.task.build(config.model, folder / ASSETS_DIR)
    return Evaluator(task, Runner(), config.evaluation, seed=config.seed, arrays=checkpoint.arrays)
