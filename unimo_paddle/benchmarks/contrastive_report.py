"""The report of the contrastive benchmark as text for a terminal and as a Markdown page."""

from __future__ import annotations

import textwrap
from statistics import median

from unimo_paddle.benchmarks.contrastive import Report
from unimo_paddle.benchmarks.peers import OURS
from unimo_paddle.benchmarks.speed import SpeedRow
from unimo_paddle.benchmarks.tables import Table, as_markdown, as_text, without_repeats
from unimo_paddle.benchmarks.targets import Target, speed_target

_WIDTH = 100  # of notes on the terminal
_SPEED_TITLE = "Speed of forward and backward (medians of {rounds} interleaved rounds, 10-90 %)"
_SPEED_HEADINGS = ["threads", "N = M", "D", "peer", "ms", "over ours", "of limit", "target"]
_SPEED_NOTE = (
    "over ours: the peer's time over ours in the same round. of limit: the operations that the "
    "form does / time / peak, where the peak is float32 multiply-adds in registers, measured in "
    "the same round at the same threads: {peaks}. Ours keeps up to 30 MB of scores, which it need "
    "not compute again. D with (P + K): P positives and K candidates of its own a row."
)
_MEMORY_TITLE = "Memory beyond inputs and gradients at the peak, MB (D {size}, threads {threads})"
_MEMORY_NOTE = (
    "Each figure from a fresh process: the peak of the resident set less what it was with the "
    "inputs in place, less the gradients. Read from {how}."
)


def as_terminal_text(report: Report) -> str:
    """Everything for the terminal; what was missed comes last."""
    blocks = ["", textwrap.fill(_machine(report), _WIDTH)]
    if report.speed_rows:
        note = textwrap.fill(_speed_note(report), _WIDTH)
        blocks += [_speed_title(report), as_text(_speed_table(report)), note]
    if report.memory_rows:
        note = textwrap.fill(_memory_note(report), _WIDTH)
        blocks += [_memory_title(report), as_text(_memory_table(report)), note]
    blocks.append("\n".join(_peer_lines(report)))
    blocks.append("\n".join(_target_lines(report)))
    return "\n\n".join(blocks)


def as_markdown_page(report: Report) -> str:
    """The page for ``docs/results``."""
    blocks = [
        "# The contrastive operator, measured",
        f"{_machine(report)}. {report.date}. {_verdict(report)}",
        f"```\n{report.options.command}\n```",
    ]
    if report.speed_rows:
        table = as_markdown(_speed_table(report))
        blocks += [f"## {_speed_title(report)}", table, _speed_note(report)]
    if report.memory_rows:
        table = as_markdown(_memory_table(report))
        blocks += [f"## {_memory_title(report)}", table, _memory_note(report)]
    blocks += ["## Peers", "\n".join(f"- {line}" for line in _peer_lines(report))]
    lines = [f"- {line}" for line in _target_lines(report)]
    blocks += ["## Targets", "\n".join(lines)]
    return "\n\n".join(blocks) + "\n"


def _machine(report: Report) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return f"{report.processor.model}, load before the run {report.load:.1f}; {versions}"


def _verdict(report: Report) -> str:
    if not report.targets:
        return "No target was judged at these sizes."
    return f"{len(report.targets) - len(report.missed)} of {len(report.targets)} targets met."


def _speed_title(report: Report) -> str:
    return _SPEED_TITLE.format(rounds=report.options.rounds)


def _speed_note(report: Report) -> str:
    peaks = []
    for threads in report.options.threads:
        rates = [r for row in report.speed_rows if row.threads == threads for r in row.peak_gflops]
        peaks.append(f"median {median(rates):.0f} GFLOP/s with threads {threads}")
    return _SPEED_NOTE.format(peaks=", ".join(peaks))


def _speed_table(report: Report) -> Table:
    rows = [_speed_cells(row, speed_target(row, report.processor)) for row in report.speed_rows]
    return Table(_SPEED_HEADINGS, without_repeats(rows, columns=3), text_columns=(3, 7))


def _speed_cells(row: SpeedRow, target: Target | None) -> list[str]:
    case = row.case
    sets = f" ({case.positives} + {case.negatives})" if case.has_sets else ""
    return [
        str(row.threads),
        str(case.count),
        f"{case.size}{sets}",
        row.peer,
        f"{row.milliseconds:.1f}",
        "" if row.peer == OURS else row.of_ours.show("{:.2f}"),
        row.of_limit.show("{:.0%}"),
        f"{target.condition} {_met(target)}" if target else "",
    ]


def _memory_title(report: Report) -> str:
    row = report.memory_rows[0]
    return _MEMORY_TITLE.format(size=row.case.size, threads=row.threads)


def _memory_table(report: Report) -> Table:
    ours = {row.case.count: row for row in report.memory_rows if row.peer == OURS}
    counts = sorted(ours)
    rows = [
        ["(inputs and gradients)", *(_megabytes(ours[count].minimum) for count in counts)],
        ["(ours in all, times that)", *(f"{ours[c].total / ours[c].minimum:.2f}" for c in counts)],
    ]
    for name in dict.fromkeys(row.peer for row in report.memory_rows):
        extra = {row.case.count: row.extra for row in report.memory_rows if row.peer == name}
        rows.append([name, *(_megabytes(extra[c]) if c in extra else "-" for c in counts)])
    return Table(["N = M", *map(str, counts)], rows, text_columns=(0,))


def _memory_note(report: Report) -> str:
    return _MEMORY_NOTE.format(how=" and ".join(sorted({row.how for row in report.memory_rows})))


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f}"


def _peer_lines(report: Report) -> list[str]:
    lines = [f"{peer.name}: {peer.about}; {peer.products} products" for peer in report.peers]
    return lines + [f"left out, {name}: {reason}" for name, reason in report.absent.items()]


def _target_lines(report: Report) -> list[str]:
    ordered = sorted(report.targets, key=lambda target: not target.is_met)
    lines = [f"{_met(t)}: {t.text} is {t.value:.3g}, target {t.condition}" for t in ordered]
    return [_verdict(report), *lines]


def _met(target: Target) -> str:
    return "met" if target.is_met else "MISSED"
