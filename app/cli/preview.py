"""`feeds preview`: the request that would be sent for a row, with its secrets masked. Nothing is sent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

import typer

import config
from app.cli.output import AsJson, fail, load_config, print_json, run
from app.clock import utc_now
from app.endpoint import OAuth2Auth
from app.errors import ConfigError, UnknownFeed
from app.feed import Feed
from app.filter import sift
from app.ledger import Ledger
from app.models import Delivery, SourceRow, short_key
from app.partner.failures import Undone
from app.partner.problems import SECRET_NAME
from app.partner.request import Prepared, prepare
from app.source.engine import open_engine
from app.source.reader import Source

MASK = "[secret]"
TOKEN_FETCHED_LATER = "[access token, fetched when sending]"  # noqa: S105  stands in for one

_NOT_SECRET = frozenset({"idempotency-key"})


def preview_request(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    key: Annotated[str, typer.Option(help="The row's key, as in its delivery's id.")],
    as_json: AsJson = False,
) -> None:
    """Show the request that would be sent for a row, secrets masked. Sends nothing."""
    loaded = load_config()
    try:
        feed = loaded.feed(name)
        prepared = prepare(feed)
    except (UnknownFeed, ConfigError) as error:
        fail(str(error))
    row, found_in = run(_row(loaded, feed, key))
    if row is None:
        fail(f"feed {name}: no row with key {key!r}, neither in the ledger nor in the source")
    shown = _shown(prepared, row) | {"row_from": found_in}
    if as_json:
        print_json(shown)
    else:
        _print(shown)


async def _row(loaded: config.Config, feed: Feed, key: str) -> tuple[SourceRow | None, str]:
    """The row and where it was found: in the ledger where it is there with its payload, else in the source, with the
    columns that are agreed for the feed.
    """
    settings = loaded.settings
    ledger = Ledger.at(settings.mongo_url.get_secret_value(), settings.connect_timeout)
    try:
        document = await ledger.deliveries.get(f"{feed.name}:{short_key(key)}")
        agreed = (await ledger.cursors.get(feed.name)).columns
    finally:
        await ledger.close()
    if document and document.get("payload"):
        return SourceRow(document["key"], document["position"], document["payload"]), "ledger"
    source = Source(open_engine(settings.source_url.get_secret_value(), settings.connect_timeout))
    try:
        return await source.find(feed, document["key"] if document else key, agreed), "source"
    finally:
        await source.close()


def _shown(prepared: Prepared, row: SourceRow) -> dict[str, object]:
    """The request as texts, or why there is none."""
    sifted = sift(prepared.feed.filter, [row])
    if not sifted.sent:
        reason = next((reason for _, reason in sifted.skipped), None) or sifted.unreadable[0].error
        return {"sent": False, "reason": reason}
    try:
        request = prepared.request(_delivery(prepared.feed, row, utc_now()), _token(prepared.feed))
    except Undone as error:
        return {"sent": False, "reason": prepared.redact(str(error))}
    return {
        "sent": True,
        "method": request.method,
        "url": prepared.redact(str(request.url)),
        "headers": {name: _masked(prepared, name, value) for name, value in request.all_headers().items()},
        "body": prepared.redact(prepared.body(row.payload).decode()),
    }


def _delivery(feed: Feed, row: SourceRow, now: datetime) -> Delivery:
    return Delivery(id=f"{feed.name}:{row.key}", feed=feed.name, key=row.key, payload=row.payload, created_at=now)


def _token(feed: Feed) -> str | None:
    return TOKEN_FETCHED_LATER if isinstance(feed.partner.auth, OAuth2Auth) else None


def _masked(prepared: Prepared, name: str, value: str) -> str:
    """A header's value; all of it is masked where its name says that it holds a secret."""
    if value.endswith(TOKEN_FETCHED_LATER):
        return value
    secret = SECRET_NAME.search(name) and name not in _NOT_SECRET
    return MASK if secret else prepared.redact(value)


def _print(shown: Mapping[str, object]) -> None:
    """The request as it would be on the wire, after a line that says where the row is from."""
    typer.echo(f"# row from the {shown['row_from']}; nothing was sent")
    if not shown["sent"]:
        typer.echo(f"# would not be sent: {shown['reason']}")
        return
    headers = shown["headers"]
    typer.echo(f"{shown['method']} {shown['url']}")
    if isinstance(headers, dict):
        typer.echo("\n".join(f"{name}: {value}" for name, value in headers.items()))
    typer.echo(f"\n{shown['body']}")
