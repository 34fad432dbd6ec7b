"""Compare this program with recordings of the original: one row a file.

python tools/check_reference.py --dir recordings
python tools/check_reference.py --dir recordings --vocab vocabularies/roberta
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from unimo_paddle.errors import ToolParser, report_user_errors
from unimo_paddle.logger import configure_logging
from unimo_paddle.reference import check_folder, format_rows
from unimo_paddle.reference.checking import FAILED


@report_user_errors
def main() -> None:
    """Print the table; the exit code is 1 where a file failed."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--vocab", type=Path, help="folder of the tokenizer's three files")
    arguments = parser.parse_args()
    configure_logging()
    rows = list(tqdm(check_folder(arguments.dir, arguments.vocab), desc="checking", unit="file"))
    print(format_rows(rows))
    if any(row.verdict == FAILED for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
