"""Tasks on tables of texts: records, labels, splits without labels, the original's order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest

from unimo_paddle.adversarial import AdversarialConfig
from unimo_paddle.data.fields import collate
from unimo_paddle.data.loader import Loader
from unimo_paddle.data.original_order import by_epoch, by_seed
from unimo_paddle.data.records import Fault
from unimo_paddle.data.text import TokenizerConfig
from unimo_paddle.errors import UserError
from unimo_paddle.models import ModelConfig
from unimo_paddle.tasks.classification import ClassificationConfig
from unimo_paddle.tasks.dialogue import DialogueConfig
from unimo_paddle.tasks.finetuning import FineTuningTask
from unimo_paddle.tasks.language import LanguageConfig
from unimo_paddle.tasks.regression import RegressionConfig
from unimo_paddle.tasks.seq2seq import Seq2SeqConfig, SourceDataConfig
from unimo_paddle.tasks.text_records import TextDataConfig

MODEL = ModelConfig(
    vocab_size=300,
    hidden_size=16,
    num_layers=1,
    num_heads=2,
    max_positions=66,
    num_roles=3,
    num_turns=4,
)
TOKENIZER = TokenizerConfig(vocab_size=300)
TEXTS = ["a red dog", "the cat sits", "a man runs on", "blue house", "it is so", "no more", "x y z"]


def write(path: Path, header: str, rows: list[str]) -> str:
    path.write_text("\n".join([header, *rows]) + "\n", "utf-8")
    return str(path)


@pytest.fixture
def classifier(tmp_path: Path):
    """Make a classifier of a table with seven rows: (compatibility) -> task, prepared."""
    rows = [f"{number % 2}\t{text}" for number, text in enumerate(TEXTS)]
    train = write(tmp_path / "train.tsv", "label\ttext_a", rows)
    bare = write(tmp_path / "bare.tsv", "text_a", TEXTS[:3])

    def make(compatibility: str = "standard", *, file: str = train) -> FineTuningTask:
        data = TextDataConfig(
            train=file,
            splits={"dev": train, "bare": bare},
            tokenizer=TOKENIZER,
            compatibility=compatibility,
            max_text_length=32,
        )
        task = ClassificationConfig(data=data).build(MODEL, tmp_path / "assets")
        task.prepare(0)
        return task

    return make


def seq2seq(tmp_path: Path, config: type = Seq2SeqConfig, **data) -> FineTuningTask:
    settings = {"tokenizer": TOKENIZER, "max_source_length": 32} | data
    task = config(
        data=SourceDataConfig(**settings), language=LanguageConfig(max_target_length=9)
    ).build(MODEL, tmp_path / "assets")
    task.vocabulary.prepare(lambda: TEXTS)
    return task


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"text_b": "x"}, "'text_a' is missing; found text_b"),
        ({"text_a": " "}, "'text_a' is empty"),
        ({"text_a": "x", "text_b": " "}, "'text_b' is empty"),
        ({"text_a": "x", "label": "2"}, "label '2' is none of 0, 1"),
        ({"text_a": 7}, "'text_a' must be text"),
    ],
)
def test_a_bad_record_of_a_classifier_is_named(classifier, item: dict, message: str) -> None:
    with pytest.raises(Fault, match=message):
        classifier().parse(item)


@pytest.mark.parametrize("label", ["x", "nan", "inf", ""])
def test_a_label_that_is_no_number_is_named(tmp_path: Path, label: str) -> None:
    data = TextDataConfig(tokenizer=TOKENIZER, max_text_length=32)
    task = RegressionConfig(data=data).build(MODEL, tmp_path)
    with pytest.raises(Fault, match="is no finite number"):
        task.parse({"text_a": "x", "label": label})


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"tgt": "x"}, "no column of a source, only tgt"),
        ({"src": "x", "tgt": " "}, "'tgt' is empty"),
        ({"src": None}, "'src' must be text, not 'None'"),
        ({"src": "x", "more": ["y"]}, "'more' must be text"),
    ],
)
def test_a_bad_record_of_a_writer_is_named(tmp_path: Path, item: dict, message: str) -> None:
    with pytest.raises(Fault, match=message):
        seq2seq(tmp_path).parse(item)


def test_words_where_ids_should_be_are_named(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"'dog' is no BPE id, though task.data.is_tokenized is set"):
        seq2seq(tmp_path, is_tokenized=True).parse({"src": "1 2 dog"})


def test_ids_in_cells_are_those_of_the_text(tmp_path: Path) -> None:
    task = seq2seq(tmp_path)
    tokenized = seq2seq(tmp_path, is_tokenized=True)
    text = "a red dog"
    cell = " ".join(map(str, task.tokenizer._bpe.encode(text).ids))
    for name, value in task.encode(task.parse({"src": text})).items():
        expected = tokenized.encode(tokenized.parse({"src": cell}))[name]
        np.testing.assert_array_equal(value, expected)


def test_every_source_column_is_a_piece_in_order(tmp_path: Path) -> None:
    task = seq2seq(tmp_path)
    record = task.parse({"src": "a red dog", "qid": "1", "more": "no more", "tgt": "it is so"})
    assert record.sources == ("a red dog", "no more")


def test_an_empty_source_is_no_fault(tmp_path: Path) -> None:
    task = seq2seq(tmp_path)
    sample = task.encode(task.parse({"src": "", "tgt": "no more"}))
    assert sample["input_ids"][:2].tolist() == [0, 2]


def test_only_the_last_turns_of_a_dialogue_are_kept(tmp_path: Path) -> None:
    task = seq2seq(tmp_path, DialogueConfig)
    turns = " [SEP] ".join(TEXTS)
    sample = task.encode(task.parse({"knowledge": "", "src": turns}))
    assert sample["turn_ids"].max() == MODEL.num_turns - 1


def test_answers_of_a_dialogue_are_compared_as_coqa_does(tmp_path: Path) -> None:
    task = seq2seq(tmp_path, DialogueConfig)
    records = [task.parse({"src": "why", "tgt": target}) for target in ("cat", "red")]
    found = task.judge("dev", [(records[0], "The Cat."), (records[1], "a red dog")])
    assert found["answer_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["answer_exact_match"] == 0.5


def test_an_answer_of_a_dialogue_is_compared_with_everybodys(tmp_path: Path) -> None:
    """As ``tools/score.py coqa`` does: BLEU and ROUGE alone look at ``tgt``."""
    task = seq2seq(tmp_path, DialogueConfig)
    row = {"src": "why", "tgt": "cat", "answers": '["cat", "dog", "dog", ""]'}
    found = task.judge("dev", [(task.parse(row), "the dog")])
    assert found["answer_exact_match"] == 1.0  # whoever is left out, another one said it
    assert task.references([task.parse(row)]) == {0: ["cat"]}


@pytest.mark.parametrize("cell", ["cat", "[]", '["cat", 3]', '{"cat": 1}'])
def test_answers_that_are_no_list_of_texts_are_a_fault(tmp_path: Path, cell: str) -> None:
    with pytest.raises(Fault, match="'answers' must be a JSON list of texts, not"):
        seq2seq(tmp_path, DialogueConfig).parse({"src": "why", "tgt": "cat", "answers": cell})


def test_what_a_dialogue_is_about_must_be_text(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"'knowledge' must be text, not \"\['a red dog'\]\""):
        seq2seq(tmp_path, DialogueConfig).parse({"src": "why", "knowledge": ["a red dog"]})


def test_a_dialogue_without_embeddings_of_roles_is_refused(tmp_path: Path) -> None:
    config = DialogueConfig(data=SourceDataConfig(max_source_length=32))
    with pytest.raises(UserError, match=r"model.num_roles is 0 and model.num_turns 4"):
        config.build(replace(MODEL, num_roles=0), tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ClassificationConfig(data=TextDataConfig(max_text_length=65)), "max_text_length is 65"),
        (Seq2SeqConfig(data=SourceDataConfig(max_source_length=65)), "max_source_length 65"),
    ],
)
def test_texts_longer_than_the_model_are_refused(tmp_path: Path, config, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config.build(MODEL, tmp_path)


def test_a_split_without_labels_is_predicted_but_not_measured(classifier, caplog) -> None:
    task = classifier()
    assert task.evaluation_stream("bare", 2) is None

    def serve(name, stream):
        count = len(stream.records)
        return {"probabilities": np.full((count, 2), 0.5), "index": np.arange(count)}

    assert task.score("bare", serve) == {}
    assert any(line.startswith("3 of 3 records of ") for line in caplog.messages)
    assert [item["index"] for item in task.predictions("bare", serve)] == [0, 1, 2]


def test_a_record_without_a_label_leaves_the_others_measured(classifier, caplog) -> None:
    task = classifier()
    records = list(task.read_split("dev"))
    task._splits["dev"] = [replace(records[0], label=None), *records[1:]]
    stream = task.evaluation_stream("dev", 2)
    assert stream is not None and list(stream.records) == records[1:]

    def serve(name, stream):
        labels = np.array([0.0, *(float(record.label) for record in stream.records[1:])])
        probabilities = np.stack([1 - labels, labels], axis=1)
        return {"probabilities": probabilities, "index": np.arange(len(labels))}

    assert task.score("dev", serve)["accuracy"] == 1.0
    (line,) = [x for x in caplog.messages if "no label" in x]
    assert line.startswith("1 of 7 records of ")


def test_training_on_a_split_without_labels_is_refused(classifier) -> None:
    task = classifier(file=classifier().data.splits["bare"])
    with pytest.raises(UserError, match=r"3 of 3 records .* have no label"):
        task.training_streams(2)


@pytest.mark.parametrize("split", ["test", ""])
def test_an_unknown_split_is_named_with_those_there_are(classifier, split: str) -> None:
    with pytest.raises(UserError, match=r"is not under task.data.splits \(dev, bare\)"):
        classifier().read_split(split)


def test_perfect_predictions_measure_one(classifier) -> None:
    task = classifier()
    records = task.read_split("dev")
    metrics = task.measure([{"label": record.label} for record in records], records)
    assert metrics["accuracy"] == metrics["f1"] == metrics["matthews"] == 1.0


def order_of(task: FineTuningTask, num_epochs: int) -> list[list[int]]:
    """Which records an epoch meets, by their first ids, when batches hold all seven."""
    (stream,) = task.training_streams(len(TEXTS))
    loader = Loader([stream], seed=5)
    firsts = [task.tokenizer.encode(text)[:3] for text in TEXTS]
    rows = [loader.batch(step)["input_ids"][:, 1:4].tolist() for step in range(num_epochs)]
    return [
        [next(i for i, ids in enumerate(firsts) if row[: len(ids)] == ids) for row in epoch]
        for epoch in rows
    ]


def test_a_classifier_follows_the_order_of_the_original(classifier) -> None:
    found = order_of(classifier("original"), 2)
    assert found == [by_epoch(len(TEXTS), epoch).tolist() for epoch in (0, 1)]


def test_a_writer_follows_the_order_of_the_original(tmp_path: Path) -> None:
    rows = [f"{text}\tno" for text in TEXTS]
    train = write(tmp_path / "train.tsv", "src\ttgt", rows)
    task = seq2seq(tmp_path, train=train, compatibility="original")
    for seed in (0, 5):
        task.prepare(seed)
        found = order_of(task, 2)
        assert found == [by_seed(len(TEXTS), epoch, seed).tolist() for epoch in (0, 1)]


def test_training_hides_a_share_of_the_tokens_and_measuring_none(tmp_path: Path) -> None:
    data = TextDataConfig(tokenizer=TOKENIZER, max_text_length=32, masked_share=0.3)
    task = ClassificationConfig(data=data, pooling="mask").build(MODEL, tmp_path / "assets")
    task.vocabulary.prepare(lambda: TEXTS)
    record = task.parse({"text_a": "a red dog", "text_b": "it is so"})
    whole = task.encode(record)["input_ids"]
    assert (whole == task.tokenizer.mask_id).sum() == 1  # the one that the pooling reads
    rng = np.random.default_rng(0)
    hidden = np.array([task.encode(record, rng)["input_ids"] for _ in range(400)])
    is_mark = np.isin(whole, [task.tokenizer.cls_id, task.tokenizer.sep_id, task.tokenizer.mask_id])
    assert (hidden[:, is_mark] == whole[is_mark]).all()
    words = hidden[:, ~is_mark]
    is_masked = words == task.tokenizer.mask_id
    assert (words[~is_masked] == np.broadcast_to(whole[~is_mark], words.shape)[~is_masked]).all()
    deviation = np.sqrt(0.3 * 0.7 / is_masked.size)
    assert abs(is_masked.mean() - 0.3) < 5 * deviation
    assert (is_masked.any(axis=0)).all()


@pytest.mark.parametrize("pooling", ["first", "mean", "mask"])
def test_a_text_is_classified_alike_alone_and_beside_longer_ones(tmp_path: Path, pooling) -> None:
    config = ClassificationConfig(
        data=TextDataConfig(tokenizer=TOKENIZER, max_text_length=32), pooling=pooling
    )
    task = config.build(MODEL, tmp_path / "assets")
    task.vocabulary.prepare(lambda: TEXTS)
    paddle.seed(0)
    with paddle.utils.unique_name.guard():
        network = task.build_network()
    network.eval()

    def probabilities(texts: list[str]) -> np.ndarray:
        samples = [task.encode(task.parse({"text_a": text})) for text in texts]
        batch = {name: paddle.to_tensor(x) for name, x in collate(samples, task.inputs).items()}
        return task.predict(network, batch)["probabilities"].numpy()

    np.testing.assert_allclose(probabilities(TEXTS[:1])[0], probabilities(TEXTS)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TextDataConfig(compatibility="exact"), "task.data.compatibility is 'exact'"),
        (lambda: TextDataConfig(bad_record_limit=2.0), "task.data.bad_record_limit is 2.0"),
        (lambda: TextDataConfig(splits={"train": "x"}), "task.data.splits names 'train'"),
        (lambda: TextDataConfig(max_text_length=2), "task.data.max_text_length is 2"),
        (lambda: TextDataConfig(masked_share=1.0), "task.data.masked_share is 1.0"),
        (lambda: ClassificationConfig(labels=("a",)), "task.labels is"),
        (lambda: ClassificationConfig(labels=("a", "a")), "at least two different names"),
        (lambda: ClassificationConfig(head_dropout=1.0), "task.head_dropout is 1.0"),
        (lambda: ClassificationConfig(pooling="max"), "task.pooling is 'max'; choose one of first"),
        (
            lambda: RegressionConfig(pooling="mean", data=TextDataConfig(compatibility="original")),
            "the original reads the first row",
        ),
        (
            lambda: ClassificationConfig(adversarial=AdversarialConfig(sides="both")),
            "task.adversarial.sides is 'both', but this task has texts only",
        ),
        (
            lambda: DialogueConfig(adversarial=AdversarialConfig(sides="image")),
            "task.adversarial.sides is 'image', but this task has texts only",
        ),
        (lambda: SourceDataConfig(max_source_length=2), "task.data.max_source_length is 2"),
        (lambda: LanguageConfig(max_target_length=1), "task.language.max_target_length is 1"),
        (lambda: LanguageConfig(label_smoothing=1.0), "task.language.label_smoothing is 1.0"),
    ],
)
def test_impossible_setting_is_refused_by_name(make, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
