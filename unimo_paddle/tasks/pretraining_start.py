"""What pre-training starts from in the place of random numbers: parameters made from the data."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence

import numpy as np

from unimo_paddle.data.correlation import correlated_projections
from unimo_paddle.data.dictionary import fit_dictionary
from unimo_paddle.data.fields import Field
from unimo_paddle.data.latent_words import latent_words
from unimo_paddle.data.loader import Stream
from unimo_paddle.data.sources import PairRecord
from unimo_paddle.errors import UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.models.patch_dictionary import COLOUR_SHARE, NAME
from unimo_paddle.tasks.base import Arrays, Service, Tensors
from unimo_paddle.tasks.pretraining_data import PretrainingEncoder
from unimo_paddle.tasks.pretraining_network import PretrainingNetwork
from unimo_paddle.tasks.segments import TEXT_INPUTS

logger = logging.getLogger(__name__)

NUM_IMAGES = 3000  # that a dictionary is found in
PIECES = {"edges": 40, "colours": 40}  # of an image
QUIET = 0.05  # share of a part that is to add little to a row at first


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

    Args:
        serve: (service name, stream) -> outputs of all records with the network as it is by now.
    """

    def __init__(
        self,
        encoder: PretrainingEncoder,
        model: ModelConfig,
        serve: Callable[[str, Stream], Arrays],
    ) -> None:
        self.encoder, self.model, self.serve = encoder, model, serve

    def dictionary(self) -> dict[str, np.ndarray]:
        """The entries that patches are told by."""
        kind = self.encoder.config.image.kind
        if kind != "patches":
            raise UserError(
                f"model.patch_dictionary tells patches, but task.data.image.kind is {kind}; set it "
                "to patches, or patch_dictionary to 0"
            )
        records = self.encoder.read_pairs()[:NUM_IMAGES]
        logger.info("finding typical patches in %d images", len(records))
        found = self.serve("describe_patches", self.encoder.image_stream(records))
        size = self.model.patch_dictionary
        rng = np.random.default_rng(0)
        values = {}
        for kind, entries in (("edges", size), ("colours", size // COLOUR_SHARE)):
            rows = found[kind]
            kept = rng.integers(0, rows.shape[1], (len(rows), PIECES[kind]))
            rows = np.take_along_axis(rows, kept[:, :, None], axis=1).reshape(-1, rows.shape[2])
            fitted = fit_dictionary(rows, entries, seed=0)
            values |= {
                f"{NAME}_{kind}_whitening.w_0": fitted.weight,
                f"{NAME}_{kind}_whitening.b_0": fitted.bias,
                f"{NAME}_{kind}.w_0": fitted.entries,
            }
        return values

    def layers(self, records: Sequence[PairRecord]) -> dict[str, np.ndarray]:
        """Embeddings that carry what images and captions share, and layers that let it through.

        Words start from latent semantic analysis, patches from the directions of the dictionary
        that correlate with them, and what layers add to a row from nothing, as in "Fixup
        Initialization" (arXiv 1901.09321): random layers would drown both.
        """
        model, width = self.model, self.model.hidden_size
        captions = [caption for record in records for caption in record.captions]
        ids = iter(self.encoder.tokenizer.encode_batch(captions))
        documents = [
            list(itertools.chain.from_iterable(next(ids) for _ in record.captions))
            for record in records
        ]
        words = latent_words(documents, model.vocab_size, width)
        said = np.stack([words[document, :-1].sum(axis=0) for document in documents])
        said /= np.maximum(np.linalg.norm(said, axis=1, keepdims=True), 1e-6)
        shown = self.serve("look_up_patches", self.encoder.image_stream(records))
        patches, _ = correlated_projections(
            shown["rows"],
            said[shown["index"]],
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
            name, inner = f"encoder_layer_{layer}", model.feed_forward_size
            values[f"{name}_multi_head_att_output_fc.w_0"] = np.zeros((width, width), np.float32)
            values[f"{name}_ffn_fc_1.w_0"] = np.zeros((inner, width), np.float32)
        return values

    def projections(self, records: Sequence[PairRecord], size: int) -> dict[str, np.ndarray]:
        """Projections to where images and captions of the network as it is correlate most."""
        images = self.serve("pool_images", self.encoder.image_stream(records))
        texts = self.serve("pool_texts", self.encoder.caption_stream(records))
        owners = np.repeat(np.arange(len(records)), [len(r.captions) for r in records])
        owners = owners[texts["index"]]
        is_usable = np.isin(owners, images["index"])
        rows = np.searchsorted(images["index"], owners[is_usable])
        # What an informed layer makes loud is loud for a reason.
        informed = {"power": 1.0, "scales_columns": False} if self.model.patch_dictionary else {}
        image, text = correlated_projections(
            images["rows"][rows], texts["rows"][is_usable], size, **informed
        )
        return {
            "image_projection.w_0": image.weight,
            "image_projection.b_0": image.bias,
            "text_projection.w_0": text.weight,
            "text_projection.b_0": text.bias,
        }
