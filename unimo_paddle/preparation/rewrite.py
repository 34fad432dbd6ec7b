"""Rewrite captions: false ones as hard negatives, others that say the same as positives.

Every caption gets captions that differ from it in an object, an attribute, a relation or a phrase,
near captions of other images, and positives. What is put in does not hold for the image, as far as
its captions, tags and graph tell. docs/rewriting.md explains it and the files.

The work is done in blocks beside the output; after any stop the same command goes on, and the file
comes out the same to the byte.

examples:
    python tools/prepare_data.py rewrite --pairs mine/train.jsonl --output mine/train.rewritten
    python tools/prepare_data.py rewrite --pairs mine/train.jsonl --output mine/train.rewritten \\
        --paraphrases mine/back_translated.jsonl --objects objects_vocab.txt
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unimo_paddle.data.publish import publish, sole_writer
from unimo_paddle.data.regions import RegionStores
from unimo_paddle.data.rewriting.corpus import Corpus, CorpusCounts, read_names
from unimo_paddle.data.rewriting.graph import parse_caption
from unimo_paddle.data.rewriting.lexicon import Lexicon, built_in_lexicon, lexicon_text
from unimo_paddle.data.rewriting.paraphrases import read_paraphrases
from unimo_paddle.data.rewriting.rewriter import Rewriter, RewritingConfig
from unimo_paddle.data.rewriting.store import (
    VERSION,
    RewrittenCaptions,
    fingerprint,
    join_blocks,
    save_block,
)
from unimo_paddle.data.rewriting.tagging import tag
from unimo_paddle.data.sources import PairRecord, read_pairs
from unimo_paddle.errors import UserError

BLOCK_SIZE = 256  # records that are written at a time
_LIBRARIES = ("HanTa", "lemminflect", "inflect", "scikit-learn")
_NAMES = {"objects": ("objects",), "attributes": ("qualities",)}
_NAMES |= {"relations": ("actions", "placings")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--pairs", type=Path, required=True, help="image-text pairs, JSON lines")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--regions", type=Path, nargs="+", help="stores of the regions of images without files"
    )
    parser.add_argument("--paraphrases", type=Path, help="texts that say the same, JSON lines")
    for name in _NAMES:
        parser.add_argument(
            f"--{name}",
            type=Path,
            help="names that may be put in, one a line, synonyms by commas (those of the corpus)",
        )
    for item in fields(RewritingConfig):
        parser.add_argument(f"--{item.name}", type=int, default=item.default, help=_HELP[item.name])


def run(arguments: argparse.Namespace) -> None:
    """Write the file of rewritten captions."""
    config = RewritingConfig(
        **{f.name: getattr(arguments, f.name) for f in fields(RewritingConfig)}
    )
    if not arguments.output.name:
        raise UserError(f"--output is '{arguments.output}'; give the path of a file to write")
    lock = arguments.output.with_name(f".{arguments.output.name}.lock")
    with sole_writer(lock, arguments.output):
        _run(arguments, config)


def _run(arguments: argparse.Namespace, config: RewritingConfig) -> None:
    stores = RegionStores(arguments.regions) if arguments.regions else None
    records = read_pairs(arguments.pairs, stores=stores).records
    plan = _plan(arguments, config, records)
    folder = arguments.output.with_name(f"{arguments.output.name}.partial")
    if arguments.output.exists():
        _check_done(arguments.output, plan)
        shutil.rmtree(folder, ignore_errors=True)  # a kill may have come right before this
        print(f"{arguments.output} is there already, made in the same way")
        return
    _check_folder(folder, plan)
    lexicon = built_in_lexicon()
    corpus = _read_corpus(folder, arguments, records, lexicon)
    paraphrases = read_paraphrases(arguments.paraphrases) if arguments.paraphrases else {}
    blocks = _write_blocks(folder, records, corpus, lexicon, config, paraphrases)
    whole = folder / "whole"
    join_blocks(whole, blocks, records, {"plan": plan})
    os.replace(whole, arguments.output)
    shutil.rmtree(folder)
    _report(arguments.output, records, paraphrases)


_HELP = {
    "seed": "of all that is drawn (0)",
    "num_negatives": "false captions of a caption at most (100)",
    "num_sentences": "of them captions of other images at most (30)",
    "num_positives": "true ones at most (4)",
    "pool_size": "captions among which near ones are searched; more are drawn from (100000)",
}


def _plan(
    arguments: argparse.Namespace, config: RewritingConfig, records: Sequence[PairRecord]
) -> dict[str, Any]:
    """All that the output depends on: two runs of one plan write the same bytes."""
    files = {name: getattr(arguments, name) for name in (*_NAMES, "paraphrases")}
    return {
        "version": VERSION,
        "pairs": fingerprint(records),
        "graphs": _checksum(json.dumps([*map(_beside_captions, records)]).encode()),
        "lexicon": _checksum(lexicon_text().encode()),
        **{name: _checksum_file(path) for name, path in files.items()},
        **config.to_json(),
        **{name: version(name) for name in _LIBRARIES},
    }


def _beside_captions(record: PairRecord) -> list[Any]:
    """What else a record says of its image."""
    return [record.tags, record.graph, [item.names for item in record.objects]]


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _checksum_file(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return _checksum(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; check the path") from None


def _check_done(path: Path, plan: dict[str, Any]) -> None:
    if differences := _differences(RewrittenCaptions(path).metadata.get("plan", {}), plan):
        raise UserError(
            f"{path} was made in another way ({differences}); delete it or choose another --output"
        )


def _check_folder(folder: Path, plan: dict[str, Any]) -> None:
    """Begin a folder of blocks, or go on with one of the same plan."""
    path = folder / "plan.json"
    publish(path, lambda unfinished: unfinished.write_text(json.dumps(plan, indent=1), "utf-8"))
    if differences := _differences(json.loads(path.read_text("utf-8")), plan):
        raise UserError(
            f"{folder} holds blocks made in another way ({differences}); delete it, or give the "
            "same options as before"
        )


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {found.get(name)} instead of {wanted.get(name)}"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    )


def _read_corpus(
    folder: Path, arguments: argparse.Namespace, records: Sequence[PairRecord], lexicon: Lexicon
) -> Corpus:
    """Count what all captions say, or read the counts of a run that was stopped later."""
    path = folder / "corpus.json"

    def count(unfinished: Path) -> None:
        counts = CorpusCounts()
        for record in tqdm(records, desc="reading captions", unit="image", mininterval=1):
            for caption in record.captions:
                counts.add(parse_caption(caption, tag(caption), lexicon))
        unfinished.write_text(json.dumps(counts.to_json()), "utf-8")

    publish(path, count)
    names: dict[str, set[str]] = {}
    for name, parts in _NAMES.items():
        if (given := getattr(arguments, name)) is not None:
            names |= read_names(given, {part: getattr(lexicon, part) for part in parts})
    return CorpusCounts(json.loads(path.read_text("utf-8"))).corpus(lexicon, names)


def _write_blocks(
    folder: Path,
    records: Sequence[PairRecord],
    corpus: Corpus,
    lexicon: Lexicon,
    config: RewritingConfig,
    paraphrases: dict[str, tuple[str, ...]],
) -> list[Path]:
    """Write the blocks that are not there yet; returns all of them in order."""
    begins = range(0, len(records), BLOCK_SIZE)
    blocks = [folder / f"{number:06d}.block" for number in range(len(begins))]
    missing = [
        (begin, block) for begin, block in zip(begins, blocks, strict=True) if not block.exists()
    ]
    if missing:
        rewriter = Rewriter(records, corpus, lexicon, config, paraphrases=paraphrases)
        done = len(records) - sum(min(BLOCK_SIZE, len(records) - begin) for begin, _ in missing)
        bar = tqdm(total=len(records), initial=done, desc="rewriting", unit="image", mininterval=1)
        with bar:
            for begin, block in missing:
                end = min(begin + BLOCK_SIZE, len(records))
                rows = list(rewriter.rewrite(begin, end))
                publish(block, lambda path, rows=rows: save_block(path, rows))
                bar.update(end - begin)
    return blocks


def _report(
    path: Path, records: Sequence[PairRecord], paraphrases: dict[str, tuple[str, ...]]
) -> None:
    counts = RewrittenCaptions(path).metadata["counts"]
    num_captions = sum(len(record.captions) for record in records)
    kinds = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number)
    print(f"written: {path}, {path.stat().st_size / 1e6:.1f} MB, {num_captions} captions: {kinds}")
    if paraphrases:
        found = sum(text in paraphrases for record in records for text in record.captions)
        print(f"{found} of {num_captions} captions have paraphrases of their own")
