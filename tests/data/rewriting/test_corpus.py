"""What may be put in: names of the corpus or of a list, phrases that are understood whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.rewriting.cases import OTHERS, corpus_of, parse
from unimo_paddle.data.rewriting.corpus import CorpusCounts, read_names
from unimo_paddle.data.rewriting.lexicon import Lexicon, built_in_lexicon
from unimo_paddle.errors import UserError


def names(ideas) -> set[str]:
    return {idea.name for idea in ideas}


def test_the_vocabulary_is_what_captions_name() -> None:
    things = names(corpus_of("A puppy and a red pony are running .").vocabulary["objects"])
    assert things == {"dog", "horse"}


def test_given_names_take_the_place_of_the_corpus() -> None:
    counts = CorpusCounts()
    counts.add(parse("A dog runs ."))
    corpus = counts.corpus(built_in_lexicon(), {"objects": {"cat", "cow"}})
    assert names(corpus.vocabulary["objects"]) == {"cat", "cow"}


def test_phrases_are_kept_by_kind_and_number() -> None:
    phrases = corpus_of("Two large brown dogs are chasing a small cat .").phrases
    found = {key: [phrase.text for phrase in phrases[key]] for key in phrases}
    assert found == {
        ("animal", "plural"): ["large brown dogs"],
        ("animal", "singular"): ["small cat"],
    }


@pytest.mark.parametrize("caption", ["A grumpy dog .", "A circus dog .", "A dog ."])
def test_phrases_with_unknown_words_or_without_attributes_are_left_out(caption: str) -> None:
    assert corpus_of(caption).phrases == {}


def test_counts_survive_a_file() -> None:
    counts = CorpusCounts()
    for caption in OTHERS:
        counts.add(parse(caption))
    again = CorpusCounts(json.loads(json.dumps(counts.to_json())))
    lexicon = built_in_lexicon()
    assert again.corpus(lexicon) == counts.corpus(lexicon)


def test_a_list_of_names_with_synonyms(tmp_path: Path) -> None:
    lexicon: Lexicon = built_in_lexicon()
    (tmp_path / "names.txt").write_text("puppy,doggy\nyolk\nhot air balloon\n\n", "utf-8")
    names = read_names(tmp_path / "names.txt", {"objects": lexicon.objects})
    assert names == {"objects": {"dog", "hot air balloon"}}


def test_relations_are_looked_up_among_verbs_and_prepositions(tmp_path: Path) -> None:
    lexicon = built_in_lexicon()
    (tmp_path / "names.txt").write_text("on,sitting on\nunder\nriding\n", "utf-8")
    tables = {"actions": lexicon.actions, "placings": lexicon.placings}
    found = read_names(tmp_path / "names.txt", tables)
    assert {"on", "under"} <= found["placings"] and "ride" in found["actions"]


def test_names_of_a_usual_detector_are_known(shared_dir: Path) -> None:
    folder = shared_dir / "vocab" / "visual_genome"
    lexicon = built_in_lexicon()
    objects = read_names(folder / "objects_vocab.txt", {"objects": lexicon.objects})["objects"]
    assert len(objects) > 200


def test_a_list_without_a_known_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("yolk\n", "utf-8")
    with pytest.raises(UserError, match="holds no name that the lexicon knows"):
        read_names(tmp_path / "names.txt", {"objects": built_in_lexicon().objects})
