"""What `doctor` asks of the ledger: who answers, whether it takes writes, its indexes, and whether
clocks agree.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from app.core.clock import server_clock
from app.core.errors import RowrelayError
from app.ledger.examine import Role
from app.ledger.heartbeats import Heartbeat
from app.monitoring.health import wrong_clocks
from app.reads.doctor.check import Check, Servers, checked, found
from app.source.findings import Level


async def check_ledger(servers: Servers, patience: timedelta) -> list[Check]:
    """Who answers, whether it takes writes, and its indexes: each asked only where the one before
    is well.

    The clocks of the processes only where it is one that answers us. `patience`: `CONNECT_TIMEOUT`.
    """
    name = "ledger (MONGO_URL)"
    roles: list[Role] = []

    async def who() -> str:
        roles.append(await servers.ledger.examination(patience).role())
        return roles[0].about

    async def write() -> str:
        await servers.ledger.examination(patience).write()
        return "a document of its own written and deleted, acknowledged by a majority"

    async def index() -> str:
        await servers.ledger.examination(patience).partial_index()
        return "a partial index made"

    checks: list[Check] = []
    clocks: list[tuple[Heartbeat, str]] = []
    for subject, ask in ((name, who), ("ledger: writing", write), ("ledger: indexes", index)):
        checks.append(await checked(subject, ask))
        if not checks[-1].ok:
            break
    with suppress(RowrelayError):
        clocks = await wrong_clocks(servers.ledger) if roles else []
    doubts = [
        (f"ledger: {subject}", detail)
        for role in roles
        for subject, detail in role.warnings.items()
    ]
    doubts += [(f"{one.role.value} {one.name}: clock", said) for one, said in clocks]
    checks += [check for role in roles for check in _clock(role)]
    return [*checks, *(found(subject, Level.WARNING, detail) for subject, detail in doubts)]


def _clock(role: Role) -> list[Check]:
    """That this machine's clock agrees with the ledger server's, where nothing else is said of it."""
    ahead = server_clock.machine_ahead
    if ahead is None or "clock" in role.warnings:
        return []
    return [
        found(
            "ledger: clock",
            Level.OK,
            f"this machine's is within {abs(ahead):.1f} s of the server's",
        )
    ]
