"""Rank images for texts with a bundle.

python tools/predict.py --bundle runs/x/bundle --images a.png b.png --texts "a red circle"
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from unimo_paddle.errors import ToolParser, report_user_errors
from unimo_paddle.predictor import Predictor


@report_user_errors
def main() -> None:
    """Print, for every text, the images from the most to the least similar."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="folder that export.py wrote")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="image files")
    parser.add_argument("--texts", nargs="+", required=True, help="texts to look for")
    parser.add_argument("--top", type=int, default=5, help="images shown a text")
    arguments = parser.parse_args()
    predictor = Predictor(arguments.bundle)
    images = predictor.embed_images(arguments.images)
    similarities = predictor.embed_texts(arguments.texts) @ images.T
    for text, row in zip(arguments.texts, similarities, strict=True):
        print(text)
        for index in np.argsort(-row, kind="stable")[: arguments.top]:
            print(f"  {row[index]:+.3f}  {arguments.images[index]}")


if __name__ == "__main__":
    main()
