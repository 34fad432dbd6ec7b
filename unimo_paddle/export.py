"""Writes a bundle: the graphs of a task's services, their fields, assets and settings."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import paddle

from unimo_paddle.errors import UserError
from unimo_paddle.program import Runner, build_service
from unimo_paddle.settings import save
from unimo_paddle.tasks.base import Task
from unimo_paddle.tasks.bundle import (
    ASSETS_DIR,
    FORMAT_VERSION,
    MANIFEST_NAME,
    SETTINGS_NAME,
    BundleSettings,
    identify_files,
)


def export_bundle(task: Task, runner: Runner, settings: BundleSettings, folder: Path) -> Path:
    """Write the bundle beside and publish it by rename; an earlier bundle is replaced.

    Args:
        runner: holds the trained weights.
        folder: of the bundle; parents are made. What is there already must be a bundle or empty.
    """
    if not task.services:
        raise UserError("this task serves nothing: give task.weights.contrastive a weight")
    target = folder.resolve()  # a name, also of ".", and the folder that a link leads to
    _check_replaceable(target, folder)
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"bundle {folder} cannot be made: {error.strerror}; give --bundle another folder"
        ) from error
    manifest = {"version": FORMAT_VERSION, "services": {}}
    for service in task.services:
        program = build_service(task, service)
        with paddle.static.scope_guard(runner.scope):
            paddle.static.save_inference_model(
                str(unfinished / service.name),
                list(program.feeds.values()),
                list(program.fetches.values()),
                runner.executor,
                program=program.main,
            )
        manifest["services"][service.name] = {
            "inputs": [asdict(item) for item in service.inputs],
            "outputs": list(program.fetches),
        }
    task.save_assets(unfinished / ASSETS_DIR)
    save(settings, unfinished / SETTINGS_NAME)
    manifest["files"] = identify_files(unfinished)
    (unfinished / MANIFEST_NAME).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    _publish(unfinished, target)
    return folder


def _check_replaceable(target: Path, named: Path) -> None:
    """Refuse to delete what no export wrote, such as a run or a folder of models."""
    if not target.exists():
        return
    if not target.is_dir():
        raise UserError(f"bundle {named} is a file already; give --bundle another name")
    if not (target / MANIFEST_NAME).is_file() and any(target.iterdir()):
        raise UserError(
            f"{named} is no bundle: it has no {MANIFEST_NAME}, and an export would delete what it "
            f"holds; give --bundle a new folder, such as {named / 'bundle'}"
        )


def _publish(unfinished: Path, target: Path) -> None:
    """Give the bundle its name; at any moment the one before or the new one is whole on disk."""
    old = target.with_name(f".{target.name}.old")
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)  # what an export that was killed has left
        target.rename(old)
    unfinished.rename(target)
    shutil.rmtree(old, ignore_errors=True)
