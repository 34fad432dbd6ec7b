"""What the environment that receives the package already holds, and what that asks for.

Two wheels of Paddle (``paddlepaddle`` and ``paddlepaddle-gpu``) fill the same folder and must never
be installed together, and so it is with the wheels of OpenCV. Dependencies are therefore decided
when the package is built, from what is installed. This module knows nothing of setuptools.
"""

from __future__ import annotations

import re
import site
import sys
import sysconfig
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path

MIN_PADDLE = (3, 3)
PADDLE_REQUIREMENT = "paddlepaddle==3.3.*"
PADDLE_WHEELS = ("paddlepaddle-gpu", "paddlepaddle")
OPENCV_REQUIREMENT = "opencv-python-headless>=4.8"
OPENCV_WHEELS = (
    "opencv-python-headless",
    "opencv-python",
    "opencv-contrib-python-headless",
    "opencv-contrib-python",
)


def target_paths() -> list[str]:
    """The folders of the environment that receives the package.

    An isolated build runs the same interpreter with other paths in front, so ``sysconfig`` still
    names the right folders there; without isolation ``sys.path`` holds them too, and more. This is
    so of pip. Other installers (uv) run another interpreter, which sees no Paddle that is there:
    with them the package is built without isolation.
    """
    paths = [sysconfig.get_path("platlib"), sysconfig.get_path("purelib")]
    if site.ENABLE_USER_SITE:
        paths.append(site.getusersitepackages())
    isolated = any("pip-build-env" in path for path in sys.path)
    return list(dict.fromkeys(paths if isolated else paths + sys.path))


def installed_versions(paths: list[str]) -> dict[str, str]:
    """Names (normalised) and versions of the distributions installed in the folders."""
    return {
        re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower(): found.version
        for found in distributions(path=paths)
        if found.metadata["Name"]
    }


def paddle_requirement(installed: Mapping[str, str]) -> str:
    """The requirement that keeps an installed Paddle, or asks for the CPU wheel.

    Raises:
        SystemExit: the installed Paddle cannot be used; pip then shows the message, no traceback.
    """
    wheels = [name for name in PADDLE_WHEELS if name in installed]
    if not wheels:
        return PADDLE_REQUIREMENT
    if len(wheels) > 1:
        raise SystemExit(
            f"both {wheels[0]} {installed[wheels[0]]} and {wheels[1]} {installed[wheels[1]]} are "
            f"installed and overwrite each other; pip uninstall both, then install one of them"
        )
    (name,) = wheels
    if _major_minor(installed[name]) < MIN_PADDLE:
        raise SystemExit(
            f"{name} {installed[name]} is too old for unimo_paddle, which needs 3.3 or newer; "
            f"pip uninstall {name}, then install a newer one"
        )
    return f"{name}>=3.3"


def opencv_requirement(installed: Mapping[str, str]) -> str:
    """The requirement that keeps an installed OpenCV, or asks for the headless wheel."""
    for name in OPENCV_WHEELS:
        if name in installed:
            return OPENCV_REQUIREMENT.replace(OPENCV_WHEELS[0], name)
    return OPENCV_REQUIREMENT


def paddle_folder(paths: list[str]) -> Path:
    """The folder of the Paddle to build against: the first of the paths that has its headers."""
    for path in paths:
        folder = Path(path) / "paddle"
        if (folder / "include" / "paddle" / "phi" / "api" / "all.h").is_file():
            return folder
    raise SystemExit(f"Paddle was not found to build against: pip install '{PADDLE_REQUIREMENT}'")


def _major_minor(version: str) -> tuple[int, int]:
    """The first two numbers of a version."""
    numbers = re.findall(r"\d+", version)
    return int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0
