"""The byte-level BPE: the original's ids, training, damaged vocabularies."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from unimo_paddle.data.text import Tokenizer, TokenizerConfig, build_tokenizer, split_at_words
from unimo_paddle.errors import UserError

CORPUS = [
    "a red circle sits left of a small blue square .",
    "two dogs are playing in the snow .",
    "a small red square and a large blue circle .",
] * 5


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return Tokenizer.train(CORPUS, 320)


@pytest.fixture(scope="module")
def official(shared_dir) -> Tokenizer:
    folder = shared_dir / "vocab" / "roberta"
    names = ("encoder.json", "vocab.bpe", "vocab.txt")
    return Tokenizer.from_files(*(folder / f"unimo_en.{name}" for name in names))


@pytest.fixture(scope="module")
def recordings(shared_dir) -> dict:
    path = shared_dir / "reference" / "official" / "tokenizer.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_ids_are_the_originals(official, recordings):
    texts = [case["text"] for case in recordings["cases"]]
    assert official.encode_batch(texts) == [case["ids"] for case in recordings["cases"]]


def test_tokens_are_the_originals(official, recordings):
    # The original names a token by its BPE id, which is its row in the vocabulary file.
    rows = [[official._rows[i] for i in case["ids"]] for case in recordings["cases"]]
    assert rows == [case["tokens"] for case in recordings["cases"]]


def test_decoded_text_is_the_originals(official, recordings):
    cases = recordings["cases"] + recordings["decode_cases"]
    assert [official.decode(case["ids"]) for case in cases] == [c["decoded"] for c in cases]


def test_special_ids_are_the_originals(official, recordings):
    special = recordings["special"]
    found = (official.cls_id, official.pad_id, official.sep_id, official.unk_id, official.mask_id)
    names = ("cls_token_id", "pad_token_id", "sep_token_id", "unk_token_id", "mask_token_id")
    assert found == tuple(special[name] for name in names)
    assert official.vocab_size == recordings["vocab_size"]


def test_tokens_that_open_a_word_are_the_originals(official, recordings):
    opens = official.opens_word & ~official.is_special
    digest = hashlib.sha1(opens.astype(np.uint8).tobytes()).hexdigest()
    assert digest == recordings["is_full_token_sha1"]


def test_a_token_without_a_row_becomes_unknown(shared_dir):
    folder = shared_dir / "vocab" / "roberta"
    mini = Tokenizer.from_files(
        folder / "unimo_en.encoder.json",
        folder / "unimo_en.vocab.bpe",
        shared_dir / "reference" / "official" / "mini_vocab.txt",
    )
    assert mini.vocab_size == 1000
    assert mini.encode("two dogs are playing in the snow.") == [3, 3, 32, 816, 11, 5, 3, 4]


def test_ids_are_those_of_the_originals_reader(official, shared_dir):
    folder = shared_dir / "reference" / "official"
    line = (folder / "reader_inputs" / "sst2.tsv").read_text(encoding="utf-8").splitlines()[1]
    recorded = np.load(folder / "reader_cls_single.npz")["0/src_ids"][0, :, 0]
    ids = [0, *official.encode(line.split("\t")[1]), 2]
    assert ids == recorded[: len(ids)].tolist()


def test_a_trained_vocabulary_has_the_size_asked_for_and_the_special_ids(trained):
    assert trained.vocab_size == 320
    assert trained.mask_id == 319
    assert trained.is_special[[0, 1, 2, 3, 319]].all()


def test_training_twice_gives_the_same_vocabulary(trained):
    again = Tokenizer.train(CORPUS, 320)
    assert again._rows == trained._rows
    assert again._merges == trained._merges


@pytest.mark.parametrize(
    "text",
    ["", " ", "a red circle", "Ünïcödé ✓ 漢字", "[MASK] [CLS]", "tab\tnew\nline", "\x00\x7f"],
)
def test_every_text_survives_the_round_trip(trained, text):
    ids = trained.encode(text)
    assert trained.decode(ids) == text
    assert not trained.is_special[ids].any()


def test_common_words_are_one_token(trained):
    assert len(trained.encode("a small red square")) == 4


def test_a_token_opens_a_word_where_it_starts_with_a_space(trained):
    first, second = trained.encode("square square")[0], trained.encode(" square")[0]
    assert not trained.opens_word[first]
    assert trained.opens_word[second]


def test_special_ids_are_left_out_of_decoded_text(trained):
    ids = [trained.cls_id, *trained.encode("a red circle"), trained.sep_id, trained.mask_id]
    assert trained.decode(ids) == "a red circle"


def test_batch_and_single_encoding_agree(trained):
    assert trained.encode_batch(CORPUS) == [trained.encode(text) for text in CORPUS]


def test_a_saved_vocabulary_loads_equal(trained, tmp_path):
    trained.save(tmp_path / "vocab")
    loaded = Tokenizer.load(tmp_path / "vocab")
    assert loaded.vocab_size == trained.vocab_size
    assert loaded.encode_batch(CORPUS) == trained.encode_batch(CORPUS)
    assert (loaded.opens_word == trained.opens_word).all()


def test_a_config_without_files_trains_and_one_with_files_loads(trained, tmp_path):
    trained.save(tmp_path)
    files = [tmp_path / name for name in ("encoder.json", "vocab.bpe", "vocab.txt")]
    assert build_tokenizer(TokenizerConfig(vocab_size=300), lambda: CORPUS).vocab_size == 300
    assert build_tokenizer(TokenizerConfig(*files), list).vocab_size == 320


def test_a_config_with_some_of_the_files_is_refused(tmp_path):
    with pytest.raises(UserError, match="belong together; 1 of 3 given"):
        TokenizerConfig(vocab_txt=tmp_path / "vocab.txt")


def test_a_vocabulary_smaller_than_the_bytes_is_refused():
    with pytest.raises(UserError, match="vocab_size 100 is too small"):
        TokenizerConfig(vocab_size=100)


def _swap_line(number: int, text: str):
    def damage(content: str) -> str:
        lines = content.split("\n")
        lines[number] = text
        return "\n".join(lines)

    return damage


DAMAGES = {
    "rows without [CLS]": ("vocab.txt", _swap_line(0, "[BOS]"), r"row 1 of 320 must be \[CLS\]"),
    "rows without [MASK]": ("vocab.txt", lambda s: s.replace("[MASK]\n", ""), r"must be \[MASK\]"),
    "an empty row file": ("vocab.txt", lambda s: "", r"row 1 of 0 must be \[CLS\]"),
    "an id out of range": ("vocab.txt", _swap_line(9, "99999"), "row 10 names BPE id 99999"),
    "a row that is a word": ("vocab.txt", _swap_line(9, "hello"), "row 10 is 'hello'"),
    "a row twice": ("vocab.txt", _swap_line(9, "0"), "rows 5 and 10 are both '0'"),
    "an encoder that is no JSON": ("encoder.json", lambda s: s[:-5], "is not JSON"),
    "an encoder that is a list": ("encoder.json", lambda s: "[1, 2]", "must be one JSON object"),
    "an encoder with gaps": ("encoder.json", lambda s: '{"a": 5}', "are not 0 .. 0"),
    "an encoder without bytes": ("encoder.json", lambda s: '{"a": 0}', "lacks 255 of the 256"),
    "a merge of one token": ("vocab.bpe", _swap_line(1, "one"), "vocab.bpe:2: 'one' is not two"),
    "a merge of strangers": ("vocab.bpe", _swap_line(1, "qq zz"), "merge 0 .* which the encoder"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_wrong_vocabulary_file_is_one_clear_line(case, trained, tmp_path):
    name, damage, message = DAMAGES[case]
    trained.save(tmp_path)
    path = tmp_path / name
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        Tokenizer.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_vocabulary_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"encoder\.json cannot be read: No such file"):
        Tokenizer.load(tmp_path)


def test_a_vocabulary_that_is_not_text_is_named(trained, tmp_path):
    trained.save(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        Tokenizer.load(tmp_path)


def test_long_text_is_cut_where_words_begin():
    opens_word = np.array([True, True, False, True])
    # Words: 1 2 | 3 | 1 2 2 | 3
    assert split_at_words([1, 2, 3, 1, 2, 2, 3], opens_word, 4) == [[1, 2, 3], [1, 2, 2, 3]]


def test_a_word_longer_than_the_limit_is_cut_inside():
    assert split_at_words([0, 1, 1, 1, 1], np.array([True, False]), 2) == [[0, 1], [1, 1], [1]]


def test_short_text_stays_whole():
    assert split_at_words([0, 0], np.array([True]), 2) == [[0, 0]]
