"""Export a trained run for Paddle Inference: ``python tools/export.py --run runs/x``."""

from __future__ import annotations

from pathlib import Path

from unimo_paddle.config import load_evaluator, load_run
from unimo_paddle.errors import ToolParser, report_user_errors
from unimo_paddle.export import export_bundle
from unimo_paddle.logger import configure_logging
from unimo_paddle.tasks.bundle import BundleSettings


@report_user_errors
def main() -> None:
    """Write the bundle and print its folder."""
    parser = ToolParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder that train.py wrote")
    parser.add_argument("--bundle", type=Path, help="where to write; RUN/bundle by default")
    parser.add_argument("--step", type=int, help="a kept checkpoint; the newest by default")
    arguments = parser.parse_args()
    configure_logging()
    config = load_run(arguments.run)
    evaluator = load_evaluator(arguments.run, step=arguments.step)
    folder = arguments.bundle or arguments.run / "bundle"
    settings = BundleSettings(config.model, config.task)
    print(f"bundle: {export_bundle(evaluator.task, evaluator.runner, settings, folder)}")


if __name__ == "__main__":
    main()
