"""Counts what a database is asked, so that a page or endpoint that asks once a row is found out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine


@contextmanager
def statements(engine: AsyncEngine) -> Iterator[list[str]]:
    """The statements that are sent while it is open, in order, without their values.

        with statements(console.services.store.engine) as sent:
            await admin.get("/api/v1/users")
        assert len(sent) == 2

    Executing one with many sets of values counts once. Transactions' BEGIN and COMMIT do not count.
    """
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", note)
