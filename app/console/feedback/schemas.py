"""Feedback, as the API takes and gives it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from app.console.deliveries.ref import LONGEST_REF, ref_of
from app.console.schemas import Line, Schema, any_spelling
from app.console.store.tables import Feedback

LONGEST = 2000


class SubjectKind(StrEnum):
    """What a note is about."""

    DELIVERY = "delivery"
    FEED = "feed"


def _text(text: str) -> str:
    text = text.replace("\r\n", "\n").strip()
    if not text:
        raise ValueError("some text")
    if not text.replace("\n", "").replace("\t", "").isprintable():
        raise ValueError("text without control characters")
    return text


AnyKind = Annotated[SubjectKind, any_spelling(SubjectKind)]
SubjectId = Annotated[Line, Field(min_length=1, max_length=LONGEST_REF)]
Text = Annotated[str, Field(min_length=1, max_length=LONGEST), AfterValidator(_text)]


class NewFeedback(Schema):
    """A note to leave."""

    subject_kind: AnyKind
    subject_id: SubjectId = Field(description="The feed's name, or the delivery's ref.")
    text: Text = Field(description="The note; it may have several lines.")


class FeedbackShown(Schema):
    """A note."""

    id: str
    subject_kind: SubjectKind
    subject_id: str = Field(description="The feed's name, or the delivery's ref.")
    subject: str = Field(description="The feed's name, or the delivery's id as people read it.")
    text: str
    author: str
    created_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None

    @classmethod
    def of(cls, note: Feedback) -> FeedbackShown:
        """A note of the table, with its author loaded."""
        kind = SubjectKind(note.subject_kind)
        return cls(
            id=note.id,
            subject_kind=kind,
            subject_id=ref_of(note.subject_id) if kind is SubjectKind.DELIVERY else note.subject_id,
            subject=note.subject_id,
            text=note.text,
            author=note.author.name,
            created_at=note.created_at,
            resolved_at=note.resolved_at,
            resolved_by=note.resolved_by,
        )
