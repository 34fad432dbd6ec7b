"""Checkpoints: arrays and state that are either whole on disk or not there.

A save writes ``step-N.tmp``, the manifest with the SHA-256 of each file last, syncs them, renames
the folder to ``step-N`` and names it in ``latest``. Arrays of more than 2 GiB take several files.
A process killed at any moment leaves the earlier checkpoints as they were. Loading reads arrays and
JSON only: nothing is executed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays

from unimo_paddle.errors import UserError

logger = logging.getLogger(__name__)

CHECKPOINT_DIR = "checkpoints"  # in the folder of a run
SHARD_BYTES = 2**31  # of arrays in a file, or one larger array
STATE_NAME = "state.json"
MANIFEST_NAME = "manifest.json"
LATEST_NAME = "latest"
FORMAT_VERSION = 1
UNFINISHED_SUFFIX = ".tmp"
NUM_NAMED_MISMATCHES = 3
PIECE_SIZE = 1 << 20  # bytes read at once
_STEP_NAME = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to continue."""

    step: int  # updates done
    arrays: dict[str, np.ndarray]  # by variable name
    state: dict[str, Any]  # plain values: schedule, counters, settings


def save_checkpoint(
    folder: Path,
    step: int,
    arrays: Mapping[str, np.ndarray],
    state: Mapping[str, Any],
    *,
    keep: int,
) -> Path:
    """Publish ``folder/step-N`` and remove all but the newest ``keep``; return its path.

    What cannot be written (full disk, read-only folder, a checkpoint of the same step) is a
    ``UserError``, and earlier checkpoints stay.
    """
    assert keep >= 1, keep
    final = folder / f"step-{step}"
    if final.exists():
        raise UserError(
            f"cannot save checkpoint {final}: it is there already; remove it, or choose another "
            "output_dir"
        )
    unfinished = final.with_name(final.name + UNFINISHED_SUFFIX)
    try:
        remove_unfinished(folder)
        unfinished.mkdir(parents=True)
        files = {}
        for name, shard in _shards(arrays).items():
            save_arrays(shard, unfinished / name)
            files[name] = _identify(unfinished / name)
        (unfinished / STATE_NAME).write_bytes(_to_json({"step": step, "state": dict(state)}))
        files[STATE_NAME] = _identify(unfinished / STATE_NAME)
        (unfinished / MANIFEST_NAME).write_bytes(_manifest(files))
        _publish(unfinished, [*files, MANIFEST_NAME], final)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(
            f"cannot save checkpoint {final}: {getattr(error, 'strerror', None) or error}; earlier "
            "checkpoints are kept; free space or choose another output_dir, then resume"
        ) from error
    for old in checkpoints(folder)[:-keep]:
        if old != final:
            _remove_old(old)
    return final


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint folder and verify every byte of it.

    Damage is a ``UserError`` that names the file and the newest good checkpoint beside it.
    """
    if not path.is_dir():
        other = _newest_good_but(path)
        offer = f"the newest good one is {other}" if other else "none is beside it: check the path"
        raise UserError(f"no checkpoint {path}; {offer}")
    try:
        names = _verify(path)
        content = _parse(path / STATE_NAME, lambda file: json.loads(file.read_bytes()))
        arrays = {}
        for name in names:
            if name != STATE_NAME:
                arrays |= _parse(path / name, load_arrays)
    except _Damage as damage:
        other = _newest_good_but(path)
        offer = "there is no other good one beside it: start again"
        if other is not None:
            offer = f"the newest good one is {other}: remove {path.name} to resume from it"
        raise UserError(f"checkpoint file {damage.path} {damage.reason}; {offer}") from damage
    return Checkpoint(step=content["step"], arrays=arrays, state=content["state"])


def latest_checkpoint(folder: Path) -> Path | None:
    """The published checkpoint of the highest step in ``folder``, none when there is none.

    A folder is published whole or not at all, so its name is enough; the file ``latest`` says
    the same to people and scripts.
    """
    published = checkpoints(folder)
    return published[-1] if published else None


def checkpoints(folder: Path) -> list[Path]:
    """The published checkpoints in ``folder``, oldest first."""
    if not folder.is_dir():
        return []
    named = [(path, _STEP_NAME.fullmatch(path.name)) for path in folder.iterdir()]
    return [path for path, name in sorted(named, key=_step) if name and path.is_dir()]


def is_step(path: Path) -> bool:
    """Whether a path has the name of a checkpoint."""
    return _STEP_NAME.fullmatch(path.name) is not None


def _step(entry: tuple[Path, re.Match[str] | None]) -> int:
    return int(entry[1][1]) if entry[1] else -1


def remove_unfinished(folder: Path) -> list[Path]:
    """Remove what an interrupted save left behind, as the next save does; return its paths."""
    if not folder.is_dir():
        return []
    leftovers = sorted(
        path
        for path in folder.glob(f"*{UNFINISHED_SUFFIX}")
        if _STEP_NAME.match(path.name) or path.name == LATEST_NAME + UNFINISHED_SUFFIX
    )
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return leftovers


def describe_mismatch(
    expected: Mapping[str, tuple[int, ...]], arrays: Mapping[str, np.ndarray]
) -> str | None:
    """Say in one line how ``arrays`` differ from the ``expected`` shapes; none when they fit.

    Arrays that nothing expects are no mismatch: moments are not needed to evaluate.
    """
    missing = sorted(set(expected) - set(arrays))
    wrong = sorted(
        name for name in set(expected) & set(arrays) if tuple(expected[name]) != arrays[name].shape
    )
    if not missing and not wrong:
        return None
    parts = [
        f"{name} is {list(arrays[name].shape)} there and {list(expected[name])} here"
        for name in wrong[:NUM_NAMED_MISMATCHES]
    ]
    parts += [f"{name} is missing there" for name in missing[: NUM_NAMED_MISMATCHES - len(parts)]]
    unnamed = len(missing) + len(wrong) - len(parts)
    more = f", and {unnamed} more differ" if unnamed else ""
    return (
        f"the checkpoint is of another model: {', '.join(parts)}{more}; use the model section of "
        "the config.yaml saved with that run, or start without the checkpoint"
    )


class _Damage(Exception):
    """A file that is not what its save wrote."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason


