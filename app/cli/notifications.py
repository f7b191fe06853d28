"""`notifications`: which events people were told of; and whether they would be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import typer

import config
from app.cli.loading import load_config
from app.cli.servers import run, with_ledger
from app.cli.tables import ago, print_table
from app.cli.terminal import FOUND_WRONG, WRONG_USAGE, AsJson, console, fail, print_json
from app.ledger.client import Document
from app.notifications.notification import words_of
from app.runtime.senders import open_notifying

Test = Annotated[
    bool, typer.Option("--test", help="Send a message on every way, and say what came of it.")
]


@dataclass(frozen=True, slots=True)
class Told:
    """One event that is on, or was on lately."""

    event: str
    subject: str
    said: str
    began_at: datetime
    over_at: datetime | None
    messages: int
    """How many there have been of it."""
    ways: dict[str, str]
    """Way out → sent, owed, given up; or why it was not taken."""


def notifications(*, test: Test = False, as_json: AsJson = False) -> None:
    """Events that are on, and those that were over within a week: what was said of each, and
    whether it was taken.

    With --test a message goes out on every way that is configured. Exit code 1 where one does not
    take it.
    """
    loaded = load_config()
    if test:
        _send_test(loaded, as_json=as_json)
        return
    told = [
        _told(stored) for stored in with_ledger(loaded, lambda ledger: ledger.notifications.kept())
    ]
    if as_json:
        print_json(told)
        return
    if not loaded.settings.notifies:
        console.print("Nobody is told: set NOTIFY_MAIL_TO or NOTIFY_WEBHOOK_URL.")
    if not told:
        console.print("No event is on record.")
        return
    print_table(
        "Events", ["what", "since", "over", "messages", "sent", "why"], [_row(one) for one in told]
    )


def _told(stored: Document) -> Told:
    ways = {
        way: sending.get("error") or sending["state"]
        for way, sending in stored.get("sending", {}).items()
    }
    return Told(
        event=stored["event"],
        subject=stored["subject"],
        said=stored["said"],
        began_at=stored["began_at"],
        over_at=stored.get("over_at"),
        messages=stored.get("message", {}).get("number", 0),
        ways=ways,
    )


def _row(told: Told) -> list[object]:
    what = f"{told.subject}: {words_of(told.event).wrong}"
    sent = ", ".join(f"{way} {state}" for way, state in told.ways.items()) or "not yet"
    over = f"{ago(told.over_at)} ago" if told.over_at else None
    return [what, ago(told.began_at), over, told.messages, sent, told.said]


def _send_test(loaded: config.Config, *, as_json: bool) -> None:
    if not loaded.settings.notifies:
        fail("--test: no way is configured; set NOTIFY_MAIL_TO or NOTIFY_WEBHOOK_URL", WRONG_USAGE)
    came = run(_tested(loaded))
    if as_json:
        print_json(came)
    else:
        for way, error in came.items():
            console.print(error or f"{way}: sent", soft_wrap=True)
    if any(came.values()):
        raise typer.Exit(FOUND_WRONG)


async def _tested(loaded: config.Config) -> dict[str, str | None]:
    """Way out → why it was not taken, or `None`. Asks neither ledger nor Redis."""
    async with open_notifying(loaded) as notifying:
        return await notifying.try_out()
