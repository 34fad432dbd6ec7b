"""What pre-training on many devices costs: bytes, operations and memory counted, time by rates.

Bytes and operations follow from the run file and from what ``distributed`` does; a test compares
the bytes with what the kernel counts. The rates of a machine are measured or assumed, and each says
which. Collectives are rings, as gloo's are: of n ranks each sends 2 (n - 1) / n times the bytes of
a sum, and n - 1 times what it adds to a gather.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import paddle

from unimo_paddle.benchmarks.tables import Table
from unimo_paddle.config import RunConfig
from unimo_paddle.data.images import ImageConfig
from unimo_paddle.errors import UserError
from unimo_paddle.tasks.pretraining import PretrainingConfig

FLOAT = 4  # bytes of a number
ID = 8
CAPTION_TOKENS = 20  # [CLS] and [SEP] included
DEVICES = (8, 64, 512, 4096)

_BACKWARD = 2 / 3  # of an update's operations
_LAST_BUCKET = 0.05  # of the gradients is known when nothing is left to hide it behind
_KEPT_NUMBERS = 24  # a position and layer, beside attention: docs/pretraining.md
_KEPT_ROWS = 3  # of attention, a head
_STATE_BYTES = 16  # a parameter: itself, its gradient, two moments
_MOMENT_BYTES = 8
_FUSED_BYTES = 8  # two copies of the gradients in one piece, before and after their sum
_UPDATE_BYTES = 28  # moved a parameter: four numbers read, three written
_FUSE_BYTES = 24  # three copies: joined, scaled, split
_WORKSPACE = 64 << 20  # of the contrastive operator


@dataclass(frozen=True)
class Work:
    """What one rank does for one update.

    Attributes:
        num_parameters: float32 numbers that are trained.
        sequences: (how many, positions of each) of all that is encoded with gradient.
        hidden_words: tokens that the language head predicts.
        regions: rows of images that are projected, of ``region_size`` numbers.
        pairs, captions: images that are contrasted, and captions of each.
        feature_size: numbers of an image's or caption's features.
        passes: batches that are added up before the weights change.
    """

    num_parameters: int
    hidden_size: int
    num_layers: int
    num_heads: int
    vocab_size: int
    sequences: tuple[tuple[int, int], ...]
    hidden_words: float
    regions: int
    region_size: int
    pairs: int
    captions: int
    feature_size: int
    passes: int = 1

    @property
    def positions(self) -> int:
        """Of a pass."""
        return sum(count * length for count, length in self.sequences)

    @property
    def operations(self) -> float:
        """Floating-point operations of an update, all but the contrastive loss."""
        size, layers = self.hidden_size, self.num_layers
        products = 12 * size**2 * layers * self.positions
        attention = sum(count * 2 * length**2 * size * layers for count, length in self.sequences)
        head = self.hidden_words * (self.vocab_size + size) * size
        regions = self.regions * self.region_size * size
        return 6.0 * self.passes * (products + attention + head + regions)

    @property
    def kept_bytes(self) -> float:
        """What the forward pass keeps for the backward pass."""
        return sum(
            FLOAT
            * count
            * length
            * self.num_layers
            * (_KEPT_NUMBERS * self.hidden_size + _KEPT_ROWS * self.num_heads * length)
            for count, length in self.sequences
        )

    @property
    def feature_bytes(self) -> int:
        """Features of a rank's images and captions."""
        return FLOAT * self.pairs * (1 + self.captions) * self.feature_size

    def contrastive_operations(self, num_ranks: int, *, own_rows: bool) -> float:
        """Of an update: every rank computes the whole matrix of scores, or its own rows' twice."""
        rows = self.pairs * num_ranks
        products = rows * rows if not own_rows else 2 * self.pairs * rows
        return 8.0 * self.passes * products * self.captions * self.feature_size

    def sent_bytes(self, num_ranks: int, *, own_rows: bool = False) -> dict[str, float]:
        """What a rank sends for one update, by what it is.

        Left out: headers, and the few numbers that are logged or counted.
        """
        others, passes = num_ranks - 1, self.passes
        returned = ring_gather(self.feature_bytes, num_ranks)
        if not own_rows:  # the gradients of all ranks' features, as a sum
            returned = ring_sum(self.feature_bytes * num_ranks, num_ranks)
        return {
            "gradients": ring_sum(FLOAT * self.num_parameters, num_ranks),
            "features": passes * ring_gather(self.feature_bytes, num_ranks),
            "gradients of features": passes * returned,
            "ids": passes * others * ID * self.pairs * (1 + self.captions),
        }


def ring_sum(size: float, num_ranks: int) -> float:
    """Bytes that a rank sends for a sum of ``size`` bytes."""
    return 2.0 * (num_ranks - 1) / num_ranks * size


def ring_gather(size: float, num_ranks: int) -> float:
    """Bytes that a rank sends for a gather to which each adds ``size`` bytes."""
    return float(num_ranks - 1) * size


