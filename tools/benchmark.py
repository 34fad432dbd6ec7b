"""Compare a fused operator with plain Paddle: python tools/benchmark.py contrastive|beam."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import unimo_paddle  # noqa: F401  first of ours: it sets the threads before Paddle is imported
from unimo_paddle import benchmarks
from unimo_paddle.errors import ToolParser, report_user_errors


@report_user_errors
def main() -> None:
    """Measure, print one table, and write it as JSON where asked."""
    parser = ToolParser(description=__doc__)
    parser.add_argument("name", choices=("contrastive", "beam"), help="what to measure")
    parser.add_argument("--rounds", type=int, default=10, help="measured rounds of each pair")
    parser.add_argument("--output", type=Path, help="JSON file to write the figures to")
    arguments = parser.parse_args()
    rows = importlib.import_module(f"unimo_paddle.benchmarks.{arguments.name}").run(
        arguments.rounds
    )
    machine = benchmarks.machine() | {"threads": os.environ["OMP_NUM_THREADS"]}
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print("ratio: plain Paddle's time over ours, median and 10-90 % range of interleaved rounds")
    _print_table(rows)
    if arguments.output:
        report = {"benchmark": arguments.name, "machine": machine, "rows": rows}
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(report, indent=2) + "\n")
        print(f"written to {arguments.output}")


def _print_table(rows: list[benchmarks.Row]) -> None:
    """Columns as wide as their longest cell."""
    cells = [list(rows[0])] + [
        [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()]
        for row in rows
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


if __name__ == "__main__":
    main()
