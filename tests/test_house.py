"""The house keeps its own rules: imports go down, the documents are true, files stay short."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 420
SOURCE_FOLDERS = ("unimo_paddle", "csrc", "tools", "tests")
SOURCE_SUFFIXES = {".py", ".h", ".cc", ".cu", ".txt"}
MODULES = sorted((ROOT / "unimo_paddle").rglob("*.py")) + sorted((ROOT / "tools").glob("*.py"))
# What readers and tools look for beside the folders; anything else there was left by accident.
ROOT_FILES = {"CMakeLists.txt", "LICENSE", "MANIFEST.in", "Makefile"}
ROOT_FILES |= {"pyproject.toml", "ruff.toml", "setup.py"}
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))
# Folders in which only someone's own machine keeps a project.
MACHINE_PATH = re.compile(r"(?<![\w.$}/])/(home|root|work|Users|mnt|opt|tmp)/\w")


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """The text files that the repository holds."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a checkout of the repository, so what it holds is not known")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and path.suffix not in {".png", ".npz"}]


def test_imports_go_down() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_file_holds_a_path_of_somebodys_machine(tracked: list[Path]) -> None:
    found = [
        f"{_name(path)}:{number}: {line.strip()[:80]}"
        for path in tracked
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert not found, "\n".join(found)


def test_the_root_holds_nothing_that_was_left_there(tracked: list[Path]) -> None:
    names = {path.name for path in tracked if path.parent == ROOT and path.name[0] != "."}
    assert names == ROOT_FILES | {path.name for path in DOCUMENTS if path.parent == ROOT}


def test_files_fit_in_one_reading(tracked: list[Path]) -> None:
    sources = [
        path
        for path in tracked
        if path.suffix in SOURCE_SUFFIXES and path.relative_to(ROOT).parts[0] in SOURCE_FOLDERS
    ]
    lengths = {_name(path): len(path.read_text("utf-8").splitlines()) for path in sources}
    too_long = {name: length for name, length in lengths.items() if length > MAX_LINES}
    assert not too_long


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_module_says_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert docstring and docstring.split("\n\n")[0].rstrip().endswith((".", ":"))


def _tree() -> Iterator[Path]:
    """Paths of the tree in the README: two spaces a level, folders end with a slash."""
    block = re.search(r"<!-- tree -->\n```\w*\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert block, "the README has no tree"
    parents: list[str] = []
    for line in block[1].splitlines():
        entry, _, comment = line.partition("  # ")
        assert comment.strip(), f"no comment: {line!r}"
        name = entry.strip()
        level = (len(entry) - len(entry.lstrip())) // 2
        parents = [*parents[:level], name.rstrip("/")]
        yield ROOT.joinpath(*parents)


def test_training_starts_without_what_takes_seconds_to_import() -> None:
    """What needs such a library imports it when it is called."""
    slow = {"sklearn", "scipy", "pandas", "matplotlib", "faiss"}
    others = [ROOT / "unimo_paddle" / name for name in ("preparation", "benchmarks")]
    others.append(ROOT / "unimo_paddle/data/regions/comparison.py")  # of preparation alone
    found = []
    for path in MODULES:
        if any(other in (path, *path.parents) for other in others):
            continue
        for node in ast.parse(path.read_text("utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{_name(path)}: {n}" for n in names if n.partition(".")[0] in slow]
    assert found == []


def test_every_path_in_the_readme_tree_exists() -> None:
    assert [_name(path) for path in _tree() if not path.exists()] == []


def test_every_module_has_a_place_in_the_readme_tree() -> None:
    listed = list(_tree())
    # A folder without entries of its own stands for all its files.
    leaves = [path for path in listed if not any(path in other.parents for other in listed)]
    homeless = [
        _name(path)
        for path in MODULES
        if path.name != "__init__.py" and not any(leaf in (path, *path.parents) for leaf in leaves)
    ]
    assert homeless == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", document.read_text("utf-8"))
    local = [link for link in links if not link.startswith(("http:", "https:"))]
    assert [link for link in local if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_documents_name_only_make_targets_that_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`make ([a-z-]+)", document.read_text("utf-8"))) <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_documents_with_commands_say_which_python_is_meant(document: Path) -> None:
    """What a benchmark or an ablation wrote, or changed, names commands that nobody is to type."""
    text = document.read_text("utf-8")
    has_commands = re.search(r"(^|(?<!Made by )`)python tools/", text, re.M) is not None
    is_told = document.name.endswith(("_benchmark.md", "CHANGELOG.md"))
    assert "source .venv/bin/activate" in text or not has_commands or is_told


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_documents_name_only_configs_and_tools_that_exist(document: Path) -> None:
    text = document.read_text("utf-8")
    paths = re.findall(r"(?<![\w/])((?:configs|tools)/[\w/]+\.(?:yaml|py))\b", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
