"""What the help of each command shows can be typed."""

from __future__ import annotations

import importlib.util
import re
import shlex
from types import ModuleType

import pytest

from tests.conftest import TOOLS
from unimo_paddle.errors import ToolParser


def load_commands() -> dict[str, ModuleType]:
    spec = importlib.util.spec_from_file_location("prepare_data", TOOLS / "prepare_data.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return {name: tool.load_command(name) for name in tool.COMMANDS}


COMMANDS = load_commands()
_CALL = re.compile(r"python tools/prepare_data\.py (\w+) (.*)")


def calls_in(text: str) -> list[tuple[str, list[str]]]:
    """Command and options of every call that a text shows."""
    joined = text.replace("\\\n", " ")
    return [(name, shlex.split(rest)) for name, rest in _CALL.findall(joined)]


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_of_a_command_are_understood(name: str) -> None:
    calls = calls_in(COMMANDS[name].__doc__)
    assert calls and {called for called, _ in calls} == {name}
    parser = ToolParser()
    COMMANDS[name].add_arguments(parser)
    for _, options in calls:
        parser.parse_args(options)
