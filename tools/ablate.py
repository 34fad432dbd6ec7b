"""Train and measure a table of runs, each with one thing changed, over several seeds.

python tools/ablate.py --config configs/ablation/cmcl.yaml
python tools/ablate.py --config configs/ablation/cmcl.yaml --jobs 2 --seeds 0
python tools/ablate.py --config configs/ablation/cmcl.yaml --rows full "without rewrites"
python tools/ablate.py --config configs/ablation/cmcl.yaml --markdown docs/results/x.md
python tools/ablate.py --config configs/ablation/cmcl.yaml --so_far
python tools/ablate.py --config configs/ablation/cmcl.yaml --given docs/results/x.json

A stopped ablation goes on by the same line. Several machines share one by --seeds or --rows, and
the tables of all others are given to the last. The table, with means and deviations, and a picture
of it are written into output_dir.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from unimo_paddle import ablation
from unimo_paddle.errors import ToolParser, UserError, report_user_errors
from unimo_paddle.logger import configure_logging
from unimo_paddle.settings import load

logger = logging.getLogger(__name__)


@report_user_errors
def main() -> None:
    """Run what is missing, then print and write the table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = ToolParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--config", type=Path, required=True, help="the table to make")
    parser.add_argument("--seeds", type=int, nargs="+", help="in place of those of the file")
    parser.add_argument("--rows", nargs="+", help="some of those of the file, by their names")
    parser.add_argument("--output_dir", help="in place of that of the file")
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs side by side, which share the cores (1)"
    )
    parser.add_argument(
        "--so_far", action="store_true", help="run nothing: the table of what has finished"
    )
    parser.add_argument(
        "--given",
        type=Path,
        nargs="+",
        default=[],
        metavar="JSON",
        help="beside another table of these rows: its runs are taken, not run again",
    )
    parser.add_argument("--markdown", type=Path, help="also write the page, with its picture, here")
    arguments = parser.parse_args()
    configure_logging()
    config = load(ablation.AblationConfig, arguments.config)
    if arguments.seeds:
        config = replace(config, seeds=tuple(arguments.seeds))
    if arguments.rows:
        config = ablation.choose_rows(config, arguments.rows)
    if arguments.output_dir:
        config = replace(config, output_dir=arguments.output_dir)
    for path in arguments.given:
        ablation.take_given(config, path)
    if arguments.so_far:
        results = ablation.finished_runs(config)
        if not results:
            raise UserError(f"--so_far: no run has finished in {config.output_dir}; leave it out")
    else:
        results = ablation.run_all(config, Path(__file__).parent, jobs=arguments.jobs)
    for metric in ablation.unmeasured(config, results):
        logger.warning("no run has measured %s: is it an evaluation's name?", metric)
    command = f"python tools/ablate.py {shlex.join(sys.argv[1:])}"
    page = ablation.as_markdown(config, results, command)
    print(page)
    for path in [Path(config.output_dir) / "table.md", arguments.markdown]:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = path.with_suffix(".png")
            ablation.draw(config, results, picture)
            path.write_text(f"{page}\n![Means and seeds of every row]({picture.name})\n", "utf-8")
            values = [vars(result) for result in results]
            path.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n", "utf-8")
            print(f"written: {path}")


if __name__ == "__main__":
    main()
