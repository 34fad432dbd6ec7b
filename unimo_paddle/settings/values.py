"""Trees checked against dataclasses: every value has the type that its field declares."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import draccus
import yaml

from unimo_paddle.errors import UserError
from unimo_paddle.settings.files import Tree, parse_value, read_section, read_tree, shown

TYPE_KEY = "type"  # of a section whose class is chosen by name
Config = TypeVar("Config")


class Text(str):
    """A value from the command line, whose meaning the type of its field decides."""


class Bare(Text):
    """An option of the command line without a value; sets what is true or false."""


def build(config_class: type[Config], tree: Tree | Mapping[str, Any]) -> Config:
    """Make a config from a tree of plain values; anything unknown or mistyped is an error."""
    if not isinstance(tree, Tree):
        tree = Tree(dict(tree))
    values = _Checker(config_class, tree).check(config_class, tree.values, "")
    try:
        return draccus.decode(config_class, values)
    except draccus.ParsingError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__
        if cause is None:  # a mistake of ours: the values were checked
            raise
        raise cause from None


def load(config_class: type[Config], path: Path) -> Config:
    """Make a config from a YAML file."""
    return build(config_class, read_tree(path))


def dump(config: object) -> dict[str, Any]:
    """Turn a config into a tree of plain values, from which ``build`` makes an equal one."""
    return draccus.encode(config)


def save(config: object, path: Path) -> None:
    """Write a config with every value resolved as a YAML file; an earlier one is whole until then.

    A kill may leave the file beside it that is renamed.
    """
    text = yaml.safe_dump(dump(config), sort_keys=False, allow_unicode=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def choices_of(kind: Any) -> dict[str, type] | None:
    """The classes that may stand for ``kind`` by name; none when it is no choice."""
    if not (isinstance(kind, type) and issubclass(kind, draccus.ChoiceRegistry)):
        return None
    choices = kind.get_known_choices()
    return None if kind in choices.values() else dict(choices)


def field_types(config_class: type) -> dict[str, Any]:
    """The resolved type of each field that a user may set, in their order."""
    hints = typing.get_type_hints(config_class)
    return {f.name: hints[f.name] for f in dataclasses.fields(config_class) if f.init}


def part_types(kind: Any, name: str) -> list[Any]:
    """The types that the part ``name`` may have in a section or dictionary of this type."""
    choices = choices_of(kind)
    found: list[Any] = []
    for section in [kind] if choices is None else choices.values():
        if typing.get_origin(section) is dict:
            found += options_of(typing.get_args(section)[1])
        elif dataclasses.is_dataclass(section) and name in (known := field_types(section)):
            found += options_of(known[name])
    return found


def options_of(kind: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or ``kind`` alone."""
    is_union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return typing.get_args(kind) if is_union else (kind,)


def describe(kind: Any, names: Mapping[Any, str] | None = None) -> str:
    """A type in words; ``names`` are those of the plain types, of a sentence by default."""
    names = names or PHRASES
    if kind in names:
        return names[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "|".join(str(value) for value in arguments)
    if origin is dict:
        return f"{{{describe(arguments[0], names)}: {describe(arguments[1], names)}}}"
    if origin is tuple and Ellipsis not in arguments:
        return f"[{', '.join(describe(item, names) for item in arguments)}]"
    if origin in (list, tuple):
        return f"[{describe(arguments[0], names)}, ...]"
    if len(options_of(kind)) > 1:
        return " or ".join(describe(option, names) for option in options_of(kind))
    return "'key: value' settings"


PHRASES = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    Path: "a path",
    type(None): "null",
    Any: "anything",
}


