"""YAML files as trees of plain values that remember where each value was written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from unimo_paddle.errors import UserError

INCLUDE_TAG = "!include"
MERGE_KEY = "<<"


@dataclass
class Tree:
    """Nested dictionaries, lists and plain values, with the place of each dotted key."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)  # dotted key: file:line or --option

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
        raise UserError(f"{path}: holds {values!r}; write settings as 'key: value' lines")
    return values


def parse_value(text: str) -> Any:
    """Read one value written as YAML, such as a number, a word or ``[1, 2]``."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "unreadable"
        raise ValueError(f"not YAML ({problem})") from error
    finally:
        loader.dispose()


def _read(path: Path, *, key: str, tree: Tree, including: tuple[Path, ...]) -> Any:
    """Read a file into ``tree``, below ``key``."""
    if path.resolve() in including:
        raise UserError(f"{path}: includes itself; remove one of the {INCLUDE_TAG}")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        place = f"{tree.place(key)}: " if tree.place(key) else ""
        raise UserError(
            f"{place}cannot read settings file {path}: {error.strerror}; check the path"
        ) from error
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
        if node.tag == INCLUDE_TAG and isinstance(node, yaml.ScalarNode):
            path = self._path.parent / node.value
            return _read(path, key=key, tree=self._tree, including=self._including)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, f"{key}.{i}") for i, item in enumerate(node.value)]
        try:
            return self._loader.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError) as error:
            problem = _one_line(getattr(error, "problem", None) or error)
            raise UserError(
                f"{self._place(node)}: cannot read {key} {node.value!r}: {problem}; quote it"
            ) from error

    def _mapping(self, node: yaml.MappingNode, key: str) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name_node, value_node in node.value:
            name = name_node.value
            if not isinstance(name, str):
                raise UserError(f"{self._place(name_node)}: a key is no word; write 'key: value'")
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


def _one_line(problem: object) -> str:
    return " ".join(str(problem).split())
