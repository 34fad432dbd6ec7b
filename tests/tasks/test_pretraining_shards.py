"""Pre-training reads pairs, images and splits from tar shards, and goes on inside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.shard_files import NUM_SHARDS, SAMPLES, picture_bytes, write_shard, write_shards
from unimo_paddle.config import RunConfig
from unimo_paddle.data.loader import Loader
from unimo_paddle.pictures import WRONG
from unimo_paddle.settings import load
from unimo_paddle.tasks.pretraining import PretrainingTask
from unimo_paddle.tasks.pretraining_pictures import _shown

NUM_RECORDS = NUM_SHARDS * SAMPLES


@pytest.fixture
def make_task(write_run_file, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make the task on three shards of seven pairs anew, as a resumed run does."""
    monkeypatch.chdir(tmp_path)
    pattern = str(write_shards(Path("shards")))
    write_shard(tmp_path / "dev.tar", {"a.png": picture_bytes(99), "a.txt": b"a boat"})
    changes = {
        "task.data.source": "files",
        "task.data.pairs": pattern,
        "task.data.images": pattern,
        "task.data.splits": {"dev": "dev.tar"},
        "task.mixture": {"texts": 0, "images": 1, "pairs": 1},
    }
    path = write_run_file(tmp_path / "run.yaml", changes)

    def make() -> PretrainingTask:
        config = load(RunConfig, path)
        task = config.task.build(config.model, tmp_path / "assets")
        task.prepare(0)
        return task

    return make


def test_a_resumed_run_reads_the_same_batches_of_shards(make_task) -> None:
    whole = list(Loader(make_task().training_streams(6), seed=3).batches(0, 11))
    resumed = Loader(make_task().training_streams(6), seed=3, num_workers=2).batches(3, 11)
    for expected, found in zip(whole[3:], resumed, strict=True):
        assert expected.keys() == found.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_ranks_divide_the_pairs_of_shards(make_task) -> None:
    streams = make_task().training_streams(6)
    pairs = next(stream for stream in streams if stream.name == "pairs")
    size, steps = pairs.batch_size, NUM_RECORDS // (2 * pairs.batch_size)
    seen = [[], []]
    for rank, numbers in enumerate(seen):
        loader = Loader(streams, seed=3, rank=rank, num_ranks=2)
        for step in range(steps):
            numbers += loader.records(step)["pairs"]
    assert len(set(seen[0]) | set(seen[1])) == 2 * steps * size
    assert not set(seen[0]) & set(seen[1])


def test_photographs_of_shards_are_shown(make_task, tmp_path: Path) -> None:
    make_task()
    shown = _shown(tmp_path / "shards/00.tar/000003.png")
    (tmp_path / "3.png").write_bytes(picture_bytes(3))
    np.testing.assert_array_equal(shown, _shown(tmp_path / "3.png"))
    assert shown.std() > 10  # not one colour
    assert (_shown(tmp_path / "shards/00.tar/none.png") == WRONG).all()


def test_a_split_may_be_a_shard(make_task) -> None:
    task = make_task()
    batch = Loader([task.evaluation_stream("dev", 1)], seed=0, shuffle=False).batch(0)
    assert batch["region_features"].shape == (1, 17, 192)
