"""Train a model: ``python tools/train.py --config configs/quickstart.yaml``."""

from __future__ import annotations

import sys
from pathlib import Path

from unimo_paddle import distributed
from unimo_paddle.config import build_trainer, parse_command, parse_training, sole_run
from unimo_paddle.dry_run import summarise
from unimo_paddle.errors import USER_ERROR_CODE, report_user_errors
from unimo_paddle.evaluation import format_table, write_report
from unimo_paddle.logger import configure_logging
from unimo_paddle.process import STOPPED_CODE, ignore_stops, tune_process
from unimo_paddle.trainer import RunStopped


@report_user_errors
def main() -> None:
    """Parse the settings, train, and print what was learnt."""
    config, options = parse_command(sys.argv[1:])
    configure_logging()
    tune_process()
    if options["dry_run"]:
        summary = summarise(config)
        print(summary.text)
        sys.exit(USER_ERROR_CODE if summary.num_missing else 0)
    config, resume = parse_training(sys.argv[1:])
    with sole_run(Path(config.output_dir)):
        trainer = build_trainer(config, resume=resume)
        try:
            metrics = trainer.train()
        except RunStopped as stopped:
            print(stopped)
            sys.exit(STOPPED_CODE)
        finally:
            ignore_stops()
        for split, values in metrics.items():
            if distributed.rank() == 0:
                write_report(Path(config.output_dir), split, values)
            print(format_table(split, values))
    print(f"run: {config.output_dir}")


if __name__ == "__main__":
    main()
