"""Compile the operators with CMake and decide the dependencies; the rest is in pyproject.toml."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "build_tools"))

import environment  # noqa: E402  it lies beside this file and is not installed


class CMakeBuild(build_ext):
    """One CMake build makes every product; each Extension only names one of them."""

    def get_ext_filename(self, fullname: str) -> str:
        """The operator library is loaded by Paddle, not by Python: its name has no Python tag."""
        if fullname.endswith("._operators"):
            return str(Path(*fullname.split("."))) + ".so"
        return super().get_ext_filename(fullname)

    def run(self) -> None:
        """Configure, build and install into the source tree or the wheel to be."""
        build_dir = Path(self.build_temp).resolve() / "cmake"
        in_place = self.inplace or getattr(self, "editable_mode", False)
        prefix = ROOT if in_place else Path(self.build_lib).resolve()
        paddle = environment.paddle_folder(environment.target_paths() + sys.path)
        settings = {
            "CMAKE_BUILD_TYPE": "Release",
            "PADDLE_ROOT": paddle,
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
        }
        definitions = [f"-D{name}={value}" for name, value in settings.items()]
        definitions += shlex.split(os.environ.get("CMAKE_ARGS", ""))  # pip passes no options on
        subprocess.run(["cmake", "-S", ROOT, "-B", build_dir, *definitions], check=True)
        jobs = str(self.parallel or os.cpu_count() or 1)
        subprocess.run(["cmake", "--build", build_dir, "--parallel", jobs], check=True)
        install = ["cmake", "--install", build_dir, "--component", "python", "--prefix", prefix]
        subprocess.run(install, check=True)


def dependencies() -> list[str]:
    """Fixed dependencies, and those that depend on what is installed."""
    installed = environment.installed_versions(environment.target_paths())
    return [
        environment.paddle_requirement(installed),
        environment.opencv_requirement(installed),
        "HanTa>=1.2",
        "draccus>=0.11,<0.12",
        "faiss-cpu>=1.9",
        "h5py>=3.10",
        "ijson>=3.2",
        "imagehash>=4.3",
        "inflect>=7.5",
        "lemminflect>=0.2.3",
        "lmdb>=1.4",
        "matplotlib>=3.7",
        "msgpack>=1.0",
        "nltk>=3.8",
        "numpy>=1.26",
        "pillow>=9.4",
        "py-rouge>=1.1",
        "rouge-score>=0.1.2",
        "safetensors>=0.4",
        "scikit-learn>=1.3",
        "scipy>=1.11",
        "tokenizers>=0.15",
        "tqdm>=4.64",
        "visualdl>=2.5.3,<3",
    ]


setup(
    ext_modules=[
        Extension("unimo_paddle.ops._operators", []),
        Extension("unimo_paddle.ops._core", []),
    ],
    cmdclass={"build_ext": CMakeBuild},
    install_requires=dependencies(),
)
