"""An import that was killed goes on, and ends with the same bytes; memory stays small."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.data.regions.checking import check_same, import_from
from tests.data.regions.samples import bottom_up_line, detect, encode, lxmert_line, write_lines
from unimo_paddle.data.publish import sole_writer
from unimo_paddle.data.regions import importing, writer
from unimo_paddle.data.regions.writer import StoreWriter
from unimo_paddle.errors import UserError

NUM_IMAGES = 12


@pytest.fixture
def source(tmp_path: Path) -> Path:
    lines = [lxmert_line(detect(str(number), number)) for number in range(NUM_IMAGES)]
    lines.insert(5, "damaged")
    return write_lines(tmp_path / "features.tsv", lines)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "manifest.json"  # names the folder's own files only
    }


@pytest.mark.parametrize("steps", [1, 4, 6, 12, 13])
def test_a_killed_import_goes_on_to_the_same_bytes(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """The process dies within a record; earlier ones were kept every three."""
    whole = digests(import_from("tsv", source, output=tmp_path / "whole").path)
    pid = os.fork()
    if pid == 0:
        counted = 0

        def step(self: StoreWriter, num_items: int = 1) -> None:
            nonlocal counted
            counted += 1
            self.progress.num_items += num_items
            if counted % 3 == 0:
                self.commit()
            if counted == steps:
                os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(StoreWriter, "step", step)
        import_from("tsv", source, output=tmp_path / "killed")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()
    store = import_from("tsv", source, output=tmp_path / "killed")
    assert digests(store.path) == whole
    assert store.manifest["rejected"] == 1
    assert not list(tmp_path.glob(".killed*"))
    for number in range(NUM_IMAGES):
        check_same(store, detect(str(number), number))


def test_a_process_that_goes_on_does_not_read_again_what_was_kept(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "COMMIT_BYTES", 1)
    folder = tmp_path / ".store.unfinished"
    monkeypatch.setattr(
        StoreWriter, "finish", lambda self: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        import_from("tsv", source)
    monkeypatch.undo()
    key = json.loads((folder / "progress.json").read_text())["key"]
    assert StoreWriter(folder, key).progress.num_images == NUM_IMAGES


def test_a_second_import_into_a_store_is_refused(source: Path, tmp_path: Path) -> None:
    with sole_writer(tmp_path / ".store.lock", tmp_path / "store"):
        with pytest.raises(UserError, match=r"another process is making .*store now"):
            import_from("tsv", source)
        assert not list(tmp_path.glob(".store.unfinished"))
    assert len(import_from("tsv", source)) == NUM_IMAGES
    assert not list(tmp_path.glob(".store*"))


@pytest.fixture
def unfinished(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an import that ended when all was read."""
    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "finish", lambda self: self.commit() or _interrupt())
        with pytest.raises(KeyboardInterrupt):
            import_from("tsv", source)
    return tmp_path / ".store.unfinished"


def _interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["features.npy", "offsets.npy", "ids.txt"])
def test_rows_that_a_crash_of_the_machine_took_are_not_made_up(
    source: Path, unfinished: Path, name: str
) -> None:
    data = (unfinished / name).read_bytes()
    (unfinished / name).write_bytes(data[:-5])
    with pytest.raises(UserError, match=rf"{name} has .*written; delete .*unfinished and begin"):
        import_from("tsv", source)


@pytest.mark.parametrize("text", ["", '{"key": {}, "of_another_version": 1}'])
def test_progress_that_cannot_be_read_is_begun_anew(
    source: Path, unfinished: Path, text: str
) -> None:
    (unfinished / "progress.json").write_text(text)
    assert len(import_from("tsv", source)) == NUM_IMAGES


def test_the_bar_of_checksums_counts_all_bytes(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars, bar = [], importing.tqdm
    monkeypatch.setattr(importing, "tqdm", lambda **more: bars.append(bar(**more)) or bars[-1])
    store = import_from("tsv", source)
    size = sum(file["bytes"] for file in store.manifest["files"].values())
    assert [(x.desc, x.n, x.total) for x in bars[1:]] == [("checksums", size, size)]


def test_an_unfinished_import_of_other_files_is_begun_anew(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / ".store.unfinished"
    other = StoreWriter(folder, {"files": "others"})
    other.commit()
    (folder / "left.npy").touch()
    store = import_from("tsv", source)
    assert len(store) == NUM_IMAGES and not (store.path / "left.npy").exists()


SCRIPT = """
    import re, resource, sys
    from pathlib import Path
    from unimo_paddle.data.regions.formats import SourceOptions, open_source
    from unimo_paddle.data.regions.importing import import_regions
    path = Path(sys.argv[1])
    used = int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (used + (100 << 20),) * 2)
    source = open_source("tsv", [path], SourceOptions())
    store = import_regions(source, path.parent / "store", options={"format": "tsv"})
    assert (len(store), store.feature_size) == (280, 512)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_source(tmp_path: Path) -> None:
    """300 MB of lines within 100 MB beside the libraries; mapped files take none of its own."""
    path = tmp_path / "features.tsv"
    columns = bottom_up_line(detect("0", 0, num_regions=400)).split("\t")
    columns[5] = encode(np.tile(detect("0", 0, num_regions=400).features, (1, 64)))
    with path.open("w") as file:
        for number in range(280):
            file.write("\t".join([str(number), *columns[1:]]) + "\n")
    assert path.stat().st_size > 3e8
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
