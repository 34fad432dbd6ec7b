"""What an ablation came to, as a page and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unimo_paddle.ablation.runs import Finished
from unimo_paddle.ablation.settings import AblationConfig


def means_of(results: Sequence[Finished], row: str, metric: str) -> tuple[float, float] | None:
    """Mean and standard deviation over the seeds of a row; None where it measures no such thing."""
    values = [x.metrics[metric] for x in results if x.row == row and metric in x.metrics]
    if not values:
        return None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def unmeasured(config: AblationConfig, results: Sequence[Finished]) -> list[str]:
    """Columns that no finished run has measured."""
    return [name for name in config.metrics if not any(name in x.metrics for x in results)]


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
