"""Reads `feeds.toml`: its feeds, with each `${NAME}` replaced from the environment, and every
problem found.

No problem shows the value of a `${NAME}`.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.core.env_file import read_text, unreadable
from app.core.errors import Problem
from app.core.masking import longest_first, secrets_of_url
from app.core.secret_files import FILE_SUFFIX, read_secret_files
from app.core.wrong_values import allowed, found, names_of, place, shown
from app.feeds.auth import url_fields
from app.feeds.cursors import of_another
from app.feeds.feed import Feed

REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_URLS = {
    ("partner", "url"),
    ("partner", "status_url"),
    *(("partner", "auth", name) for name in url_fields()),
}
_OURS = ("name", "secrets")
"""Fields of a feed that are not written: the table's own name says the one, `${NAME}` the other."""
_NOT_A_FIELD = "no such field: remove it"
_SHORTEST_SECRET = 4
"""Characters. A shorter value would be found, and masked, in many a text that has nothing to do
with it.
"""
_SET = "set {0} or {0}_FILE in the environment or .env"

Document = Mapping[str, Any]
"""A parsed TOML file."""
Check = Callable[[Feed], Iterable[Problem]]
"""Yields what is wrong with a feed beyond what its types can tell."""


def read_document(path: Path) -> tuple[Document, list[Problem]]:
    """The file, and what keeps it from being read."""
    where = str(path)
    try:
        return tomllib.loads(read_text(path)), []
    except FileNotFoundError:
        return {}, [
            Problem(where, "FEEDS_FILE", "no such file", "write one: feeds.example.toml shows how")
        ]
    except tomllib.TOMLDecodeError as error:
        return {}, [Problem(where, "TOML", str(error), "valid TOML 1.0")]
    except (OSError, UnicodeDecodeError) as error:
        return {}, [Problem(where, "FEEDS_FILE", unreadable(error), "a readable UTF-8 file")]


def hash_of(document: Document) -> str:
    """A hash of the file as written: see `config.Config`."""
    text = json.dumps(document, sort_keys=True, default=str)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Reading:
    """Reads feeds from a document."""

    where: str
    """The file, for problems."""
    environment: Mapping[str, str]
    """What `${NAME}` may stand for, and `NAME_FILE` names."""
    directory: Path
    """Where their relative paths start."""
    check: Check

    def feeds(self, document: Document) -> tuple[dict[str, Feed], list[Problem]]:
        """The feeds that are right, and what is wrong with the others."""
        tables = document.get("feeds")
        if not isinstance(tables, dict) or not tables or set(document) != {"feeds"}:
            return {}, [
                Problem(
                    self.where,
                    "feeds",
                    ", ".join(document) or "nothing",
                    "tables [feeds.<name>], at least one",
                )
            ]
        feeds: dict[str, Feed] = {}
        problems: list[Problem] = []
        for name, table in tables.items():
            feed, wrong = self._feed(name, table)
            problems += wrong
            if feed is not None:
                feeds[name] = feed
        return feeds, problems

    def _feed(self, name: str, table: object) -> tuple[Feed | None, list[Problem]]:
        if not isinstance(table, dict):
            return None, [
                Problem(self.where, f"feeds.{name}", shown(table), f"a table [feeds.{name}]")
            ]
        where, wanted = self.where, sorted(set(references(table)))
        from_files, problems = read_secret_files(wanted, self.environment, self.directory)
        environment = {**self.environment, **from_files}
        problems += [
            Problem(where, f"feeds.{name}", f"${{{variable}}}", _SET.format(variable))
            for variable in wanted
            if variable not in environment and variable + FILE_SUFFIX not in environment
        ]
        problems += [
            Problem(where, f"feeds.{name}.{ours}", "a value", _NOT_A_FIELD)
            for ours in _OURS
            if ours in table
        ]
        if problems:
            return None, problems
        feed: Feed | None = None
        given = _substitute(table, environment)
        try:
            texts = {
                text
                for part in ("body", "partner")
                for text in _secrets(table.get(part), environment, (part,))
            }
            secrets = sorted(text for text in texts if len(text) >= _SHORTEST_SECRET)
            feed = Feed.model_validate({**given, "secrets": secrets, "name": name})
            problems = [replace(problem, where=where) for problem in self.check(feed)]
        except ValidationError as error:
            problems = _feed_problems(where, name, given, error.errors())
        return feed, [_by_name(problem, wanted, environment) for problem in problems]


def _by_name(problem: Problem, variables: Iterable[str], environment: Mapping[str, str]) -> Problem:
    """The problem with `${NAME}` as written, in place of its value."""
    what, right = problem.found, problem.allowed
    for variable in sorted(variables, key=lambda name: -len(environment[name])):
        value, name = environment[variable], f"${{{variable}}}"
        if what == repr(value):
            what = repr(name)
        if len(value) >= _SHORTEST_SECRET:
            for text in longest_first({value, repr(value)[1:-1]}):
                what, right = what.replace(text, name), right.replace(text, name)
    return replace(problem, found=what, allowed=right)


def _feed_problems(
    where: str, name: str, table: Mapping[str, Any], details: Iterable[ErrorDetails]
) -> list[Problem]:
    """One problem for each place: where several forms are allowed, each of them is named."""
    known = names_of(Feed) - set(_OURS)
    by_place: dict[str, tuple[str, list[str]]] = {}
    for detail in details:
        at = ".".join(["feeds", name, *place(table, detail["loc"], detail["type"])])
        _, forms = by_place.setdefault(at, (found(detail), []))
        form = _foreign(table, detail) or allowed(detail, known)
        if form not in forms:
            forms.append(form)
    return [Problem(where, at, what, " or ".join(forms)) for at, (what, forms) in by_place.items()]


def _foreign(table: Mapping[str, Any], detail: ErrorDetails) -> str | None:
    """What is wrong with an option of another cursor strategy than the feed's."""
    if detail["type"] != "extra_forbidden" or detail["loc"][0] != "cursor":
        return None
    return of_another(table["cursor"].get("strategy"), str(detail["loc"][-1]))


def references(value: object) -> Iterator[str]:
    """Every NAME in a `${NAME}` anywhere below `value`."""
    if isinstance(value, str):
        yield from REFERENCE.findall(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def _secrets(part: object, environment: Mapping[str, str], path: tuple[str, ...]) -> Iterator[str]:
    """What `${NAME}` stands for anywhere below `part`; in a URL all of it but scheme, host and
    port.
    """
    if isinstance(part, str) and path in _URLS:
        given, longer = [], 0
        for found in REFERENCE.finditer(part):
            begin = found.start() + longer
            longer += len(environment[found[1]]) - len(found[0])
            given.append((begin, found.end() + longer))
        yield from secrets_of_url(_substitute(part, environment), given)
    elif isinstance(part, str):
        yield from (environment[variable] for variable in REFERENCE.findall(part))
    elif isinstance(part, dict):
        for name, item in part.items():
            yield from _secrets(item, environment, (*path, name))
    elif isinstance(part, list):
        for item in part:
            yield from _secrets(item, environment, (*path, ""))


def _substitute(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return REFERENCE.sub(lambda match: environment[match[1]], value)
    if isinstance(value, dict):
        return {key: _substitute(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, environment) for item in value]
    return value
