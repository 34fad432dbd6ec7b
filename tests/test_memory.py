"""The bound on memory that a user sets, measured on a run of the real size."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "configs/pretrain/scenes_large_batch.yaml"
CMCL_CONFIG = "configs/pretrain/scenes_cmcl.yaml"
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


CANDIDATES = {  # captions of other images, read with the image: files of rewrites are not needed
    "task.contrast.rewrites_per_pair": 0,
    "task.contrast.images_per_pair": 0,
    "task.contrast.texts_per_pair": 0,
    "task.contrast.others_per_pair": 8,
    "task.contrast.joint_every": 1,
    "task.correlated_start": 0,
    "train.max_steps": 1,
    "evaluation.splits": "[]",
}


@pytest.mark.slow
def test_candidates_need_the_memory_of_a_chunk(tmp_path: Path) -> None:
    def peak_of_an_update(batch_size: int, chunk_size: int) -> float:
        changes = CANDIDATES | {
            "task.data.scenes_dir": tmp_path / "scenes",
            **{f"task.data.scenes.{name}": value for name, value in FEW_SCENES},
            "train.batch_size": batch_size,
            "task.contrastive_chunk_size": chunk_size,
            "output_dir": tmp_path / f"{batch_size}-{chunk_size}",
        }
        options = [str(part) for name, value in changes.items() for part in (f"--{name}", value)]
        code = (
            "import resource, subprocess, sys\n"
            "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
            "print(1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        train = [sys.executable, "tools/train.py", "--config", CMCL_CONFIG, *options]
        command = [sys.executable, "-c", code, *train]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return float(done.stdout.split()[-1])

    peak_of_an_update(8, 0)  # draws the scenes
    whole, chunked = peak_of_an_update(256, 0), peak_of_an_update(256, 16)
    assert chunked < 0.5 * whole
    assert peak_of_an_update(512, 16) < 1.15 * chunked


def peak_bytes(process: int) -> int:
    """The most memory that a living process has had."""
    status = Path(f"/proc/{process}/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", status)[1])
