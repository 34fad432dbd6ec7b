"""What pre-training starts from in the place of random numbers: parameters made from the data."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np

from unimo_paddle import distributed
from unimo_paddle.data.correlation import Projection, correlated_projections
from unimo_paddle.data.dictionary import fit_dictionary
from unimo_paddle.data.fields import Field
from unimo_paddle.data.latent_words import latent_words
from unimo_paddle.data.loader import Stream
from unimo_paddle.data.sources import PairRecord
from unimo_paddle.errors import UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.models.patch_dictionary import COLOUR_SHARE, parameter_names
from unimo_paddle.tasks.base import Arrays, Service, Tensors
from unimo_paddle.tasks.pretraining_data import PretrainingEncoder
from unimo_paddle.tasks.pretraining_network import PretrainingNetwork
from unimo_paddle.tasks.pretraining_slices import cut
from unimo_paddle.tasks.segments import TEXT_INPUTS

logger = logging.getLogger(__name__)

Values = dict[str, np.ndarray]  # of parameters, by name

NUM_IMAGES = 3000  # that a dictionary is found in
GROUP_BATCHES = 3  # batches of images all of whose pieces, some MB an image, are held at once
PIECES = {"edges": 40, "colours": 40}  # of an image
QUIET = 0.05  # share of a part that is to add little to a row at first
# What is made, beside the dictionary and the last matrices of layers.
LAYERS = (
    "word_embedding",
    "pos_embedding",
    "patch_stem_fc.w_0",
    "patch_stem_fc.b_0",
    "image_loc_layer_norm_scale",
)
SIGNS = ((1, 1), (-1, -1), (1, -1), (-1, 1))  # of the image's and the text's side of a product
PROJECTIONS = (
    "image_projection.w_0",
    "image_projection.b_0",
    "text_projection.w_0",
    "text_projection.b_0",
)
MATCH = (
    "pooled_fc_image.w_0",
    "pooled_fc_image.b_0",
    "pooled_fc_text.w_0",
    "pooled_fc_text.b_0",
    "match_fc.w_0",
    "match_fc.b_0",
)


def start_views(
    model: ModelConfig, image_inputs: Sequence[Field], *, correlates: bool
) -> list[Service]:
    """What the start is made from."""
    views = []
    if model.patch_dictionary:
        views += [
            Service("describe_patches", image_inputs, _describe_patches),
            Service("look_up_patches", image_inputs, _look_up_patches),
        ]
    if correlates:
        views += [
            Service(
                "pool_images",
                image_inputs,
                lambda network, batch: {"rows": network.pool_images(batch)},
            ),
            Service(
                "pool_texts",
                TEXT_INPUTS,
                lambda network, batch: {"rows": network.pool_texts(batch)},
            ),
        ]
    return views


def _describe_patches(network: PretrainingNetwork, batch: Tensors) -> Tensors:
    stem = network.transformer.region_embedding.stem
    edges, colours = stem.describe(batch["region_features"][:, 1:])
    return {"edges": edges, "colours": colours}


def _look_up_patches(network: PretrainingNetwork, batch: Tensors) -> Tensors:
    stem = network.transformer.region_embedding.stem
    return {"rows": stem.look_up(batch["region_features"][:, 1:]).mean(axis=1)}


class DataStart:
    """Makes parameters from training images and captions, each from those made before.

    All ranks read and describe the data together, and the first one makes parameters of it: what
    is solved for or clustered differs from machine to machine.

    Args:
        serve: (service name, stream) -> outputs of all records with the network as it is by now.
        num_pairs: that are correlated; 0: none are.
        projection_size: numbers of an image or a text.
        joint: whether there are joint scores.
    """

    def __init__(
        self,
        encoder: PretrainingEncoder,
        model: ModelConfig,
        serve: Callable[[str, Stream], Arrays],
        *,
        num_pairs: int,
        projection_size: int,
        joint: bool,
    ) -> None:
        self.encoder, self.model, self.serve = encoder, model, serve
        self.num_pairs, self.projection_size = num_pairs, projection_size
        self.joint = joint
        kind = encoder.config.image.kind
        if model.patch_dictionary and kind != "patches":
            raise UserError(
                f"model.patch_dictionary tells patches, but task.data.image.kind is {kind}; set it "
                "to patches, or patch_dictionary to 0"
            )

    def values(self, given: Collection[str]) -> Iterator[Values]:
        """Parameters by name; what was yielded must be set before the next is asked for.

        Args:
            given: names that have their values; a part whose names all have is left out.
        """
        for title, names, make in self._parts():
            if set(names) <= set(given):
                logger.info("%s are given, and not made from the data", title)
                continue
            values = make()
            assert set(values) == set(names), set(values) ^ set(names)
            yield values

    def _parts(self) -> Iterator[tuple[str, Sequence[str], Callable[[], Values]]]:
        """What is made, in this order: what it is, its names, how it is made."""
        if self.model.patch_dictionary:
            names = [name for kind in PIECES for name in parameter_names(kind)]
            yield "the entries of model.patch_dictionary", names, self.dictionary
        if self.num_pairs and self.model.patch_dictionary:
            yield "the layers of task.correlated_start", self._layer_names(), self.layers
        if self.num_pairs:
            yield "the projections of task.correlated_start", PROJECTIONS, self.projections
        # Layers that add nothing leave rows as they are when read alone. Random ones do not: on the
        # built-in scenes joint scores then began as noise, and the other features became alike.
        if self.num_pairs and self.model.patch_dictionary and self.joint:
            yield "the match layers of task.correlated_start", MATCH, self.match

    @functools.cached_property
    def _records(self) -> Sequence[PairRecord]:
        """What is correlated."""
        records = self.encoder.read_pairs()[: self.num_pairs]
        if len(records) < 2:
            raise UserError(
                f"task.correlated_start is {self.num_pairs}, but the training data hold "
                f"{len(records)} pair; give more pairs, or set it to 0"
            )
        logger.info("correlating images and captions of %d pairs for the start", len(records))
        return records

    def dictionary(self) -> Values:
        """The entries that patches are told by."""
        records = self.encoder.read_pairs()[:NUM_IMAGES]
        logger.info("finding typical patches in %d images", len(records))
        pieces = self._pieces(records)
        sizes = {"edges": self.model.patch_dictionary}
        sizes["colours"] = sizes["edges"] // COLOUR_SHARE

        def make() -> Values:
            values: Values = {}
            for kind, rows in pieces.items():
                fitted = fit_dictionary(rows, sizes[kind], seed=0)
                values |= zip(parameter_names(kind), fitted, strict=True)
            return values

        return distributed.made_by_first(make)

    def _pieces(self, records: Sequence[PairRecord]) -> Values:
        """Some pieces [N, F] of each image, by kind; the same ones whatever a group holds."""
        rng = np.random.default_rng(0)
        drawn: Values = {}
        kept: dict[str, list[np.ndarray]] = {kind: [] for kind in PIECES}
        batch_size = self.encoder.image_stream(records).batch_size
        num_groups = -(-len(records) // (batch_size * GROUP_BATCHES))
        for group in cut(len(records), num_groups, batch_size):
            stream = self.encoder.image_stream(records[group])
            found = self.serve("describe_patches", stream)
            for kind, count in PIECES.items():
                rows = found[kind]
                if kind not in drawn:
                    drawn[kind] = rng.integers(0, rows.shape[1], (len(records), count))
                places = drawn[kind][group][found["index"]]
                rows = np.take_along_axis(rows, places[:, :, None], axis=1)
                kept[kind].append(rows.reshape(-1, rows.shape[2]))
        return {kind: np.concatenate(rows) for kind, rows in kept.items()}

    def _layer_names(self) -> list[str]:
        return [*LAYERS, *(name for i in range(self.model.num_layers) for name in _residual(i))]

    def layers(self) -> Values:
        """Embeddings that carry what images and captions share, and layers that let it through.

        Words start from latent semantic analysis, patches from the directions of the dictionary
        that correlate with them, and what layers add to a row from nothing, as in "Fixup
        Initialization" (arXiv 1901.09321): random layers would drown both.
        """
        shown = self.serve("look_up_patches", self.encoder.image_stream(self._records))
        return distributed.made_by_first(lambda: self._layers(shown["rows"], shown["index"]))

    def _layers(self, shown: np.ndarray, index: np.ndarray) -> Values:
        """The same, of what is shown by the images [N, entries] of these records [N]."""
        model, width = self.model, self.model.hidden_size
        captions = [caption for record in self._records for caption in record.captions]
        ids = iter(self.encoder.tokenizer.encode_batch(captions))
        documents = [
            list(itertools.chain.from_iterable(next(ids) for _ in record.captions))
            for record in self._records
        ]
        words = latent_words(documents, model.vocab_size, width)
        said = np.stack([words[document, :-1].sum(axis=0) for document in documents])
        said /= np.maximum(np.linalg.norm(said, axis=1, keepdims=True), 1e-6)
        patches, _ = correlated_projections(
            shown,
            said[index],
            width,
            ridge=(0.3, 1.0),
            power=1.0,
            scales_columns=False,
        )
        rng = np.random.default_rng(0)
        scale = model.initializer_range
        positions = rng.normal(0.0, scale * QUIET, (model.max_positions, width))
        values = {
            "word_embedding": words * scale,
            "pos_embedding": positions.astype(np.float32),
            "patch_stem_fc.w_0": patches.weight,
            "patch_stem_fc.b_0": patches.bias,
            "image_loc_layer_norm_scale": np.full(width, QUIET, np.float32),
        }
        for layer in range(model.num_layers):
            for name, rows in zip(_residual(layer), (width, model.feed_forward_size), strict=True):
                values[name] = np.zeros((rows, width), np.float32)
        return values

    @functools.cached_property
    def _pooled(self) -> tuple[np.ndarray, np.ndarray]:
        """Every caption and its image, each encoded alone: image rows, and text rows."""
        records = self._records
        images = self.serve("pool_images", self.encoder.image_stream(records))
        texts = self.serve("pool_texts", self.encoder.caption_stream(records))
        owners = np.repeat(np.arange(len(records)), [len(r.captions) for r in records])
        owners = owners[texts["index"]]
        is_usable = np.isin(owners, images["index"])
        rows = np.searchsorted(images["index"], owners[is_usable])
        return images["rows"][rows], texts["rows"][is_usable]

    def _correlate(self, image: np.ndarray, text: np.ndarray, size: int) -> list[Projection]:
        """Of both, to ``size`` directions."""
        # What an informed layer makes loud is loud for a reason.
        informed = {"power": 1.0, "scales_columns": False} if self.model.patch_dictionary else {}
        return list(correlated_projections(image, text, size, **informed))

    def projections(self) -> Values:
        """Projections to where images and captions of the network as it is correlate most."""
        image_rows, text_rows = self._pooled

        def make() -> Values:
            image, text = self._correlate(image_rows, text_rows, self.projection_size)
            values = (image.weight, image.bias, text.weight, text.bias)
            return dict(zip(PROJECTIONS, values, strict=True))

        return distributed.made_by_first(make)

    def match(self) -> Values:
        """Poolers and match layer whose joint score starts as the product of such projections.

        From random layers joint scores of photographs stayed at chance: what a pooler learns
        depends on the other one and on the match layer, and none of them is anything yet.
        """
        image_rows, text_rows = self._pooled
        width = self.model.hidden_size
        image_rows = image_rows[:, :width]  # around places, the mean of all rows comes first

        def make() -> Values:
            found = self._correlate(image_rows, text_rows, width // len(SIGNS))
            return _match_layers(found, (image_rows, text_rows), width)

        return distributed.made_by_first(make)


def _match_layers(
    projections: Sequence[Projection], rows: Sequence[np.ndarray], width: int
) -> Values:
    """Layers that multiply two projections of these rows through the ReLU of their poolers.

    a b = relu(a) relu(b) + relu(-a) relu(-b) - relu(a) relu(-b) - relu(-a) relu(b): every direction
    takes four places of the pooled rows. Scores of things that do not belong together vary by one.
    """
    values, covariances = [], []
    for signs, projection, given in zip(np.transpose(SIGNS), projections, rows, strict=True):
        projected = given @ projection.weight + projection.bias
        covariances.append(projected.T @ projected / len(projected))
        values += [_widen([sign * part for sign in signs], width) for part in projection]
    spread = np.sqrt((covariances[0] * covariances[1]).sum())
    products = [np.full(projection.bias.size, a * b / spread) for a, b in SIGNS]
    values += [_widen(products, width)[:, None], np.zeros(1, np.float32)]
    return dict(zip(MATCH, values, strict=True))


def _widen(parts: Sequence[np.ndarray], width: int) -> np.ndarray:
    """Side by side, with zeros up to this width."""
    joined = np.concatenate(parts, axis=-1).astype(np.float32)
    missing = [(0, 0)] * (joined.ndim - 1) + [(0, width - joined.shape[-1])]
    return np.pad(joined, missing)


def _residual(layer: int) -> tuple[str, str]:
    """The last matrices of what a layer adds to a row: of attention, and of feed-forward."""
    name = f"encoder_layer_{layer}"
    return f"{name}_multi_head_att_output_fc.w_0", f"{name}_ffn_fc_1.w_0"
