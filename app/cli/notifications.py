"""`notifications`: which events people were told of; and whether they would be."""

from __future__ import annotations

from typing import Annotated

import typer

import config
from app.cli.loading import load_config
from app.cli.servers import run, with_ledger
from app.cli.tables import ago, print_table
from app.cli.terminal import FOUND_WRONG, WRONG_USAGE, AsJson, console, fail, print_json
from app.reads.notifications import Notified, read_notifications
from app.runtime.senders import open_notifying

Test = Annotated[
    bool, typer.Option("--test", help="Send a message on every way, and say what came of it.")
]


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
    found = with_ledger(loaded, read_notifications)
    if as_json:
        print_json([_fields(one) for one in found])
        return
    if not loaded.settings.notifies:
        console.print("Nobody is told: set NOTIFY_MAIL_TO or NOTIFY_WEBHOOK_URL.")
    if not found:
        console.print("No event is on record.")
        return
    print_table(
        "Events", ["what", "since", "over", "messages", "sent", "why"], [_row(one) for one in found]
    )


def _fields(one: Notified) -> dict[str, object]:
    """For programs: `ways` has way → sent, owed, given up; or why it was not taken."""
    return {
        "event": one.event,
        "subject": one.subject,
        "said": one.said,
        "began_at": one.began_at,
        "over_at": one.over_at,
        "messages": one.messages,
        "ways": {message.way: message.error or message.state for message in one.sent},
    }


def _row(one: Notified) -> list[object]:
    sent = ", ".join(f"{message.way} {message.error or message.state}" for message in one.sent)
    over = f"{ago(one.over_at)} ago" if one.over_at else None
    what = f"{one.subject}: {one.wrong}"
    return [what, ago(one.began_at), over, one.messages, sent or "not yet", one.said]


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
