"""Ablations: a run file trained with one thing changed at a time, over several seeds.

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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from unimo_paddle.config import parse_training
from unimo_paddle.errors import UserError
from unimo_paddle.settings import dump, read_tree
from unimo_paddle.trainer import CONFIG_NAME

logger = logging.getLogger(__name__)

TAIL_LINES = 15  # of the log of a run that failed


@dataclass(frozen=True)
class AblationConfig:
    """A table to be made."""

    base: str  # run file that every row begins with
    rows: dict[str, str]  # name of a row: options of train.py that it changes, as on a command line
    splits: tuple[str, ...]  # what the finished runs are measured on
    metrics: tuple[str, ...]  # columns: split/metric, as evaluate.py names it
    prepare: tuple[str, ...] = ()  # lines for prepare_data.py, first; done ones take seconds
    seeds: tuple[int, ...] = (0, 1, 2)  # a run of every row for each
    output_dir: str = "runs/ablation"  # folder of all runs and of the table

    def __post_init__(self) -> None:
        for name in ("rows", "splits", "metrics", "seeds"):
            if not getattr(self, name):
                raise UserError(f"{name} is empty; name at least one")
        for metric in self.metrics:
            split, _, name = metric.partition("/")
            if split not in self.splits or not name:
                raise UserError(
                    f"metrics holds {metric!r}; write split/metric with a split of "
                    f"{', '.join(self.splits)}"
                )
        folders: dict[Path, str] = {}
        for row in self.rows:
            folder = self.folder(row, self.seeds[0])
            if folder in folders:
                raise UserError(
                    f"rows {folders[folder]!r} and {row!r} would share {folder}; name them "
                    "apart by letters and digits"
                )
            folders[folder] = row
        for row, seed in self.runs():
            try:
                parse_training(self.arguments(row, seed))
            except UserError as error:
                raise UserError(f"row {row!r}: {error}") from error

    def runs(self) -> Iterator[tuple[str, int]]:
        """Every row with every seed; all rows of a seed before the next seed."""
        return ((row, seed) for seed in self.seeds for row in self.rows)

    def folder(self, row: str, seed: int) -> Path:
        """Of a run."""
        name = "".join(c if c.isalnum() else "_" for c in row)
        return Path(self.output_dir) / f"{name}-{seed}"

    def arguments(self, row: str, seed: int) -> list[str]:
        """Of ``train.py`` for a run."""
        folder = str(self.folder(row, seed))
        begin = ["--config", self.base, "--output_dir", folder, "--seed", str(seed)]
        return [*begin, *shlex.split(self.rows[row]), "--resume_if_any"]


def choose_rows(config: AblationConfig, names: Sequence[str]) -> AblationConfig:
    """The table with some of its rows."""
    unknown = [name for name in names if name not in config.rows]
    if unknown:
        raise UserError(f"--rows {unknown[0]!r} is no row; choose of {', '.join(config.rows)}")
    return replace(config, rows={name: config.rows[name] for name in names})


@dataclass(frozen=True)
class Finished:
    """What a run measured."""

    row: str
    seed: int
    minutes: float  # of training alone
    metrics: dict[str, float]  # by split/metric
    arguments: list[str] = field(default_factory=list)  # of ``train.py``

    def write(self, path: Path) -> None:
        """Make the file of this run, whole or not at all."""
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(vars(self), indent=1) + "\n", "utf-8")
        unfinished.rename(path)


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
        _call(command, log, os.environ, where=f"prepare, line {number}")
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
        found = json.loads(path.read_text("utf-8"))["arguments"]
        if found != wanted:
            raise UserError(
                f"{what} with {shlex.join(found)}, but the row is now {shlex.join(wanted)}; "
                f"{remedy}, or choose another output_dir"
            )
    settings = folder / CONFIG_NAME
    if settings.is_file():
        change = _first_change(read_tree(settings).values, dump(parse_training(wanted)[0]))
        if change is not None:
            key, before, now = change
            raise UserError(
                f"{what} with {key} {before}, but {config.base} now says {now}; {remedy}, or "
                "choose another output_dir"
            )
    return is_done


def _first_change(
    found: object, wanted: object, key: str = ""
) -> tuple[str, object, object] | None:
    """A key of ``found`` with another value in ``wanted``, and both; newer keys do not count."""
    if not (isinstance(found, dict) and isinstance(wanted, dict)):
        return None if found == wanted else (key, found, wanted)
    for name, value in found.items():
        change = _first_change(value, wanted.get(name), f"{key}.{name}" if key else name)
        if change is not None:
            return change
    return None


def _run_one(
    config: AblationConfig, row: str, seed: int, tools: Path, environment: Mapping[str, str]
) -> Finished:
    folder, arguments = config.folder(row, seed), config.arguments(row, seed)
    log = folder.with_suffix(".log")
    seconds_path = folder.with_suffix(".seconds")
    before = float(seconds_path.read_text()) if seconds_path.is_file() else 0.0
    begin = time.monotonic()

    def call(tool: str, *options: str) -> None:
        _call([str(tools / tool), *options], log, environment, where=f"row {row!r}, seed {seed}")

    try:
        call("train.py", *arguments)
    finally:
        seconds = before + time.monotonic() - begin
        seconds_path.write_text(f"{seconds}\n")
    metrics: dict[str, float] = {}
    for split in config.splits:
        call("evaluate.py", "--run", str(folder), "--split", split)
        report = json.loads((folder / f"evaluation-{split}.json").read_text("utf-8"))
        metrics |= {f"{split}/{name}": value for name, value in report.items()}
    finished = Finished(row, seed, seconds / 60, metrics, arguments)
    finished.write(result_path(config, row, seed))
    # Weights and moments of a run that is measured are of no more use here.
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    seconds_path.unlink()
    return finished


def _call(command: Sequence[str], log: Path, environment: Mapping[str, str], *, where: str) -> None:
    """Run a tool, with all that it prints in a log; a failure shows the end of it."""
    with log.open("ab") as file:
        code = subprocess.run(
            [sys.executable, *command],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            check=False,
        ).returncode
    if code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
        raise UserError(
            f"{where}: {Path(command[0]).name} ended with exit code {code}; the last lines of "
            f"{log}:\n{tail}"
        )


def _read(config: AblationConfig, row: str, seed: int) -> Finished:
    return Finished(**json.loads(result_path(config, row, seed).read_text("utf-8")))


# ---- the table


def means_of(results: Sequence[Finished], row: str, metric: str) -> tuple[float, float] | None:
    """Mean and standard deviation over the seeds of a row; None where it measures no such thing."""
    values = [x.metrics[metric] for x in results if x.row == row and metric in x.metrics]
    if not values:
        return None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def as_markdown(config: AblationConfig, results: Sequence[Finished], command: str) -> str:
    """A page with the table, what each row changes, and how it was made.

    Of rows without results nothing is told but that they are missing.
    """
    header = ["row", *config.metrics, "minutes"]
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for row in config.rows:
        of_row = [result for result in results if result.row == row]
        if of_row:
            cells = [_cell(of_row, row, metric) for metric in config.metrics]
            minutes = np.mean([result.minutes for result in of_row])
            lines.append(f"| {row} | {' | '.join(cells)} | {minutes:.1f} |")
    total = len(list(config.runs()))
    state = "" if len(results) == total else f" So far {len(results)} of {total} runs."
    changes = [f"- {row}: `{options or 'as it is'}`" for row, options in config.rows.items()]
    seeds = ", ".join(map(str, config.seeds))
    return "\n".join(
        [
            f"# Ablation of {config.base}",
            "",
            f"Made by `{command}`; seeds {seeds}. {_what_cells_hold(config)} Minutes are of "
            f"training.{state}",
            "",
            *lines,
            "",
            "What each row changes:",
            "",
            *changes,
            "",
        ]
    )


def _what_cells_hold(config: AblationConfig) -> str:
    one = "95 % bootstrap intervals over what was measured, where there are any"
    if len(config.seeds) > 1:
        return f"Mean ± standard deviation over the seeds; in brackets, for rows of one run, {one}."
    return f"In brackets {one}."


def _cell(results: Sequence[Finished], row: str, metric: str) -> str:
    found = means_of(results, row, metric)
    if found is None:
        return "-"
    seeds = [result for result in results if result.row == row and metric in result.metrics]
    if len(seeds) > 1:
        return f"{found[0]:.3f} ± {found[1]:.3f}"
    bounds = interval_of(seeds[0], metric)
    return f"{found[0]:.3f}" + (f" ({bounds[0]:.3f}-{bounds[1]:.3f})" if bounds else "")


def interval_of(result: Finished, metric: str) -> tuple[float, float] | None:
    """The bootstrap interval of what a run measured; None where evaluate.py gives none."""
    bounds = [result.metrics.get(f"{metric}_{side}") for side in ("low", "high")]
    return None if None in bounds else (bounds[0], bounds[1])


def draw(config: AblationConfig, results: Sequence[Finished], path: Path) -> None:
    """Write a picture: a panel a metric, a bar a row, a dot a seed; intervals as in the table."""
    # Where it is needed: it takes a second to import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in config.rows if any(result.row == row for result in results)]
    count = len(config.metrics)
    figure = Figure(figsize=(2.2 + 2.6 * count, 0.9 + 0.34 * len(rows)), layout="constrained")
    axes = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    for panel, metric in zip(axes, config.metrics, strict=True):
        for place, row in enumerate(rows):
            found = means_of(results, row, metric)
            if found is None:
                continue
            mean, deviation = found
            of_row = [x for x in results if x.row == row and metric in x.metrics]
            values = [x.metrics[metric] for x in of_row]
            error: float | np.ndarray = deviation
            if len(of_row) == 1 and (bounds := interval_of(of_row[0], metric)):
                error = np.abs(np.array([bounds]).T - mean)
            panel.barh(place, mean, xerr=error, color="#8fb3d9", ecolor="#40566e")
            panel.plot(values, [place] * len(values), ".", color="#1f3044", markersize=4)
        panel.set_title(metric.replace("/", "\n"), fontsize=9)
        panel.tick_params(labelsize=8)
        panel.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(rows)), rows, fontsize=8)
    axes[0].invert_yaxis()
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120)
