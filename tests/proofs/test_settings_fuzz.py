"""Promise 8: whatever a run file holds, it is read or answered with one line that says where."""

from __future__ import annotations

import copy
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from unimo_paddle.config import RunConfig
from unimo_paddle.errors import UserError
from unimo_paddle.settings import dump, load
from unimo_paddle.settings.values import _all_keys

ROOT = Path(__file__).resolve().parents[2]
RUN_FILES = sorted(
    path
    for path in (ROOT / "configs").rglob("*.yaml")
    if path.parent.name not in ("model", "data", "ablation")
)
NUM_SHORT, NUM_ALL = 400, 10_000
LONGEST_MESSAGE = 5_000  # characters; the longest path and what is said of it
LONGEST_SECONDS = 10.0  # of this thread, for one file: what explodes takes for ever
MOST_MEMORY = 400 << 10  # KiB that all files together may add to what the process has held
NAMES = {name for key in _all_keys(RunConfig) for name in key.split(".")}


class Raw(str):
    """Text that goes into the file as it is."""


class Include(str):
    """The path of an included file."""


# Values that a field may meet by mistake or by malice; raw ones are YAML and not Python.
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        [],
        {},
        "",
        " ",
        "a\nb",
        "x" * 4_000,
        "x" * 5_000,
        "\u2028",
        "\ud7ff\u00e9",
    ),
    *(0, -1, -0.5, 1, 3, 7, 10**6, 2**31, 2**63, 10**30, 1e308, 1e-320, 0.1, 1.5),
    *("nan", "inf", "1e999", "-1e-4", "1_000", "0x1f", "1:30", "yes", "no", "null", "~"),
    *([None], [[]], [{}], [1, "a"], ["a", "a"], [-1, -2], {"a": {"b": {"c": 1}}}, {"": 1}),
    *map(Raw, (".nan", ".inf", "-.inf", "1.0e+999", "0x" + "f" * 6_000, "9" * 5_000)),
    *map(Raw, ("0b1012", "0o9", "1:2:3:4", "2020-99-99", "2020-01-01", "=", "<<", "*none")),
    *map(Raw, ("!!bool maybe", "!!int ''", "!!int abc", "!!float ''", "!!float x", "!!null x")),
    *map(Raw, ("!!timestamp x", "!!binary '###'", "!!binary aGk=", "!!set {a, b}", "!!str 5")),
    *map(Raw, ("!!omap [a: 1]", "!!pairs [a: 1]", "!!map x", "!!seq x", "!!omap x", "!x 1")),
    *map(Raw, ("!!python/object/apply:os.system [exit]", "!!python/name:os.system", "! 5")),
    *map(Raw, ("&a [*a]", "&a {b: *a}", "[" * 600, "[" * 90 + "]" * 90, "{a: " * 200, "|")),
    *map(Raw, ("!include none.yaml", "!include .", "!include ''", "!include [a]", "'", '"', "[1,")),
    *map(Raw, ("!include run.yaml", "!include /dev/zero", '"\\ud800"', "? [a]\n: b", "- a\n- b")),
)
KEYS = ("", " ", "a.b", "a\nb", "type", "\u00e9", "x" * 500, "1", "null", "<<", "-", "seed")
# Bytes put somewhere into the text.
PIECES = (b"\xff", b"\xc3", b"\0", b"\t", b"\n", b"\r", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\x85")
PIECES += (b": ", b"- ", b"? ", b"&a ", b"*a ", b"!!int ", b"!", b"|\n", b">", b"#", b"%", b"@")
PIECES += (b"'", b'"', b"[", b"]", b"{", b"}", b",", b"`", b"---\n", b"...\n", b"\\", b"<<: *a\n")
BEGINNINGS = (b"%YAML 9.9\n---\n", b"--- a\n---\n", b"%TAG ! x\n", b"\xff\xfe", b"- x\n", b"a\n")


def read(path: Path) -> dict[str, Any]:
    """A run file as plain values, in which an included section stays a name."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!include", lambda loader, node: Include(path.parent / node.value))
    return yaml.load(path.read_text("utf-8"), Loader)


class Dumper(yaml.SafeDumper):
    """Writes included sections as such, and holds places for raw text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


Dumper.add_representer(Include, lambda dumper, value: dumper.represent_scalar("!include", value))


def write(tree: Any) -> bytes:
    """The text of a tree; raw values are put in afterwards."""
    raw: list[str] = []

    def represent(dumper: yaml.Dumper, value: Raw) -> yaml.Node:
        raw.append(str(value))
        return dumper.represent_str(f"RAW{len(raw) - 1}RAW")

    class WithRaw(Dumper):
        pass

    WithRaw.add_representer(Raw, represent)
    text = yaml.dump(tree, Dumper=WithRaw, sort_keys=False, allow_unicode=True)
    text = re.sub(r"RAW(\d+)RAW", lambda match: raw[int(match[1])], text)
    return text.encode("utf-8", "surrogatepass")


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a tree."""
    found = []
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in list(inner):
        found.append((tree, key))
        if isinstance(value, dict | list):
            found += places(value)
    return found


def change_tree(tree: dict[str, Any], rng: np.random.Generator) -> None:
    """One mistake in the values or the keys of a tree."""
    pick: Callable = lambda items: items[rng.integers(len(items))]  # noqa: E731
    holder, key = pick(places(tree) or [(tree.setdefault("train", {}), "x")])
    kind = rng.integers(8)
    if kind < 4:
        holder[key] = copy.deepcopy(pick(VALUES))
    elif kind == 4 and isinstance(holder, dict):
        holder.pop(key, None)
    elif kind == 5 and isinstance(holder, dict):
        holder[pick(KEYS) if rng.random() < 0.5 else str(key)[:-1] + "x"] = holder.pop(key, 1)
    elif kind == 6:  # a section or value in the place of another
        other, name = pick(places(tree))
        holder[key] = copy.deepcopy(other[name])
    elif isinstance(holder, dict):
        holder[pick(sorted(NAMES))] = copy.deepcopy(pick(VALUES))


def change_text(text: bytes, rng: np.random.Generator) -> bytes:
    """One mistake in the letters, the lines or the encoding of a file."""
    place, kind = int(rng.integers(len(text) + 1)), rng.integers(8)
    lines = text.splitlines(keepends=True)
    number = int(rng.integers(len(lines))) if lines else 0
    if kind < 3:
        piece = PIECES[rng.integers(len(PIECES))]
        return text[:place] + piece + text[place + int(rng.integers(3)) :]
    if kind == 3:  # a key twice, or a line elsewhere
        return b"".join([*lines[: number + 1], *lines[number : number + 1], *lines[number + 1 :]])
    if kind == 4:
        return text[:place]
    if kind == 5:
        return b"".join(lines[:number]) + b" " * int(rng.integers(1, 5)) + b"".join(lines[number:])
    if kind == 6:
        return text.decode("utf-8", "replace").encode(["utf-16", "utf-32", "latin-1"][number % 3],
                                                      "replace")  # fmt: skip
    return BEGINNINGS[rng.integers(len(BEGINNINGS))] + text


def mutated(seed: int, originals: list[dict[str, Any]]) -> bytes:
    """A run file with one to three mistakes."""
    rng = np.random.default_rng(seed)
    tree = copy.deepcopy(originals[seed % len(originals)])
    num_changes, in_text = int(rng.integers(1, 4)), rng.random() < 0.35
    for _ in range(num_changes - int(in_text)):
        change_tree(tree, rng)
    text = write(tree)
    return change_text(text, rng) if in_text else text


def complaint(message: str, folder: Path) -> str | None:
    """What an answer lacks; none when it is as it should be."""
    if not message.isprintable():  # a new line is not
        return "no single line"
    has_place = re.match(rf"{re.escape(str(folder))}[^:]*(:\d+)?: ", message) is not None
    if not has_place and not NAMES & set(re.findall(r"\w+", message)):
        return "names neither a place nor a key"
    if ";" not in message:
        return "names no remedy"
    return None if len(message) <= LONGEST_MESSAGE else "too long"


def check(folder: Path, seeds: range) -> None:
    """Read mutated files. Any error but a ``UserError`` ends the test with the file's number."""
    # As people write them, and with every setting there is.
    originals = [read(path) for path in RUN_FILES]
    originals += [dump(load(RunConfig, path)) for path in RUN_FILES]
    path, num_refused = folder / "run.yaml", 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in seeds:
        path.write_bytes(mutated(seed, originals))
        begin = time.thread_time()
        try:
            load(RunConfig, path)
        except UserError as error:
            num_refused += 1
            wrong = complaint(str(error), folder)
            assert wrong is None, f"seed {seed}: {wrong}: {error}"
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        assert time.thread_time() - begin < LONGEST_SECONDS, f"seed {seed}"
    # Both happen often, so the mutations are neither harmless nor hopeless.
    assert len(seeds) / 2 < num_refused < len(seeds) * 0.98
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MOST_MEMORY, f"{grown} KiB"


def test_the_run_files_themselves_are_read(tmp_path: Path) -> None:
    for path in RUN_FILES:
        (tmp_path / "run.yaml").write_bytes(write(read(path)))
        assert load(RunConfig, tmp_path / "run.yaml") == load(RunConfig, path)


def test_mutated_run_files_are_read_or_answered_in_one_line(tmp_path: Path) -> None:
    check(tmp_path, range(NUM_SHORT))


@pytest.mark.slow
def test_ten_thousand_mutated_run_files_are_read_or_answered_in_one_line(tmp_path: Path) -> None:
    check(tmp_path, range(NUM_SHORT, NUM_SHORT + NUM_ALL))


BOMB = "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10 if i else ['x'] * 10)}]\n" for i in range(12)
)
BOMBS = {
    "lists of lists": BOMB,
    "sections of sections": re.sub(
        r"\[(.*)\]",
        lambda m: "{" + ", ".join(f"k{i}: {v}" for i, v in enumerate(m[1].split(", "))) + "}",
        BOMB,
    ),
    "a bomb in a list": f"task:\n  data:\n    texts:\n{re.sub('(?m)^', '    - ', BOMB)}",
    "a bomb in a tag": f"{BOMB}seed: !!omap [a: *a11]\n",
    "a large file": "texts: [" + "x, " * 400_000 + "]",
    "a long word": "seed: " + "x" * 2_000_000,
    "a long number": "seed: " + "1:" * 500_000 + "1",
    "a deep file": "[" * 200_000,
    "deep blocks": "".join(" " * i + "a:\n" for i in range(1_200)),
    "many documents": "---\n" * 100_000,
    "many anchors": "".join(f"- &a{i} x\n" for i in range(60_000)),
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_a_file_that_would_explode_is_refused_at_once(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text, "utf-8")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.thread_time()
    with pytest.raises(UserError) as caught:
        load(RunConfig, path)
    assert time.thread_time() - begin < LONGEST_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY
    assert str(caught.value).startswith(str(path)) and len(str(caught.value)) < LONGEST_MESSAGE


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    path, trap = tmp_path / "run.yaml", tmp_path / "sprung"
    for tag in ("python/object/apply:os.mkdir", "python/object/new:os.mkdir"):
        path.write_text(f"output_dir: !!{tag} ['{trap}']\n", "utf-8")
        with pytest.raises(UserError, match=r"run\.yaml:1: .*output_dir"):
            load(RunConfig, path)
    assert not trap.exists()
