"""The C++ tests, built with the address and undefined-behaviour sanitizers and run by CTest."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("cmake"), reason="CMake is not here")
@pytest.mark.parametrize("compiler", ["c++", "g++-11"])  # what is here, and the oldest that serves
def test_the_core_passes_its_tests_under_the_sanitizers(tmp_path, compiler):
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not here")
    options = {
        "CMAKE_CXX_COMPILER": compiler,
        "UNIMO_PADDLE": "OFF",
        "UNIMO_PYTHON": "OFF",
        "UNIMO_CUDA": "OFF",
        "UNIMO_TESTS": "ON",
        "UNIMO_SANITIZE": "ON",
    }
    definitions = [f"-D{name}={value}" for name, value in options.items()]
    commands = [
        ["cmake", "-S", str(ROOT), "-B", str(tmp_path), *definitions],
        ["cmake", "--build", str(tmp_path), "--parallel", str(os.cpu_count())],
        ["ctest", "--test-dir", str(tmp_path), "--output-on-failure"],
    ]
    for command in commands:
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert "100% tests passed" in result.stdout
