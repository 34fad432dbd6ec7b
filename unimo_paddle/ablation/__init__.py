"""Ablations: a run file trained with one thing changed at a time, over several seeds."""

from unimo_paddle.ablation.runs import (
    Finished,
    finished_runs,
    result_path,
    run_all,
    take_given,
)
from unimo_paddle.ablation.settings import AblationConfig, choose_rows
from unimo_paddle.ablation.table import as_markdown, draw, interval_of, means_of, unmeasured

__all__ = [
    "AblationConfig",
    "Finished",
    "as_markdown",
    "choose_rows",
    "draw",
    "finished_runs",
    "interval_of",
    "means_of",
    "result_path",
    "run_all",
    "take_given",
    "unmeasured",
]
