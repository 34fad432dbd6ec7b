"""Make a store of region features from what a detector of another project wrote.

The store is a folder of arrays that training reads in place (task.data.regions). A run that was
killed goes on when the same command is typed again. A report is written into it: look at it before
you train. docs/regions.md tells which format your files have.

formats:
    tsv       bottom-up attention's lines of 6 columns, LXMERT's of 10
    original  the original UNIMO's files: 7 columns, or 14 or 16 fields
    vinvl     VinVL's and Oscar's features.tsv, *.feature.tsv with label.tsv, or predictions.tsv
    npz       a folder of UNITER's or bottom-up attention's .npz files, or ViLBERT's .npy
    h5        bottom-up attention's tables for VQA, ViLBERT's, or a group an image
    lmdb      databases of UNITER and ViLBERT

examples:
    python tools/prepare_data.py regions --format tsv trainval_36.tsv --output mine/regions
    python tools/prepare_data.py regions --format npz coco_val2014 --ids number \\
        --output mine/regions
    python tools/prepare_data.py regions --format tsv karpathy_train.tsv.0 karpathy_train.tsv.1 \\
        --output mine/regions --pairs mine/train.jsonl --images mine/images
"""

from __future__ import annotations

import argparse
from pathlib import Path

from unimo_paddle.data.original_retrieval import SIZES
from unimo_paddle.data.regions.formats import FORMATS, SourceOptions, open_source
from unimo_paddle.data.regions.formats.options import IDS
from unimo_paddle.data.regions.importing import import_regions, read_names
from unimo_paddle.data.regions.store import RegionStore
from unimo_paddle.errors import UserError
from unimo_paddle.preparation.region_report import (
    REPORT_NAME,
    add_report_arguments,
    check_report_arguments,
    report,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("sources", type=Path, nargs="+", help="files or folders to read")
    parser.add_argument("--format", choices=sorted(FORMATS), required=True, help="see above")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--ids",
        choices=IDS,
        default=IDS[0],
        help="names of the images in the store: as_is, stem (no folder, no suffix), number (the "
        f"last one in the name, without zeros before it) ({IDS[0]})",
    )
    parser.add_argument(
        "--names", type=Path, help="what the classes are called, one a line (objects_vocab.txt)"
    )
    parser.add_argument(
        "--index", type=Path, help="names of the images in an HDF5 file (*_imgid2idx.pkl or .json)"
    )
    parser.add_argument("--counts", type=Path, help="regions used of each image (nbb_*.json)")
    parser.add_argument(
        "--cut_boxes",
        action="store_true",
        help="cut boxes at the edges of their image and leave out regions without area",
    )
    parser.add_argument(
        "--size_columns",
        nargs=2,
        choices=SIZES,
        default=SIZES,
        metavar="SIDE",
        help="columns 2 and 3 of the original's feature files (width height)",
    )
    parser.add_argument(
        "--bad_record_limit",
        type=float,
        default=0.01,
        help="share of the records that may be unusable; ten may always (0.01)",
    )
    parser.add_argument("--report", type=Path, help=f"page to write (OUTPUT/{REPORT_NAME})")
    add_report_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Import, and say what came out."""
    if len(set(arguments.size_columns)) < 2:
        raise UserError(
            f"--size_columns is {' '.join(arguments.size_columns)}; give width height or the other "
            "way round"
        )
    options = SourceOptions(
        ids=arguments.ids,
        size_columns=tuple(arguments.size_columns),
        index=arguments.index,
        counts=arguments.counts,
    )
    check_report_arguments(arguments)
    names = read_names(arguments.names) if arguments.names else ()
    source = open_source(arguments.format, arguments.sources, options, names=names)
    store = import_regions(
        source,
        arguments.output,
        options={"format": arguments.format, **options.as_json()},
        cuts_boxes=arguments.cut_boxes,
        bad_record_limit=arguments.bad_record_limit,
    )
    print(f"written: {arguments.output} ({summary(store)})")
    report(store, arguments.report or arguments.output / REPORT_NAME, arguments)


def summary(store: RegionStore) -> str:
    """What a store holds, in one line."""
    manifest = store.manifest
    counts = manifest["regions_per_image"]
    spread = f"{counts['min']:.0f} to {counts['max']:.0f}"
    parts = [
        f"{manifest['num_images']} images",
        f"{spread} regions each, {manifest['num_regions']} in all",
        f"features of {store.feature_size} numbers",
    ]
    if store.num_classes:
        parts.append(f"distributions over {store.num_classes} classes")
    if manifest["rejected"]:
        parts.append(f"{manifest['rejected']} records left out")
    return "; ".join(parts)
