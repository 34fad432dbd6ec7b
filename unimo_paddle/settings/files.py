"""YAML files as trees of plain values that remember where each value was written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from unimo_paddle.errors import UserError

INCLUDE_TAG = "!include"
MERGE_KEY = "<<"
MAX_FILE_BYTES = 1 << 18  # a hundred times the longest run file
MAX_VALUES = 20_000  # of a tree; aliases of aliases would make billions from a few lines
MAX_NUMBER_BITS = 64
MAX_TEXT_CHARACTERS = 4096  # the longest path; messages show a text whole
MAX_KEY_CHARACTERS = 100
SHOWN_CHARACTERS = 60  # of a value
SHOWN_PROBLEM_CHARACTERS = 200  # of what PyYAML says, tags included
# PyYAML's constructors raise any of these for a value that its tag does not fit.
_UNREADABLE = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError)


@dataclass
class Tree:
    """Nested dictionaries, lists and plain values, with the place of each dotted key."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)  # dotted key: file:line or --option
    num_values: int = 0  # read so far

    def place(self, key: str) -> str:
        """Where ``key``, or else the nearest section around it, was written."""
        while key and key not in self.places:
            key = key.rpartition(".")[0]
        return self.places.get(key, "")


def read_tree(path: Path) -> Tree:
    """Read a YAML file whose ``!include other.yaml`` values name files relative to itself."""
    tree = Tree()
    tree.values = read_section(path, key="", tree=tree)
    return tree


def read_section(path: Path, *, key: str, tree: Tree) -> dict[str, Any]:
    """Read a YAML file as the section ``key`` of ``tree``, whose places it extends."""
    values = _read(path, key=key, tree=tree, including=())
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds {shown(values)}; write settings as 'key: value' lines")
    return values


def parse_value(text: str) -> Any:
    """Read one value written as YAML, such as a number, a word or ``[1, 2]``."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else _checked(loader.construct_document(node))
    except _UNREADABLE as error:
        problem = getattr(error, "problem", None) or "unreadable"
        raise ValueError(f"not YAML ({problem})") from error
    finally:
        loader.dispose()


def _read(path: Path, *, key: str, tree: Tree, including: tuple[Path, ...]) -> Any:
    """Read a file into ``tree``, below ``key``."""
    place = f"{tree.place(key)}: " if tree.place(key) else ""
    try:
        is_included = path.resolve() in including
        with path.open("rb") as file:
            # No more than the limit: an included device would never end.
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{place}cannot read settings file {_shown_path(path)}: {reason}; check the path"
        ) from error
    if is_included:
        raise UserError(f"{place}{path}: includes itself; remove one of the {INCLUDE_TAG}")
    if len(data) > MAX_FILE_BYTES:
        raise UserError(
            f"{place}{path}: more than {MAX_FILE_BYTES} bytes, which no settings need; name "
            "another file"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    reader = _Reader(path, tree, (*including, path.resolve()))
    try:
        return reader.read(text, key)
    except RecursionError as error:
        raise UserError(f"{path}: nested too deeply, or an alias of itself; flatten it") from error


class _Reader:
    """Turns the nodes of one file into values and notes their places."""

    def __init__(self, path: Path, tree: Tree, including: tuple[Path, ...]) -> None:
        self._path = path
        self._tree = tree
        self._including = including

    def read(self, text: str, key: str) -> Any:
        try:
            self._loader = yaml.SafeLoader(text)
            node = self._loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            raise UserError(
                f"{self._path}:{line}: not YAML: {_one_line(error.problem)}; check indentation, "
                "colons and quotes there"
            ) from error
        except yaml.YAMLError as error:
            raise UserError(f"{self._path}: not YAML: {_one_line(error)}; mend it") from error
        return None if node is None else self._value(node, key)

    def _value(self, node: yaml.Node, key: str) -> Any:
        self._tree.places[key] = self._place(node)
        self._tree.num_values += 1
        if self._tree.num_values > MAX_VALUES:
            raise UserError(
                f"{self._place(node)}: more than {MAX_VALUES} values; remove aliases, which repeat "
                "what they stand for"
            )
        if node.tag == INCLUDE_TAG and isinstance(node, yaml.ScalarNode):
            path = self._path.parent / node.value
            return _read(path, key=key, tree=self._tree, including=self._including)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, f"{key}.{i}") for i, item in enumerate(node.value)]
        try:
            return _checked(self._loader.construct_object(node, deep=True))
        except _UNREADABLE as error:
            problem = _one_line(getattr(error, "problem", None) or error)
            raise UserError(
                f"{self._place(node)}: cannot read {key} {shown(node.value)}: {problem}; mend or "
                "quote it"
            ) from error

    def _mapping(self, node: yaml.MappingNode, key: str) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name_node, value_node in node.value:
            name = name_node.value
            if not isinstance(name, str) or not name.isprintable():
                raise UserError(f"{self._place(name_node)}: a key is no word; write 'key: value'")
            if len(name) > MAX_KEY_CHARACTERS:
                raise UserError(f"{self._place(name_node)}: {shown(name)} is no key; shorten it")
            if name == MERGE_KEY:
                raise UserError(
                    f"{self._place(name_node)}: {MERGE_KEY} would lose keys; include whole "
                    f"sections instead: 'model: {INCLUDE_TAG} file.yaml'"
                )
            if name in values:
                raise UserError(f"{self._place(name_node)}: {name} is given twice; remove one")
            values[name] = self._value(value_node, f"{key}.{name}" if key else name)
        return values

    def _place(self, node: yaml.Node) -> str:
        return f"{self._path}:{node.start_mark.line + 1}"


def shown(value: object) -> str:
    """A value as messages show it: printable, on one line, and short."""
    return _cut(repr(value), SHOWN_CHARACTERS)


def _shown_path(path: Path) -> str:
    return str(path) if str(path).isprintable() else shown(str(path))


def _checked(value: Any) -> Any:
    """The value; a number or text that no setting can hold is a ``ValueError``."""
    if isinstance(value, int) and value.bit_length() > MAX_NUMBER_BITS:
        raise ValueError(f"a whole number of more than {MAX_NUMBER_BITS} bits")
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"a text of more than {MAX_TEXT_CHARACTERS} characters")
    return value


def _one_line(problem: object) -> str:
    return _cut(" ".join(str(problem).split()), SHOWN_PROBLEM_CHARACTERS)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
