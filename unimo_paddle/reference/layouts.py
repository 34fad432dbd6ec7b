"""What the original fed to its model, as the fields of our tasks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Arrays = Mapping[str, np.ndarray]


def text_fields(recorded: Arrays, *, first: int = 0) -> dict[str, np.ndarray]:
    """The text with its positions, mask and order of generation.

    Args:
        first: place of the text in the recorded mask [B, L, L].
    """
    ids = recorded["in/src_ids"] if "in/src_ids" in recorded else recorded["in/word"]
    positions = recorded["in/pos_ids"] if "in/pos_ids" in recorded else recorded["in/pos"]
    mask = recorded["in/input_mask"]
    # A row of the source sees the source; a later one also the target up to itself.
    counts, source = mask[:, first:].sum(axis=2), mask[:, 0].sum(axis=1)
    fields = {
        "input_ids": ids[..., 0],
        "position_ids": positions[..., 0],
        "text_mask": _diagonal(recorded)[:, first:].copy(),
        "text_order": np.maximum(counts - source[:, None], 0).astype(np.int64),
    }
    for ours, theirs in (("role_ids", "in/role"), ("turn_ids", "in/turn")):
        if theirs in recorded:
            fields[ours] = recorded[theirs][..., 0]
    return fields


def _diagonal(recorded: Arrays) -> np.ndarray:
    return recorded["in/input_mask"].diagonal(axis1=1, axis2=2)


def region_fields(recorded: Arrays) -> dict[str, np.ndarray]:
    """The rows of the image."""
    count = recorded["in/image_loc"].shape[1]
    return {
        "region_features": recorded["in/image_embedding"],
        "region_boxes": recorded["in/image_loc"],
        "region_mask": _diagonal(recorded)[:, :count].copy(),
    }


def tag_fields(recorded: Arrays) -> dict[str, np.ndarray]:
    """The names of objects between image and text."""
    start, count = recorded["in/image_loc"].shape[1], recorded["in/obj_word"].shape[1]
    return {
        "tag_ids": recorded["in/obj_word"][..., 0],
        "tag_positions": recorded["in/obj_pos"][..., 0],
        "tag_mask": _diagonal(recorded)[:, start : start + count].copy(),
    }


def target_fields(recorded: Arrays, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Labels at flat positions b * T + t, as rows [B, P] padded to the longest.

    Args:
        shape: (B, T) of the text.
    """
    flat, labels = recorded["in/tgt_pos"].ravel(), recorded["in/tgt_label"].ravel()
    samples, places = np.divmod(flat, shape[1])
    assert (np.diff(samples) >= 0).all(), "labels do not come sample by sample"
    counts = np.bincount(samples, minlength=shape[0])
    size = (shape[0], max(1, counts.max()))
    fields = {
        "target_positions": np.zeros(size, np.int64),
        "target_ids": np.zeros(size, np.int64),
        "target_weights": np.zeros(size, np.float32),
    }
    columns = np.concatenate([np.arange(count) for count in counts])
    fields["target_positions"][samples, columns] = places
    fields["target_ids"][samples, columns] = labels
    fields["target_weights"][samples, columns] = 1.0
    return fields


def visible_matrix(mask: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The recorded kind of mask [B, L, L] of our mask and order [B, L], regions and all."""
    visible = mask[:, :, None] * mask[:, None, :]
    return visible * (order[:, None, :] <= order[:, :, None])
