"""Train a model: ``python tools/train.py --config configs/quickstart.yaml``."""

from __future__ import annotations

import sys
from pathlib import Path

from unimo_paddle import distributed
from unimo_paddle.config import build_trainer, parse_training
from unimo_paddle.errors import report_user_errors
from unimo_paddle.evaluation import format_table, write_report
from unimo_paddle.logger import configure_logging
from unimo_paddle.process import STOPPED_CODE, ignore_stops, tune_process
from unimo_paddle.trainer import RunStopped


@report_user_errors
def main() -> None:
    """Parse the settings, train, and print what was learnt."""
    config, resume = parse_training(sys.argv[1:])
    configure_logging()
    tune_process()
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
