"""Small tar shards to read."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2

from tests.conftest import draw_picture

NUM_SHARDS, SAMPLES = 3, 7


def picture_bytes(seed: int) -> bytes:
    """A drawing as a .png file has it."""
    pixels = draw_picture(seed, size=(24, 32))
    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


def write_shard(path: Path, members: dict[str, bytes]) -> Path:
    """A shard of these members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_shards(folder: Path) -> Path:
    """Three shards of seven pairs; the path that names all of them."""
    for number in range(NUM_SHARDS):
        members = {}
        for place in range(number * SAMPLES, (number + 1) * SAMPLES):
            members[f"{place:06d}.png"] = picture_bytes(place)
            members[f"{place:06d}.txt"] = f"picture {place} of the sea\nthe {place}th".encode()
        write_shard(folder / f"{number:02d}.tar", members)
    return folder / "{00..02}.tar"
