"""Feedback: notes that people leave on a delivery or a feed, for whoever looks next."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from app.configuration.loaded import Loaded
from app.console.audit.service import Audit
from app.console.deliveries.ref import read_ref
from app.console.errors import Forbidden, NotFound
from app.console.feedback.repository import FeedbackRepository
from app.console.feedback.schemas import NewFeedback, SubjectKind
from app.console.schemas import MomentPlace, cut
from app.console.security.roles import Permission, Principal, why_not
from app.console.store.store import Store
from app.console.store.tables import Feedback
from app.core.clock import Clock, utc_now
from app.core.errors import UnknownFeed
from app.runtime.operator import Operator

SHOWN = 10
"""Notes of one subject that its page shows."""


class FeedbackNotes:
    """Takes notes, lists and resolves them."""

    def __init__(
        self, store: Store, audit: Audit, loaded: Loaded, operator: Operator, now: Clock = utc_now
    ) -> None:
        self._store = store
        self._audit = audit
        self._loaded = loaded
        self._operator = operator
        self._now = now

    async def leave(self, actor: Principal, new: NewFeedback) -> Feedback:
        """Leave a note. Raises `Forbidden`; `NotFound`, `UnknownFeed` for a subject that is not there;
        the ledger's errors."""
        actor.require(Permission.LEAVE_FEEDBACK)
        subject = await self._existing(new.subject_kind, new.subject_id)
        async with self._store.writing() as session:
            notes = FeedbackRepository(session)
            note = Feedback(
                subject_kind=new.subject_kind.value,
                subject_id=subject,
                subject_hash=_hash(new.subject_kind, subject),
                text=new.text,
                author_id=actor.user_id,
                created_at=self._now(),
            )
            notes.add(note)
            await session.flush()
            await self._audit.record(
                session, actor, "feedback.left", _said(note), after={"text": note.text}
            )
            return await _found(notes, note.id)

    async def of_subject(
        self, actor: Principal, kind: SubjectKind, subject_id: str, limit: int = SHOWN
    ) -> Sequence[Feedback]:
        """The latest notes on a feed of that name, or a delivery of that ref. Raises `Forbidden`;
        `NotFound` for what is no ref."""
        actor.require(Permission.LOOK)
        subject = _stored(kind, subject_id)
        async with self._store.reading() as session:
            return await FeedbackRepository(session).page(
                None, limit, subject_hash=_hash(kind, subject)
            )

    async def list(
        self,
        actor: Principal,
        before: MomentPlace | None,
        limit: int,
        *,
        subject: tuple[SubjectKind, str] | None = None,
        open_only: bool = False,
    ) -> tuple[Sequence[Feedback], MomentPlace | None]:
        """The latest notes before that place, and where the next page begins. Raises as `of_subject`."""
        actor.require(Permission.LOOK)
        hashed = _hash(subject[0], _stored(*subject)) if subject else None
        async with self._store.reading() as session:
            found = await FeedbackRepository(session).page(
                before, limit + 1, subject_hash=hashed, open_only=open_only
            )
        return cut(found, limit, lambda last: (last.created_at, last.id))

    async def resolve(self, actor: Principal, note_id: str) -> Feedback:
        """Mark a note as dealt with: its author may, and who may operate. One that is stays as it is.
        Raises `NotFound`, `Forbidden`."""
        actor.require(Permission.LEAVE_FEEDBACK)
        async with self._store.writing() as session:
            note = await _found(FeedbackRepository(session), note_id)
            if not may_resolve(actor, note):
                raise Forbidden(
                    f"{note.author.name} left it: {why_not(actor.role, Permission.OPERATE)}"
                )
            if note.resolved_at is None:
                note.resolved_at, note.resolved_by = self._now(), actor.name[:100]
                await session.flush()
                await self._audit.record(session, actor, "feedback.resolved", _said(note))
            return note

    async def _existing(self, kind: SubjectKind, subject_id: str) -> str:
        """The subject as it is stored."""
        subject, ledger = _stored(kind, subject_id), self._operator.ledger
        if kind is SubjectKind.DELIVERY:
            if await ledger.deliveries.get(subject) is None:
                raise NotFound("there is no such delivery: search for its key")
        elif subject not in self._loaded.feeds:
            known = {*self._loaded.feeds, *await ledger.stats.feeds()}
            if subject not in known:
                raise UnknownFeed(subject, sorted(known))
        return subject


def may_resolve(actor: Principal, note: Feedback) -> bool:
    """Whether they may mark it as dealt with."""
    return note.author_id == actor.user_id or actor.may(Permission.OPERATE)


def _stored(kind: SubjectKind, subject_id: str) -> str:
    return read_ref(subject_id) if kind is SubjectKind.DELIVERY else subject_id


def _hash(kind: SubjectKind, subject: str) -> str:
    return hashlib.sha256(f"{kind}\n{subject}".encode()).hexdigest()


def _said(note: Feedback) -> str:
    return f"{note.subject_kind} {note.subject_id}"


async def _found(notes: FeedbackRepository, note_id: str) -> Feedback:
    note = await notes.get(note_id)
    if note is None:
        raise NotFound("there is no such note")
    return note
