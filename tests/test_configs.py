"""Every run file that the repository offers makes the programs of its training and evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.test_config import RUN_FILES
from unimo_paddle import settings
from unimo_paddle.config import RunConfig
from unimo_paddle.data.objects import ObjectNames
from unimo_paddle.data.text import Tokenizer
from unimo_paddle.optimizer import build_optimizer
from unimo_paddle.program import Execution, StaticProgram, build_evaluation, build_service
from unimo_paddle.tasks.pretraining_regions import OBJECT_NAMES_NAME
from unimo_paddle.tasks.vocabulary import VOCABULARY_DIR
from unimo_paddle.updates import build_update

pytestmark = pytest.mark.usefixtures("static_graph")


def build_programs(config: RunConfig, assets: Path) -> list[StaticProgram]:
    """All programs of a run, without weights, from a vocabulary of its size and no data."""
    Tokenizer.train(["a"], config.model.vocab_size).save(assets / VOCABULARY_DIR)
    ObjectNames(("dog",)).save(assets / OBJECT_NAMES_NAME)
    task, train = config.task.build(config.model, assets), config.train
    update = build_update(
        task,
        train.batch_size,
        task.training_fields(train.batch_size),
        build_optimizer(config.optimizer, train.max_steps),
        seed=config.seed,
        num_passes=train.gradient_accumulation,
        execution=Execution(train.precision, train.recompute),
    )
    services = [build_service(task, service) for service in (*task.services, *task.views)]
    return [*update.programs, build_evaluation(task, task.evaluation_fields()), *services]


@pytest.mark.parametrize(
    "path",
    [
        # The large recipes make the programs of the base ones, only wider.
        pytest.param(path, marks=[pytest.mark.slow] if path.stem.endswith("_large") else [])
        for path in RUN_FILES
    ],
    ids=lambda path: path.stem,
)
def test_run_file_builds_its_programs(path: Path, tmp_path: Path) -> None:
    config = settings.load(RunConfig, path)
    # Layers are alike; one tells as much as 24, for which see below.
    programs = build_programs(replace(config, model=replace(config.model, num_layers=1)), tmp_path)
    assert all(program.fetches for program in programs)


@pytest.mark.slow
@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: path.stem)
def test_run_file_builds_its_programs_with_all_layers(path: Path, tmp_path: Path) -> None:
    config = settings.load(RunConfig, path)
    programs = build_programs(config, tmp_path)
    # In chunks the first program of an update trains nothing.
    trained = {name for program in programs for name in program.trained or ()}
    layers = {name for name in trained if name.endswith("_ffn_fc_0.w_0")}
    assert len(layers) == config.model.num_layers
