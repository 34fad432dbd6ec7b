"""The runs of an ablation: each trained and measured once, whatever stops them in between.

Every training and evaluation is a process of ``tools/train.py`` and ``tools/evaluate.py``. What a
run measured is written as soon as it has finished, so that a stopped ablation goes on where it was,
within a run from its last checkpoint.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from unimo_paddle.ablation.settings import AblationConfig
from unimo_paddle.config import changes, parse_training
from unimo_paddle.data.publish import sole_writer, write_whole
from unimo_paddle.errors import UserError
from unimo_paddle.process import die_with_parent
from unimo_paddle.settings import dump, read_tree
from unimo_paddle.trainer import CONFIG_NAME

logger = logging.getLogger(__name__)

TAIL_LINES = 15  # of the log of a run that failed
CLOCK_SECONDS = 30.0  # between two looks at the clock, which is what a kill may lose


@dataclass(frozen=True)
class Finished:
    """What a run measured."""

    row: str
    seed: int
    minutes: float  # of training alone
    metrics: dict[str, float]  # by split/metric
    arguments: list[str] = field(default_factory=list)  # of ``train.py``
    base: str = ""  # checksum of what the base said; empty in tables of before it was kept

    def write(self, path: Path) -> None:
        """Make the file of this run, whole or not at all."""
        write_whole(path, json.dumps(vars(self), indent=1) + "\n")


def result_path(config: AblationConfig, row: str, seed: int) -> Path:
    """The file of a finished run."""
    return config.folder(row, seed).with_suffix(".json")


def run_all(config: AblationConfig, tools: Path, *, jobs: int) -> list[Finished]:
    """Do what is not done yet, ``jobs`` runs side by side; return all results.

    Args:
        tools: folder of ``train.py`` and ``evaluate.py``.
        jobs: each gets its share of this process's threads.
    """
    if jobs < 1:
        raise UserError(f"--jobs is {jobs}; give at least 1")
    Path(config.output_dir).mkdir(parents=True, exist_ok=True)
    todo = [(row, seed) for row, seed in config.runs() if not _is_done(config, row, seed)]
    total = len(list(config.runs()))
    for number, line in enumerate(config.prepare, 1):
        logger.info("preparing %d of %d: %s", number, len(config.prepare), line)
        log = Path(config.output_dir) / f"prepare-{number}.log"
        command = [str(tools / "prepare_data.py"), *shlex.split(line)]
        _call(command, log, os.environ, f"prepare, line {number}")
    threads = max(1, int(os.environ["OMP_NUM_THREADS"]) // jobs)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    has_failed = threading.Event()

    def run(row: str, seed: int) -> Finished:
        # A worker takes its next run before a failure has been told.
        if has_failed.is_set():
            raise CancelledError
        try:
            return _run_one(config, row, seed, tools, environment)
        except BaseException:
            has_failed.set()
            raise

    with (
        tqdm(total=total, initial=total - len(todo), desc="runs", unit="run") as progress,
        ThreadPoolExecutor(jobs) as executor,
    ):
        futures = [executor.submit(run, *which) for which in todo]
        try:
            for future in futures:
                finished = future.result()
                progress.set_postfix_str(f"{finished.row}, seed {finished.seed}")
                progress.update()
        finally:
            executor.shutdown(wait=True, cancel_futures=True)
    return finished_runs(config)


def finished_runs(config: AblationConfig) -> list[Finished]:
    """What the runs measured that have finished, which may be none."""
    done = [run for run in config.runs() if _is_done(config, *run)]
    return [_read(config, row, seed) for row, seed in done]


def take_given(config: AblationConfig, path: Path) -> None:
    """Take what the ``.json`` of a table tells of runs of this one; they are not run again.

    Raises:
        UserError: for any other file, and for a run of other settings.
    """
    try:
        given = [Finished(**entry) for entry in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"--given {path}: {error}; name the .json beside a table") from error
    Path(config.output_dir).mkdir(parents=True, exist_ok=True)
    runs = set(config.runs())
    for result in given:
        place = result_path(config, result.row, result.seed)
        if (result.row, result.seed) not in runs or place.is_file():
            continue
        wanted = config.arguments(result.row, result.seed)
        if _but_folder(result.arguments) != _but_folder(wanted):
            raise UserError(
                f"--given {path}: row {result.row!r}, seed {result.seed} was measured with "
                f"{shlex.join(result.arguments)}, but the row is now {shlex.join(wanted)}; leave "
                "the file out, or the rows as they were"
            )
        if result.base not in ("", config.checksum()):
            raise UserError(
                f"--given {path}: row {result.row!r}, seed {result.seed} was measured when "
                f"{config.base} said something else; leave the file out, or the base as it was"
            )
        replace(result, arguments=wanted).write(place)


def _but_folder(arguments: Sequence[str]) -> list[str]:
    """Arguments of a run, wherever it stands."""
    return [*arguments[:2], *arguments[4:]]


def _is_done(config: AblationConfig, row: str, seed: int) -> bool:
    """Whether a run has finished; one that was begun when the row said otherwise is refused."""
    path, folder = result_path(config, row, seed), config.folder(row, seed)
    wanted, is_done = config.arguments(row, seed), path.is_file()
    what, remedy = f"{folder} was begun", f"remove {folder}"
    if is_done:
        what, remedy = f"{path} was measured", f"remove the file and {folder}"
        found = _read(config, row, seed)
        if found.arguments != wanted:
            raise UserError(
                f"{what} with {shlex.join(found.arguments)}, but the row is now "
                f"{shlex.join(wanted)}; {remedy}, or choose another output_dir"
            )
    settings = folder / CONFIG_NAME
    if settings.is_file():
        before, now = read_tree(settings).values, dump(parse_training(wanted)[0])
        for key, old, new in changes(before, now):
            raise UserError(
                f"{what} with {key} {old}, but {config.base} now says {new}; {remedy}, or choose "
                "another output_dir"
            )
    elif is_done and found.base not in ("", config.checksum()):
        raise UserError(
            f"{what} when {config.base} said something else; {remedy}, or choose another output_dir"
        )
    return is_done


def _run_one(
    config: AblationConfig, row: str, seed: int, tools: Path, environment: Mapping[str, str]
) -> Finished:
    folder, arguments = config.folder(row, seed), config.arguments(row, seed)
    log, where = folder.with_suffix(".log"), f"row {row!r}, seed {seed}"
    base = config.checksum()
    with sole_writer(folder.with_suffix(".lock"), folder):
        clock = _Clock(folder.with_suffix(".seconds"), is_new=not (folder / CONFIG_NAME).is_file())
        try:
            _call([str(tools / "train.py"), *arguments], log, environment, where, clock.keep)
        finally:
            clock.keep()
        metrics: dict[str, float] = {}
        for split in config.splits:
            options = ["--run", str(folder), "--split", split]
            _call([str(tools / "evaluate.py"), *options], log, environment, where)
            report = json.loads((folder / f"evaluation-{split}.json").read_text("utf-8"))
            metrics |= {f"{split}/{name}": value for name, value in report.items()}
        finished = Finished(row, seed, clock.seconds() / 60, metrics, arguments, base)
        finished.write(result_path(config, row, seed))
        # Weights and moments of a run that is measured are of no more use here.
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        clock.path.unlink()
    return finished


class _Clock:
    """How long a run has trained in all, in a file: what a kill may lose is ``CLOCK_SECONDS``.

    Args:
        path: the file.
        is_new: whether the run begins, so that what the file says is another's.
    """

    def __init__(self, path: Path, *, is_new: bool) -> None:
        self.path = path
        self._before = float(path.read_text()) if path.is_file() and not is_new else 0.0
        self._begin = time.monotonic()
        self._kept = self._before

    def keep(self) -> None:
        """Write what has passed, whole or not at all."""
        self._kept = self._before + time.monotonic() - self._begin
        write_whole(self.path, f"{self._kept}\n")

    def seconds(self) -> float:
        """As it was last kept."""
        return self._kept


def _call(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    where: str,
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Run a tool, with all that it prints in a log; a failure shows the end of it.

    Args:
        beat: called every ``CLOCK_SECONDS`` while the tool runs.
    """
    with (
        log.open("ab") as file,
        subprocess.Popen(
            [sys.executable, *command],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            # One that outlived this process would meet the next in the same folder.
            preexec_fn=die_with_parent,
        ) as process,
    ):
        while process.poll() is None:
            try:
                process.wait(CLOCK_SECONDS)
            except subprocess.TimeoutExpired:
                beat()
    if process.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
        raise UserError(
            f"{where}: {Path(command[0]).name} ended with exit code {process.returncode}; the last "
            f"lines of {log}:\n{tail}"
        )


def _read(config: AblationConfig, row: str, seed: int) -> Finished:
    return Finished(**json.loads(result_path(config, row, seed).read_text("utf-8")))
