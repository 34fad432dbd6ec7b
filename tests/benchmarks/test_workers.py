"""Workers answer, keep their environment to themselves, and never outlive the measurement."""

from __future__ import annotations

import numpy as np
import pytest

from unimo_paddle.benchmarks.cases import BenchmarkError, Case
from unimo_paddle.benchmarks.workers import Worker, running

CASE = Case(8, 4)


def test_a_worker_answers_though_its_libraries_print(stand_in):
    with running([stand_in("Printing")], threads=1) as (worker,):
        worker.prepare(CASE)
        assert worker.results() == CASE
        assert worker.versions == {"stand-in": "1.0"}


def test_a_round_repeats_what_is_short(stand_in):
    with running([stand_in("Form")], threads=1) as (worker,):
        worker.prepare(CASE)
        seconds, first = worker.measure()
        _, second = worker.measure()
    # 0.01 s each, 0.1 s a round; what is told is the time of one run.
    assert second - first > 1
    assert 0.01 <= seconds < 0.1


def test_variables_are_set_and_removed_before_the_import(stand_in, monkeypatch):
    for name in ("KEPT", "REMOVED"):
        monkeypatch.setenv(name, "of the parent")
    peer = stand_in("Variables", environment={"GIVEN": "by the peer", "REMOVED": None})
    with running([peer], threads=1) as (worker,):
        worker.prepare(CASE)
        _, variables = worker.measure()
    assert variables == {"KEPT": "of the parent", "GIVEN": "by the peer", "REMOVED": None}


def test_an_error_in_a_worker_is_told_with_its_place(stand_in):
    with (
        pytest.raises(BenchmarkError, match=r"'Raising' failed(?s:.*)sums went wrong"),
        running([stand_in("Raising")], threads=1) as (worker,),
    ):
        worker.prepare(CASE)


def test_a_mistake_of_the_user_is_told_in_one_line(stand_in):
    with (
        pytest.raises(BenchmarkError) as refused,
        running([stand_in("Refusing")], threads=1) as (worker,),
    ):
        worker.prepare(CASE)
    line = "the worker of 'Refusing': run.yaml does not exist; check the path"
    assert str(refused.value) == line


def test_a_dead_worker_is_told_with_its_last_words(stand_in):
    with (
        pytest.raises(BenchmarkError, match=r"'Dying' ended with code 3(?s:.*)library gives up"),
        running([stand_in("Dying")], threads=1) as (worker,),
    ):
        worker.prepare(CASE)


def test_all_workers_end_when_one_fails(stand_in):
    def is_alive(worker: Worker) -> bool:
        return worker._process.poll() is None

    started = []
    with (
        pytest.raises(BenchmarkError),
        running([stand_in("Form"), stand_in("Raising")], threads=1) as workers,
    ):
        started += workers
        assert all(map(is_alive, workers))
        workers[1].prepare(CASE)
    assert len(started) == 2 and not any(map(is_alive, started))


def test_a_factory_that_does_not_exist_is_told(stand_in):
    peer = stand_in("Form", factory="stand_in_forms:Missing")
    with (
        pytest.raises(BenchmarkError, match="Missing"),
        running([peer], threads=1),
    ):
        pass


def test_a_peer_can_say_why_it_cannot_take_part(stand_in):
    with running([stand_in("Absent")], threads=1) as (worker,):
        assert worker.absence == "version 1.0 is too old"


@pytest.mark.parametrize(("name", "megabytes"), [("Large", 40), ("Form", 0)])
def test_the_memory_probe_sees_what_a_run_allocates_and_frees(stand_in, name, megabytes):
    with running([stand_in(name)], threads=1) as (worker,):
        grown, how = worker.growth(CASE if name == "Form" else Case(128, 4))
    if how == "ru_maxrss":
        pytest.skip("this system does not let a process reset its own peak")
    np.testing.assert_allclose(grown / 1e6, megabytes, atol=3)
