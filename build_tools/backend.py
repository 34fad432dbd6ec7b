"""Build backend: setuptools, with Paddle and CMake added to the isolated build where missing."""

from __future__ import annotations

import re
import shutil
import subprocess

import environment
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  the hooks of the standard, two of them replaced below

MIN_CMAKE = (3, 18)  # as in CMakeLists.txt


def _missing() -> list[str]:
    """What the build needs and the target environment or the system lacks."""
    installed = environment.installed_versions(environment.target_paths())
    requirement = environment.paddle_requirement(installed)
    missing = [requirement] if requirement == environment.PADDLE_REQUIREMENT else []
    return missing if _cmake_suits() else [*missing, "cmake>={}.{}".format(*MIN_CMAKE)]


def _cmake_suits() -> bool:
    """Whether CMake is new enough and works: its wheel in an activated environment does not."""
    command = shutil.which("cmake")
    if command is None:
        return False
    result = subprocess.run([command, "--version"], capture_output=True, text=True)
    version = re.search(r"version (\d+)\.(\d+)", result.stdout)
    if result.returncode or not version:
        return False
    return (int(version[1]), int(version[2])) >= MIN_CMAKE


def get_requires_for_build_wheel(config_settings: dict | None = None) -> list[str]:
    """What ``pip install .`` needs while it builds."""
    return build_meta.get_requires_for_build_wheel(config_settings) + _missing()


def get_requires_for_build_editable(config_settings: dict | None = None) -> list[str]:
    """What ``pip install -e .`` needs while it builds."""
    return build_meta.get_requires_for_build_editable(config_settings) + _missing()
