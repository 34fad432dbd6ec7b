"""Texts with their summaries: parallel lines, and CNN/DailyMail's stories.

Parallel files have a text a line, and the same line of the other file belongs to it. A story file
holds an article and, after each line ``@highlight``, a sentence of its summary; which stories are
of which split is told by lists of addresses, whose SHA-1 names the story.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from unimo_paddle.data.formats.items import Items, one_line, parsed, read_text
from unimo_paddle.data.records import Fault, read_lines
from unimo_paddle.errors import UserError

# How a split is called, by those who publish such files.
SPLIT_NAMES = {"train": ("train",), "dev": ("val", "valid", "dev"), "test": ("test",)}
# The files of sources and of targets.
PARALLEL_NAMES = (
    ("{}.source", "{}.target"),
    ("{}.src", "{}.tgt"),
    ("{}.txt.src", "{}.txt.tgt.tagged"),
    ("{}.article.txt", "{}.title.txt"),
    ("{}.article.filter.txt", "{}.title.filter.txt"),
    ("src_{}.txt", "tgt_{}.txt"),
    ("src-{}.txt", "tgt-{}.txt"),
)
# The tags of sentences in the files of the field.
TAGS = ("<t>", "</t>")
HIGHLIGHT = "@highlight"
END_MARKS = (".", "!", "?", "...", "'", '"', ")", "\u2019", "\u201d")


def find_parallel(folder: Path) -> dict[str, tuple[Path, Path]]:
    """The files of sources and targets of each split in a folder."""
    found = {}
    for split, names in SPLIT_NAMES.items():
        for source, target in PARALLEL_NAMES:
            pairs = [(folder / source.format(name), folder / target.format(name)) for name in names]
            for pair in pairs:
                if all(path.is_file() for path in pair):
                    found.setdefault(split, pair)
    return found


def read_parallel(source: Path, target: Path) -> Items:
    """``src`` and ``tgt`` of each line of two files, which must have as many."""

    def pairs() -> Iterator[tuple[str, tuple[str | Fault, str | Fault]]]:
        for number, (one, other) in enumerate(
            zip_longest(read_text(source), read_lines(target)), 1
        ):
            if one is None or other is None:
                short, long = (source, target) if one is None else (target, source)
                raise UserError(
                    f"{short} ends after line {number - 1}, but {long} goes on; the same lines of "
                    "both must belong together"
                )
            yield one[0], (one[1], other[1])

    def parse(texts: tuple[str | Fault, str | Fault]) -> dict[str, str]:
        for text in texts:
            if isinstance(text, Fault):
                raise text
        said = texts[1]
        for tag in TAGS:
            said = said.replace(tag, " ")
        return {"src": one_line(texts[0], "source"), "tgt": one_line(said, "target")}

    return parsed(pairs(), parse)


def find_stories(folders: list[Path]) -> dict[str, Path]:
    """The story files in folders by name without suffix."""
    found = {path.stem: path for folder in folders for path in folder.rglob("*.story")}
    if not found:
        raise UserError(
            f"there is no .story file in {', '.join(map(str, folders))}; check the folders"
        )
    return found


def read_stories(addresses: Path, stories: dict[str, Path]) -> Items:
    """``src`` and ``tgt`` of the stories that a list of addresses names."""

    def parse(address: str) -> dict[str, str]:
        name = hashlib.sha1(address.strip().encode("utf-8")).hexdigest()
        if name not in stories:
            raise Fault(f"there is no story {name}.story of {address.strip()[:80]!r}")
        return parse_story(stories[name])

    lines = ((where, line) for where, line in read_text(addresses) if line != "")
    return parsed(lines, parse)


def parse_story(path: Path) -> dict[str, str]:
    """Article and summary of a story file; highlights become sentences."""
    try:
        text = path.read_text("utf-8").split("\n")  # and not where Unicode sees other ends
        lines = [line.strip() for line in text if line.strip()]
    except UnicodeDecodeError:
        raise Fault(f"{path.name} is not UTF-8 text") from None
    except OSError as error:
        raise Fault(f"{path.name} cannot be read: {error.strerror}") from None
    start = lines.index(HIGHLIGHT) if HIGHLIGHT in lines else len(lines)
    highlights = [line for line in lines[start:] if line != HIGHLIGHT]
    if not highlights:
        raise Fault(f"{path.name} has no {HIGHLIGHT} with a sentence")
    ended = [line if line.endswith(END_MARKS) else f"{line} ." for line in highlights]
    article = one_line(" ".join(lines[:start]), f"article of {path.name}")
    return {"src": article, "tgt": one_line(" ".join(ended), "highlights")}
