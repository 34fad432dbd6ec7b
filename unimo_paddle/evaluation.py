"""Measures a trained network on a split: the task's metrics, and the loss of each objective."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from unimo_paddle import distributed
from unimo_paddle.checkpoint import describe_mismatch
from unimo_paddle.data.fields import Batch
from unimo_paddle.data.loader import Stream
from unimo_paddle.data.publish import write_whole
from unimo_paddle.data.sweep import check_sweep, share_of_sweep, sweep
from unimo_paddle.errors import UserError
from unimo_paddle.metrics.retrieval import RECALL_DEPTHS
from unimo_paddle.process import report_progress
from unimo_paddle.program import Runner, StaticProgram, build_evaluation, build_service
from unimo_paddle.tasks.base import Arrays, Task
from unimo_paddle.tasks.reranking import JOINT, SCORE_PAIRS, SEPARATE

INDEX = "index"
_STOP = "wants_stop"
RETRIEVAL_DIRECTIONS = ("image_retrieval", "text_retrieval")


@dataclass(frozen=True)
class EvaluationConfig:
    """How splits are measured."""

    splits: tuple[str, ...] = ()  # splits measured during training
    batch_size: int = 64  # pairs of a batch when losses are measured
    max_loss_batches: int = 20  # batches of a split over which losses are averaged; 0 = none

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"evaluation.batch_size is {self.batch_size}; give at least 1")
        if self.max_loss_batches < 0:
            raise UserError(
                f"evaluation.max_loss_batches is {self.max_loss_batches}; give at least 0"
            )


class EvaluationStopped(Exception):
    """A process was told to stop; all of them end their evaluation, without its numbers."""


class Evaluator:
    """Runs the served functions and the losses of a task with the weights of a runner.

    Args:
        arrays: weights by name to fill the runner with; none where it holds trained ones.
    """

    def __init__(
        self,
        task: Task,
        runner: Runner,
        config: EvaluationConfig,
        *,
        seed: int,
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.task = task
        self.runner = runner
        self.config = config
        self.seed = seed
        self._services = {
            service.name: build_service(task, service) for service in (*task.services, *task.views)
        }
        self.wants_stop: Callable[[], bool] = lambda: False  # asked between batches
        self._arrays = arrays
        self._loss: StaticProgram | None = None
        for program in self._services.values():
            self._fill(program)

    def _fill(self, program: StaticProgram) -> None:
        """Give a program the weights of the arrays; a trainer's runner has them already."""
        if self._arrays is None:
            return
        self.runner.start(program)
        mismatch = describe_mismatch(self.runner.shapes(program), self._arrays)
        if mismatch:
            raise UserError(mismatch)
        self.runner.restore(program, self._arrays)

    def serve(self, name: str, stream: Stream, *, is_watched: bool = True) -> Arrays:
        """The outputs of one service for every usable record of the stream, in order.

        ``index`` [n] tells which records they are. Ranks share the work, and all get all of it.

        Args:
            is_watched: a launcher is told of every batch.
        """
        outputs: dict[str, list[np.ndarray]] = defaultdict(list)
        part = _share(stream, len(stream.records))
        # Shown where it takes long, to people only.
        with tqdm(
            total=len(part), desc=name, unit="record", delay=3, disable=None, leave=False
        ) as progress:
            for batch, indices in self._sweep(stream, part):
                for key, value in self.runner.run(self._services[name], batch).items():
                    outputs[key].append(value)
                outputs[INDEX].append(indices)
                progress.update(len(indices))
                if is_watched:
                    report_progress()
        parts = self._gather({key: np.concatenate(values) for key, values in outputs.items()})
        count = len(stream.records)
        check_sweep(count - sum(len(found[INDEX]) for found in parts), count)
        if len(parts) == 1:
            return parts[0]
        return {key: np.concatenate([found[key] for found in parts]) for key in parts and parts[0]}

    def _sweep(self, stream: Stream, part: range) -> Iterator[tuple[Batch, np.ndarray]]:
        """The batches of this rank, up to a request to stop."""
        batches = sweep(
            stream.records,
            stream.encode,
            stream.fields,
            stream.batch_size,
            seed=self.seed,
            part=part,
        )
        return itertools.takewhile(lambda _: not self.wants_stop(), batches)

    def _gather(self, mine: Arrays) -> list[Arrays]:
        """What the ranks found that had anything to do, unless one of them was told to stop."""
        found = distributed.gather_arrays({**mine, _STOP: np.array(self.wants_stop())})
        if any(arrays.pop(_STOP) for arrays in found):
            raise EvaluationStopped
        return [arrays for arrays in found if arrays]

    def measure(self, split: str) -> dict[str, float]:
        """The task's metrics and the mean loss of each objective on a split."""
        return {**self.task.score(split, self.serve), **self._losses(split)}

    def check_search(self, depths: Sequence[int]) -> None:
        """Refuse what ``search`` cannot do, before anything is measured.

        Raises:
            UserError: for a negative depth, and for a run without both kinds of scores.
        """
        if depths and min(depths) < 0:
            raise UserError(
                f"--rerank is {min(depths)}; give how many of the first are read jointly, 0 for all"
            )
        if depths and not any(service.name == SCORE_PAIRS for service in self.task.services):
            raise UserError(
                "--rerank: this run does not find by separate and by joint scores; pre-train with "
                "task.contrast.rewrites_per_pair above 0 and task.contrast.joint_scores"
            )

    def search(self, split: str, depths: Sequence[int]) -> dict[str, dict[str, float]]:
        """Retrieval by separate scores, then in two stages, by depth.

        Args:
            depths: how many of the first of each query are read jointly; 0: all.
        """
        found: dict[str, dict[str, float]] = {}
        for depth in depths:
            stages = self.task.search(split, self.serve, depth or None)
            found.setdefault(SEPARATE, stages[SEPARATE])
            found[f"first {depth}" if depth else "all pairs"] = stages[JOINT]
        return found

    def predictions(self, split: str) -> list[dict[str, Any]]:
        """What is predicted of each record of a split."""
        return self.task.predictions(split, self.serve)

    def pictures(self, split: str) -> dict[str, np.ndarray]:
        """What shows a person how the network does on a split, by name."""
        return self.task.pictures(split, self.serve)

    def _losses(self, split: str) -> dict[str, float]:
        if not self.config.max_loss_batches:
            return {}
        stream = self.task.evaluation_stream(split, self.config.batch_size)
        if stream is None:
            return {}
        if self._loss is None:
            self._loss = build_evaluation(self.task, stream.fields)
            self._fill(self._loss)
        totals: dict[str, float] = defaultdict(float)
        count = self.config.max_loss_batches * self.config.batch_size
        count = min(count, len(stream.records))
        part = _share(stream, count)
        for batch, indices in self._sweep(stream, part):
            for key, value in self.runner.run(self._loss, batch).items():
                totals[key] += float(value) * len(indices)
            totals[INDEX] += len(indices)
            report_progress()
        shares = self._gather({key: np.array(value) for key, value in totals.items()})
        num_used = sum(float(share[INDEX]) for share in shares)
        check_sweep(count - round(num_used), count)
        sums = {key: sum(float(share[key]) for share in shares) for key in shares[0]}
        return {f"loss/{key}": value / num_used for key, value in sums.items() if key != INDEX}


