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
        folder: of the bundle; parents are made.
    """
    if not task.services:
        raise UserError("this task serves nothing: give task.weights.contrastive a weight")
    unfinished = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
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
    if folder.exists():
        shutil.rmtree(folder)
    unfinished.rename(folder)
    return folder
