"""What the build decides from the environment, and what importing the package sets."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRINT_ENVIRONMENT = """
import json, os, sys
import unimo_paddle
print(json.dumps([unimo_paddle.environment_defaults, dict(os.environ), "paddle" in sys.modules]))
"""


@pytest.fixture(scope="module")
def environment():
    """The module of the build that reads the environment; it is not part of the package."""
    path = ROOT / "build_tools" / "environment.py"
    specification = importlib.util.spec_from_file_location("build_environment", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("installed", "requirement"),
    [
        ({}, "paddlepaddle==3.3.*"),
        ({"numpy": "2.0"}, "paddlepaddle==3.3.*"),
        ({"paddlepaddle": "3.3.1"}, "paddlepaddle>=3.3"),
        ({"paddlepaddle-gpu": "3.3.0"}, "paddlepaddle-gpu>=3.3"),
        ({"paddlepaddle-gpu": "3.4.0.post126"}, "paddlepaddle-gpu>=3.3"),
        ({"paddlepaddle-gpu": "4.0.0.dev20260101"}, "paddlepaddle-gpu>=3.3"),
    ],
)
def test_an_installed_paddle_is_kept_and_a_missing_one_asked_for(
    environment, installed, requirement
):
    assert environment.paddle_requirement(installed) == requirement


@pytest.mark.parametrize(
    "installed",
    [{"paddlepaddle": "2.6.2"}, {"paddlepaddle-gpu": "3.2.9"}, {"paddlepaddle": "0.0.0"}],
)
def test_an_older_paddle_is_one_clear_error(environment, installed):
    (version,) = installed.values()
    with pytest.raises(SystemExit, match=rf"{version} is too old .* 3\.3 or newer") as error:
        environment.paddle_requirement(installed)
    assert "\n" not in str(error.value)


def test_two_wheels_of_paddle_are_one_clear_error(environment):
    with pytest.raises(SystemExit, match="overwrite each other"):
        environment.paddle_requirement({"paddlepaddle": "3.3.1", "paddlepaddle-gpu": "3.3.1"})


@pytest.mark.parametrize(
    ("installed", "wheel"),
    [
        ({}, "opencv-python-headless"),
        ({"opencv-python": "4.10.0"}, "opencv-python"),
        ({"opencv-contrib-python": "4.10.0"}, "opencv-contrib-python"),
    ],
)
def test_an_installed_opencv_is_kept_and_the_headless_one_asked_for(environment, installed, wheel):
    assert environment.opencv_requirement(installed) == f"{wheel}>=4.8"


def test_distributions_are_found_by_their_normalised_names(environment, tmp_path):
    folder = tmp_path / "PaddlePaddle_GPU-3.3.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: PaddlePaddle_GPU\nVersion: 3.3.1\n"
    )
    assert environment.installed_versions([str(tmp_path)]) == {"paddlepaddle-gpu": "3.3.1"}


def test_a_folder_without_headers_is_no_paddle_to_build_against(environment, tmp_path):
    (tmp_path / "paddle").mkdir()
    with pytest.raises(SystemExit, match="Paddle was not found to build against"):
        environment.paddle_folder([str(tmp_path)])


def import_package(**variables: str) -> list:
    """Import the package in a fresh process where only these of its variables are set."""
    ours = ("OMP_", "OPENBLAS_", "MKL_DEBUG_CPU_TYPE", "FLAGS_new", "GLOG_minloglevel")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    result = subprocess.run(
        [sys.executable, "-c", PRINT_ENVIRONMENT],
        env=clean | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout)


def test_importing_the_package_sets_threads_and_does_not_import_paddle():
    defaults, variables, has_paddle = import_package()
    assert 1 <= int(defaults["OMP_NUM_THREADS"]) <= os.cpu_count()
    assert variables["OMP_NUM_THREADS"] == defaults["OMP_NUM_THREADS"]
    assert not has_paddle


def test_a_value_the_user_has_set_is_kept():
    defaults, variables, _ = import_package(OMP_NUM_THREADS="7", MKL_DEBUG_CPU_TYPE="0")
    assert variables["OMP_NUM_THREADS"] == "7" and variables["MKL_DEBUG_CPU_TYPE"] == "0"
    assert "OMP_NUM_THREADS" not in defaults and "MKL_DEBUG_CPU_TYPE" not in defaults


def test_ranks_of_one_machine_share_its_cores():
    alone = int(import_package()[0]["OMP_NUM_THREADS"])
    shared = int(import_package(PADDLE_LOCAL_SIZE="2")[0]["OMP_NUM_THREADS"])
    assert shared == max(1, alone // 2)
