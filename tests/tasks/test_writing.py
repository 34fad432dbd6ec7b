"""Texts of tasks that write: where they begin and end, what is measured, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.metrics.test_intervals import ends, plain_bootstrap
from unimo_paddle.data.text import TokenizerConfig
from unimo_paddle.errors import UserError
from unimo_paddle.metrics.generation import corpus_bleu
from unimo_paddle.metrics.rouge import F_MEASURE, rouge
from unimo_paddle.models import ModelConfig
from unimo_paddle.models.search import GenerationConfig
from unimo_paddle.tasks.language import LanguageConfig, measure_likelihood
from unimo_paddle.tasks.seq2seq import Seq2SeqConfig, Seq2SeqTask, SourceDataConfig, SourceRecord
from unimo_paddle.tasks.writing import GENERATE, SEED, words_of

TEXTS = ["a red dog sits under the tree", "the blue cat runs", "a man and a dog"]
MODEL = ModelConfig(vocab_size=300, hidden_size=16, num_layers=1, num_heads=2, max_positions=40)


@pytest.fixture
def make_task(tmp_path: Path):
    """Make a task with a small vocabulary: (data, further settings)."""

    def make(data: dict | None = None, **settings) -> Seq2SeqTask:
        tokenizer = TokenizerConfig(vocab_size=300)
        data = SourceDataConfig(tokenizer=tokenizer, max_source_length=20, **(data or {}))
        language = settings.pop("language", LanguageConfig(max_target_length=9))
        task = Seq2SeqConfig(data=data, language=language, **settings).build(MODEL, tmp_path)
        task.vocabulary.prepare(lambda: TEXTS)
        return task

    return make


def outputs_of(task: Seq2SeqTask, texts: list[list[str]]) -> dict[str, np.ndarray]:
    """What the graph gives where it writes these texts, [B][N]."""
    ids = [[[*task.tokenizer.encode(text), task.end_token] for text in row] for row in texts]
    longest = max(len(text) for row in ids for text in row)
    tokens = np.full((len(ids), len(ids[0]), longest + 2), task.end_token)
    for place in np.ndindex(tokens.shape[:2]):
        text = ids[place[0]][place[1]]
        tokens[place][: len(text)] = text
    return {"tokens": tokens, "scores": -np.arange(tokens[..., 0].size).reshape(tokens.shape[:2])}


def test_a_text_ends_at_its_end_without_special_tokens_and_double_spaces(make_task) -> None:
    task = make_task()
    outputs = outputs_of(task, [[" the  blue cat"], ["a man"]])
    outputs["tokens"][1, 0, 0] = task.tokenizer.unk_id
    made = task.decode_texts(outputs)
    assert [item["text"] for item in made] == ["the blue cat", "man"]
    assert "texts" not in made[0]


def test_a_given_beginning_is_part_of_the_text(make_task) -> None:
    task = make_task()
    made = task.decode_texts(outputs_of(task, [[" cat runs"], ["s"]]), prefix="the blue")
    assert [item["text"] for item in made] == ["the blue cat runs", "the blues"]


def test_several_texts_come_best_first(make_task) -> None:
    task = make_task()
    (made,) = task.decode_texts(outputs_of(task, [["a man", "a dog"]]))
    assert made == {"text": "a man", "score": 0.0, "texts": ["a man", "a dog"], "scores": [0, -1]}


def test_a_score_that_is_no_number_is_told(make_task) -> None:
    task = make_task()
    outputs = outputs_of(task, [["a man"]])
    outputs["scores"] = np.full((1, 1), np.nan)
    with pytest.raises(UserError, match="weights are broken; choose an earlier checkpoint"):
        task.decode_texts(outputs)


@pytest.mark.parametrize("is_continuous", [False, True])
def test_a_text_begins_behind_its_source_as_in_training(make_task, is_continuous: bool) -> None:
    task = make_task({"continuous_positions": is_continuous})
    record = SourceRecord(("the blue cat",), "a man")
    whole, begun = task.encode(record), task.begin(record, "a man")
    for name in ("input_ids", "position_ids", "text_mask", "text_order"):
        assert begun[name].tolist() == whole[name][:-1].tolist()  # all but the end
    bare = task.begin(record)
    assert bare["input_ids"].tolist() == whole["input_ids"][: len(bare["input_ids"])].tolist()
    assert bare["text_order"].tolist()[-2:] == [0, 1]


def test_an_empty_source_can_be_written_from(make_task) -> None:
    begun = make_task().begin(SourceRecord(("",)))
    assert begun["input_ids"].tolist() == [0, 2, 0]


def test_only_draws_have_a_seed(make_task) -> None:
    drawing = make_task(generation=GenerationConfig(search="sample"))
    assert SEED in drawing.writing_inputs and drawing.begin(SourceRecord(("x",)))["seed"] == 0
    assert SEED not in make_task().writing_inputs


def test_records_that_are_evaluated_draw_by_seeds_of_their_own(make_task) -> None:
    """They may have the same context: that of a caption is its first token."""
    task = make_task(generation=GenerationConfig(search="sample"))
    records = [SourceRecord(("x",), "a dog")] * 3
    seeds = []

    def serve(name: str, stream) -> dict[str, np.ndarray]:
        for number, record in enumerate(stream.records):
            seeds.append(stream.encode(record, np.random.default_rng((0, number)))[SEED.name])
        return outputs_of(task, [["a dog"]] * len(records)) | {"index": np.arange(len(records))}

    task.texts_of(records, serve)
    assert len(set(seeds)) == 3


def test_texts_are_measured_by_words_of_the_first_records(make_task) -> None:
    task = make_task(language=LanguageConfig(max_target_length=9, written_records=2))
    records = [SourceRecord(("x",), text) for text in ("a red dog sits", "a man.", "a dog")]
    asked = []

    def serve(name: str, stream) -> dict[str, np.ndarray]:
        asked.append((name, len(stream.records)))
        made = [[f"{record.target}"] for record in stream.records]
        return outputs_of(task, made) | {"index": np.arange(len(made))}

    metrics = task.score_texts("dev", records, serve)
    assert asked == [(GENERATE, 2)]
    assert metrics["bleu_1"] == metrics["bleu_4"] == metrics["length_ratio"] == 1.0
    assert metrics["rouge_1"] == metrics["rouge_l"] == metrics["rouge_l_coco"] == 1.0
    assert metrics["rouge_2"] == 1.0 and metrics["written_texts"] == 2
    assert words_of("A man's dog, twice.") == ["a", "man", "s", "dog", "twice"]


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ({"max_length": 38}, "max_length is 38, but model.max_positions 40 holds texts of 38"),
        ({"min_length": 8}, "min_length is 8, but texts end after 8 tokens"),
    ],
)
def test_lengths_that_cannot_be_written_are_refused(
    make_task, generation: dict, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make_task(generation=GenerationConfig(**generation))


@pytest.mark.parametrize(
    "settings",
    [
        {"language": LanguageConfig(max_target_length=19)},
        {"generation": GenerationConfig(max_length=18)},
    ],
)
def test_positions_that_go_on_must_hold_source_and_target(make_task, settings: dict) -> None:
    """20 tokens of a source and 19 of a target, of 38."""
    make_task(**settings)
    with pytest.raises(UserError, match=r"source of 20 and its target take 39; lower"):
        make_task({"continuous_positions": True}, **settings)


def test_a_source_leaves_less_room_for_a_prefix_where_positions_go_on(make_task) -> None:
    task = make_task()
    prefix = " dog" * (29 // len(task.tokenizer.encode(" dog")))  # 38 tokens, 9 are the target's
    record = SourceRecord(("a red dog sits under the tree",))
    task.begin(record, prefix)
    with pytest.raises(UserError, match="shorten it to"):
        make_task({"continuous_positions": True}).begin(record, prefix)


def test_a_beginning_that_leaves_no_room_is_refused(make_task) -> None:
    task = make_task(generation=GenerationConfig(max_length=36))
    with pytest.raises(
        UserError, match=r"leave no room in model\.max_positions 40; shorten it to 1"
    ):
        task.begin(SourceRecord(("x",)), "a man and a dog")


def test_predictions_carry_the_id_of_their_row(make_task, tmp_path: Path) -> None:
    path = tmp_path / "dev.tsv"
    path.write_text("qid\tsrc\ttgt\na_1\tthe dog\ta man\nb_2\tthe cat\ta dog\n", "utf-8")
    task = make_task({"splits": {"dev": str(path)}})

    def serve(name: str, stream) -> dict[str, np.ndarray]:
        count = len(stream.records)
        likely = {"log_likelihood": np.zeros(count), "num_tokens": np.ones(count)}
        texts = outputs_of(task, [["a man"]] * count)
        return (texts if name == GENERATE else likely) | {"index": np.arange(count)}

    found = task.predictions("dev", serve)
    assert [(item["index"], item["id"], item["text"]) for item in found] == [
        (0, "a_1", "a man"),
        (1, "b_2", "a man"),
    ]
    assert task.read_split("dev")[0].sources == ("the dog",)


HYPOTHESES = ["the dog runs", "a man and a dog sit", "two cats", "a dog", "the red tree", "a cat"]
RIGHT = ["the dog runs fast", "a man and a dog", "two cats sit", "a man", "the red tree", "a dog"]


@pytest.mark.parametrize("groups", [None, list("aabbcc")], ids=["alone", "grouped"])
def test_texts_have_the_intervals_of_a_plain_bootstrap(make_task, groups) -> None:
    references = [[text] for text in RIGHT]
    found = make_task().compare_texts(HYPOTHESES, references, groups)

    def bleu_1(items: list[int]) -> float:
        words = [words_of(HYPOTHESES[item]) for item in items]
        return corpus_bleu(words, [[words_of(RIGHT[item])] for item in items]).scores[0]

    rows = rouge(HYPOTHESES, references)["rouge_2"][:, F_MEASURE]
    drawn = groups or range(len(RIGHT))
    assert ends(found, "bleu_1") == pytest.approx(plain_bootstrap(bleu_1, drawn), abs=1e-12)
    expected = plain_bootstrap(lambda items: rows[items].mean(), drawn)
    assert ends(found, "rouge_2") == pytest.approx(expected, abs=1e-12)


def test_likelihood_has_the_interval_of_a_plain_bootstrap() -> None:
    rng, groups = np.random.default_rng(0), [number // 5 for number in range(60)]
    nats, counts = rng.gamma(9.0, size=60), rng.integers(3, 9, size=60)
    items = [{"log_likelihood": -x, "num_tokens": int(n)} for x, n in zip(nats, counts)]
    found = measure_likelihood(items, groups)
    expected = plain_bootstrap(lambda drawn: nats[drawn].sum() / counts[drawn].sum(), groups)
    assert ends(found, "nats_per_token") == pytest.approx(expected, rel=1e-12)
    assert ends(found, "perplexity") == pytest.approx(tuple(np.exp(expected)), rel=1e-12)
