"""What words name: ideas of several kinds, and which ideas may be one and the same thing.

Rewriting replaces one idea by another of its kind, and must know when the new caption could still
be true: a "puppy" is a dog, a "bird" may be a duck, a "jacket" may be called a coat. The built-in
tables are ``object_names`` and ``quality_names``, which also explain their notation.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from unimo_paddle.data.rewriting.object_names import THINGS
from unimo_paddle.data.rewriting.place_names import PLACES
from unimo_paddle.data.rewriting.quality_names import ACTIONS, PLACINGS, QUALITIES
from unimo_paddle.errors import UserError

SINGULAR, PLURAL, MASS = "singular", "plural", "mass"
# Forms of a verb as the tagger (CLAWS C5) and lemminflect (Penn) call them.
VERB_FORMS = {"VVB": "VBP", "VVI": "VB", "VVZ": "VBZ", "VVG": "VBG", "VVD": "VBD"}
MAX_NAME_WORDS = 3

_HEADER = re.compile(
    r"\[(?P<name>[^,>\]]+?)(?: of (?P<heads>[^\]]+?))?(?: > (?P<partners>[^\]]+?))?"
    r"(?P<number>, (?:mass|plural))?\]"
)


@dataclass(frozen=True)
class Kind:
    """Ideas that can take each other's places in a sentence.

    Args:
        partners: names of the kinds whose ideas are put in; its own where none are given.
        heads: kinds or names of the things that a quality is said of; none means all.
        number: of the nouns, where it is not free: "mass" or "plural".
    """

    name: str
    partners: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    number: str | None = None


@dataclass(frozen=True, eq=False)
class Idea:
    """One thing, quality, action or place, under all its names, the usual one first.

    Args:
        is_said: captions name it where it is seen, so that it may be put in.
    """

    names: tuple[str, ...]
    kind: Kind
    is_said: bool
    alike: set[Idea] = field(default_factory=set, repr=False)

    @property
    def name(self) -> str:
        """The usual name."""
        return self.names[0]


class Table:
    """The ideas of one part of speech, found by the forms of their names."""

    def __init__(self, text: str, part: str) -> None:
        self.kinds: dict[str, list[Idea]] = {}
        self._part = part
        self._by_name: dict[str, list[Idea]] = {}
        self._by_form: dict[str, list[tuple[Idea, str]]] = {}
        _parse(text, self)

    def add(self, idea: Idea) -> None:
        """Take an idea up, with every form of its names; it is alike to itself."""
        idea.alike.add(idea)
        self.kinds.setdefault(idea.kind.name, []).append(idea)
        for name in idea.names:
            self._by_name.setdefault(name, []).append(idea)
            for form, number in _forms(name, self._part, idea.kind):
                found = self._by_form.setdefault(form, [])
                if (idea, number) not in found:
                    found.append((idea, number))

    def named(self, name: str) -> list[Idea]:
        """The ideas of a name as it stands in the table."""
        return self._by_name.get(name, [])

    def found(self, form: str) -> list[tuple[Idea, str]]:
        """The ideas that a form may name, each with its number or the form of the verb."""
        return self._by_form.get(form, [])

    def replacements(self, idea: Idea) -> Iterator[Idea]:
        """Ideas that can take its place and cannot be the same thing."""
        for kind in idea.kind.partners or (idea.kind.name,):
            for other in self.kinds.get(kind, ()):
                if other.is_said and other not in idea.alike:
                    yield other

    def __iter__(self) -> Iterator[Idea]:
        return (idea for ideas in self.kinds.values() for idea in ideas)


@dataclass(frozen=True)
class Lexicon:
    """The four tables."""

    objects: Table
    qualities: Table
    actions: Table
    placings: Table


# Tables of the parts of speech, in the order of Lexicon.
_BUILT_IN = {
    "noun": THINGS + PLACES,
    "adjective": QUALITIES,
    "verb": ACTIONS,
    "preposition": PLACINGS,
}


@functools.cache
def built_in_lexicon() -> Lexicon:
    """The lexicon of this package; a second's work, done once a process."""
    return Lexicon(*(Table(text, part) for part, text in _BUILT_IN.items()))