def work_of(config: RunConfig) -> Work:
    """Count what a run of pre-training does; the network is built, not filled.

    Captions are taken to have ``CAPTION_TOKENS`` tokens and texts the most that they may have.
    """
    task = config.task
    if not isinstance(task, PretrainingConfig) or not task.weights.contrastive:
        raise UserError(
            "task.type is not pretraining with task.weights.contrastive above 0; name a run file "
            "such as configs/pretrain/unimo_base.yaml"
        )
    model, data = config.model, task.data
    sizes = _samples(task, config.train.batch_size)
    pairs, images, texts = sizes["pairs"], sizes["images"], sizes["texts"]
    joint = math.ceil(pairs * task.masked_pair_share) if task.encodes_jointly else 0
    rows = _num_rows(data.image)
    sequences = (
        (joint, rows + CAPTION_TOKENS),
        (pairs, rows),
        (pairs * data.captions_per_image, CAPTION_TOKENS),
        (texts, data.max_text_length),
        (images, rows),
    )
    tokens = joint * CAPTION_TOKENS + texts * data.max_text_length
    return Work(
        num_parameters=count_parameters(config),
        hidden_size=model.hidden_size,
        num_layers=model.num_layers,
        num_heads=model.num_heads,
        vocab_size=model.vocab_size,
        sequences=tuple(pair for pair in sequences if pair[0]),
        hidden_words=tokens * data.text_masking.span_share if task.uses_language else 0.0,
        regions=rows * (joint + pairs + images),
        region_size=model.region_feature_size,
        pairs=pairs,
        captions=data.captions_per_image,
        feature_size=task.projection_size,
        passes=config.train.gradient_accumulation,
    )


def _samples(task: PretrainingConfig, batch_size: int) -> dict[str, int]:
    shares = dict(vars(task.mixture))
    if shares.pop("statements"):
        raise UserError("task.mixture.statements is above 0, which is not counted; set it to 0")
    if not task.uses_language:
        shares["texts"] = 0.0
    if not task.uses_regions:
        shares["images"] = 0.0
    total = sum(shares.values())
    return {name: round(batch_size * share / total) for name, share in shares.items()}


