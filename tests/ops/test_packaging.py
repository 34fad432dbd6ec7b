"""What the build decides from the environment, and what importing the package sets."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRINT_ENVIRONMENT = """
import json, os, sys
import unimo_paddle
print(json.dumps([unimo_paddle.environment_defaults, dict(os.environ), "paddle" in sys.modules]))
"""


def load_build_tool(name: str) -> ModuleType:
    """A module of the build, which is not part of the package."""
    path = ROOT / "build_tools" / f"{name}.py"
    specification = importlib.util.spec_from_file_location(f"build_{name}", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def environment():
    """The module of the build that reads the environment."""
    return load_build_tool("environment")


def write_command(path: Path, script: str) -> None:
    """A program that does what the lines for the shell say."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


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


@pytest.mark.parametrize(
    ("script", "suits"),
    [
        ("echo cmake version 3.17.5", False),
        ("echo cmake version 3.18.0", True),
        ("echo cmake version 4.1.2", True),
        ("echo cmake version 3.25.1; exit 1", False),
        ("echo a wheel without its package", False),
    ],
)
def test_a_cmake_that_is_too_old_or_does_not_run_is_asked_for(monkeypatch, tmp_path, script, suits):
    pytest.importorskip("setuptools")
    monkeypatch.syspath_prepend(str(ROOT / "build_tools"))
    write_command(tmp_path / "cmake", script)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ("cmake>=3.18" not in load_build_tool("backend")._missing()) == suits


def test_the_build_gives_cmake_what_cmake_args_says(tmp_path):
    pytest.importorskip("setuptools")
    write_command(tmp_path / "cmake", """printf '%s\\n' "$@" >> calls""")
    (tmp_path / "pybind11.py").write_text("def get_cmake_dir():\n    return '.'\n")
    command = [sys.executable, str(ROOT / "setup.py"), "-q", "build_ext"]
    variables = {
        "CMAKE_ARGS": "-DUNIMO_CUDA=OFF '-DNAME=two words'",
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path),
    }
    subprocess.run(command, cwd=tmp_path, env=os.environ | variables, check=True)
    calls = (tmp_path / "calls").read_text().splitlines()
    configured = calls[: calls.index("--build")]
    assert configured[-2:] == ["-DUNIMO_CUDA=OFF", "-DNAME=two words"]


def test_a_source_distribution_holds_what_its_build_needs(monkeypatch):
    """The lines of the manifest are read as setuptools reads them."""
    command = pytest.importorskip("setuptools.command.egg_info")
    monkeypatch.chdir(ROOT)
    files = command.FileList()
    for line in Path("MANIFEST.in").read_text().splitlines():
        if not line.startswith("#"):
            files.process_template_line(line)
    folders = [path for name in ("build_tools", "csrc") for path in Path(name).rglob("*")]
    needed = {"CMakeLists.txt"} | {str(path) for path in folders if path.is_file()}
    assert {name for name in needed if "__pycache__" not in name} == set(files.files)


def test_kernels_are_compiled_for_what_the_processor_is_asked_for():
    """What is compiled for more ends with an illegal instruction where only that is missing."""
    build = (ROOT / "CMakeLists.txt").read_text()
    asked = (ROOT / "csrc/common/instruction_sets.h").read_text()
    asked += (ROOT / "csrc/contrastive/cpu/dispatch.cc").read_text()
    compiled = set(re.findall(r"(?<=[\s;])-m([\w=-]+)", build))
    assert compiled == set(re.findall(r'__builtin_cpu_supports\("(\w+)"\)', asked))


@pytest.mark.skipif(not shutil.which("make"), reason="make is not here")
def test_make_builds_the_operators_again_for_another_paddle(tmp_path):
    version = tmp_path / "lib/python3.11/site-packages/paddle/version/__init__.py"
    version.parent.mkdir(parents=True)
    version.touch()
    stamp = tmp_path / "installed"
    stamp.touch()
    up_to_date = []
    for age in (3600, -3600):
        written = time.time() - age
        os.utime(version, (written, written))
        command = ["make", "--question", str(stamp), f"VENV={tmp_path}"]
        up_to_date.append(subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0)
    assert up_to_date == [True, False]


def configure(folder: Path, *definitions: str, **variables: str) -> str:
    """Configure a build in the folder; return what CMake says."""
    command = ["cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Unix Makefiles"]
    command += [f"-DPython_EXECUTABLE={sys.executable}", "-DUNIMO_PYTHON=OFF", *definitions]
    environment = os.environ | variables
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


needs_cmake = pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("make")), reason="CMake or make is not here"
)


@needs_cmake
@pytest.mark.parametrize("has_mkl", [True, False])
def test_the_operators_share_the_openmp_runtime_of_paddle(tmp_path, has_mkl):
    """And the build notes which Paddle it was for."""
    paddle, build = tmp_path / "paddle", tmp_path / "build"
    for name in ("version", "libs"):
        (paddle / name).mkdir(parents=True)
    version = "full_version     = '3.9.7'\ncuda_version     = 'False'\n"
    (paddle / "version" / "__init__.py").write_text(version)
    if has_mkl:
        (paddle / "libs" / "libiomp5.so").touch()
    configure(build, f"-DPADDLE_ROOT={paddle}", "-DUNIMO_CUDA=OFF")
    linked = (build / "CMakeFiles/unimo_operators.dir/link.txt").read_text()
    assert ("iomp5" in linked) == has_mkl and ("gomp" in linked) != has_mkl
    assert (build / "_operators.paddle_version").read_text() == "3.9.7\n"


@pytest.mark.slow
@needs_cmake
@pytest.mark.skipif(not shutil.which("nvcc"), reason="nvcc is not here")
def test_cuda_that_is_too_old_is_left_out(tmp_path):
    script = f"""
    if [ "$*" = --version ]; then echo release 11.5, V11.5.119; exit; fi
    exec {shutil.which("nvcc")} "$@"
    """
    write_command(tmp_path / "nvcc", script)
    said = configure(tmp_path / "build", "-DUNIMO_PADDLE=OFF", CUDACXX=str(tmp_path / "nvcc"))
    assert "nvcc 11.5 is older than 11.8: the CUDA form is left out" in said


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
