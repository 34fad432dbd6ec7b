"""Measure operators beside other forms, training beside itself, simple models beside trained.

    python tools/benchmark.py contrastive --quick
    python tools/benchmark.py contrastive --output runs/contrastive.json
    python tools/benchmark.py beam --rounds 20
    python tools/benchmark.py decode --rounds 5 --batches 1 8
    python tools/benchmark.py step --rounds 10
    python tools/benchmark.py reader --config mine/run.yaml
    python tools/benchmark.py ranks --rounds 12
    python tools/benchmark.py saves --rounds 12
    python tools/benchmark.py two_tower --pairs mine/train.jsonl --split mine/dev.jsonl --minutes 60
    python tools/benchmark.py baselines --config configs/finetune/sst2_small.yaml --split dev

Each part explains its options: python tools/benchmark.py contrastive --help
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import sys
from pathlib import Path

import unimo_paddle  # noqa: F401  first of ours: it sets the threads before Paddle is imported
from unimo_paddle.benchmarks import (
    beam,
    contrastive,
    contrastive_report,
    decoding,
    growth,
    peer_report,
    ranks,
    reader,
    saves,
    step,
)
from unimo_paddle.benchmarks.options import positive
from unimo_paddle.benchmarks.peer_report import Report
from unimo_paddle.errors import ToolParser, UserError, report_user_errors

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


_BEAM = """One step of beam search, from logits to the next beams: ours, torch's, plain Paddle's.

Every peer runs in a process of its own; rounds interleave them. Answers are compared first. Ends
with exit code 1, and says where, when a target is missed. torch comes with
'pip install -e .[bench]'; without it that peer is left out.

example:
    python tools/benchmark.py beam --markdown docs/results/beam_benchmark.md
"""

_DECODE = """Captions of 20 tokens with 5 beams by a model of base size: by one exported graph, the
same weights stepped from Python, Hugging Face's generate, and CTranslate2.

Every peer runs in a process of its own; rounds interleave them. Tokens are compared first. Ends
with exit code 1, and says where, when a target is missed. Peers that are not installed
(pip install -e .[bench]) are left out. All of it takes some ten minutes on two cores.

examples:
    python tools/benchmark.py decode --batches 1 --regions 37
    python tools/benchmark.py decode --markdown docs/results/decode_benchmark.md
"""

_GROWTH = """What a token costs as the text grows, and what beams and sources take of memory.

Our exported graph of base size alone. Ends with exit code 1, and says where, when a target is
missed. Some five minutes on two cores.

example:
    python tools/benchmark.py growth --markdown docs/results/growth_benchmark.md
"""

_STEP = """An update of pre-training: ours, and an equal model's in torch, eager and compiled.

Every peer runs in a process of its own; rounds interleave them, with the processor's peak rate
measured in between. Losses are compared first. In the end ours is profiled, operation by operation.
Ends with exit code 1, and says where, when a target is missed. torch comes with
'pip install -e .[bench]'; without it these peers are left out.

example:
    python tools/benchmark.py step --markdown docs/results/step_benchmark.md
"""

_READER = """How fast one thread makes batches, beside updates of all threads from ready ones.

A run waits for its reader where the rate is below 1. Also how long a JPEG file takes, beside other
libraries. Ends with exit code 1, and says where, when a target is missed.

examples:
  the built-in scenes
    python tools/benchmark.py reader
  your own data
    python tools/benchmark.py reader --config mine/run.yaml --output runs/reader.json
"""


_RANKS = """What training by two ranks costs beyond the same work on one process.

Two ranks of one thread, one process of two threads, and two processes that know nothing of each
other take turns, with the trainer and its collectives as tools/train.py has them. Losses are
compared first. Ends with exit code 1, and says where, when a target is missed. Some ten minutes on
two cores that have nothing else to do.

example:
    python tools/benchmark.py ranks --output docs/results/ranks_benchmark.json \\
        --markdown docs/results/ranks_benchmark.md
"""

_SAVES = """What checkpoints cost a run that goes on while they are written.

