"""A notification: what is said of an event, as mail and as a webhook takes it."""

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

from app.clock import rough
from app.events import Event
from app.ledger.notifications import Message
from app.reporting.words import clock


class Form(StrEnum):
    """What a webhook takes."""

    JSON = "json"
    """Every field, and `text` for people."""
    SLACK = "slack"
    """https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks; Mattermost takes it as well."""
    TEAMS = "teams"
    """A card, for a workflow that begins with a webhook request."""


_SAID = {
    Event.FEED_PAUSED: (
        "the feed is paused",
        "See to the cause, then: python -m app feeds resume {subject}",
    ),
    Event.FEED_NOT_READ: (
        "new rows of the feed are not read",
        "python -m app doctor examines the source",
    ),
    Event.BREAKER_OPEN: (
        "the circuit breaker is open: next to nothing is sent to the partner",
        "It closes by itself once the partner is well: python -m app feeds test {subject}",
    ),
    Event.DEAD_LETTERS: (
        "there are dead letters",
        "python -m app deliveries list --feed {subject} --state dead shows them; then replay or acknowledge",
    ),
    Event.OLDEST_OPEN: (
        "deliveries have waited for too long",
        "python -m app status says what they wait for",
    ),
    Event.CERTIFICATE_MISSING: (
        "there is no certificate of completeness",
        "python -m app jobs says why; python -m app reconcile {subject} makes one",
    ),
    Event.CERTIFICATE_DIFFERS: (
        "the certificate is not complete",
        "python -m app certificate {subject} shows it",
    ),
    Event.NO_PROGRESS: (
        "the process makes no progress",
        "python -m app health; start it anew if it does not come back",
    ),
    Event.NONE_RUNS: (
        "none runs",
        "Start one: celery -A celery_app {subject}",
    ),
}
"""Event → what is wrong, and what to do."""
_OF_NONE = ("nothing is wrong", "Whoever reads this is told when something is.")
"""The same of a message that somebody asked for."""


def wrong(event: Event | None) -> str:
    """What is wrong, in a few words."""
    return _words(event)[0]


def _words(event: Event | None) -> tuple[str, str]:
    return _SAID[event] if event else _OF_NONE


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
        before = {Message.BEGAN: "", Message.REMINDER: "Still: ", Message.OVER: "Over: "}[self._kind]
        return f"Rowrelay: {before}{self.stored['subject']}: {wrong(self._event)}"

    def text(self) -> str:
        """For people, in a few lines."""
        began = self.stored["began_at"]
        until = self.stored["over_at"] if self._kind is Message.OVER else self.stored["message"]["at"]
        since = f"Since {self._clock(began)}, for {rough(until - began)}"
        lines = [self.subject, "", f"Why: {self.stored['said']}"]
        if self._kind is Message.OVER:
            return "\n".join([*lines, f"{since}, until {self._clock(until)}", *self._of_a_process()]) + "\n"
        return "\n".join([*lines, since, self._do]) + "\n"

    def page(self) -> None:
        return None

    def json(self) -> bytes:
        if self.form is Form.SLACK:
            return orjson.dumps({"text": html.escape(self.text(), quote=False)})
        return orjson.dumps(self._card() if self.form is Form.TEAMS else self._fields())

    @property
    def _event(self) -> Event | None:
        return Event(self.stored["event"]) if self.stored["event"] else None

    @property
    def _kind(self) -> Message:
        return Message(self.stored["message"]["kind"])

    @property
    def _do(self) -> str:
        return _words(self._event)[1].format(subject=shlex.quote(self.stored["subject"]))

    def _of_a_process(self) -> list[str]:
        if self._event is not Event.NO_PROGRESS:
            return []
        return ["It makes progress again, was stopped, or has said nothing for so long that it is taken for gone."]

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
        """https://adaptivecards.io/explorer/AdaptiveCard.html, in the message that Teams wraps it in."""
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
        attached = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
        return {"type": "message", "attachments": [attached]}
