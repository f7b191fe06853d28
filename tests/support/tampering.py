# ruff: noqa: S608 - statements of our own text
"""Ways to tamper with the console's audit log in its database, and the entry that each leaves wrong. The log
has six entries or more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine


@dataclass(frozen=True, slots=True)
class Tampering:
    """One way."""

    name: str
    statements: Sequence[str]
    wrong: int
    """The first entry that is wrong; `LAST` and `AFTER_LAST` stand for the end of the log."""

    def __str__(self) -> str:
        return self.name


LAST, AFTER_LAST = -1, -2
_COLUMNS = "at, who, means, address, action, subject, why, before, after, previous_hash, hash"
_END = "(SELECT max(number) FROM audit_entries)"

TAMPERINGS = (
    *(
        Tampering(
            f"edited: {field}", [f"UPDATE audit_entries SET {field} = {value} WHERE number = 3"], 3
        )
        for field, value in {
            "at": "'2020-01-01 00:00:00.000000'",
            "who": "'mallory'",
            "means": "'api key'",
            "address": "'10.0.0.1'",
            "action": "'user.looked'",
            "subject": "'nobody'",
            "why": "'no reason'",
            "before": "'{}'",
            "after": "'{}'",
            "previous_hash": f"'{'1' * 64}'",
            "hash": f"'{'1' * 64}'",
        }.items()
    ),
    Tampering("edited: no date", ["UPDATE audit_entries SET at = 'soon' WHERE number = 3"], 3),
    Tampering("edited: no text", ["UPDATE audit_entries SET who = x'00ff' WHERE number = 3"], 3),
    Tampering(
        "edited: the last",
        [f"UPDATE audit_entries SET who = 'mallory' WHERE number = {_END}"],
        LAST,
    ),
    Tampering("removed", ["DELETE FROM audit_entries WHERE number = 3"], 3),
    Tampering("removed: the first", ["DELETE FROM audit_entries WHERE number = 1"], 1),
    Tampering(
        "removed, and those after it renumbered",
        [
            "DELETE FROM audit_entries WHERE number = 3",
            "UPDATE audit_entries SET number = number - 1000 WHERE number > 3",
            "UPDATE audit_entries SET number = number + 999 WHERE number < 0",
        ],
        3,
    ),
    Tampering(
        "slipped in, and those after it renumbered",
        [
            "UPDATE audit_entries SET number = number + 1001 WHERE number >= 3",
            "UPDATE audit_entries SET number = number - 1000 WHERE number > 1000",
            f"INSERT INTO audit_entries SELECT 3, {_COLUMNS} FROM audit_entries WHERE number = 2",
        ],
        3,
    ),
    Tampering(
        "slipped in before the first",
        [f"INSERT INTO audit_entries SELECT 0, {_COLUMNS} FROM audit_entries WHERE number = 1"],
        0,
    ),
    Tampering(
        "slipped in after the last",
        [
            f"INSERT INTO audit_entries SELECT number + 1, {_COLUMNS} FROM audit_entries WHERE number = {_END}"
        ],
        AFTER_LAST,
    ),
    Tampering("cut off at the end", [f"DELETE FROM audit_entries WHERE number = {_END}"], LAST),
    Tampering("cut off at the third", ["DELETE FROM audit_entries WHERE number >= 3"], 3),
    Tampering("all deleted", ["DELETE FROM audit_entries"], 1),
)


async def tamper(engine: AsyncEngine, tampering: Tampering) -> int:
    """Do it; returns the number of the first entry that is wrong now."""
    async with engine.begin() as connection:
        last = (await connection.execute(text(f"SELECT {_END}"))).scalar_one()
        for statement in tampering.statements:
            await connection.execute(text(statement))
    return int({LAST: last, AFTER_LAST: last + 1}.get(tampering.wrong, tampering.wrong))
