"""The lexicon: forms of names, what may be the same, and what may take another's place."""

from __future__ import annotations

import pytest

from unimo_paddle.data.rewriting.lexicon import (
    Lexicon,
    Table,
    article_of,
    built_in_lexicon,
    form_of,
    verb_form,
)
from unimo_paddle.errors import UserError

SMALL = """
[animal]
dog, puppy
cat
- sheep
* animal
bird > duck, owl
duck
owl
~ cat, fox

[male > female]
man

[female > male]
woman

[ground, mass]
sand
"""


@pytest.fixture
def table() -> Table:
    return Table(SMALL, "noun")


def replacements(table: Table, name: str) -> list[str]:
    return [idea.name for idea in table.replacements(table.named(name)[0])]


@pytest.mark.parametrize(
    ("form", "found"),
    [
        ("puppies", ("dog", "plural")),
        ("dog", ("dog", "singular")),
        ("women", ("woman", "plural")),
        ("sand", ("sand", "mass")),
    ],
)
def test_a_form_is_found_with_its_number(table: Table, form: str, found: tuple) -> None:
    assert [(idea.name, number) for idea, number in table.found(form)] == [found]


def test_names_of_one_line_are_one_idea(table: Table) -> None:
    assert table.named("dog") == table.named("puppy")


def test_what_captions_leave_unsaid_is_never_put_in(table: Table) -> None:
    assert "sheep" not in replacements(table, "dog")


def test_a_general_word_is_put_in_for_nothing(table: Table) -> None:
    assert replacements(table, "dog") == ["cat", "duck", "owl"]


def test_what_may_be_the_same_is_not_put_in(table: Table) -> None:
    assert replacements(table, "bird") == ["dog", "cat"]


def test_kinds_with_partners_exchange_with_them(table: Table) -> None:
    assert replacements(table, "man") == ["woman"]


def test_likenesses_reach_names_that_no_kind_has(table: Table) -> None:
    assert table.named("cat")[0] in table.named("fox")[0].alike


@pytest.mark.parametrize("text", ["dog\n", "[animal\ndog\n"], ids=["no kind", "no bracket"])
def test_a_broken_table_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="kind"):
        Table(text, "noun")


@pytest.mark.parametrize(
    ("words", "article"), [("elephant", "an"), ("unicycle", "a"), ("hour", "an"), ("dog", "a")]
)
def test_the_article_follows_the_sound(words: str, article: str) -> None:
    assert article_of(words) == article


def test_verbs_are_inflected() -> None:
    assert [verb_form("lie", form) for form in ("VVG", "VVZ", "VVD")] == ["lying", "lies", "lay"]


def test_plurals_of_two_words() -> None:
    lexicon = built_in_lexicon()
    assert form_of(lexicon.objects.named("police officer")[0], "plural") == "police officers"


@pytest.mark.parametrize("part", ["objects", "qualities", "actions", "placings"])
def test_likeness_goes_both_ways_in_the_built_in_lexicon(part: str) -> None:
    lexicon: Lexicon = built_in_lexicon()
    table = getattr(lexicon, part)
    assert [i.name for i in table if any(i not in other.alike for other in i.alike)] == []


@pytest.mark.parametrize("part", ["objects", "qualities", "actions", "placings"])
def test_partners_of_the_built_in_kinds_exist(part: str) -> None:
    table = getattr(built_in_lexicon(), part)
    assert {name for idea in table for name in idea.kind.partners} <= set(table.kinds)
