"""A console's own database as it is after a while: users, their logins and keys, origins, notes, and an audit
log; and operations in bulk in the ledger."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func, select

from app.console.feedback.schemas import NewFeedback, SubjectKind
from app.console.security.opaque import hash_of, new_secret
from app.console.security.roles import Means, Principal, Role, of_command
from app.console.services import Services
from app.console.store.tables import ApiKey, AuditEntry, Origin, RefreshToken, Session, User
from app.core.clock import utc_now
from app.core.operations import OperationKind, Pace
from app.core.states import State
from app.ledger.selection import Selection
from app.operations.bulk_request import NewOperation
from app.operations.by import By

USERS, LOGINS, ENTRIES, NOTES, OPERATIONS = 40, 120, 5000, 80, 40
FROZEN = "bench-operation-0"
"""The operation whose set is written down."""
ACTIONS = ("delivery.replayed", "delivery.revealed", "feed.paused", "user.changed", "login")


async def people(services: Services) -> None:
    """Write them, where they are not there yet."""
    async with services.store.reading() as work:
        if await work.scalar(select(func.count()).select_from(AuditEntry)) or 0:
            return
    now = utc_now()
    users = [_user(number, now) for number in range(USERS)]
    async with services.store.writing() as work:
        work.add_all(users)
        await work.flush()
        work.add_all(_logins(users, now))
        work.add_all(
            Origin(
                origin=f"https://site-{n}.example",
                note="a dashboard",
                created_at=now,
                created_by="vy",
            )
            for n in range(10)
        )
    await _audit(services)
    await _notes(services, users[0])
    await _operations(services)


def _user(number: int, now: datetime) -> User:
    return User(
        name=f"user-{number}",
        display_name=f"User number {number}",
        email=f"user-{number}@example.com",
        role=[*Role][number % 3].value,
        created_at=now - timedelta(days=number),
    )


def _logins(users: list[User], now: datetime) -> list[Session | RefreshToken | ApiKey]:
    until, found = now + timedelta(days=30), list[Session | RefreshToken | ApiKey]()
    for number in range(LOGINS):
        user = users[number % USERS].id
        where = {"address": "192.0.2.7", "user_agent": "Mozilla/5.0 (X11; Linux x86_64) bench"}
        found.append(
            Session(
                token_hash=hash_of(new_secret()),
                user_id=user,
                created_at=now,
                last_seen_at=now,
                expires_at=until,
                **where,
            )
        )
        found.append(
            RefreshToken(
                token_hash=hash_of(new_secret()),
                family=f"{number:032}",
                user_id=user,
                jti=f"{number:032}",
                access_expires_at=now,
                begun_at=now,
                created_at=now,
                expires_at=until,
                **where,
            )
        )
        found.append(
            ApiKey(
                name=f"machine {number}",
                prefix=f"rr_{number:05}",
                key_hash=hash_of(new_secret()),
                role="viewer",
                owner_id=user,
                created_at=now,
                expires_at=until,
            )
        )
    return found


async def _audit(services: Services) -> None:
    by = of_command("bench")
    async with services.store.writing() as work:
        for number in range(ENTRIES):
            action = ACTIONS[number % len(ACTIONS)]
            await services.audit.record(
                work,
                by,
                action,
                f"orders:{number}",
                why="asked for by the customer",
                after={"state": "queued"},
            )


async def _notes(services: Services, author: User) -> None:
    by = Principal(
        user_id=author.id,
        name=author.name,
        role=Role(author.role),
        means=Means.SESSION,
        means_id="bench",
        address="127.0.0.1",
    )
    for number in range(NOTES):
        note = NewFeedback(
            subject_kind=SubjectKind.FEED,
            subject_id="orders",
            text=f"The partner was told of this on the phone, call number {number}.",
        )
        await services.feedback.leave(by, note)


async def _operations(services: Services) -> None:
    """One whose set is frozen, and many that were abandoned."""
    bulk, by = services.operator.bulk, By("vy", "the partner has mended it")
    dead = Selection((State.DEAD,), feeds=("orders",))
    few = Selection((State.DEAD,), feeds=("refunds",))
    for number in reversed(range(OPERATIONS)):
        chosen = few if number else dead
        new = NewOperation(
            f"bench-operation-{number}", OperationKind.REPLAY, chosen, Pace("10/second")
        )
        made = await bulk.create(new, by)
        if number:
            await bulk.abandon(made.id, by)
    await services.operator.operation_runner.work_off()
