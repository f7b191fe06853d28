"""`feeds preview`: the request that would be sent for a row, with its secrets masked. Nothing is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

import config
from app.cli.output import (
    FOUND_WRONG,
    WRONG_USAGE,
    AsJson,
    configured_feed,
    fail,
    load_config,
    open_source,
    opened_ledger,
    print_json,
    run,
)
from app.core.clock import utc_now
from app.core.errors import ConfigError
from app.core.shown import plain, plain_lines
from app.feeds.feed import Feed
from app.operations.trial import Subject, find_subject
from app.partner.auth.kind import FETCHED_WHEN_SENDING
from app.partner.failures import Undone
from app.partner.headers import SECRET_NAME
from app.partner.masking import MASK
from app.partner.request import Prepared, prepare

_NOT_SECRET = frozenset({"idempotency-key"})


def preview_request(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    key: Annotated[str, typer.Option(help="The row's key, as in the source, or its delivery's id.")],
    as_json: AsJson = False,
) -> None:
    """Show the request that would be sent for a row, secrets masked. Sends nothing.

    Exit code 1 where the row would not be sent, or is not there.
    """
    loaded = load_config()
    feed = configured_feed(loaded, name)
    try:
        prepared = prepare(feed)
    except ConfigError as error:
        fail(str(error), WRONG_USAGE)
    subject = run(subject_of(loaded, feed, key))
    shown = shown_request(prepared, subject) | {"row_from": subject.found_in, "delivery": subject.delivery.id}
    if as_json:
        print_json(shown)
    else:
        typer.echo(f"# {subject.shown}: row from the {subject.found_in}; nothing was sent")
        print_request(shown)
    if not shown["sent"]:
        raise typer.Exit(FOUND_WRONG)


async def subject_of(loaded: config.Config, feed: Feed, key: str | None) -> Subject:
    """The row of that key, or the newest. Exit code 1 where there is none."""
    async with opened_ledger(loaded) as ledger:
        source = open_source(loaded)
        try:
            found = await find_subject(feed, ledger, source, key, utc_now())
        finally:
            await source.close()
    if found is None:
        wanted = "no row to send in the source" if key is None else f"no row with key {key!r}"
        fail(f"feed {feed.name}: {wanted}{'' if key is None else ', neither in the ledger nor in the source'}")
    return found


def shown_request(prepared: Prepared, subject: Subject) -> dict[str, object]:
    """The request as texts, or why there is none."""
    if reason := subject.unsent or subject.error:
        return {"sent": False, "reason": reason}
    try:
        request = prepared.auth.preview(prepared.request(subject.delivery))
    except Undone as error:
        return {"sent": False, "reason": prepared.redact(str(error))}
    return {
        "sent": True,
        "method": request.method,
        "url": prepared.redact(str(request.url)),
        "headers": {name: _masked(prepared, name, value) for name, value in request.all_headers().items()},
        "body": prepared.redact(request.body.decode()),
    }


def print_request(shown: Mapping[str, object], limit: int | None = None) -> None:
    """The request as it would be on the wire; of the body at most so many letters."""
    if not shown["sent"]:
        typer.echo(f"# would not be sent: {plain(str(shown['reason']))}")
        return
    headers, body = shown["headers"], str(shown["body"])
    typer.echo(f"{shown['method']} {shown['url']}")
    if isinstance(headers, dict):
        typer.echo("\n".join(f"{name}: {value}" for name, value in headers.items()))
    more = f"\n# … {len(body) - limit} letters more" if limit and len(body) > limit else ""
    typer.echo(f"\n{plain_lines(body[:limit])}{more}")


def _masked(prepared: Prepared, name: str, value: str) -> str:
    """A header's value; all of it is masked where its name says that it holds a secret."""
    if value.endswith(FETCHED_WHEN_SENDING):
        return value
    secret = SECRET_NAME.search(name) and name not in _NOT_SECRET
    return MASK if secret else prepared.redact(value)
