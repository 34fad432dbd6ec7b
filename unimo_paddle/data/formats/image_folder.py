"""Where the images of an imported set lie, and what its records call them.

Paths in records are relative to the file that holds them and stay inside its folder. Images inside
the output folder are named where they are. Others get a place in ``images`` of the output, as a
hard link (no bytes are copied; the original may go) or as a copy.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

from tqdm import tqdm

from unimo_paddle.data.records import Fault, Folder
from unimo_paddle.data.shards import IMAGE_SUFFIXES
from unimo_paddle.errors import UserError

IMAGES_DIR = "images"


class MissingImage(Fault):
    """An image that a record names is not there."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(f"image {name!r} is not in {folder}")
        self.name = name


class ImageFolder:
    """The images of a set.

    Args:
        folder: that they lie in, with subfolders or without; None where records name images that
            nobody looks for, because a store has their regions.
        output: folder of the records.
        names: of the files in the folder, where they are known; None looks for all.
    """

    def __init__(
        self, folder: Path | None, output: Path, names: Iterable[str] | None = None
    ) -> None:
        self.folder = folder
        self.output = output
        self._names: set[str] = set()
        self._used: dict[str, None] = {}
        self._inside = Folder(output)
        if folder is None:
            return
        if not folder.is_dir():
            raise UserError(f"image folder {folder} does not exist; check the path")
        self._names = set(_files_below(folder, output) if names is None else names)
        if not self._names:
            raise UserError(f"image folder {folder} holds no {', '.join(IMAGE_SUFFIXES)} file")

    def find(self, *names: str) -> str:
        """The path to write for the first of these names that is in the folder."""
        if self.folder is None:
            return names[0]
        name = next((name for name in names if name in self._names), None)
        if name is None:
            raise MissingImage(names[0], self.folder)
        self._used.setdefault(name)
        written = self._written(name)
        if self.is_inside:
            self._inside.find(written)  # what readers refuse, such as a link that leads out
        return written

    @cached_property
    def _prefix(self) -> str | None:
        """Where the images lie in the output folder; None where they lie elsewhere."""
        folder, output = self.folder.resolve(), self.output.resolve()
        return os.path.relpath(folder, output) if folder.is_relative_to(output) else None

    @property
    def is_inside(self) -> bool:
        """Whether nothing need be placed in the output folder."""
        return self.folder is None or self._prefix is not None

    def _written(self, name: str) -> str:
        prefix = IMAGES_DIR if self._prefix is None else self._prefix
        return name if prefix == "." else f"{prefix}/{name}"

    def path_of(self, written: str) -> Path | None:
        """The file that a written path stands for; None where nobody looks for files."""
        if self.folder is None:
            return None
        if self.is_inside:
            return self.output / written
        return self.folder / written.removeprefix(f"{IMAGES_DIR}/")

    def fingerprint(self) -> str:
        """A digest of the names of all images, and of what tells that one has changed.

        Images inside the output are what records name, whatever becomes of them: names are enough.
        """
        names = sorted(self._names)
        known = names if self.is_inside else (f"{name}\0{self._state_of(name)}" for name in names)
        return hashlib.sha256("\0".join(known).encode("utf-8", "surrogateescape")).hexdigest()

    def _state_of(self, name: str) -> str:
        try:
            state = os.stat(self.folder / name)
        except OSError:  # a link that leads nowhere; told if a record names it
            return ""
        return f"{state.st_size}\0{state.st_mtime_ns}"

    def place(self, *, by_copy: bool, may_replace: bool) -> None:
        """Give the images that records name a place in the output folder, where they have none.

        Args:
            may_replace: whether other files may give way to them.
        """
        if self.is_inside:
            return
        targets = ((self.folder / name, self.output / IMAGES_DIR / name) for name in self._used)
        for source, target in tqdm(
            targets, total=len(self._used), desc="images", unit=" image", mininterval=1
        ):
            if _is_placed(source, target):
                continue
            if target.exists() and not may_replace:
                raise UserError(
                    f"{target} is another file than {source}; give --replace, or move it away"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            _put(source.resolve(), target, by_copy=by_copy)


def _files_below(folder: Path, output: Path) -> Iterator[str]:
    """Image files and those without any suffix, but none that an import put into its output."""
    skipped = output.resolve()
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = Path(parent).resolve()
        places = {name: Path(parent, name).resolve() for name in folders}
        # A link to a folder that it lies in would be followed for ever.
        folders[:] = [
            name
            for name, place in places.items()
            if place != skipped and not here.is_relative_to(place)
        ]
        below = os.path.relpath(parent, folder)
        for name in names:
            if name.lower().endswith(IMAGE_SUFFIXES) or "." not in name:
                yield name if below == "." else f"{below}/{name}"


def _is_placed(source: Path, target: Path) -> bool:
    """Whether a file is the source itself, or a copy made since the source was last changed."""
    if not target.exists():
        return False
    there, wanted = target.stat(), source.stat()
    is_same = (there.st_size, there.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns)
    return is_same or os.path.samestat(there, wanted)


def _put(source: Path, target: Path, *, by_copy: bool) -> None:
    """Link or copy a file beside its place and move it there: who reads sees the old or the new."""
    unfinished = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        if by_copy:
            _copy(source, unfinished)
        else:
            _link(source, unfinished)
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        raise UserError(
            f"{source} cannot be linked to {target.parent} ({error.strerror}); give --copy_images, "
            "or an --output that the image folder lies in"
        ) from None


def _copy(source: Path, target: Path) -> None:
    """Copy with the time of change, by which a later import knows the copy."""
    shutil.copyfile(source, target)
    state = source.stat()
    os.utime(target, ns=(state.st_atime_ns, state.st_mtime_ns))
