"""Mining: images and sentences near each pair, from collections without pairs (METHOD, X^I, X^T).

"UNIMO" (arXiv 2012.15409), section 3.2: images with highly overlapping objects and sentences close
in meaning bring knowledge of one modality into contrastive learning.
"""

from unimo_paddle.data.mining.mined import Mined, MinedImage, MinedLists, MinedText
from unimo_paddle.data.mining.miner import MiningOptions, Model, mine

__all__ = [
    "Mined",
    "MinedImage",
    "MinedLists",
    "MinedText",
    "MiningOptions",
    "Model",
    "mine",
]
