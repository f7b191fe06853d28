"""Options of several commands: what an operator selects deliveries by, and why something is done."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from app.core.clock import utc_now
from app.core.states import State
from app.feeds.duration import moment_of_text
from app.ledger.selection import Between


def parse_moment(text: str) -> datetime:
    """A moment: ISO 8601, in UTC where it names no zone, or a duration ago such as `2h`."""
    try:
        return moment_of_text(text, utc_now())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def parse_attempts(text: str) -> Between:
    """A number of attempts: `3`, `3+` or `2-5`."""
    try:
        return Between.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


FeedName = Annotated[str, typer.Argument(metavar="NAME")]
KEY_HELP = "Keys or ids, as in the source: acme:INV-2026/00060, with the feed in front or without."

Ids = Annotated[list[str] | None, typer.Argument(metavar="KEY", help=KEY_HELP)]
Feeds = Annotated[
    list[str] | None, typer.Option("--feed", help="Only this feed's. May be given again.")
]
States = Annotated[
    list[State] | None, typer.Option("--state", help="Only in this state. May be given again.")
]
Since = Annotated[
    datetime | None,
    typer.Option(parser=parse_moment, help="From then on: ISO 8601, or ago (2h, 3d)."),
]
Until = Annotated[
    datetime | None, typer.Option(parser=parse_moment, help="Before then: ISO 8601, or ago.")
]
Reason = Annotated[str | None, typer.Option(help="Text contained in the reason or the last error.")]
Status = Annotated[
    int | None, typer.Option(min=100, max=599, help="HTTP status of the last attempt.")
]
AttemptsMade = Annotated[
    Between | None,
    typer.Option(
        "--attempts",
        parser=parse_attempts,
        metavar="NUMBER",
        help="So many attempts: 3, 3+ or 2-5.",
    ),
]
Why = Annotated[str | None, typer.Option("--why", help="The reason, for the record.")]
KeyPart = Annotated[
    str | None, typer.Option("--contains", metavar="TEXT", help="Text contained in the key.")
]
