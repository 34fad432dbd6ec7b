"""The ``--help`` of a tool: usage, examples, then every setting with type, default and comment."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import draccus
import yaml

from unimo_paddle.settings.values import TYPE_KEY, choices_of, describe, field_types, options_of

SHORT_NAMES = {
    int: "int",
    float: "number",
    str: "text",
    bool: "true|false",
    Path: "path",
    type(None): "null",
    Any: "anything",
}
WIDTH = 100
COLUMN = 44  # where comments begin


class HelpOption(Protocol):
    """What the help says of an argument that is no setting."""

    name: str
    help: str
    metavar: str


def format_help(
    config_class: type,
    *,
    prog: str,
    description: str,
    examples: Sequence[str],
    options: Sequence[HelpOption],
) -> str:
    """Write the help of a tool whose settings are ``config_class``."""
    lines = [f"usage: {prog} --config FILE [--section.key value ...]", "", description, ""]
    if examples:
        lines += ["examples:", *(f"  {example}" for example in examples), ""]
    lines += ["options:"]
    lines += _entry("--config FILE", "YAML file with settings; what it leaves out has its default")
    for option in options:
        lines += _entry(f"--{option.name} {option.metavar}".rstrip(), option.help)
    lines += _entry("--help", "show this text")
    lines += [
        "",
        "settings, in the file as 'section: {key: value}', here as '--section.key value'; a whole",
        "section may come from a file: 'section: !include file.yaml' or '--section file.yaml'",
    ]
    lines += _format_section(config_class, "", "")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def field_comments(config_class: type) -> dict[str, str]:
    """The comment behind each field in the source of a dataclass and of its bases."""
    comments: dict[str, str] = {}
    for base in reversed(config_class.__mro__):
        if dataclasses.is_dataclass(base):
            comments |= _own_comments(base)
    return comments


@functools.cache
def _own_comments(config_class: type) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(config_class))
    except (OSError, TypeError):
        return {}  # made without a source file
    by_line = {
        token.start[0]: token.string.lstrip("# ").rstrip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    comments = {}
    for statement in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            lines = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
            found = [by_line[line] for line in lines if line in by_line]
            comments[statement.target.id] = " ".join(found)
    return comments


def _format_section(config_class: type, key: str, title: str) -> Iterator[str]:
    """Plain settings first, then the sections inside."""
    comments = field_comments(config_class)
    defaults = {field.name: _default(field) for field in dataclasses.fields(config_class)}
    yield ""
    if key:
        yield title
    inner = []
    for name, kind in field_types(config_class).items():
        path = f"{key}.{name}" if key else name
        sections = list(_sections(kind))
        if sections:
            inner.append((path, sections, comments.get(name, "")))
            continue
        default = defaults[name]
        yield from _entry(
            f"--{path} {describe(kind, SHORT_NAMES)}", comments.get(name, ""), default
        )
    for path, sections, comment in inner:
        for choice, section in sections:
            yield from _format_section(section, path, _title(path, choice, comment, section))


def _sections(kind: Any) -> Iterator[tuple[str, type]]:
    """The dataclasses that a field may hold, each with the name that chooses it."""
    for option in options_of(kind):
        choices = choices_of(option)
        if choices is not None:
            yield from choices.items()
        elif dataclasses.is_dataclass(option):
            yield "", option  # type: ignore[misc]


def _title(path: str, choice: str, comment: str, section: type) -> str:
    summary = comment or (section.__doc__ or "").strip().splitlines()[0]
    if choice:
        summary = (section.__doc__ or comment).strip().splitlines()[0]
        return f"{path} with --{path}.{TYPE_KEY} {choice}: {summary}"
    return f"{path}: {summary}"


def _default(field: dataclasses.Field) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "required"
    if dataclasses.is_dataclass(value):
        return ""
    text = yaml.safe_dump(draccus.encode(value), default_flow_style=True, width=WIDTH)
    return text.replace("\n...", "").strip()


def _entry(left: str, comment: str, default: str = "") -> list[str]:
    """One setting: name and type, then comment and default, wrapped in their column."""
    if default:
        # Lists and tables bring their own brackets.
        comment += f" {default}" if default[0] in "[{" else f" [{default}]"
    wrapped = textwrap.wrap(comment.strip(), WIDTH - COLUMN) or [""]
    if len(left) + 3 > COLUMN:
        lines = [f"  {left}", f"{'':{COLUMN}}{wrapped[0]}"]
    else:
        lines = [f"  {left}".ljust(COLUMN) + wrapped[0]]
    return lines + [f"{'':{COLUMN}}{line}" for line in wrapped[1:]]
