"""Stand-ins for peers, in a module that workers can import."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from unimo_paddle.benchmarks.peers import Peer

FORMS = '''
import os
import sys
import time

from unimo_paddle.errors import UserError

AT_IMPORT = {name: os.environ.get(name) for name in ("KEPT", "GIVEN", "REMOVED")}


class Form:
    """Counts its runs."""

    def __init__(self, inputs):
        self.inputs, self.runs = inputs, 0

    @staticmethod
    def versions():
        return {"stand-in": "1.0"}

    def run(self):
        self.runs += 1
        time.sleep(0.01)
        return self.runs

    def results(self):
        return self.inputs.case


class Printing(Form):
    def run(self):
        print("chatter on standard output", flush=True)
        os.system("echo chatter of a child")
        return super().run()


class Variables(Form):
    def run(self):
        return AT_IMPORT


class Raising(Form):
    def run(self):
        raise ArithmeticError("sums went wrong")


class Refusing(Form):
    def run(self):
        raise UserError("run.yaml does not exist; check the path")


class Dying(Form):
    def run(self):
        print("the library gives up", file=sys.stderr, flush=True)
        os._exit(3)


class Absent(Form):
    @staticmethod
    def absent():
        return "version 1.0 is too old"


class Large(Form):
    """Needs 40 MB while it runs, and nothing afterwards."""

    def run(self):
        if self.inputs.case.count > 64:
            os.urandom(1) * 40_000_000
'''


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Peer]:
    """Make a peer of a class above: (name of the class, **fields of Peer) -> peer."""
    (tmp_path / "stand_in_forms.py").write_text(FORMS)
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *filter(None, sys.path)]))

    def make(form: str, **fields: object) -> Peer:
        return Peer(**{"name": form, "factory": f"stand_in_forms:{form}", "about": ""} | fields)

    return make
