"""Measure a trained run on a split.

python tools/evaluate.py --run runs/x --split test
python tools/evaluate.py --run runs/x --split test --rerank 50 0
python tools/launch.py --num_processes 2 tools/evaluate.py --run runs/x --split test
"""

from __future__ import annotations

import argparse
from pathlib import Path

from unimo_paddle import distributed
from unimo_paddle.config import load_evaluator
from unimo_paddle.errors import ToolParser, report_user_errors
from unimo_paddle.evaluation import format_stages, format_table, write_predictions, write_report
from unimo_paddle.logger import configure_logging
from unimo_paddle.pictures import write_picture
from unimo_paddle.process import tune_process


@report_user_errors
def main() -> None:
    """Print the split's table and write it as JSON into the run's folder."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = ToolParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--run", type=Path, required=True, help="folder that train.py wrote")
    parser.add_argument("--split", required=True, help="test, test_novel, or one of the run file")
    parser.add_argument("--step", type=int, help="a kept checkpoint; the newest by default")
    parser.add_argument(
        "--predictions", type=Path, help="also write what is predicted of each record, JSON lines"
    )
    parser.add_argument("--pictures", type=Path, help="folder to write the task's pictures to")
    parser.add_argument(
        "--rerank",
        type=int,
        nargs="+",
        metavar="K",
        default=[],
        help="also search in two stages: joint scores order the first K of each query; 0: all",
    )
    arguments = parser.parse_args()
    configure_logging()
    tune_process()
    evaluator = load_evaluator(arguments.run, step=arguments.step)
    evaluator.check_search(arguments.rerank)
    is_first = distributed.rank() == 0
    # All processes of a job compute all of it together; one writes, and what was measured first:
    # nothing that goes wrong later must cost it.
    metrics = evaluator.measure(arguments.split)
    if is_first:
        print(format_table(arguments.split, metrics))
        print(f"written: {write_report(arguments.run, arguments.split, metrics)}")
    predictions = evaluator.predictions(arguments.split) if arguments.predictions else []
    pictures = evaluator.pictures(arguments.split) if arguments.pictures else {}
    stages = evaluator.search(arguments.split, arguments.rerank) if arguments.rerank else {}
    if not is_first:
        return
    if stages:
        print(format_stages(arguments.split, stages))
        print(f"written: {write_report(arguments.run, f'{arguments.split}-rerank', stages)}")
    if arguments.predictions:
        write_predictions(arguments.predictions, predictions)
        print(f"written: {arguments.predictions}")
    if arguments.pictures:
        for name, picture in pictures.items():
            path = arguments.pictures / f"{arguments.split}-{name}.png"
            write_picture(path, picture)
            print(f"written: {path}")


if __name__ == "__main__":
    main()
