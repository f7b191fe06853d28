"""A feed's secrets, and how they are masked in every text that is shown or kept."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus

from app.core.masking import longest_first
from app.core.url import as_sent
from app.feeds.feed import Feed
from app.partner.auth.basic import basic, user_of
from app.partner.auth.kind import kind_of
from app.partner.body import Reference, parse_text
from app.partner.headers import SECRET_NAME

MASK = "[secret]"

_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_SHORTEST_VARIANT = 4
"""Characters. A shorter one gives little of the secret away, and would be masked in many an
innocent text.
"""


def masked(text: str, secrets: Sequence[str], *, cut: bool = False) -> str:
    """`text` with every secret masked. Where `text` was cut off, so is the start of a secret at its
    end.
    """
    for secret in secrets:
        text = text.replace(secret, MASK)
    return _without_started(text, secrets) if cut else text


def feed_secrets(feed: Feed) -> tuple[str, ...]:
    """Every secret of a feed, as configured and as it may come back: the longest first, so that one
    within another leaves nothing of it behind.
    """
    partner = feed.partner
    secrets = {*kind_of(partner).secrets(), partner.url.password or ""}
    secrets |= {value for name, value in partner.headers.items() if SECRET_NAME.search(name)}
    secrets |= {value for name, value in _queries(feed) if SECRET_NAME.search(name)}
    secrets |= set(_named_secrets(feed.body))
    secrets |= {secret.get_secret_value() for secret in feed.secrets}
    if partner.signing:
        texts = [secret.get_secret_value() for secret in partner.signing.secrets]
        secrets |= {*texts, *(text.removeprefix("whsec_") for text in texts)}
    if user := user_of(partner.url):
        secrets.add(basic(*user).removeprefix("Basic "))
    references = {value for value in secrets if isinstance(parse_text(value), Reference)}
    return longest_first(variant for secret in secrets - references for variant in variants(secret))


def variants(secret: str) -> set[str]:
    """A secret as it stands, as it stands in a URL, a form, JSON and HTML, and decoded: a server
    may quote any.
    """
    text = secret.encode("utf-8", "replace").decode()
    coded = {
        as_sent(text),
        unquote(text),
        unquote_plus(text),
        quote(text, safe=""),
        quote(text),
        quote_plus(text),
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        html.escape(text),
    }
    cased = {_ESCAPE.sub(change, form) for form in coded for change in (_lower, _upper)}
    return {secret, *(form for form in coded | cased if len(form) >= _SHORTEST_VARIANT)}


def _lower(found: re.Match[str]) -> str:
    return found[0].lower()


def _upper(found: re.Match[str]) -> str:
    return found[0].upper()


def _queries(feed: Feed) -> Iterator[tuple[str, str]]:
    """The queries of the feed's URLs, as (name, value): as written, which is how they are sent, and
    decoded.
    """
    partner = feed.partner
    for text in (
        partner.url.target,
        partner.status_url or "",
        *(url.target for url in partner.auth.urls()),
    ):
        query = text.partition("?")[2]
        yield from parse_qsl(query, keep_blank_values=True)
        for pair in query.split("&"):
            name, _, value = pair.partition("=")
            yield unquote(name), value


def _named_secrets(part: Any) -> list[str]:
    """The texts in a body's template whose names mark them as secret."""
    if isinstance(part, list):
        return [secret for item in part for secret in _named_secrets(item)]
    if not isinstance(part, Mapping):
        return []
    named = [
        value for name, value in part.items() if isinstance(value, str) and SECRET_NAME.search(name)
    ]
    return named + [secret for value in part.values() for secret in _named_secrets(value)]


def _without_started(text: str, secrets: Iterable[str]) -> str:
    """The text without the start of a secret at its end."""
    last = text[-1:]
    for secret in secrets if last else ():
        place = secret.rfind(last, 0, -1)
        while place >= 0:
            if text.endswith(secret[: place + 1]):
                return text[: -place - 1]
            place = secret.rfind(last, 0, place)
    return text
