"""Where the time of an update goes, operation by operation: forward and backward apart."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from paddle import profiler

from unimo_paddle.benchmarks.step import Inputs, Operation
from unimo_paddle.benchmarks.step_paddle import Updates


class ProfiledUpdates(Updates):
    """Updates that note what each operation takes; the first one, which is slower, is left out."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self._updates: list[list[Operation]] = []

    def run(self) -> None:
        """An update."""
        observer = profiler.Profiler(targets=[profiler.ProfilerTarget.CPU])
        observer.start()
        super().run()
        observer.stop()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            observer.export(str(path), format="json")
            self._updates.append(read_trace(path))

    def results(self) -> list[Operation]:
        """The operations of the quickest update so far, the longest first."""
        updates = self._updates[1:] or self._updates
        return min(updates, key=lambda update: sum(x.milliseconds for x in update))


def read_trace(path: Path) -> list[Operation]:
    """What Paddle's profiler exported, added up by operation; the longest first."""
    found: dict[str, list[float]] = {}
    for event in json.loads(path.read_text("utf-8"))["traceEvents"]:
        if event.get("cat") == "Operator":
            name = event["name"].partition("[")[0].partition(".")[2]
            found.setdefault(name.removeprefix("unimo_"), []).append(1e-3 * event["dur"])
    operations = [Operation(name, len(took), sum(took)) for name, took in found.items()]
    return sorted(operations, key=lambda operation: -operation.milliseconds)
