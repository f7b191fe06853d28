"""`/api/v1/feedback`: notes on deliveries and feeds."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.console.dependencies import By, Given
from app.console.errors import Invalid
from app.console.feedback.schemas import AnyKind, FeedbackShown, NewFeedback, SubjectId, SubjectKind
from app.console.problems import REFUSES
from app.console.schemas import (
    PAGE,
    Cursor,
    Limit,
    MomentPlace,
    Page,
    moment_cursor,
    read_moment_cursor,
)

router = APIRouter(prefix="/feedback", tags=["feedback"])

NoteId = Annotated[str, Path(max_length=32)]


@router.get("", responses=REFUSES[404])
async def list_feedback(
    by: By,
    given: Given,
    subject_kind: Annotated[
        AnyKind | None, Query(description="With `subject_id`: notes on this one.")
    ] = None,
    subject_id: Annotated[
        SubjectId | None, Query(description="The feed's name, or the delivery's ref.")
    ] = None,
    open: Annotated[bool, Query(description="Those alone that are not dealt with.")] = False,  # noqa: A002 - the address says it
    limit: Annotated[Limit, Query()] = PAGE,
    after: Annotated[Cursor, Query()] = None,
) -> Page[FeedbackShown]:
    """Notes, the latest first."""
    place, subject = read_place(after), _subject(subject_kind, subject_id)
    notes, following = await given.feedback.list(by, place, limit, subject=subject, open_only=open)
    shown = [FeedbackShown.of(note) for note in notes]
    return Page(items=shown, next=moment_cursor(following))


@router.post("", status_code=201, responses=REFUSES[404])
async def leave_feedback(new: NewFeedback, by: By, given: Given) -> FeedbackShown:
    """Leave a note on a delivery or a feed."""
    return FeedbackShown.of(await given.feedback.leave(by, new))


@router.post("/{note_id}/resolve")
async def resolve_feedback(note_id: NoteId, by: By, given: Given) -> FeedbackShown:
    """Mark a note as dealt with: its author may, and operators."""
    return FeedbackShown.of(await given.feedback.resolve(by, note_id))


def read_place(after: str | None) -> MomentPlace | None:
    """The place that a cursor names. Raises `Invalid`."""
    place = read_moment_cursor(after)
    if place and not place[1].isalnum():
        raise Invalid("not the `next` of a page of this list", "query.after")
    return place


def _subject(kind: SubjectKind | None, subject_id: str | None) -> tuple[SubjectKind, str] | None:
    if kind is None and subject_id is None:
        return None
    if kind is None or subject_id is None:
        raise Invalid(
            "subject_kind and subject_id go together",
            "query.subject_id" if kind else "query.subject_kind",
        )
    return kind, subject_id
