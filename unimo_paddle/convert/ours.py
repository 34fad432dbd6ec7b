"""Our own checkpoints: ``step-N`` folders, with the settings of the model beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from unimo_paddle.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from unimo_paddle.convert.parameters import check_names
from unimo_paddle.convert.sources import Source, leave_out, to_float32
from unimo_paddle.errors import UserError
from unimo_paddle.settings import read_tree

MODEL_NAME = "model.yaml"  # in the folder of a converted checkpoint
RUN_NAME = "config.yaml"  # in the folder of a run, whose checkpoints lie one folder deeper


def open_ours(path: Path, *, skip: Sequence[str] = ()) -> Source:
    """Open one of our checkpoint folders; every byte is verified, moments are left out."""
    if (newest := latest_checkpoint(path)) is not None:
        raise UserError(f"{path} holds checkpoints and is none; give one of them, such as {newest}")
    checkpoint = load_checkpoint(path)
    listed = checkpoint.state.get("parameters")
    is_list = isinstance(listed, list) and all(isinstance(name, str) for name in listed)
    if not is_list or not listed:
        check_names(path, missing=["the list of parameters in state.json"])
    absent = [name for name in listed if name not in checkpoint.arrays]
    check_names(path, missing=absent)
    num_others = len(checkpoint.arrays) - len(set(listed))
    arrays = {name: checkpoint.arrays[name] for name in listed}
    kept, notes = leave_out(arrays, skip, path)
    if num_others:
        notes += (f"left out, for the optimizer alone needs them: {num_others} arrays",)
    return Source(
        path,
        {name: arrays[name].shape for name in kept},
        lambda name: to_float32(arrays[name], f"{path}: {name}"),
        _settings_beside(path),
        notes,
    )


def _settings_beside(path: Path) -> dict[str, Any]:
    """The model section that lies beside a checkpoint; nothing when it was moved elsewhere."""
    folder = path.resolve().parent
    if (folder / MODEL_NAME).is_file():
        return read_tree(folder / MODEL_NAME).values
    if (folder.parent / RUN_NAME).is_file():
        section = read_tree(folder.parent / RUN_NAME).values.get("model")
        return dict(section) if isinstance(section, dict) else {}
    return {}


def write_ours(folder: Path, source: Source, settings: Mapping[str, Any]) -> Path:
    """Write ``step-0`` and ``model.yaml`` into ``folder``; return the checkpoint's path."""
    arrays = {name: source.read(name) for name in sorted(source.shapes)}
    state = {"parameters": list(arrays), "converted_from": source.path.name}
    path = save_checkpoint(folder, 0, arrays, state, keep=1)
    text = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
    (folder / MODEL_NAME).write_text(text, encoding="utf-8")
    return path