def _share(stream: Stream, count: int) -> range:
    """This rank's part of the first ``count`` records of a stream."""
    rank, num_ranks = distributed.rank(), distributed.num_ranks()
    return share_of_sweep(count, stream.batch_size, rank, num_ranks)


def write_predictions(path: Path, predictions: Sequence[Mapping[str, Any]]) -> None:
    """Write predictions as JSON lines, making the folder."""
    if not predictions:
        raise UserError("this task predicts nothing of single records; leave --predictions out")
    lines = (json.dumps(item, ensure_ascii=False) + "\n" for item in predictions)
    write_whole(path, "".join(lines))


def write_report(folder: Path, split: str, metrics: Mapping[str, Any]) -> Path:
    """Write ``evaluation-SPLIT.json`` into the run's folder."""
    path = folder / f"evaluation-{split}.json"
    write_whole(path, json.dumps(metrics, indent=1) + "\n")
    return path


def format_table(split: str, metrics: dict[str, float]) -> str:
    """A table that a person reads: recall both ways, other metrics, then the losses."""
    return "\n".join([split, *_recall_rows(metrics), *_metric_rows(metrics)])


def format_stages(split: str, stages: Mapping[str, Mapping[str, float]]) -> str:
    """A table of retrieval in stages: recall both ways, pairs that were read jointly, seconds."""
    header = f"  {'':<12}{'R@1':>14}{'R@5':>16}{'R@10':>16}{'pairs read':>14}{'seconds':>9}"
    lines = [f"{split}, image / text retrieval", header]
    for name, metrics in stages.items():
        cells = ""
        for depth in RECALL_DEPTHS:
            both = [metrics[f"{direction}_recall@{depth}"] for direction in RETRIEVAL_DIRECTIONS]
            cells += f"{both[0]:>8.3f} /{both[1]:>6.3f}"
        counts = f"{metrics['num_pairs']:>14,.0f}{metrics['seconds']:>9.1f}"
        lines.append(f"  {name:<12}{cells}{counts}")
    return "\n".join(lines)


def _recall_rows(metrics: dict[str, float]) -> list[str]:
    rows = []
    for direction in RETRIEVAL_DIRECTIONS:
        if f"{direction}_recall@1" in metrics:
            recalls = [metrics[f"{direction}_recall@{k}"] for k in (1, 5, 10)]
            cells = "".join(f"{value:>8.3f}" for value in recalls)
            rank = metrics[f"{direction}_median_rank"]
            rows.append(f"  {direction.replace('_', ' '):<18}{cells}{rank:>14.1f}")
    header = f"  {'':<18}{'R@1':>8}{'R@5':>8}{'R@10':>8}{'median rank':>14}"
    return [header, *rows] if rows else []


def _metric_rows(metrics: dict[str, float]) -> list[str]:
    rows = []
    for name, value in metrics.items():
        is_bound = name.endswith(("_low", "_high"))
        is_told = name.removeprefix("loss/") in metrics and name.startswith("loss/")
        if name.startswith(RETRIEVAL_DIRECTIONS) or is_bound or is_told:
            continue
        bounds = [metrics.get(f"{name}_{end}") for end in ("low", "high")]
        interval = "" if None in bounds else "   {:.4f} .. {:.4f}".format(*bounds)
        title = name.removeprefix("loss/").replace("_", " ")
        rows.append(f"  {title:<26}{value:>8.4f}{interval}")
    return rows
