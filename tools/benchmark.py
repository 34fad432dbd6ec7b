"""Measure the fused operators beside other forms, and simple models beside fine-tuned ones.

    python tools/benchmark.py contrastive --quick
    python tools/benchmark.py contrastive --output runs/contrastive.json
    python tools/benchmark.py beam --rounds 20
    python tools/benchmark.py decode --rounds 5 --batches 1 8
    python tools/benchmark.py baselines --config configs/finetune/sst2_small.yaml --split dev

Each part explains its options: python tools/benchmark.py contrastive --help
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import unimo_paddle  # noqa: F401  first of ours: it sets the threads before Paddle is imported
from unimo_paddle import benchmarks
from unimo_paddle.benchmarks import Row, contrastive, contrastive_report, tables
from unimo_paddle.errors import ToolParser, report_user_errors

_CONTRASTIVE = """Forward and backward of the contrastive loss, ours and others' (speed, memory).

Every peer runs in a process of its own; rounds interleave them, with the processor's peak rate
measured in between. The answers are compared first. Ends with exit code 1, and says where, when a
target is missed. Peers in torch need 'pip install -e .[bench]'; without it they are left out.

examples:
  a minute, to see that everything works
    python tools/benchmark.py contrastive --quick --threads 1
  all of it (about an hour on two cores), with the page for the documents
    python tools/benchmark.py contrastive --output runs/contrastive.json \\
        --markdown docs/results/contrastive_benchmark.md
  one size, with more rounds
    python tools/benchmark.py contrastive --parts speed --sizes 4096 --features 256 --rounds 30
"""


@report_user_errors
def main() -> None:
    """Measure, print one table, and write it as JSON where asked."""
    arguments = _parser().parse_args()
    arguments.run(arguments)


def _parser() -> ToolParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = ToolParser(description=__doc__, formatter_class=raw)
    names = parser.add_subparsers(metavar="name", required=True)
    defaults = contrastive.Options()

    part = names.add_parser(
        "contrastive", description=_CONTRASTIVE, formatter_class=raw, help="speed and memory"
    )
    part.set_defaults(run=_run_contrastive)
    part.add_argument("--rounds", type=int, help=f"rounds of each case ({defaults.rounds})")
    for name, meaning in (
        ("threads", "thread counts; memory is measured at the largest"),
        ("sizes", "N = M of the speed part"),
        ("features", "D of the speed part; memory is measured at the first"),
        ("memory_sizes", "N = M of the memory part"),
    ):
        usual = " ".join(map(str, getattr(defaults, name)))
        part.add_argument(f"--{name}", type=int, nargs="+", help=f"{meaning} ({usual})")
    part.add_argument("--parts", nargs="+", choices=contrastive.PARTS, help="one part only (both)")
    part.add_argument("--quick", action="store_true", help="small sizes, few rounds, no targets")
    _add_output(part)
    part.add_argument("--markdown", type=Path, help="file to write the page with the tables to")

    part = names.add_parser("beam", description="One step of beam search.", help="a beam step")
    part.set_defaults(run=_run_beam)
    part.add_argument("--rounds", type=int, default=10, help="measured rounds of each pair (10)")
    _add_output(part)

    part = names.add_parser(
        "decode",
        description="Captions by a model of base size: one exported graph, and steps from Python.",
        help="writing, end to end",
    )
    part.set_defaults(run=_run_decode)
    part.add_argument("--rounds", type=int, default=5, help="measured rounds of each pair (5)")
    part.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32], help="(1 8 32)")
    part.add_argument("--regions", type=int, nargs="+", default=[37, 101], help="(37 101)")
    _add_output(part)

    part = names.add_parser(
        "baselines",
        description="What simple models reach on the data of a fine-tuned task.",
        help="simple models",
    )
    part.set_defaults(run=_run_baselines)
    part.add_argument("--config", type=Path, required=True, help="run file of the task")
    part.add_argument("--split", required=True, help="split to measure on")
    _add_output(part)
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, help="JSON file to write the figures to")


def _run_contrastive(arguments: argparse.Namespace) -> None:
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name in ("rounds", "threads", "sizes", "features", "memory_sizes", "parts")
        if (value := getattr(arguments, name)) is not None
    }
    report = contrastive.run(contrastive.make_options(given, is_quick=arguments.quick))
    print(contrastive_report.as_terminal_text(report))
    if arguments.output:
        _write(arguments.output, json.dumps(report.as_json(), indent=2) + "\n")
    if arguments.markdown:
        _write(arguments.markdown, contrastive_report.as_markdown_page(report))
    raise SystemExit(1 if report.missed else 0)


def _run_beam(arguments: argparse.Namespace) -> None:
    from unimo_paddle.benchmarks import beam  # imports Paddle, which `contrastive` must not do

    rows = beam.run(arguments.rounds)
    _report(arguments, "beam", rows, "plain Paddle's time over ours")


def _run_decode(arguments: argparse.Namespace) -> None:
    from unimo_paddle.benchmarks import decoding
    from unimo_paddle.process import tune_process

    tune_process()
    rows = decoding.run(
        arguments.rounds,
        batches=tuple(arguments.batches),
        num_regions=tuple(arguments.regions),
    )
    _report(arguments, "decode", rows, "the time of steps from Python over that of one graph")


def _report(arguments: argparse.Namespace, name: str, rows: list[Row], ratio: str) -> None:
    """Print the machine and a table, and write both as JSON where asked."""
    machine = benchmarks.machine() | {"threads": os.environ["OMP_NUM_THREADS"]}
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(f"ratio: {ratio}, median and 10-90 % range of interleaved rounds")
    cells = [
        [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()]
        for row in rows
    ]
    print(tables.as_text(tables.Table(list(rows[0]), cells)))
    if arguments.output:
        report = {"benchmark": name, "machine": machine, "rows": rows}
        _write(arguments.output, json.dumps(report, indent=2) + "\n")


def _run_baselines(arguments: argparse.Namespace) -> None:
    from unimo_paddle.benchmarks import baselines
    from unimo_paddle.config import RunConfig
    from unimo_paddle.evaluation import format_table
    from unimo_paddle.settings import load

    rows = baselines.run(load(RunConfig, arguments.config), arguments.split)
    for row in rows:
        print(format_table(str(row["baseline"]), {k: v for k, v in row.items() if k != "baseline"}))
    if arguments.output:
        _write(arguments.output, json.dumps(rows, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
