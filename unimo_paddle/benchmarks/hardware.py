"""The machine that figures belong to."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Processor:
    """What the targets and the tables need to know of the processor."""

    model: str
    is_amd: bool
    has_avx512: bool


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> Processor:
    """Read the first processor; away from Linux only its name is known."""
    if not cpuinfo.is_file():
        return Processor(platform.processor(), is_amd=False, has_avx512=False)
    fields = {}
    for line in cpuinfo.read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return Processor(
        fields.get("model name", platform.processor()),
        is_amd=fields.get("vendor_id") == "AuthenticAMD",
        has_avx512="avx512f" in fields.get("flags", "").split(),
    )


def compiler_of(library: Path) -> str:
    """The compiler that signed a compiled library, 'unknown' where it left no signature."""
    signature = re.search(rb"GCC: \([^)]*\) [\d.]+|clang version [\d.]+", library.read_bytes())
    return signature[0].decode("ascii") if signature else "unknown"