def _shards(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """The arrays by the name of the file that takes them; at least one file."""
    shards: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for name, value in sorted(arrays.items()):
        size += value.nbytes
        if size > SHARD_BYTES and shards[-1]:
            shards.append({})
            size = value.nbytes
        shards[-1][name] = _contiguous(value)
    return dict(zip(_shard_names(len(shards)), shards, strict=True))


def _shard_names(count: int) -> list[str]:
    if count == 1:
        return ["arrays.safetensors"]
    return [f"arrays-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]


def _verify(path: Path) -> list[str]:
    """Compare every file with the manifest; any deviation is a ``_Damage``.

    Returns:
        The names of the files that hold arrays.
    """
    manifest = _parse(path / MANIFEST_NAME, _parse_manifest)
    for name in manifest:
        try:
            found = _identify(path / name)
        except OSError as error:
            raise _Damage(path / name, f"cannot be read ({error.strerror})") from error
        size = manifest[name]["size"]
        if found["size"] != size:
            raise _Damage(path / name, f"has {found['size']} bytes instead of {size}")
        if found != manifest[name]:
            raise _Damage(path / name, "is damaged: its SHA-256 is not the one in the manifest")
    return [name for name in manifest if name != STATE_NAME]


def _manifest(files: Mapping[str, Any]) -> bytes:
    # Its own digest lets a damaged manifest be told from damaged arrays.
    digest = hashlib.sha256(_to_json(files)).hexdigest()
    return _to_json({"format": FORMAT_VERSION, "files": files, "sha256": digest})


def _parse_manifest(path: Path) -> dict[str, dict[str, Any]]:
    data = path.read_bytes()
    manifest = json.loads(data)
    if manifest["format"] != FORMAT_VERSION:
        raise ValueError(f"format {manifest['format']!r}, this program knows {FORMAT_VERSION}")
    if _manifest(manifest["files"]) != data:
        raise ValueError("not as it was written")
    names = [*_shard_names(len(manifest["files"]) - 1), STATE_NAME]
    return {name: dict(manifest["files"][name]) for name in names}


def _parse(path: Path, parse: Callable[[Path], Any]) -> Any:
    """Parse the file; whatever a parser finds wrong with it is damage."""
    try:
        return parse(path)
    except OSError as error:
        raise _Damage(path, f"cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise _Damage(path, f"cannot be read ({type(error).__name__}: {error})") from error


def _identify(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, read in pieces."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while piece := file.read(PIECE_SIZE):
            digest.update(piece)
            size += len(piece)
    return {"size": size, "sha256": digest.hexdigest()}


def _newest_good_but(path: Path) -> Path | None:
    """The newest other checkpoint beside this one that is whole."""
    for other in reversed(checkpoints(path.parent)):
        if other.name == path.name:
            continue
        try:
            _verify(other)
        except _Damage:
            continue
        return other
    return None


def _contiguous(value: np.ndarray) -> np.ndarray:
    # Not ascontiguousarray: that turns a number without axes into an array with one.
    return np.asarray(value, order="C")


def _to_json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _publish(unfinished: Path, names: Sequence[str], final: Path) -> None:
    """Sync the files of a folder, the manifest last, and give the folder its final name."""
    for name in names:
        _sync(unfinished / name)
    _sync(unfinished)
    os.rename(unfinished, final)
    _sync(final.parent)
    pointer = final.with_name(LATEST_NAME + UNFINISHED_SUFFIX)
    pointer.write_text(f"{final.name}\n", encoding="utf-8")
    _sync(pointer)
    os.replace(pointer, final.with_name(LATEST_NAME))
    _sync(final.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_old(path: Path) -> None:
    """A run goes on where it cannot be removed: what it has learnt is saved."""
    try:
        _remove_folder(path)
    except OSError as error:
        logger.warning(
            "the old checkpoint %s cannot be removed (%s); remove it yourself",
            path,
            error.strerror or error,
        )


def _remove_folder(path: Path) -> None:
    """Remove a published folder; renamed first, so that a half removed one is never loaded."""
    doomed = path.with_name(f"{path.name}.old{UNFINISHED_SUFFIX}")
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(path, doomed)
    shutil.rmtree(doomed)