def _num_rows(image: ImageConfig) -> int:
    """Of an image, the whole image among them."""
    if image.kind == "patches":
        return (image.image_size // image.patch_size) ** 2 + 1
    return image.max_regions + 1


def count_parameters(config: RunConfig) -> int:
    """Float32 numbers that a run trains; the network is built, not filled."""
    with (
        tempfile.TemporaryDirectory() as folder,
        paddle.static.program_guard(paddle.static.Program(), paddle.static.Program()),
        paddle.utils.unique_name.guard(),
    ):
        parameters = config.task.build(config.model, Path(folder)).build_network().parameters()
        return sum(math.prod(each.shape) for each in parameters if not each.stop_gradient)


@dataclass(frozen=True)
class Machine:
    """Devices, and what joins them. Rates a second; ``SOURCES`` says where the defaults are from.

    Attributes:
        per_node: devices that the inner links join.
        product_rate: operations of large float32 products.
        share: of it that an update reaches.
        contrastive_rate: operations of the contrastive operator.
        copy_rate: bytes read and written.
        inner: bytes that a device sends to another one of its node.
        outer: bytes that all devices of a node send to other nodes.
        inner_delay, outer_delay: seconds of a hop of a ring, within and between nodes.
    """

    name: str
    outer: float
    per_node: int = 8
    product_rate: float = 51e12
    share: float = 0.6
    contrastive_rate: float = 54e12
    copy_rate: float = 3.0e12
    inner: float = 360e9
    inner_delay: float = 3e-6
    outer_delay: float = 10e-6


MACHINES = (
    Machine("eight 400 Gbit/s links a node", outer=320e9),
    Machine("one 200 Gbit/s link a node", outer=20e9),
)
SOURCES = {
    "product_rate": "measured: torch's float32 product on an H100",
    "share": "assumed",
    "contrastive_rate": "measured: our kernel in float32 on an H100, D = 256",
    "copy_rate": "measured: a copy on an H100",
    "inner": "assumed: 80 % of NVLink's 450 GB/s a direction",
    "outer": "assumed: 80 % of the links' nominal rate",
    "inner_delay": "assumed",
    "outer_delay": "assumed",
}


@dataclass(frozen=True)
class Form:
    """How the work is spread; the defaults are what this package does.

    Attributes:
        overlaps: gradients travel in buckets while the backward pass goes on.
        in_levels: sums are taken within nodes, then between them, then handed out.
        joined: features and ids travel in one gather, counts in one sum.
        own_rows: a rank contrasts its own images and captions with all, not all with all.
        shares_moments: each rank keeps and updates its part of the moments alone.
    """

    overlaps: bool = False
    in_levels: bool = False
    joined: bool = False
    own_rows: bool = False
    shares_moments: bool = False


AS_IT_IS = Form()
CHANGED = Form(overlaps=True, in_levels=True, joined=True, own_rows=True, shares_moments=True)


def seconds(work: Work, machine: Machine, num_ranks: int, form: Form) -> dict[str, float]:
    """What an update takes, by part; what is hidden behind the backward pass is left out."""
    compute = work.operations / (machine.share * machine.product_rate)
    sent = work.sent_bytes(num_ranks, own_rows=form.own_rows)
    gradients = _sum_seconds(FLOAT * work.num_parameters, machine, num_ranks, form)
    if form.overlaps:
        gradients = max(_LAST_BUCKET * gradients, gradients - _BACKWARD * compute)
    # Of images and captions: features and ids gathered, gradients brought back; three counts.
    gathers, returns, counts = (1, 1, 1) if form.joined else (4, 2, 3)
    delay = gathers * _gather_delay(machine, num_ranks, form)
    # Gradients that each rank needs of its own rows alone come back as a gather went out.
    back = _gather_delay if form.own_rows else _sum_delay
    delay += returns * back(machine, num_ranks, form) + counts * _sum_delay(
        machine, num_ranks, form
    )
    features = sum(sent[name] for name in ("features", "gradients of features", "ids"))
    moved = _UPDATE_BYTES * work.num_parameters
    if form.shares_moments:
        moved /= num_ranks
    if num_ranks > 1:
        moved += _FUSE_BYTES * work.num_parameters
    contrasted = work.contrastive_operations(num_ranks, own_rows=form.own_rows)
    return {
        "compute": compute,
        "contrastive": contrasted / machine.contrastive_rate,
        "gradients": gradients,
        "features": features / _ring_rate(machine, num_ranks) + work.passes * delay,
        "weights": moved / machine.copy_rate,
    }


def _ring_rate(machine: Machine, num_ranks: int) -> float:
    """Bytes a second of a rank in a ring; rings that lead over different links add up."""
    return machine.inner if num_ranks <= machine.per_node else min(machine.inner, machine.outer)


def _hop(machine: Machine, num_ranks: int) -> float:
    """Seconds, the mean over a ring."""
    if num_ranks <= machine.per_node:
        return machine.inner_delay
    between = 1 / machine.per_node
    return between * machine.outer_delay + (1 - between) * machine.inner_delay


def _gather_delay(machine: Machine, num_ranks: int, form: Form) -> float:
    """Seconds that a gather of nothing takes."""
    nodes = math.ceil(num_ranks / machine.per_node)
    if nodes == 1 or not form.in_levels:
        return (num_ranks - 1) * _hop(machine, num_ranks)
    return (machine.per_node - 1) * machine.inner_delay + (nodes - 1) * machine.outer_delay


def _sum_delay(machine: Machine, num_ranks: int, form: Form) -> float:
    """Seconds that a sum of nothing takes: a ring, or in levels a tree between nodes."""
    nodes = math.ceil(num_ranks / machine.per_node)
    if nodes == 1 or not form.in_levels:
        return 2 * (num_ranks - 1) * _hop(machine, num_ranks)
    inner = 2 * (machine.per_node - 1) * machine.inner_delay
    return inner + 2 * math.ceil(math.log2(nodes)) * machine.outer_delay


def _sum_seconds(size: float, machine: Machine, num_ranks: int, form: Form) -> float:
    nodes = math.ceil(num_ranks / machine.per_node)
    if nodes == 1 or not form.in_levels:
        rate = _ring_rate(machine, num_ranks)
        return ring_sum(size, num_ranks) / rate + _sum_delay(machine, num_ranks, form)
    inner = ring_sum(size, machine.per_node) / machine.inner
    return inner + ring_sum(size, nodes) / machine.outer + _sum_delay(machine, num_ranks, form)


def memory_bytes(work: Work, num_ranks: int, form: Form) -> float:
    """What a device holds at most."""
    state = _STATE_BYTES * work.num_parameters
    if form.shares_moments:
        state -= _MOMENT_BYTES * work.num_parameters * (1 - 1 / num_ranks)
    if num_ranks > 1 and not form.overlaps:
        state += _FUSED_BYTES * work.num_parameters
    features = 2 * work.feature_bytes * num_ranks  # and their gradients
    return state + work.kept_bytes + features + _WORKSPACE


def table(
    works: dict[str, Work], machine: Machine, form: Form, devices: tuple[int, ...] = DEVICES
) -> Table:
    """A row a model and number of devices: milliseconds by part, efficiency, memory."""
    rows = []
    for name, work in works.items():
        alone = sum(seconds(work, machine, 1, form).values())
        for count in devices:
            parts = seconds(work, machine, count, form)
            total = sum(parts.values())
            rows.append(
                [
                    name if count == devices[0] else "",
                    str(count),
                    *(f"{1e3 * value:.1f}" for value in parts.values()),
                    f"{1e3 * total:.0f}",
                    f"{alone / total:.0%}",
                    f"{sum(work.sent_bytes(count, own_rows=form.own_rows).values()) / 1e9:.2f}",
                    f"{memory_bytes(work, count, form) / 1e9:.1f}",
                ]
            )
    parts = ["compute", "contrastive", "gradients", "features", "weights"]
    ends = ["update", "of linear", "GB sent", "GB held"]
    return Table(["model", "devices", *parts, *ends], rows, text_columns=(0,))