class _Checker:
    """Checks one tree; messages name the place of the value that is wrong."""

    def __init__(self, config_class: type, tree: Tree) -> None:
        self._config_class = config_class
        self._tree = tree

    def check(self, kind: Any, value: Any, key: str) -> Any:
        """Return ``value`` as a plain value of type ``kind``."""
        kinds = options_of(kind)
        if type(None) in kinds and _is_null(value):
            return None
        kinds = tuple(option for option in kinds if option is not type(None))
        if len(kinds) > 1:
            return self._check_any(kinds, value, key)
        kind = kinds[0]
        if choices_of(kind) is not None or dataclasses.is_dataclass(kind):
            return self._check_section(kind, value, key)
        if isinstance(value, Text):
            value = self._read_text(kind, value, key)
        origin = typing.get_origin(kind) or kind
        if origin in (list, tuple, dict):
            return self._check_collection(kind, value, key)
        plain = _plain(kind, value)
        if plain is _WRONG:
            raise self._wrong(kind, value, key)
        return plain

    def _check_any(self, kinds: tuple[Any, ...], value: Any, key: str) -> Any:
        for kind in kinds:
            try:
                return self.check(kind, value, key)
            except UserError:
                continue
        raise self._wrong(typing.Union[kinds], value, key)  # noqa: UP007

    def _check_section(self, kind: Any, value: Any, key: str) -> dict[str, Any]:
        if isinstance(value, Text) and not isinstance(value, Bare):
            value = read_section(Path(value), key=key, tree=self._tree)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self._wrong(kind, value, key)
        chosen: dict[str, Any] = {}
        choices = choices_of(kind)
        if choices is not None:
            name = value.get(TYPE_KEY)
            if not isinstance(name, str) or name not in choices:
                raise self._wrong_choice(choices, name, key)
            kind, chosen = choices[name], {TYPE_KEY: str(name)}
            value = {field: item for field, item in value.items() if field != TYPE_KEY}
        known = field_types(kind)
        for name in value:
            if name not in known:
                raise self._unknown(_join(key, name), [_join(key, field) for field in known])
        checked = {
            name: self.check(known[name], item, _join(key, name)) for name, item in value.items()
        }
        for field in dataclasses.fields(kind):
            if field.init and field.name not in checked and not _has_default(field):
                checked[field.name] = self._fill(known[field.name], _join(key, field.name))
        return {**chosen, **checked}

    def _fill(self, kind: Any, key: str) -> Any:
        """A required section that is absent is an empty one; any other value must be given."""
        if choices_of(kind) is not None or dataclasses.is_dataclass(kind):
            return self.check(kind, {}, key)
        raise UserError(f"{_at(self._tree.place(key))}{key} is missing; give {describe(kind)}")

    def _check_collection(self, kind: Any, value: Any, key: str) -> Any:
        origin, items = typing.get_origin(kind) or kind, typing.get_args(kind)
        if origin is dict:
            if not isinstance(value, dict):
                raise self._wrong(kind, value, key)
            return {
                name: self.check(items[1], item, _join(key, name)) for name, item in value.items()
            }
        if not isinstance(value, list):
            raise self._wrong(kind, value, key)
        is_fixed = origin is tuple and Ellipsis not in items
        if is_fixed and len(value) != len(items):
            raise self._wrong(kind, value, key)
        kinds = items if is_fixed else [items[0]] * len(value)
        pairs = zip(kinds, value, strict=True)
        return [self.check(item, part, f"{key}.{i}") for i, (item, part) in enumerate(pairs)]

    def _read_text(self, kind: Any, value: Text, key: str) -> Any:
        if isinstance(value, Bare):
            if kind is bool:
                return True
            raise UserError(f"--{key} has no value; give {describe(kind)}")
        if kind in (str, Path):
            return str(value)
        try:
            return parse_value(value)
        except ValueError as error:
            raise UserError(f"--{key} {value} is {error}; give {describe(kind)}") from error

    def _wrong(self, kind: Any, value: Any, key: str) -> UserError:
        place = _at(self._tree.place(key))
        name = key or "the file"
        return UserError(
            f"{place}{name} is {_shown(value)}; give {describe(kind)}{_hint(kind, value)}"
        )

    def _wrong_choice(self, choices: Mapping[str, type], name: Any, key: str) -> UserError:
        place = _at(self._tree.place(_join(key, TYPE_KEY)))
        found = "missing" if name is None else _shown(name)
        return UserError(
            f"{place}{_join(key, TYPE_KEY)} is {found}; {_suggest(str(name), choices)}"
            f"give one of {', '.join(choices)}"
        )

    def _unknown(self, key: str, siblings: list[str]) -> UserError:
        everywhere = _all_keys(self._config_class)
        known = siblings + [other for other in everywhere if _last(other) == _last(key)]
        known += [other for other in everywhere if other not in known]
        return UserError(
            f"{_at(self._tree.place(key))}{key} is no setting; {_suggest(key, known)}"
            "--help lists all settings"
        )


_WRONG = object()


def _plain(kind: Any, value: Any) -> Any:
    """``value`` as a value of the plain type, or ``_WRONG``."""
    if typing.get_origin(kind) is typing.Literal:
        return value if value in typing.get_args(kind) else _WRONG
    if kind is Any:
        return value
    if kind is bool:
        return value if isinstance(value, bool) else _WRONG
    if kind is int:
        return value if isinstance(value, int) and not isinstance(value, bool) else _WRONG
    if kind is float:
        return _number(value)
    if kind is str:
        return str(value) if isinstance(value, str) else _WRONG
    if kind is Path:
        return str(value) if isinstance(value, str) and value else _WRONG
    raise AssertionError(f"settings of type {kind} are not supported")


def _number(value: Any) -> Any:
    # YAML 1.1 reads 1e-4, which lacks a point, as text.
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return _WRONG
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return _WRONG
    return number if math.isfinite(number) else _WRONG


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, Text) and value in ("null", "~"))


def _has_default(field: dataclasses.Field) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def _all_keys(config_class: type, prefix: str = "") -> list[str]:
    """Every dotted key of the tree, those of all choices included."""
    keys = []
    for name, kind in field_types(config_class).items():
        key = _join(prefix, name)
        keys.append(key)
        for option in options_of(kind):
            choices = choices_of(option)
            sections = choices.values() if choices is not None else [option]
            for section in sections:
                if dataclasses.is_dataclass(section):
                    keys += [other for other in _all_keys(section, key) if other not in keys]
    return keys


def _suggest(name: str, known: typing.Iterable[str]) -> str:
    """The likeliest meaning of a misspelt name, in words, or nothing."""
    known = list(known)
    same = [other for other in known if "." in other and _last(other) == _last(name)]
    same.sort(key=lambda other: other.count("."))  # the nearest to the surface first
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75) or same[:1]
    return f"did you mean {close[0]}? " if close else ""


def _hint(kind: Any, value: Any) -> str:
    """What helps with the mistakes that YAML invites."""
    if isinstance(value, float) and not math.isfinite(value):
        return ", finite"
    if kind is str and not isinstance(value, (dict, list)):
        return " (in quotes)"
    return ""


def _shown(value: Any) -> str:
    return shown(str(value) if isinstance(value, Text) else value)


def _at(place: str) -> str:
    return f"{place}: " if place else ""


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else str(name)


def _last(key: str) -> str:
    return key.rpartition(".")[2]
