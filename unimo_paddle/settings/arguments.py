"""Command lines: ``--config FILE``, then ``--section.key value`` for what differs."""

from __future__ import annotations

import difflib
import sys
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unimo_paddle.errors import UserError
from unimo_paddle.settings.files import Tree, read_section, read_tree
from unimo_paddle.settings.help import format_help
from unimo_paddle.settings.values import Bare, Config, Text, build, part_types

CONFIG_OPTION = "config"


@dataclass(frozen=True)
class Option:
    """An argument of a tool that is no setting, so not part of the run's config."""

    name: str  # without the dashes
    help: str  # one line
    metavar: str = ""  # what its value is called; empty for an option without value


def parse(
    config_class: type[Config],
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    examples: Sequence[str] = (),
    options: Sequence[Option] = (),
) -> tuple[Config, dict[str, Any]]:
    """Read a command line; return the config and the values of ``options``.

    An option without value is True or False, one with a value is its text or None. ``--help``
    prints the help and ends the program.
    """
    if "--help" in argv or "-h" in argv:
        text = format_help(
            config_class, prog=prog, description=description, examples=examples, options=options
        )
        sys.stdout.write(text)
        raise SystemExit(0)
    flags = {option.name for option in options if not option.metavar}
    arguments = _split(argv, flags, config_class)
    names = {option.name for option in options}
    given: dict[str, Any] = {o.name: None if o.metavar else False for o in options}
    tree = Tree()
    for key, value in arguments:
        if key == CONFIG_OPTION:
            if isinstance(value, Bare):
                raise UserError(f"--{CONFIG_OPTION} has no value; give the path of a YAML file")
            tree = read_tree(Path(value))
    # Whole sections before their parts, whichever was written first: neither is lost.
    for key, value in sorted(arguments, key=lambda argument: argument[0].count(".")):
        if key in names:
            given[key] = _option_value(key, value, is_flag=key in flags)
        elif key != CONFIG_OPTION:
            _refuse_near_option(key, [*names, CONFIG_OPTION], config_class)
            _override(tree, key, value)
    return build(config_class, tree), given


def _split(argv: Sequence[str], flags: set[str], config_class: type) -> list[tuple[str, Text]]:
    """Take the command line apart into keys and values."""
    arguments: list[tuple[str, Text]] = []
    rest = list(argv)
    while rest:
        token = rest.pop(0)
        if not token.startswith("--") or token == "--":
            raise UserError(f"argument {token!r} has no key before it; write --section.key value")
        key, equals, value = token[2:].partition("=")
        key = _spelt(key, config_class)
        if equals:
            arguments.append((key, Text(value)))
        elif key in flags or not rest or rest[0].startswith("--"):
            arguments.append((key, Bare()))
        else:
            arguments.append((key, Text(rest.pop(0))))
        if not all(key.split(".")):
            raise UserError(f"argument {token!r} is no key; write --section.key value")
        if [name for name, _ in arguments].count(key) > 1:
            raise UserError(f"--{key} is given twice; remove one")
    return arguments


def _spelt(key: str, config_class: type) -> str:
    """A key whose settings may be written with hyphens; keys of dictionaries are users' own."""
    parts: list[str] = []
    kinds: list[Any] = [config_class]
    for part in key.split("."):
        is_own = any(typing.get_origin(kind) is dict for kind in kinds)
        parts.append(part if is_own else part.replace("-", "_"))
        kinds = [inner for kind in kinds for inner in part_types(kind, parts[-1])]
    return ".".join(parts)


def _option_value(key: str, value: Text, *, is_flag: bool) -> Any:
    if is_flag:
        if not isinstance(value, Bare):
            raise UserError(f"--{key} takes no value, but has {str(value)!r}; remove it")
        return True
    if isinstance(value, Bare):
        raise UserError(f"--{key} has no value; --help says what it needs")
    return str(value)


def _refuse_near_option(key: str, names: list[str], config_class: type) -> None:
    """Tell a misspelt option, such as --resmue, from an unknown setting."""
    if "." in key or key in getattr(config_class, "__dataclass_fields__", {}):
        return
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.7)
    if close:
        raise UserError(f"--{key} is no option; did you mean --{close[0]}? --help lists all")


def _override(tree: Tree, key: str, value: Text) -> None:
    """Set one dotted key, making the sections on the way to it."""
    section, done = tree.values, []
    *sections, last = key.split(".")
    for name in sections:
        done.append(name)
        inner = section.get(name)
        if isinstance(inner, Text):
            inner = read_section(Path(inner), key=".".join(done), tree=tree)
        if inner is None:
            inner = {}
        if not isinstance(inner, dict):
            raise UserError(f"--{key}: {'.'.join(done)} is {inner!r} and has no parts to set")
        section[name] = inner
        section = inner
    section[last] = value
    tree.places[key] = "command line"
