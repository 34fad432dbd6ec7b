"""Run a script in several processes that train together, watched and started again.

  on one machine:
    python tools/launch.py --num_processes 2 tools/train.py --config configs/quickstart.yaml
    python tools/launch.py --num_processes 8 --num_restarts 10 --hang_seconds 900 tools/train.py ...
  on two, with --output_dir, --log_dir and data on a folder that both share: this line on node1, and
  on node2 the same with --host_index 1
    python tools/launch.py --hosts node1,node2 --host_index 0 --port 6170 --num_processes 8 \\
        tools/train.py --config configs/pretrain/unimo_base.yaml --output_dir /shared/run

The console shows rank 0 (of other machines the first of theirs); every rank has a log. A process
that dies or hangs ends the job, on all machines, and the job goes on from its last checkpoint when
all machines are there again: also when a machine's launcher was started anew by the same line.
SIGTERM and Ctrl-C, on any machine, save a checkpoint and end it on all, with one exit code. The
machines must reach each other at --port and at ports that the ranks choose; nobody else should. Any
script is started again by the same line; UNIMO_RESTARTS tells it how often it was.

exit codes: 0 done; 1 failed, all restarts used; 2 a mistake to mend; 75 stopped, resume with
--resume; 128 + n ended by signal n without a checkpoint
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from unimo_paddle.errors import ToolParser, report_user_errors
from unimo_paddle.launcher import LOCALHOST, Job, launch
from unimo_paddle.logger import configure_logging


@report_user_errors
def main() -> None:
    """Start, watch, restart."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = ToolParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--num_processes", type=int, default=1, help="processes a machine (1)")
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
    parser.add_argument(
        "--hosts",
        default=LOCALHOST,
        help="names or IPv4 addresses of all machines, commas between them (this one alone)",
    )
    parser.add_argument(
        "--host_index", type=int, default=0, help="this machine's place in --hosts (0)"
    )
    parser.add_argument(
        "--port", type=int, default=6170, help="of the first machine, for the launchers (6170)"
    )
    parser.add_argument(
        "--join_seconds",
        type=float,
        default=300.0,
        help="that all machines have to come, at first and after every failure (300)",
    )
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
        hosts=arguments.hosts.split(","),
        host_index=arguments.host_index,
        port=arguments.port,
        join_seconds=arguments.join_seconds,
    )
    sys.exit(launch(job))


if __name__ == "__main__":
    main()
