"""Settings: dataclasses from YAML files and command lines, and back.

Knows nothing of what is set. Whatever a user gets wrong is one ``UserError`` line that names
place, key, value and remedy.
"""

from unimo_paddle.settings.arguments import Option, parse
from unimo_paddle.settings.files import read_tree
from unimo_paddle.settings.values import build, dump, load, save

__all__ = ["Option", "build", "dump", "load", "parse", "read_tree", "save"]
