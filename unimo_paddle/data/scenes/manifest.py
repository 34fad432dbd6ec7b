"""Manifests of generated folders: what a folder was made with, and whether that is what is asked.

A manifest is JSON with the ``version`` of what wrote the folder and its ``config``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unimo_paddle.errors import UserError


def write_manifest(path: Path, config: dict[str, Any], *, version: int, **more: Any) -> dict:
    """Write and return a manifest; ``more`` is told in it and never compared."""
    manifest = {"version": version, "config": config, **more}
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def read_manifest(path: Path, what: str) -> dict[str, Any]:
    """Return a manifest.

    Args:
        what: its folder holds, in one word.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path.parent} holds no {path.name}, so it is no folder of {what}; choose another "
            "folder"
        ) from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: no valid JSON ({error}); delete the folder") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("config"), dict):
        raise UserError(f"{path}: no manifest of {what}; choose another folder")
    return manifest


def check_manifest(path: Path, config: dict[str, Any], *, version: int, what: str) -> None:
    """Refuse a folder that was made with another config or version, naming every difference."""
    folder = path.parent
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; the {what} need a folder of their own")
    manifest = read_manifest(path, what)
    found = {"version": manifest.get("version"), **manifest["config"]}
    wanted = {"version": version, **config}
    differences = [
        f"{name} {found.get(name)} instead of {wanted.get(name)}"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]
    if differences:
        raise UserError(
            f"{folder} holds other {what} ({', '.join(differences)}); "
            "delete it or choose another folder"
        )
