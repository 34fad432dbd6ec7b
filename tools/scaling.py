"""Predict what pre-training costs on many devices: time of an update by part, memory, bytes.

    python tools/scaling.py
    python tools/scaling.py --devices 8 16 32 --configs configs/pretrain/unimo_base.yaml
    python tools/scaling.py --product_rate 379e12 --contrastive_rate 90e12   # in tf32

Milliseconds an update. compute: forward and backward; contrastive: the loss over all pairs;
gradients: their sum over all devices; features: gathers, and gradients that come back; weights:
what the update moves in memory. of linear: the samples a second and device, over those of one
device alone. GB sent and held: by and on each device. docs/scaling.md says what to make of it.
"""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path

from unimo_paddle import distributed, settings
from unimo_paddle.benchmarks.tables import as_markdown, as_text
from unimo_paddle.config import RunConfig
from unimo_paddle.errors import ToolParser, UserError, report_user_errors
from unimo_paddle.scaling import (
    AS_IT_IS,
    CHANGED,
    DEVICES,
    MACHINES,
    SOURCES,
    Machine,
    table,
    work_of,
)

CONFIGS = (Path("configs/pretrain/unimo_base.yaml"), Path("configs/pretrain/unimo_large.yaml"))


@report_user_errors
def main() -> None:
    """Print a table for each network, as the package is and with every change."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = ToolParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--configs", type=Path, nargs="+", default=CONFIGS, help="run files")
    parser.add_argument("--devices", type=int, nargs="+", default=DEVICES, help="how many")
    parser.add_argument("--markdown", action="store_true", help="tables for documents")
    defaults = {field.name: field.default for field in fields(Machine)}
    for name, source in SOURCES.items():
        usual = "" if name == "outer" else f" ({defaults[name]:g})"
        parser.add_argument(f"--{name}", type=float, help=f"{source.replace('%', '%%')}{usual}")
    arguments = parser.parse_args()
    if min(arguments.devices) < 1:
        raise UserError(f"--devices has {min(arguments.devices)}; give at least 1")
    given = {name: value for name in SOURCES if (value := getattr(arguments, name)) is not None}
    for name, value in given.items():
        if not value > 0:
            raise UserError(f"--{name} is {value:g}; give a number above 0")
    distributed.start()
    paths = arguments.configs
    stems = [path.stem for path in paths]
    names = [str(path) if stems.count(path.stem) > 1 else path.stem for path in paths]
    configs = [settings.load(RunConfig, path) for path in paths]
    works = {name: work_of(config) for name, config in zip(names, configs, strict=True)}
    show = as_markdown if arguments.markdown else as_text
    for machine in MACHINES:
        for title, form in (("as it is", AS_IT_IS), ("with all changes", CHANGED)):
            heading = f"{machine.name}, {title}"
            print(f"### {heading}\n" if arguments.markdown else heading)
            rows = table(works, replace(machine, **given), form, tuple(arguments.devices))
            print(show(rows) + "\n")


if __name__ == "__main__":
    main()