def lexicon_text() -> str:
    """The tables of the built-in lexicon, to tell one version of it from another."""
    return "\n".join(_BUILT_IN.values())


def plural_of(name: str) -> str:
    """The plural of a noun: "police officer" gives "police officers"."""
    return _engine().plural_noun(name) or name


@functools.lru_cache(maxsize=100_000)
def article_of(words: str) -> str:
    """The indefinite article before these words: "a" or "an"."""
    return _engine().a(words.split()[0]).split()[0] if words.split() else "a"


@functools.lru_cache(maxsize=10_000)
def verb_form(lemma: str, form: str) -> str:
    """A form of a verb, named as the tagger names it: ("lie", "VVG") gives "lying"."""
    from lemminflect import getInflection

    found = getInflection(lemma, VERB_FORMS[form])
    return found[0] if found else lemma


def form_of(idea: Idea, number: str) -> str:
    """The usual name of a thing in a number."""
    free = idea.kind.number is None
    return plural_of(idea.name) if free and number == PLURAL else idea.name


@functools.cache
def _engine() -> Any:
    import inflect  # seconds, which those who only read rewrites need not wait

    return inflect.engine()


def _forms(name: str, part: str, kind: Kind) -> Iterator[tuple[str, str]]:
    if part == "verb":
        for form in VERB_FORMS:
            yield verb_form(name, form), form
    elif part != "noun" or kind.number is not None:
        yield name, kind.number or SINGULAR
    else:
        yield name, SINGULAR
        yield plural_of(name), PLURAL


def _parse(text: str, table: Table) -> None:
    """Read the notation: all ideas first, then what is alike."""
    kind, likenesses = None, []
    text = re.sub(r",\n\s*", ", ", text)
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("["):
            kind = _parse_header(line)
            continue
        if kind is None:
            raise UserError(f"lexicon line {line[:60]!r} stands before the first [kind]")
        mark, names = (line[0], line[2:]) if line[:2] in ("- ", "* ", "~ ") else ("", line)
        names, _, children = names.partition(" > ")
        if mark == "~":
            likenesses.append((_names(children) or _names(names), _names(names)))
            continue
        idea = Idea(_names(names), kind, is_said=not mark and not children)
        table.add(idea)
        if children:
            likenesses.append((_names(children), idea.names[:1]))
        elif mark == "*":
            likenesses.append((None, (idea, kind.name)))
    other = Kind("other")
    for names, general in likenesses:
        if names is None:
            idea, kind_name = general
            _join_all((idea, child) for child in table.kinds[kind_name])
            continue
        groups = [_look_up(name, table, other) for name in names]
        if general == names:
            _join_all(
                (a, b) for first, second in combinations(groups, 2) for a in first for b in second
            )
        else:
            tops = _look_up(general[0], table, other)
            _join_all((top, child) for top in tops for group in groups for child in group)


def _parse_header(line: str) -> Kind:
    found = _HEADER.fullmatch(line)
    if not found:
        raise UserError(f"lexicon header {line[:60]!r} is none; write [kind] or [kind > others]")
    number = (found["number"] or "").strip(", ") or None
    return Kind(found["name"], _names(found["partners"]), _names(found["heads"]), number)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _look_up(name: str, table: Table, other: Kind) -> list[Idea]:
    """The ideas of a name; one that only likenesses mention is an idea that is never put in."""
    if not table.named(name):
        table.add(Idea((name,), other, is_said=False))
    return table.named(name)


def _join_all(pairs: Iterable[tuple[Idea, Idea]]) -> None:
    for first, second in pairs:
        first.alike.add(second)
        second.alike.add(first)