The same updates take turns with and without a save; the target is 3 % of the time between two saves
at the default interval. Ends with exit code 1 when it is missed. Some ten minutes.

example:
    python tools/benchmark.py saves --output docs/results/saves_benchmark.json \\
        --markdown docs/results/saves_benchmark.md
"""


_TWO_TOWER = """What people would take instead: a two-tower contrastive model in PyTorch, like CLIP.

Trains for some minutes on pairs and measures retrieval on others, with the crops, vocabulary and
metrics of ours. Needs 'pip install -e .[bench]'.

example:
    python tools/benchmark.py two_tower --pairs mine/train.jsonl --split mine/dev.jsonl \\
        --minutes 60 --output runs/two_tower.json
"""

_TWO_TOWER_CHOICES = {
    "learning_rate": (positive(float), "the highest (5e-4)"),
    "batch_size": (positive(int), "pairs an update (96)"),
    "width": (positive(int), "of both towers (256)"),
    "num_layers": (positive(int), "of each tower (4)"),
    "dropout": (float, "within layers (0)"),
    "crop_scale": (positive(float), "the least share of a photograph that is seen (0.6)"),
    "weight_decay": (float, "of matrices (0.05)"),
}


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
    rounds = f"rounds of each case ({defaults.rounds})"
    part.add_argument("--rounds", type=positive(int), help=rounds)
    for name, meaning in (
        ("threads", "thread counts; memory is measured at the largest"),
        ("sizes", "N = M of the speed part"),
        ("features", "D of the speed part; memory is measured at the first"),
        ("memory_sizes", "N = M of the memory part"),
    ):
        usual = " ".join(map(str, getattr(defaults, name)))
        part.add_argument(f"--{name}", type=positive(int), nargs="+", help=f"{meaning} ({usual})")
    part.add_argument("--parts", nargs="+", choices=contrastive.PARTS, help="one part only (both)")
    part.add_argument("--quick", action="store_true", help="small sizes, few rounds, no targets")
    _add_output(part)
    _add_markdown(part)

    part = names.add_parser(
        "beam", description=_BEAM, formatter_class=raw, help="a step of beam search"
    )
    part.set_defaults(run=_run_beam)
    _add_rounds_and_files(part, 20)

    part = names.add_parser(
        "decode", description=_DECODE, formatter_class=raw, help="writing, end to end"
    )
    part.set_defaults(run=_run_decode)
    for name, meaning, usual in (
        ("batches", "images that are written about at a time", decoding.BATCHES),
        ("regions", "regions of an image", decoding.NUM_REGIONS),
    ):
        shown = " ".join(map(str, usual))
        part.add_argument(
            f"--{name}", type=positive(int), nargs="+", default=usual, help=f"{meaning} ({shown})"
        )
    _add_rounds_and_files(part, 3)

    for name, description, meaning, run, rounds in (
        ("growth", _GROWTH, "writing: longer texts, more beams", _run_growth, 5),
        ("step", _STEP, "an update of pre-training", _run_step, 10),
    ):
        part = names.add_parser(name, description=description, formatter_class=raw, help=meaning)
        part.set_defaults(run=run)
        _add_rounds_and_files(part, rounds)

    part = names.add_parser(
        "reader", description=_READER, formatter_class=raw, help="batches beside updates"
    )
    part.set_defaults(run=_run_reader)
    part.add_argument(
        "--config",
        nargs="+",
        default=["configs/quickstart.yaml"],
        help="run files of pre-training (configs/quickstart.yaml)",
    )
    _add_rounds_and_files(part, 10)

    for name, description, meaning, run in (
        ("ranks", _RANKS, "training by two processes", _run_ranks),
        ("saves", _SAVES, "checkpoints beside updates", _run_saves),
    ):
        part = names.add_parser(name, description=description, formatter_class=raw, help=meaning)
        part.set_defaults(run=run)
        part.add_argument(
            "--config",
            type=Path,
            default=Path("configs/quickstart.yaml"),
            help="run file of pre-training on built-in scenes (configs/quickstart.yaml)",
        )
        _add_rounds_and_files(part, 12)

    part = names.add_parser(
        "two_tower", description=_TWO_TOWER, formatter_class=raw, help="a CLIP-like model"
    )
    part.set_defaults(run=_run_two_tower)
    part.add_argument("--pairs", type=Path, required=True, help="pairs to train on, JSON lines")
    part.add_argument("--split", type=Path, required=True, help="pairs to measure on, JSON lines")
    part.add_argument("--minutes", type=positive(float), default=60.0, help="of training (60)")
    part.add_argument("--threads", type=positive(int), default=os.cpu_count(), help="(all cores)")
    part.add_argument("--seed", type=int, default=0, help="of weights, order and crops (0)")
    for name, (kind, meaning) in _TWO_TOWER_CHOICES.items():
        part.add_argument(f"--{name}", type=kind, help=meaning)
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


def _add_rounds_and_files(parser: argparse.ArgumentParser, rounds: int) -> None:
    meaning = f"rounds of each case ({rounds})"
    parser.add_argument("--rounds", type=positive(int), default=rounds, help=meaning)
    _add_output(parser)
    _add_markdown(parser)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, help="JSON file to write the figures to")


def _add_markdown(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", type=Path, help="file to write the page with the tables to")


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
    _finish(arguments, beam.run(arguments.rounds, command=_command(), sizes=beam.SIZES))


def _run_decode(arguments: argparse.Namespace) -> None:
    report = decoding.run(
        arguments.rounds,
        command=_command(),
        batches=arguments.batches,
        num_regions=arguments.regions,
    )
    _finish(arguments, report)


def _run_growth(arguments: argparse.Namespace) -> None:
    _finish(arguments, growth.run(arguments.rounds, command=_command()))


def _run_step(arguments: argparse.Namespace) -> None:
    _finish(arguments, step.run(arguments.rounds, command=_command()))


def _run_reader(arguments: argparse.Namespace) -> None:
    _finish(arguments, reader.run(arguments.rounds, command=_command(), configs=arguments.config))


def _run_ranks(arguments: argparse.Namespace) -> None:
    measured = ranks.cases(str(arguments.config))
    _finish(arguments, ranks.run(arguments.rounds, command=_command(), measured=measured))


def _run_saves(arguments: argparse.Namespace) -> None:
    measured = ranks.cases(str(arguments.config))
    _finish(arguments, saves.run(arguments.rounds, command=_command(), measured=measured))


def _finish(arguments: argparse.Namespace, report: Report) -> None:
    """Print a report, write what was asked for, and end."""
    print(peer_report.as_terminal_text(report))
    if arguments.output:
        _write(arguments.output, json.dumps(report.as_json(), indent=2) + "\n")
    if arguments.markdown:
        _write(arguments.markdown, peer_report.as_markdown_page(report))
    raise SystemExit(0 if all(target.is_met for target in report.targets) else 1)


def _command() -> str:
    return f"python tools/benchmark.py {shlex.join(sys.argv[1:])}"


def _run_two_tower(arguments: argparse.Namespace) -> None:
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            "the two-tower model needs torch; install it with pip install -e '.[bench]'"
        )
    from unimo_paddle.benchmarks.two_tower import TwoTowerConfig, run

    chosen = {name: getattr(arguments, name) for name in _TWO_TOWER_CHOICES}
    config = TwoTowerConfig(**{name: x for name, x in chosen.items() if x is not None})
    row = run(
        arguments.pairs,
        arguments.split,
        minutes=arguments.minutes,
        threads=arguments.threads,
        seed=arguments.seed,
        config=config,
    )
    for name, value in row.items():
        print(
            f"{name:<36}{value:>14,.4f}" if isinstance(value, float) else f"{name:<36}{value:>14,}"
        )
    if arguments.output:
        content = {"command": _command(), **vars(config), **row}
        _write(arguments.output, json.dumps(content, indent=2) + "\n")


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
