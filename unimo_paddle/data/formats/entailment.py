"""SNLI-VE: JSON lines of a hypothesis about an image of Flickr30k, with its label."""

from __future__ import annotations

from pathlib import Path

from unimo_paddle.data.formats.image_folder import ImageFolder
from unimo_paddle.data.formats.items import Items, Record, one_line, parsed, read_text
from unimo_paddle.data.records import Fault, parse_object, text_of

LABELS = ("entailment", "neutral", "contradiction")


def read_snli_ve(path: Path, images: ImageFolder) -> Items:
    """``id``, ``image``, ``hypothesis`` and ``label`` of each line."""

    def parse(line: str) -> Record:
        item = parse_object(line)
        label = text_of(item, "gold_label")
        if label not in LABELS:
            raise Fault(f"gold_label {label!r} is none of {', '.join(LABELS)}")
        name = f"{text_of(item, 'Flickr30K_ID')}.jpg"
        return {
            "id": text_of(item, "pairID"),
            "image": images.find(name),
            "hypothesis": one_line(text_of(item, "sentence2"), "sentence2"),
            "label": label,
        }

    return parsed(read_text(path), parse)
