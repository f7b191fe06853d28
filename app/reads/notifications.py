"""The events that people are told of: what was said of each, and whether it was taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.notifications import number_of
from app.ledger.outbox import Sending
from app.notifications.notification import words_of


@dataclass(frozen=True, slots=True)
class MessageSent:
    """How the latest message about an event goes out one way."""

    way: str
    """Such as `mail` or `webhook`."""
    state: Sending
    tries: int
    error: str | None
    """Why it was not taken the last time it was tried."""


@dataclass(frozen=True, slots=True)
class Notified:
    """One event that is on, or was on lately."""

    event: str
    subject: str
    """A feed, a process or a job."""
    wrong: str
    """What is wrong, in a few words."""
    said: str
    """What was found, in a sentence."""
    began_at: datetime
    over_at: datetime | None
    """`None`: it is still on."""
    messages: int
    """How many there have been of it."""
    sent: Sequence[MessageSent]
    """The latest of them, each way; empty: none is due yet, or nobody is told."""


async def read_notifications(ledger: Ledger) -> list[Notified]:
    """The events that are on, and those that were over within a week, by event and subject. Raises
    the ledger's errors.
    """
    return [_notified(stored) for stored in await ledger.notifications.kept()]


def _notified(stored: Document) -> Notified:
    return Notified(
        event=stored["event"],
        subject=stored["subject"],
        wrong=words_of(stored["event"]).wrong,
        said=stored["said"],
        began_at=stored["began_at"],
        over_at=stored.get("over_at"),
        messages=number_of(stored),
        sent=[_sent(way, sending) for way, sending in stored.get("sending", {}).items()],
    )


def _sent(way: str, sending: Mapping[str, Any]) -> MessageSent:
    return MessageSent(
        way, Sending(sending["state"]), sending.get("tries", 0), sending.get("error")
    )
