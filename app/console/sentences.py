"""Sentences that Python made, in a reader's language: what a service refuses, and reasons that the ledger
keeps.

Each is written once, in English, where it is made: the command line, the API and the log say it so, and
the ledger keeps it so. The catalogues have it without its values, under the context `CONTEXT`
(`scripts/messages` reads the sources). A page knows a sentence again by what stands around its values,
and says it in the reader's language. A text that is none of ours, as of a partner or a source, stays as
it is; where it stands within a sentence of ours, too.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

CONTEXT = "sentence"
LEAST_WORDS = 2
"""Words that a sentence has besides its values: with fewer it would be known again in any text."""
LONGEST = 4000
"""Characters of a text that is looked at."""

_VALUE = re.compile(r"%\((\w+)\)s")
_WORD = re.compile(r"[^\W\d_]{2,}")
_FREE_WORD = re.compile(r"(?<![\w\0])[^\W\d_]{2,}(?![\w\0])")
"""One that no value may stick to; `_HOLE` stands for each value."""
_HOLE = "\0"
_OF_WORDS = (
    "action", "allowed", "done", "kind", "least", "permission", "role", "state", "takes", "verdict", "way",
    "wrong",
)  # fmt: skip
"""What the names of values end with that are single words of ours."""
_MARKS = ("; ", ": ")
"""Between two sentences in one text."""
_AROUND = re.compile(r"([;,(]?\s*)(.*?)([\s)]*)", re.DOTALL)
_COUNTS = re.compile(r"[\d.,]+ [a-z ]+(?:(?:, | \+ )[\d.,]+ [a-z ]+)*")
_COUNT = re.compile(r"([\d.,]+ )([a-z ]+?)(?=, | \+ |$)")


def words_in(sentence: str) -> int:
    """How many words a sentence has besides its values."""
    return len(_WORD.findall(_VALUE.sub(" ", sentence)))


class _Said(NamedTuple):
    """A text in the reader's language."""

    letters: int
    """How many of its letters were known as ours: of two readings the one with more is right."""
    text: str


@dataclass(frozen=True, slots=True)
class _Form:
    """A sentence of ours."""

    between: Sequence[str]
    """What stands before, between and after its values."""
    names: Sequence[str]
    said: str
    """In the reader's language, with `%(name)s` for each."""

    @classmethod
    def of(cls, sentence: str, said: str) -> _Form:
        """As the catalogue has it."""
        parts = _VALUE.split(sentence)
        return cls([one.replace("%%", "%") for one in parts[::2]], parts[1::2], said)

    @property
    def letters(self) -> int:
        """Of its own."""
        return sum(map(str.isalpha, "".join(self.between)))

    @property
    def free_words(self) -> list[str]:
        """The words by which it can be looked up."""
        return _FREE_WORD.findall(_HOLE.join(self.between))

    def values_in(self, text: str) -> dict[str, str] | None:
        """The values that this text has; `None`: it is another sentence."""
        if not self.names:
            return {} if text == self.between[0] else None
        first, *middle, last = self.between
        place, end = len(first), len(text) - len(last)
        if place > end or not (text.startswith(first) and text.endswith(last)):
            return None
        found: list[str] = []
        for part in middle:
            at = text.find(part, place, end)
            if at < 0:
                return None
            found.append(text[place:at])
            place = at + len(part)
        pairs = list(zip(self.names, [*found, text[place:end]], strict=True))
        values = dict(pairs)
        return values if all(values[name] == value for name, value in pairs) else None


class Sentences:
    """The sentences of one language."""

    def __init__(self, translated: Mapping[str, str], word: Callable[[str], str]) -> None:
        """`translated`: a sentence, with `%(name)s` for its values → the same in that language.
        `word`: gives a single word of ours in that language; another as it is."""
        self._word = word
        self._forms: dict[str, list[_Form]] = defaultdict(list)
        """By the rarest of each one's words."""
        forms = [_Form.of(sentence, said) for sentence, said in translated.items() if said]
        often = Counter(word for form in forms for word in {*form.free_words})
        for form in forms:
            if words := form.free_words:
                self._forms[min(words, key=lambda one: (often[one], one))].append(form)
        self._best: Callable[[str], _Said] = lru_cache(8192)(self._read)

    def say(self, text: str) -> str:
        """A text in that language; as it is where it is none of ours."""
        return self._best(text).text if 0 < len(text) <= LONGEST else text

    def _read(self, text: str) -> _Said:
        """The reading with the most letters of ours."""
        return max(self._readings(text), key=lambda one: one.letters)

    def _readings(self, text: str) -> Iterator[_Said]:
        """In the order of preference."""
        yield self._of_words(text)
        for mark in _MARKS:
            head, between, rest = text.partition(mark)
            if between and head and rest:
                first, second = self._alone(head), self._best(rest)
                yield _Said(first.letters + second.letters, f"{first.text}{mark}{second.text}")
        yield self._alone(text)
        head, between, rest = text.rpartition(" (")
        if between and text.endswith(")"):  # as `(delivery orders:1)` behind a feed's pause
            told = self._best(head)
            what, blank, which = rest.partition(" ")
            yield _Said(told.letters, f"{told.text} ({self._word(what)}{blank}{which}")
        listed = [self._alone(one) for one in text.split(", ")]
        if listed[1:]:
            said = ", ".join(one.text for one in listed)
            yield _Said(sum(one.letters for one in listed), said)

    def _of_words(self, text: str) -> _Said:
        """A single word of ours; or as it is."""
        said = self._word(text)
        return _Said(sum(map(str.isalpha, text)) if said != text else 0, said)

    def _alone(self, text: str) -> _Said:
        """As one sentence, or one word."""
        best = self._of_words(text)
        for word in {*_WORD.findall(text)}:
            for form in self._forms.get(word, ()):
                values = form.values_in(text)
                if (
                    values is not None
                    and (read := self._filled(form, values)).letters > best.letters
                ):
                    best = read
        return best

    def _filled(self, form: _Form, values: Mapping[str, str]) -> _Said:
        said = {name: self._value(name, one) for name, one in values.items()}
        letters = form.letters + sum(one.letters for one in said.values())
        return _Said(letters, form.said % {name: one.text for name, one in said.items()})

    def _value(self, name: str, value: str) -> _Said:
        """A value, where that is ours as well: a sentence, a word, some counts."""
        around = _AROUND.fullmatch(value)
        if around is None or not around[2]:
            return _Said(0, value)
        inner = self._best(around[2])
        if not inner.letters and _COUNTS.fullmatch(around[2]):
            counted = _COUNT.sub(lambda one: one[1] + self._word(one[2]), around[2])
            inner = _Said(0, counted)
        elif not inner.letters and name.endswith(_OF_WORDS):
            inner = _Said(0, ", ".join(map(self._word, around[2].split(", "))))
        return _Said(inner.letters, f"{around[1]}{inner.text}{around[3]}")
