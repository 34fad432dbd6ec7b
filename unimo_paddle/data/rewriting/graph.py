"""The scene graph of a caption: objects, attributes and relations, by rules over tagged words.

An object is a noun of the lexicon at the end of its phrase ("court" in "a tennis court" with the
nouns before it); its attributes are words of the lexicon before it; a relation is a preposition
before it, or a verb. What the lexicon does not know is no part of the graph, and never changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from unimo_paddle.data.rewriting.lexicon import (
    MASS,
    MAX_NAME_WORDS,
    SINGULAR,
    VERB_FORMS,
    Idea,
    Lexicon,
    Table,
)
from unimo_paddle.data.rewriting.tagging import Word

_DETERMINERS = ("AT0", "DPS", "DT0")
# Words that are tagged as if they could begin a phrase, and cannot.
_NO_DETERMINERS = {"each", "there", "no", "every"}


@dataclass(frozen=True)
class Attribute:
    """A quality of an object; words ``first`` to ``last``, that one left out."""

    first: int
    last: int
    ideas: tuple[Idea, ...]


@dataclass(frozen=True)
class Mention:
    """An object with its attributes.

    Args:
        first: the first word of the phrase after article and number: an adjective, or the noun.
        noun: the first word of the noun, other nouns before it included.
        head: the first word of the name that the lexicon knows.
        last: the word after the noun.
        determiner: the word of the article or the like, if there is one.
        ideas: what the name may mean, the likeliest first.
        number: "singular", "plural" or "mass".
    """

    first: int
    noun: int
    head: int
    last: int
    determiner: int | None
    ideas: tuple[Idea, ...]
    number: str
    attributes: tuple[Attribute, ...]

    @property
    def idea(self) -> Idea:
        """The likeliest meaning."""
        return self.ideas[0]


@dataclass(frozen=True)
class Relation:
    """A verb or preposition; ``subject`` and ``target`` are numbers of mentions, where known.

    Args:
        form: of a verb, as the tagger names it; none for a preposition.
    """

    first: int
    last: int
    ideas: tuple[Idea, ...]
    subject: int | None
    target: int | None
    form: str | None = None


@dataclass(frozen=True)
class SceneGraph:
    """What a caption says."""

    caption: str
    words: tuple[Word, ...]
    mentions: tuple[Mention, ...]
    relations: tuple[Relation, ...]


def parse_caption(caption: str, words: Sequence[Word], lexicon: Lexicon) -> SceneGraph:
    """Find the objects, attributes and relations of a tagged caption."""
    words = tuple(_with_prepositions(words, lexicon))
    mentions = tuple(_find_mentions(words, lexicon))
    mentions = tuple(
        _with_corner(words, mentions, number, lexicon) for number in range(len(mentions))
    )
    relations = (*_find_placings(words, mentions, lexicon), *_find_verbs(words, mentions, lexicon))
    return SceneGraph(caption, words, mentions, tuple(sorted(relations, key=lambda x: x.first)))


def _with_prepositions(words: Sequence[Word], lexicon: Lexicon) -> list[Word]:
    """The words, those of longer prepositions tagged as such: "right" in "right of" is no noun."""
    found = list(words)
    at = 0
    while at < len(words):
        match = _longest(words, at, lexicon.placings)
        last = match[0] if match else at + 1
        if last > at + 1:
            found[at:last] = [replace(word, tag="PRP") for word in words[at:last]]
        at = last
    return found


def ideas_in(words: Sequence[Word], table: Table) -> dict[Idea, str]:
    """Every idea that any words of a caption may name, whatever their part of speech, and how."""
    found: dict[Idea, str] = {}
    for first in range(len(words)):
        for last in range(first + 1, min(first + MAX_NAME_WORDS, len(words)) + 1):
            said = join(words, first, last)
            found |= {idea: said for idea, _ in table.found(said)}
    return found


def join(words: Sequence[Word], first: int, last: int) -> str:
    """The words as the lexicon writes them."""
    return " ".join(word.form for word in words[first:last])


def _longest(
    words: Sequence[Word], first: int, table: Table
) -> tuple[int, list[tuple[Idea, str]]] | None:
    """The longest name that begins at a word: the word after it, and what it may mean."""
    for last in range(min(first + MAX_NAME_WORDS, len(words)), first, -1):
        if found := table.found(join(words, first, last)):
            return last, found
    return None


def _find_mentions(words: Sequence[Word], lexicon: Lexicon) -> Iterator[Mention]:
    at = 0
    while at < len(words):
        found = _longest(words, at, lexicon.objects)
        if found is None or not words[found[0] - 1].is_noun:
            at += 1
            continue
        last, meanings = found
        if last < len(words) and (words[last].is_noun or words[last].is_adjective):
            # "dog" in "dog park" is no object of its own, nor is "sky" in "sky blue".
            at += 1
            continue
        mention = _mention(words, at, last, meanings, lexicon)
        if mention is not None:
            yield mention
        at = last


def _mention(
    words: Sequence[Word],
    head: int,
    last: int,
    meanings: list[tuple[Idea, str]],
    lexicon: Lexicon,
) -> Mention | None:
    noun = head
    while noun and _belongs_to_noun(words[noun - 1], lexicon):
        noun -= 1
    first = noun
    while first and _qualifies(words, first - 1):
        first -= 1
    before = words[first - 1] if first else None
    has_determiner = before is not None and (
        before.tag in _DETERMINERS and before.form not in _NO_DETERMINERS
    )
    is_counted = first < noun and _begins_with_number(words[first], lexicon)
    # Without an article a singular noun is a stuff ("on sand") or none that can be exchanged.
    numbers = {number for _, number in meanings}
    if SINGULAR in numbers and not has_determiner and not is_counted:
        stuffs = [meaning for meaning in meanings if meaning[1] == MASS]
        meanings = stuffs or meanings
    number = meanings[0][1]
    ideas = tuple(idea for idea, other in meanings if other == number)
    return Mention(
        first=first,
        noun=noun,
        head=head,
        last=last,
        determiner=first - 1 if has_determiner else None,
        ideas=ideas,
        number=number,
        attributes=tuple(_attributes(words, first, noun, lexicon)),
    )


def _belongs_to_noun(word: Word, lexicon: Lexicon) -> bool:
    """Whether a word before a noun is part of it; "spiking" is a verb taken for a noun."""
    is_quality = bool(lexicon.qualities.found(word.form))
    return word.is_noun and not is_quality and not word.form.endswith("ing")


def _begins_with_number(word: Word, lexicon: Lexicon) -> bool:
    return any(idea.kind.name == "number" for idea, _ in lexicon.qualities.found(word.form))


def _qualifies(words: Sequence[Word], at: int) -> bool:
    """Whether a word before a phrase belongs to it: an adjective, a number, "and" between two."""
    word, before = words[at], words[at - 1] if at else None
    if word.is_adjective or word.tag in ("CRD", "ORD", "VVN"):
        return word.form != "other"
    if word.is_noun:
        return before is not None and (
            before.tag in _DETERMINERS or before.is_adjective or before.form in ("and", ",")
        )
    if word.tag == "VVG":
        return before is not None and (before.tag in ("AT0", "CRD") or before.is_adjective)
    if word.form in ("and", ",") and before is not None:
        return before.is_adjective and words[at + 1].is_adjective
    return False


def _attributes(
    words: Sequence[Word], first: int, last: int, lexicon: Lexicon
) -> Iterator[Attribute]:
    at = first
    while at < last:
        found = _longest(words[:last], at, lexicon.qualities)
        if found is None:
            at += 1
            continue
        yield Attribute(at, found[0], tuple(idea for idea, _ in found[1]))
        at = found[0]


def _with_corner(
    words: Sequence[Word], mentions: Sequence[Mention], number: int, lexicon: Lexicon
) -> Mention:
    """The mention with the corner that is said right behind it, or else right before it."""
    mention = mentions[number]
    begin = mention.first if mention.determiner is None else mention.determiner
    for first, last in ((mention.last + 2, mention.last + 4), (begin - 2, begin)):
        if first < 2 or last > len(words) or join(words, first - 2, first) != "in the":
            continue
        ideas = tuple(
            idea
            for idea, _ in lexicon.qualities.found(join(words, first, last))
            if idea.kind.name == "corner"
        )
        is_taken = first < mention.first and any(m.last == first - 2 for m in mentions)
        if ideas and not is_taken:
            attributes = (*mention.attributes, Attribute(first, last, ideas))
            return replace(mention, attributes=attributes)
    return mention


def _find_placings(
    words: Sequence[Word], mentions: Sequence[Mention], lexicon: Lexicon
) -> Iterator[Relation]:
    """Prepositions right before a mention."""
    for number, mention in enumerate(mentions):
        begin = mention.first if mention.determiner is None else mention.determiner
        for first in range(max(0, begin - 4), begin):
            found = lexicon.placings.found(join(words, first, begin))
            if found:
                things = (n for n in range(number) if mentions[n].idea.kind.name != "thing")
                subject = max(things, default=None)
                yield Relation(first, begin, tuple(idea for idea, _ in found), subject, number)
                break


def _find_verbs(
    words: Sequence[Word], mentions: Sequence[Mention], lexicon: Lexicon
) -> Iterator[Relation]:
    for at, word in enumerate(words):
        if word.tag not in VERB_FORMS:
            continue
        found = lexicon.actions.found(word.form)
        forms = {form for _, form in found}
        form = word.tag if word.tag in forms else None
        if form is None:
            continue
        target = next(
            (
                number
                for number, m in enumerate(mentions)
                if (m.first if m.determiner is None else m.determiner) == at + 1
            ),
            None,
        )
        before = [number for number, m in enumerate(mentions) if m.last <= at]
        ideas = tuple(idea for idea, other in found if other == form)
        yield Relation(at, at + 1, ideas, before[-1] if before else None, target, form)
