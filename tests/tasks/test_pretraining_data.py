"""What pre-training reads: nothing is lost on the way, and nothing is ignored in silence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unimo_paddle.config import load_evaluator
from unimo_paddle.data.rewriting import RewrittenCaptions
from unimo_paddle.data.sources import read_pairs
from unimo_paddle.errors import UserError
from unimo_paddle.tasks import pretraining_data
from unimo_paddle.tasks.pretraining import PretrainingConfig
from unimo_paddle.tasks.pretraining_settings import ObjectiveWeights, PretrainingDataConfig

pytestmark = pytest.mark.usefixtures("static_graph")


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0)], ids=["spans", "fragments"])
@pytest.mark.parametrize("max_text_length", [8, 24, 64])
def test_every_token_of_a_long_text_is_seen(
    make_trainer, scenes_dir: Path, tmp_path: Path, weights, max_text_length: int
) -> None:
    text = " ".join(f"word{number} of a long text" for number in range(60))
    (tmp_path / "texts.txt").write_text(text + "\n")
    trainer = make_trainer(
        changes={
            "task.data.source": "files",
            "task.data.pairs": str(scenes_dir / "train.jsonl"),
            "task.data.texts": [str(tmp_path / "texts.txt")],
            "task.data.max_text_length": max_text_length,
            "task.weights.masked_language": weights[0],
            "task.weights.seq2seq_language": weights[1],
            "evaluation.splits": [],
        }
    )
    encoder = trainer.task.encoder
    streams = trainer.task.training_streams(trainer.config.batch_size)
    (stream,) = (stream for stream in streams if stream.name == "texts")
    special = [encoder.tokenizer.cls_id, encoder.tokenizer.sep_id, encoder.tokenizer.mask_id]
    num_seen = 0
    for piece in stream.records:
        sample = stream.encode(piece, np.random.default_rng(0))
        ids = sample["texts_hidden_text_input_ids"]
        assert len(ids) <= max_text_length
        if weights[0]:  # what is hidden stands in the labels; fragments stand in the target
            ids = np.delete(ids, sample["texts_hidden_text_positions"])
            num_seen += len(sample["texts_hidden_text_labels"])
        num_seen += int((~np.isin(ids, special)).sum())
    assert num_seen == len(encoder.tokenizer.encode(text))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pairs", "mine.jsonl"),
        ("texts", ("mine.txt",)),
        ("images", "mine"),
        ("splits", {"dev": "dev.jsonl"}),
    ],
)
def test_files_beside_the_built_in_data_are_refused(name: str, value) -> None:
    with pytest.raises(UserError, match=rf"task\.data\.{name} has no effect on task\.data\.source"):
        PretrainingDataConfig(**{name: value})


def test_pairs_of_which_nothing_is_learnt_are_refused() -> None:
    weights = ObjectiveWeights(contrastive=0.0)
    PretrainingConfig(weights=weights)
    with pytest.raises(UserError, match="nothing is learnt of pairs"):
        PretrainingConfig(weights=weights, masked_pair_share=0.0)


def test_a_start_that_saved_nothing_leaves_nothing_behind(make_trainer, tmp_path: Path) -> None:
    changes = {"task.data.num_visual_words": 16}
    make_trainer(changes=changes)
    first = tmp_path / "run/assets/visual_words.npz"
    kept = first.read_bytes()
    trainer = make_trainer(changes=changes | {"task.data.num_visual_words": 8})
    assert first.read_bytes() != kept
    assert len(trainer.task.encoder.targets.visual_words.bias) == 8


def test_one_logarithm_a_pair_is_evaluated_with_several_captions(
    make_trainer, tmp_path: Path
) -> None:
    changes = {"task.contrast.logarithm": "pair", "task.data.captions_per_image": 2}
    metrics = make_trainer(changes=changes | {"train.max_steps": 1}).train()
    assert np.isfinite(metrics["test"]["loss/contrastive"])


def test_a_damaged_first_image_costs_no_picture(trained_run: Path, tmp_path: Path) -> None:
    evaluator = load_evaluator(trained_run)
    task, (first, *others) = evaluator.task, evaluator.task.encoder.read_split("test")
    before = task.pictures("test", evaluator.serve)
    broken = tmp_path / "broken.png"
    broken.write_bytes(first.image.read_bytes()[:60])
    task.encoder.read_split = lambda split: [replace(first, image=broken), *others]
    after = task.pictures("test", evaluator.serve)
    assert after.keys() == before.keys()
    assert not np.array_equal(after["attention"], before["attention"])  # of the second image


def test_an_image_is_mirrored_against_none_of_its_rewrites(
    make_trainer, candidates, scenes_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(
        changes={
            "task.data.rewrites": str(candidates["rewrites"]),
            "task.data.mined": str(candidates["mined"]),
            "task.contrast": {"rewrites_per_pair": 3, "others_per_pair": 2, "texts_per_pair": 1},
        }
    )
    plain, met = pretraining_data.choose_view, []

    def watch(image, config, *, rng, captions):
        met.append(captions)
        return plain(image, config, rng=rng, captions=captions)

    monkeypatch.setattr(pretraining_data, "choose_view", watch)
    streams = trainer.task.training_streams(trainer.config.batch_size)
    (stream,) = (stream for stream in streams if stream.name == "pairs")
    stream.encode(3, np.random.default_rng(0))
    ((caption, same, *negatives, sentence),) = met
    records = read_pairs(scenes_dir / "train.jsonl").records
    rewritten, number = RewrittenCaptions(candidates["rewrites"], records), 3
    place = records[number].captions.index(caption)
    assert caption == same and sentence not in records[number].captions
    assert set(negatives) <= {item.text for item in rewritten.negatives(number, place)}
    assert len(negatives) == 3
