"""Checks how a feed meets its partner, beyond what types can express. No problem shows a secret."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from app.core.errors import Problem
from app.core.signing_secret import usable
from app.feeds.feed import Feed
from app.feeds.partner import Tls
from app.partner.auth.kind import kind_of
from app.partner.body import Reference, parse_text, references, renderer
from app.partner.headers import PRINTABLE, uncarried, usable_name
from app.partner.transport import authorities_named, tls_context

_OWN = "a header name that Rowrelay does not set itself"


def problems(feed: Feed) -> Iterator[Problem]:
    """Everything that would keep the feed's requests from being made. Reads the files that
    `partner.tls` names, and imports the function that `body` names.
    """
    yield from _header_problems(feed)
    yield from _auth_problems(feed)
    yield from _file_problems(feed)
    yield from _signing_problems(feed)
    yield from _body_problems(feed)
    if feed.columns is not None:
        yield from column_problems(feed, feed.columns)


def column_problems(feed: Feed, columns: Sequence[str]) -> Iterator[Problem]:
    """Every column named in the feed's body, headers or filter that is not among `columns`."""
    known = {column.casefold() for column in columns}
    for where, column in _named_columns(feed):
        if column.casefold() not in known:
            yield Problem(
                "feeds", f"feeds.{feed.name}.{where}", repr(column), f"one of {', '.join(columns)}"
            )


def _named_columns(feed: Feed) -> Iterator[tuple[str, str]]:
    with suppress(ValueError):  # told by `_body_problems`
        yield from (("body", column) for column in references(feed.body))
    yield from (("filter", condition.column) for condition in feed.filter)
    for name, value in feed.partner.headers.items():
        if isinstance(found := parse_text(value), Reference):
            yield f"partner.headers.{name}", found.column


def _header_problems(feed: Feed) -> Iterator[Problem]:
    where = f"feeds.{feed.name}.partner"
    for name, value in feed.partner.headers.items():
        if not usable_name(name):
            yield Problem("feeds", f"{where}.headers", repr(name), _OWN)
        if uncarried(value):
            yield Problem("feeds", f"{where}.headers.{name}", "other characters", PRINTABLE)


def _auth_problems(feed: Feed) -> Iterator[Problem]:
    kind, where = kind_of(feed.partner), f"feeds.{feed.name}.partner.auth"
    for name, value in kind.headers().items():
        if not usable_name(name):
            yield Problem("feeds", f"{where}.header", repr(name), _OWN)
        if uncarried(value):
            yield Problem("feeds", where, "a secret with other characters", PRINTABLE)
    yield from (replace(problem, field=f"{where}.{problem.field}") for problem in kind.problems())


def _file_problems(feed: Feed) -> Iterator[Problem]:
    tls, named = feed.partner.tls, authorities_named()
    if tls is None and named == (None, None):
        return
    found = _unusable(tls, *named)
    if found and tls is None:
        yield Problem("environment", "SSL_CERT_FILE", found, "a readable PEM file, or nothing")
    elif found:
        yield Problem(
            "feeds",
            f"feeds.{feed.name}.partner.tls",
            found,
            "readable PEM files, and the key's password",
        )


def _unusable(tls: Tls | None, file: str | None, folder: str | None) -> str | None:
    """Why its files, or those that the environment names, cannot be used; `None`: they can."""
    try:
        if tls:
            tls_context(tls)
        else:
            _read_authorities(file, folder, _written_at(file))
    except (OSError, ValueError) as error:  # the latter for a path that no file can have
        return getattr(error, "strerror", None) or "a path that no file can have"
    return None


@lru_cache(4)
def _read_authorities(file: str | None, folder: str | None, written_at: float | None) -> None:
    """Read those that the environment names, once until the file is written anew: it takes up to
    80 ms, for which a person who looks at a request would wait. Raises as `tls_context`."""
    del file, folder, written_at
    tls_context(None)


def _written_at(file: str | None) -> float | None:
    try:
        return Path(file).stat().st_mtime if file else None
    except (OSError, ValueError):
        return None


def _signing_problems(feed: Feed) -> Iterator[Problem]:
    if feed.partner.signing and not all(map(usable, feed.partner.signing.secrets)):
        where = f"feeds.{feed.name}.partner.signing.secrets"
        yield Problem(
            "feeds",
            where,
            "a secret of another form",
            "base64 of 24 to 64 bytes, whsec_ before it or not",
        )


def _body_problems(feed: Feed) -> Iterator[Problem]:
    if feed.body is None:
        return
    try:
        renderer(feed.body)
    except ValueError as error:
        allowed = "a template, or a function as package.module:name (docs/feeds.md)"
        yield Problem("feeds", f"feeds.{feed.name}.body", str(error), allowed)
