"""Convert weights of the original UNIMO, RoBERTa or PaddleNLP into a checkpoint, and back.

examples:
  python tools/convert_checkpoint.py --from original --input unimo_base --output weights/base
  python tools/convert_checkpoint.py --from roberta --input roberta_base --output weights/text
  python tools/convert_checkpoint.py --from paddlenlp --input their_unimo --output weights/theirs
  python tools/convert_checkpoint.py --from ours --input runs/x/checkpoints/step-900 \\
      --to original --output original_x

The new folder holds step-0 and model.yaml; docs/weights.md says what is converted and how.
Go on with: tools/train.py --train.start_from OUTPUT/step-0 --model OUTPUT/model.yaml
"""

from __future__ import annotations

import argparse
from pathlib import Path

from unimo_paddle.convert import DESTINATIONS, ORIGINS, convert
from unimo_paddle.errors import ToolParser, report_user_errors
from unimo_paddle.logger import configure_logging


@report_user_errors
def main() -> None:
    """Convert, and print what was found, left out and written."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--from", dest="origin", choices=ORIGINS, required=True, help="what the input is")
    add("--input", type=Path, required=True, help="folder or file with the weights")
    add("--output", type=Path, required=True, help="folder to make; it must not exist")
    add("--to", choices=DESTINATIONS, default="ours", help="what to write (ours)")
    add(
        "--num_heads",
        type=int,
        help="attention heads, which shapes do not tell (what the settings beside the weights "
        "say; else hidden size / 64)",
    )
    add(
        "--skip",
        nargs="+",
        default=(),
        metavar="PATTERN",
        help="names in the input to leave out, such as 'classifier.*' (none)",
    )
    arguments = parser.parse_args()
    configure_logging()
    summary = convert(
        arguments.origin,
        arguments.input,
        arguments.output,
        destination=arguments.to,
        num_heads=arguments.num_heads,
        skip=arguments.skip,
    )
    print("\n".join(summary.lines()))


if __name__ == "__main__":
    main()
