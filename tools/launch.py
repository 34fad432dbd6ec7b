"""Run a script in several processes that train together, watched and started again.

    python tools/launch.py --num_processes 2 tools/train.py --config configs/quickstart.yaml
    python tools/launch.py --num_processes 8 --num_restarts 10 --hang_seconds 900 tools/train.py ...

The console shows rank 0; every rank has a log. A process that dies or hangs ends the job, and the
job goes on from its last checkpoint. SIGTERM and Ctrl-C save a checkpoint and end it.

exit codes: 0 done; 1 failed, all restarts used; 2 a mistake to mend; 75 stopped, resume with
--resume; 128 + n ended by signal n without a checkpoint
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from unimo_paddle.errors import ToolParser, report_user_errors
from unimo_paddle.launcher import Job, launch
from unimo_paddle.logger import configure_logging


@report_user_errors
def main() -> None:
    """Start, watch, restart."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = ToolParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--num_processes", type=int, default=1, help="processes (1)")
    parser.add_argument("--num_restarts", type=int, default=3, help="at most so many (3)")
    parser.add_argument(
        "--hang_seconds",
        type=float,
        default=600.0,
        help="without an update or a batch measured, after the first; 0: no limit (600)",
    )
    parser.add_argument(
        "--stop_seconds", type=float, default=60.0, help="to save a checkpoint when stopped (60)"
    )
    parser.add_argument("--log_dir", type=Path, default=Path("runs/log"), help="(runs/log)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="script and its arguments")
    arguments = parser.parse_args()
    configure_logging()
    job = Job(
        arguments.command,
        arguments.num_processes,
        arguments.log_dir,
        num_restarts=arguments.num_restarts,
        hang_seconds=arguments.hang_seconds,
        stop_seconds=arguments.stop_seconds,
    )
    sys.exit(launch(job))


if __name__ == "__main__":
    main()
