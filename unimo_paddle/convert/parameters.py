"""Which parameters there are, and the model deduced from the shapes of those in a file.

Names are the original's; what pre-training adds follows them. Parameters come in groups that are
whole or absent, so that a missing one is told from a head that the model does not have.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unimo_paddle.errors import UserError
from unimo_paddle.models.config import BOX_SIZE
from unimo_paddle.models.heads import ENTAILMENT_SIZE

NUM_NAMED = 8  # names listed of each kind of mistake

# A size is a number or a word; equal words are equal sizes. Words in capitals are the model's,
# others are the group's own. "n D" is any multiple of D.
Size = int | str


@dataclass(frozen=True)
class Group:
    """Parameters that belong together.

    ``needs`` are groups without which this one is of no use.
    """

    name: str
    shapes: Mapping[str, tuple[Size, ...]]
    needs: tuple[str, ...] = ()


def _linear(name: str, inputs: Size, outputs: Size) -> dict[str, tuple[Size, ...]]:
    return {f"{name}.w_0": (inputs, outputs), f"{name}.b_0": (outputs,)}


def _norm(name: str) -> dict[str, tuple[Size, ...]]:
    return {f"{name}_scale": ("D",), f"{name}_bias": ("D",)}


EMBEDDINGS = Group(
    "text embeddings",
    {
        "word_embedding": ("V", "D"),
        "pos_embedding": ("P", "D"),
        **_norm("pre_encoder_layer_norm"),
    },
)
IMAGES = Group(
    "images",
    {
        **_linear("image_emb", "F", "D"),
        **_linear("image_loc", "L", "D"),
        **_norm("v_pre_encoder_layer_norm"),
    },
)
DIALOGUE = Group(
    "dialogue embeddings", {"role_embedding": ("R", "D"), "turn_embedding": ("U", "D")}
)
TYPES = Group("type embedding", {"type_embedding": ("K", "D")})
TEXT_POOLER = Group("text pooler", _linear("pooled_fc_text", "D", "D"))
IMAGE_POOLER = Group("image pooler", _linear("pooled_fc_image", "D", "D"), (IMAGES.name,))
LANGUAGE_HEAD = Group(
    "language head",
    {
        **_linear("mask_lm_trans_fc", "D", "D"),
        **_norm("mask_lm_trans_layer_norm"),
        "mask_lm_out_fc.b_0": ("V",),
    },
)
UNTIED_WORDS = Group(
    "output words not tied to the embedding",
    {"mask_lm_out_fc.w_0": ("D", "V")},
    (LANGUAGE_HEAD.name,),
)
BOTH_POOLERS = (TEXT_POOLER.name, IMAGE_POOLER.name)
MATCH_HEAD = Group("match head", _linear("match_fc", "D", 1), BOTH_POOLERS)
ENTAILMENT_HEAD = Group(
    "entailment head",
    {
        "cls_out_w_0": ("D", ENTAILMENT_SIZE),
        "cls_out_b_0": (ENTAILMENT_SIZE,),
        "cls_out_w_1": (ENTAILMENT_SIZE, "classes"),
        "cls_out_b_1": ("classes",),
    },
    BOTH_POOLERS,
)
# What pre-training adds; the original never released it.
REGRESSION_HEAD = Group(
    "region regression", _linear("region_regression_fc", "D", "F"), (IMAGES.name,)
)
REGION_CLASS_HEAD = Group(
    "region classification", _linear("region_class_fc", "D", "classes"), (IMAGES.name,)
)
OBJECT_NAMES_HEAD = Group("object names", _linear("object_names_fc", "D", "names"), (IMAGES.name,))
CONTRASTIVE_HEAD = Group(
    "contrastive projections",
    {
        **_linear("image_projection", "n D", "size"),
        **_linear("text_projection", "D", "size"),
        "log_inverse_temperature": (1,),
    },
    (IMAGES.name,),
)
GROUPS = (
    *(EMBEDDINGS, IMAGES, DIALOGUE, TYPES, TEXT_POOLER, IMAGE_POOLER),
    *(LANGUAGE_HEAD, UNTIED_WORDS, MATCH_HEAD, ENTAILMENT_HEAD),
    *(REGRESSION_HEAD, REGION_CLASS_HEAD, OBJECT_NAMES_HEAD, CONTRASTIVE_HEAD),
)
_ATTENTION = "multi_head_att"
LAYER_SHAPES: Mapping[str, tuple[Size, ...]] = {
    **_linear(f"{_ATTENTION}_query_fc", "D", "D"),
    **_linear(f"{_ATTENTION}_key_fc", "D", "D"),
    **_linear(f"{_ATTENTION}_value_fc", "D", "D"),
    **_linear(f"{_ATTENTION}_output_fc", "D", "D"),
    **_norm("post_att_layer_norm"),
    **_linear("ffn_fc_0", "D", "I"),
    **_linear("ffn_fc_1", "I", "D"),
    **_norm("post_ffn_layer_norm"),
}
# At most a thousand layers and a million classes: a spoilt name asks for no more than that.
_LAYER_NAME = re.compile(r"encoder_layer_(0|[1-9][0-9]{0,2})_(.+)")
_CLASSES_NAME = re.compile(r"cls_out_([1-9][0-9]{0,6})_[wb]")
_FIXED_GROUPS = {name: group for group in GROUPS for name in group.shapes}


def layer_group(index: int) -> Group:
    """The parameters of one Transformer layer."""
    shapes = {f"encoder_layer_{index}_{name}": shape for name, shape in LAYER_SHAPES.items()}
    return Group(f"layer {index}", shapes)


def classification_group(num_classes: int) -> Group:
    """The classification head for so many classes; for one it regresses a number."""
    name = f"cls_out_{num_classes}"
    shapes = {f"{name}_w": ("D", num_classes), f"{name}_b": (num_classes,)}
    what = f"classification head of {num_classes}" if num_classes > 1 else "regression head"
    return Group(what, shapes, (TEXT_POOLER.name,))


def find_group(name: str) -> Group | None:
    """The group of the parameter ``name``; none when no model has such a parameter."""
    if name in _FIXED_GROUPS:
        return _FIXED_GROUPS[name]
    layer, classes = _LAYER_NAME.fullmatch(name), _CLASSES_NAME.fullmatch(name)
    if layer and layer[2] in LAYER_SHAPES:
        return layer_group(int(layer[1]))
    return classification_group(int(classes[1])) if classes else None


@dataclass(frozen=True)
class Description:
    """A model as the shapes of its parameters tell it.

    ``sizes`` are settings of ``ModelConfig``; the number of heads is none that shapes tell.
    """

    sizes: dict[str, Any]
    parts: tuple[str, ...]  # what there is beside text embeddings and layers
    num_parameters: int
    num_values: int

    @property
    def has_images(self) -> bool:
        """Whether the model embeds regions."""
        return IMAGES.name in self.parts

    @property
    def has_language_head(self) -> bool:
        """Whether the model writes."""
        return LANGUAGE_HEAD.name in self.parts


def deduce(
    shapes: Mapping[str, tuple[int, ...]],
    *,
    where: object = "the checkpoint",
    label: Callable[[str], str | None] = str,
) -> Description:
    """Deduce the model that has parameters of these shapes.

    Missing, unknown and misshapen parameters are one ``UserError`` that names them and ``where``;
    ``label`` tells what a missing one is called there.
    """
    found = {name: find_group(name) for name in shapes}
    present = {group.name: group for group in found.values() if group}
    groups = list(_needed(present))
    missing = [name for group in groups for name in group.shapes if name not in shapes]
    sizes, misshapen = _unify(groups, shapes)
    check_names(
        where,
        missing=[label(name) or name for name in missing],
        unknown=[name for name, group in found.items() if group is None],
        misshapen=misshapen,
    )
    inner = sizes["I"]
    settings: dict[str, Any] = {
        "vocab_size": sizes["V"],
        "hidden_size": sizes["D"],
        "num_layers": sum(group.name.startswith("layer ") for group in groups),
        "ffn_size": None if inner == 4 * sizes["D"] else inner,
        "max_positions": sizes["P"],
        "num_roles": sizes.get("R", 0),
        "num_turns": sizes.get("U", 0),
        "type_vocab_size": sizes.get("K", 0),
    }
    if LANGUAGE_HEAD.name in present:
        settings["tie_word_embeddings"] = UNTIED_WORDS.name not in present
    if IMAGES.name in present:
        settings["region_feature_size"] = sizes["F"]
        settings["location_frequencies"], odd = divmod(sizes["L"] - BOX_SIZE, 4)
        if odd or sizes["L"] < BOX_SIZE:
            wrong = f"image_loc.w_0 has {sizes['L']} rows instead of {BOX_SIZE} and a multiple of 4"
            check_names(where, misshapen=[wrong])
    return Description(
        settings,
        tuple(g.name for g in groups if g is not EMBEDDINGS and not g.name.startswith("layer ")),
        len(shapes),
        sum(math.prod(shape) for shape in shapes.values()),
    )


def check_names(
    where: object,
    *,
    missing: Iterable[str] = (),
    unknown: Iterable[str] = (),
    misshapen: Iterable[str] = (),
) -> None:
    """Raise a ``UserError`` that lists what is wrong, unless nothing is."""
    kinds = {"missing": missing, "unknown": map(shown, unknown), "misshapen": misshapen}
    parts = [f"{kind}: {list_names(names)}" for kind, names in _filled(kinds)]
    if parts:
        raise UserError(
            f"{where} does not hold the parameters of one model; {'; '.join(parts)}; "
            "complete the files, and leave out by --skip those that do not belong to them"
        )


def list_names(names: Iterable[str], limit: int = NUM_NAMED) -> str:
    """The first ``limit`` names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def shown(name: str) -> str:
    """A name from a file as it can stand in a message of one line."""
    text = name if name.isprintable() else ascii(name)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _filled(kinds: Mapping[str, Iterable[str]]) -> Iterator[tuple[str, list[str]]]:
    for kind, names in kinds.items():
        if listed := list(names):
            yield kind, listed


