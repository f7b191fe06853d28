"""Notification settings and events, as the API takes and gives them."""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from app.console.schemas import Line, Schema, Version, any_spelling
from app.core.events import Event
from app.core.url import parse_url
from app.notifications.notification import Form


class Channel(StrEnum):
    """How a user is told."""

    MAIL = "mail"
    WEBHOOK = "webhook"


LONGEST_URL = 1400
"""Bytes. Sealed, it has to fit into its column."""


def _webhook(url: str) -> str:
    if len(url.encode()) > LONGEST_URL:
        raise ValueError(f"a URL of at most {LONGEST_URL} bytes")
    if url:
        try:
            parse_url(url)
        except ValueError as error:
            raise ValueError("an http or https URL") from error
    return url


def _clock(text: object) -> object:
    if isinstance(text, str) and not re.fullmatch(_CLOCK, text):
        raise ValueError("a time of day such as 22:00")
    return text


_CLOCK = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
Clock = Annotated[str, BeforeValidator(_clock), Field(pattern=_CLOCK, examples=["22:00"])]
AnyEvent = Annotated[Event, any_spelling(Event)]
WebhookUrl = Annotated[Line, Field(max_length=LONGEST_URL), AfterValidator(_webhook)]


class _Settings(Schema):
    enabled: bool = Field(default=False, description="Whether anything is sent.")
    channel: Annotated[Channel, any_spelling(Channel)] = Channel.MAIL
    webhook_format: Annotated[Form, any_spelling(Form)] = Form.JSON
    events: list[AnyEvent] = Field(
        default=list(Event), max_length=len(Event), description="The kinds to be told of."
    )
    feeds: list[Annotated[Line, Field(max_length=100)]] = Field(
        default=[], max_length=200, description="Of these feeds alone; empty: of all."
    )
    dead_above: int = Field(
        default=0, ge=0, le=10_000, description="Told where a feed has more dead letters."
    )
    oldest_above_seconds: int = Field(
        default=3600, ge=60, le=30 * 86400, description="Told where a delivery is open for longer."
    )
    remind_seconds: int = Field(
        default=14400, ge=300, le=7 * 86400, description="Told again after this long."
    )
    quiet_from: Clock | None = Field(
        default=None, description="From then on nothing is sent, in the user's time zone."
    )
    quiet_until: Clock | None = Field(default=None, description="Then what is still on is sent.")


class SettingsChange(_Settings):
    """A user's settings, all of them."""

    webhook_url: WebhookUrl | None = Field(
        default=None, description="Never shown again; null: stays as it is; empty: removed."
    )

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.quiet_from is None) != (self.quiet_until is None):
            raise ValueError("quiet_from and quiet_until go together")
        return self


class SettingsShown(_Settings):
    """A user's settings; the webhook's URL, which may hold a secret, is not shown."""

    webhook_set: bool = Field(description="Whether there is a webhook's URL.")
    mail_to: str | None = Field(description="The profile's mail address.")
    version: Version


class Tested(Schema):
    """What came of a test message."""

    channel: Channel
    taken: bool
    error: str | None = Field(description="Why it was not taken.")


class EventShown(Schema):
    """An event that is on, or was within a week."""

    event: str
    subject: str = Field(description="A feed, a process or a job.")
    wrong: str = Field(description="What is wrong, in a few words.")
    said: str = Field(description="What was found, in a sentence.")
    began_at: datetime
    over_at: datetime | None = Field(description="null: it is still on.")
