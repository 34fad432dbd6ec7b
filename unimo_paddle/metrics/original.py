"""What the metrics of the authors' released program are called there, and where it differs.

The measures are right by default. Where the original differs and a published number may depend on
it, ``compatibility="original"`` computes what the original does.
"""

from __future__ import annotations

from typing import Literal, get_args

from unimo_paddle.errors import UserError

Compatibility = Literal["standard", "original"]

# The original's name of a value: the name that it has here.
NAMES: dict[str, str] = {
    "acc": "accuracy",
    "f1": "f1",
    "acc_and_f1": "accuracy_and_f1",
    "mat_cor": "matthews",
    "pearson": "pearson",
    "spearmanr": "spearman",
    "p_and_sp": "pearson_and_spearman",
    "mrr": "mean_reciprocal_rank",
    "map": "mean_average_precision",
    "img_avg_rank": "image_retrieval_mean_rank",
    "cap_avg_rank": "text_retrieval_mean_rank",
    "img_recall@1": "image_retrieval_recall@1",
    "img_recall@5": "image_retrieval_recall@5",
    "img_recall@10": "image_retrieval_recall@10",
    "cap_recall@1": "text_retrieval_recall@1",
    "cap_recall@5": "text_retrieval_recall@5",
    "cap_recall@10": "text_retrieval_recall@10",
    "avg_img_recall": "image_retrieval_mean_recall",
    "avg_cap_recall": "text_retrieval_mean_recall",
    "avg_recall@1": "mean_recall@1",
    "avg_recall@5": "mean_recall@5",
    "avg_recall@10": "mean_recall@10",
}


def is_original(compatibility: Compatibility) -> bool:
    """Whether the original's behaviour is asked for; any other name than the two is an error."""
    known = get_args(Compatibility)
    if compatibility not in known:
        raise UserError(f"compatibility is {compatibility!r}; give one of {', '.join(known)}")
    return compatibility == "original"
