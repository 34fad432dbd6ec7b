"""What a pre-trained model finds in a split: in two stages, and among changed captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from unimo_paddle.data.rewriting import RewrittenCaptions
from unimo_paddle.data.sources import PairRecord
from unimo_paddle.tasks.one_change import find_changed, measure_changed
from unimo_paddle.tasks.reranking import Collection, Serve, search_in_two_stages
from unimo_paddle.tasks.segments import TEXT_INPUTS

if TYPE_CHECKING:
    from unimo_paddle.tasks.pretraining_data import PretrainingEncoder


def search_split(
    encoder: PretrainingEncoder, records: Sequence[PairRecord], serve: Serve, first: int | None
) -> dict[str, dict[str, float]]:
    """Retrieval in two stages; an image that several records name is one image."""
    images = list({record.group: record for record in records}.values())
    places = {record.group: place for place, record in enumerate(images)}
    captions = [caption for record in records for caption in record.captions]
    owners = [places[record.group] for record in records for _ in record.captions]
    collection = _collect(encoder, images, captions, np.array(owners))
    return search_in_two_stages(collection, serve, first)


def prefer_captions(
    encoder: PretrainingEncoder,
    records: Sequence[PairRecord],
    rewritten: RewrittenCaptions,
    serve: Serve,
    *,
    joint: bool,
) -> dict[str, float]:
    """How often captions score higher than ones changed in one place (``one_change``)."""
    changed = find_changed(records, rewritten)
    if not changed:
        return {}
    texts = [text for item in changed for text in (item.caption, item.false)]
    owners = np.repeat([item.record for item in changed], 2)
    return measure_changed(changed, _collect(encoder, records, texts, owners), serve, joint=joint)


def _collect(
    encoder: PretrainingEncoder,
    images: Sequence[PairRecord],
    texts: Sequence[str],
    owners: np.ndarray,
) -> Collection:
    return Collection(
        encoder.image_stream(images),
        encoder.text_stream(texts),
        encode_image=lambda number: encoder.encode_image(images[number]),
        encode_text=lambda number: encoder.encode_text(texts[number]),
        fields=(*TEXT_INPUTS, *encoder.inputs()),
        owners=owners,
    )
