"""A notification: what is said of an event, for mail and for webhooks."""

from __future__ import annotations

import html
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from app.core.clock import rough
from app.core.events import Event
from app.core.figures import clock
from app.ledger.notifications import Message


class Form(StrEnum):
    """The format that a webhook takes."""

    JSON = "json"
    """Every field, and `text` for people."""
    SLACK = "slack"
    """https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks; Mattermost takes
    it as well.
    """
    TEAMS = "teams"
    """A card, for a workflow that begins with a webhook request."""


@dataclass(frozen=True, slots=True)
class Words:
    """How an event is put into words."""

    wrong: str
    """What is wrong, in a few words."""
    do: str
    """What to do, before the command."""
    command: str
    """`{subject}` is replaced by the event's subject."""


WORDS = {
    Event.FEED_PAUSED: Words(
        "the feed is paused", "See to the cause, then", "python -m app feeds resume {subject}"
    ),
    Event.FEED_NOT_READ: Words(
        "new rows of the feed are not read", "Have the source examined", "python -m app doctor"
    ),
    Event.BREAKER_OPEN: Words(
        "the circuit breaker is open: next to nothing is sent to the partner",
        "It closes by itself once the partner is well; a row to look at",
        "python -m app feeds test {subject}",
    ),
    Event.DEAD_LETTERS: Words(
        "there are dead letters",
        "Look at them, then replay or acknowledge them",
        "python -m app deliveries list --feed {subject} --state dead",
    ),
    Event.OLDEST_OPEN: Words(
        "deliveries have waited for too long", "See what they wait for", "python -m app status"
    ),
    Event.CERTIFICATE_MISSING: Words(
        "there is no certificate of completeness",
        "Have one made",
        "python -m app reconcile {subject}",
    ),
    Event.CERTIFICATE_DIFFERS: Words(
        "the certificate is not complete", "Look at it", "python -m app certificate {subject}"
    ),
    Event.NO_PROGRESS: Words(
        "the process makes no progress",
        "See why, and start it anew if it does not come back",
        "python -m app health",
    ),
    Event.REDIS_AWAY: Words("nothing is handed out to workers", "See why", "python -m app doctor"),
    Event.NONE_RUNS: Words("none runs", "Start one", "celery -A celery_app {subject}"),
}
_OF_NONE = Words(
    "nothing is wrong",
    "This is what you get when something is; what is wrong now",
    "python -m app status",
)
"""For a test message."""
_UNKNOWN = Words("something is wrong", "Look", "python -m app status")
"""For an event that another version recorded."""


def words_of(event: str | None) -> Words:
    """The words for an event; `None`: a test message."""
    if event is None:
        return _OF_NONE
    return WORDS.get(Event(event), _UNKNOWN) if event in set(Event) else _UNKNOWN


@dataclass(frozen=True, slots=True)
class Notification:
    """One message of one event, as the ledger has it (`app/ledger/notifications.py`)."""

    stored: Mapping[str, Any]
    zone: ZoneInfo
    form: Form = Form.JSON

    @property
    def id(self) -> str:
        message = self.stored["message"]
        return f"{self.stored['_id']}|{message['number']}|{message['at']:%Y-%m-%dT%H:%M:%S}"

    @property
    def subject(self) -> str:
        before = {Message.BEGAN: "", Message.REMINDER: "Still: ", Message.OVER: "Over: "}[
            self._kind
        ]
        return f"Rowrelay: {before}{self.stored['subject']}: {self._words.wrong}"

    def text(self) -> str:
        """For people, in a few lines."""
        began = self.stored["began_at"]
        until = (
            self.stored["over_at"] if self._kind is Message.OVER else self.stored["message"]["at"]
        )
        since = f"Since {self._clock(began)}, for {rough(until - began)}"
        lines = [self.subject, "", f"Why: {self.stored['said']}"]
        if self._kind is Message.OVER:
            return (
                "\n".join([*lines, f"{since}, until {self._clock(until)}", *self._of_a_process()])
                + "\n"
            )
        return "\n".join([*lines, since, self._do]) + "\n"

    def page(self) -> None:
        return None

    def json(self) -> bytes:
        if self.form is Form.SLACK:
            return orjson.dumps({"text": html.escape(self.text(), quote=False)})
        return orjson.dumps(self._card() if self.form is Form.TEAMS else self._fields())

    @property
    def _words(self) -> Words:
        return words_of(self.stored["event"])

    @property
    def _kind(self) -> Message:
        return Message(self.stored["message"]["kind"])

    @property
    def _do(self) -> str:
        return f"{self._words.do}: {self._words.command.format(subject=shlex.quote(self.stored['subject']))}"

    def _of_a_process(self) -> list[str]:
        if self.stored["event"] != Event.NO_PROGRESS:
            return []
        return [
            "It makes progress again, was stopped, or has said nothing for so long that it is taken for gone."
        ]

    def _clock(self, moment: datetime) -> str:
        return f"{clock(moment, self.zone)} ({self.zone.key})"

    def _fields(self) -> dict[str, object]:
        stored = self.stored
        return {
            "text": self.text(),
            "event": stored["event"],
            "subject": stored["subject"],
            "message": stored["message"]["kind"],
            "said": stored["said"],
            "began_at": stored["began_at"],
            "over_at": stored.get("over_at"),
        }

    def _card(self) -> dict[str, object]:
        """https://adaptivecards.io/explorer/AdaptiveCard.html, in the message that Teams wraps it
        in.
        """
        head, _, rest = self.text().partition("\n\n")
        blocks = [
            {"type": "TextBlock", "text": head, "weight": "bolder", "wrap": True},
            *({"type": "TextBlock", "text": line, "wrap": True} for line in rest.splitlines()),
        ]
        card = {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "body": blocks,
        }
        attached = {
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": None,
            "content": card,
        }
        return {"type": "message", "attachments": [attached]}
