"""`feeds preview`: the request that would be sent for a row, with its secrets masked. Nothing is
sent.
"""

from __future__ import annotations

from typing import Annotated

import typer

import config
from app.cli.loading import configured_feed, load_config
from app.cli.servers import run
from app.cli.terminal import FOUND_WRONG, WRONG_USAGE, AsJson, fail, print_json
from app.core.clock import utc_now
from app.core.errors import ConfigError
from app.core.shown import plain, plain_lines
from app.feeds.feed import Feed
from app.partner.request import prepare
from app.reads.preview import RequestPreview, preview_request
from app.reads.subject import Subject, find_subject
from app.runtime.reader import open_reader


def preview_feed(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    key: Annotated[
        str, typer.Option(help="The row's key, as in the source, or its delivery's id.")
    ],
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
    previewed = preview_request(prepared, subject)
    if as_json:
        print_json(
            request_fields(previewed)
            | {"row_from": subject.found_in, "delivery": subject.delivery.id}
        )
    else:
        typer.echo(f"# {subject.shown}: row from the {subject.found_in}; nothing was sent")
        print_request(previewed)
    if not previewed.sent:
        raise typer.Exit(FOUND_WRONG)


async def subject_of(loaded: config.Config, feed: Feed, key: str | None) -> Subject:
    """The row of that key, or the newest. Exit code 1 where there is none."""
    async with open_reader(loaded) as reader:
        found = await find_subject(feed, reader.ledger, reader.source, key, utc_now())
    if found is None:
        wanted = "no row to send in the source" if key is None else f"no row with key {key!r}"
        fail(
            f"feed {feed.name}: {wanted}{'' if key is None else ', neither in the ledger nor in the source'}"
        )
    return found


def request_fields(previewed: RequestPreview) -> dict[str, object]:
    """For programs."""
    if previewed.unsent is not None:
        return {"sent": False, "reason": previewed.unsent}
    return {
        "sent": True,
        "method": previewed.method,
        "url": previewed.url,
        "headers": dict(previewed.headers),
        "body": previewed.body,
    }


def print_request(previewed: RequestPreview, limit: int | None = None) -> None:
    """The request as it would be on the wire; of the body at most so many letters."""
    if previewed.unsent is not None:
        typer.echo(f"# would not be sent: {plain(previewed.unsent)}")
        return
    typer.echo(f"{previewed.method} {previewed.url}")
    typer.echo("\n".join(f"{name}: {value}" for name, value in previewed.headers.items()))
    body = previewed.body
    more = f"\n# … {len(body) - limit} letters more" if limit and len(body) > limit else ""
    typer.echo(f"\n{plain_lines(body[:limit])}{more}")
