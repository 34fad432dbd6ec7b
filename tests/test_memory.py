"""The bound on memory that a user sets, measured on a run of the real size."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "configs/pretrain/scenes_large_batch.yaml"
MOST = 8e9  # bytes

# Fewer scenes, seen several times in a batch: what is kept in memory does not depend on them.
FEW_SCENES = ("num_train", 1024), ("num_test", 20), ("num_novel", 10)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
def test_update_of_4096_pairs_of_the_small_model_fits_into_8_gb(tmp_path: Path) -> None:
    command = [sys.executable, "tools/train.py", "--config", CONFIG, "--output_dir", tmp_path]
    command += ["--task.data.scenes_dir", tmp_path / "scenes", "--evaluation.splits", "[]"]
    for name, value in FEW_SCENES:
        command += [f"--task.data.scenes.{name}", value]
    # Half an hour or so: of two updates only the first is waited for. Meanwhile the batch of the
    # second is made, which is part of what a run keeps.
    command += ["--train.max_steps", 2]
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "step 1/2" in line:
                break
        assert "step 1/2" in lines[-1], "".join(lines)
        assert peak_bytes(process.pid) < MOST
    finally:
        process.kill()
        process.wait()


def peak_bytes(process: int) -> int:
    """The most memory that a living process has had."""
    status = Path(f"/proc/{process}/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", status)[1])
