"""How other programs name the parameters that the original names otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from unimo_paddle.convert.parameters import check_names, shown
from unimo_paddle.errors import UserError

_OUR_LAYER = re.compile(r"encoder_layer_([0-9]+)_(.+)")
_NUMBER_AND_REST = re.compile(r"(0|[1-9][0-9]{0,2})\.(.+)")


@dataclass(frozen=True)
class NameTable:
    """The names of another program beside ours.

    A layer there has a ``weight`` and a ``bias``; ours end in ``.w_0`` and ``.b_0``, those of a
    norm in ``_scale`` and ``_bias``.

    Args:
        layers: what comes before the number of a Transformer layer, such as ``encoder.layer.``.
        of_a_layer: stems of a Transformer layer's parts, theirs to ours.
        of_the_model: stems of the parts outside the layers.
        single: whole names of what has no weight and bias.
    """

    layers: str
    of_a_layer: Mapping[str, str]
    of_the_model: Mapping[str, str]
    single: Mapping[str, str]

    def to_ours(self, name: str) -> str | None:
        """Our name of what is called ``name`` there; none when it is unknown."""
        if name in self.single:
            return self.single[name]
        stem, _, kind = name.rpartition(".")
        ours = self.of_the_model.get(stem)
        if name.startswith(self.layers):
            layer = _NUMBER_AND_REST.fullmatch(stem.removeprefix(self.layers))
            part = self.of_a_layer.get(layer[2]) if layer else None
            ours = f"encoder_layer_{layer[1]}_{part}" if layer and part else None
        if ours is None or kind not in ("weight", "bias"):
            return None
        return ours + _ending(ours, kind)

    def to_theirs(self, name: str) -> str | None:
        """What our parameter ``name`` is called there; none when there is no such thing."""
        for theirs, ours in self.single.items():
            if ours == name:
                return theirs
        layer = _OUR_LAYER.fullmatch(name)
        table = self.of_a_layer if layer else self.of_the_model
        wanted = layer[2] if layer else name
        prefix = f"{self.layers}{layer[1]}." if layer else ""
        for theirs, ours in table.items():
            for kind in ("weight", "bias"):
                if ours + _ending(ours, kind) == wanted:
                    return f"{prefix}{theirs}.{kind}"
        return None


def _ending(stem: str, kind: str) -> str:
    if stem.endswith("layer_norm"):
        return "_scale" if kind == "weight" else "_bias"
    return ".w_0" if kind == "weight" else ".b_0"


def without_prefix(names: Iterable[str], prefix: str, where: Path) -> dict[str, str]:
    """Map each name less an optional prefix to the name as it is in the file."""
    found: dict[str, str] = {}
    for name in names:
        short = name.removeprefix(prefix)
        if short in found:
            raise UserError(
                f"{where} holds {shown(short)} with and without {prefix!r} before it; remove one"
            )
        found[short] = name
    return found


def match_names(
    table: NameTable, names: Mapping[str, str], where: Path, *, apart: Iterable[str] = ()
) -> dict[str, str]:
    """Map our names to those in the file; what is neither in the table nor ``apart`` is an error.

    Args:
        names: of the file, less a prefix, to those with it.
        apart: names, less the prefix, that the caller sees to.
    """
    others = [short for short in names if short not in set(apart)]
    ours = {short: table.to_ours(short) for short in others}
    check_names(where, unknown=[names[short] for short in others if ours[short] is None])
    return {ours[short]: names[short] for short in others if ours[short] is not None}