def _needed(present: Mapping[str, Group]) -> Iterator[Group]:
    """Every group that a model with those present must have, each once, the trunk first."""
    indices = [int(name.removeprefix("layer ")) for name in present if name.startswith("layer ")]
    yield EMBEDDINGS
    yield from (layer_group(index) for index in range(max(indices, default=0) + 1))
    by_name = {group.name: group for group in GROUPS} | dict(present)
    wanted = [name for name in present if not name.startswith("layer ")]
    for name in wanted:
        wanted += [other for other in by_name[name].needs if other not in wanted]
    yield from (by_name[n] for n in by_name if n in wanted and n != EMBEDDINGS.name)


def _unify(
    groups: Sequence[Group], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, int], list[str]]:
    """Give every size the value that most parameters have; tell which parameters differ."""
    votes: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    present = [
        (group, name, tuple(shapes[name]), expected)
        for group in groups
        for name, expected in group.shapes.items()
        if name in shapes
    ]
    for group, _, shape, expected in present:
        for size, value in zip(expected, shape) if len(shape) == len(expected) else ():
            votes[_owner(size, group), str(size)][value] += 1
    chosen = {key: counter.most_common(1)[0][0] for key, counter in votes.items()}
    wrong = []
    for group, name, shape, expected in present:
        sizes = {
            size: value for (owner, size), value in chosen.items() if owner in ("", group.name)
        }
        if not _fits(shape, expected, sizes):
            wanted = [_resolve(size, sizes) for size in expected]
            wrong.append(f"{name} is {list(shape)} instead of [{', '.join(wanted)}]")
    return {size: value for (owner, size), value in chosen.items() if not owner}, wrong


def _owner(size: Size, group: Group) -> str:
    """Whose size it is: nobody's when the whole model shares it."""
    return "" if isinstance(size, str) and size.isupper() else group.name


def _fits(shape: tuple[int, ...], expected: tuple[Size, ...], sizes: Mapping[str, int]) -> bool:
    if len(shape) != len(expected) or min(shape, default=0) < 1:
        return False
    return all(
        value % sizes["D"] == 0
        if size == "n D"
        else value == (sizes[size] if isinstance(size, str) else size)
        for value, size in zip(shape, expected)
    )


def _resolve(size: Size, sizes: Mapping[str, int]) -> str:
    if size == "n D":
        return f"a multiple of {sizes.get('D', 'the width')}"
    return str(sizes.get(size, size) if isinstance(size, str) else size)
