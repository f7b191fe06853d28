"""A source that is edited behind the system's back, at random: deletes, updates, swaps, reseeds,
reloads, restores (of the source and of the ledger), keys used again, columns that come and go,
cursor columns set to NULL.

After any history, either every row's present content was accepted by the partner, or the
certificate names the row.

`ROWRELAY_EXAMPLES=2000` makes it a long run, with new examples each time; a failure is then reduced
to a short one.
"""

# S608: the test writes SQL of its own, from its own constants.

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from app.core.certificates import Certificate, DiscrepancyKind
from app.core.states import State
from app.feeds.feed import Feed
from app.intake.poll import Polling
from app.ledger import Ledger
from app.ledger.client import Document
from app.reconcile import Reconciling
from app.source import plans
from app.source.engine import open_engine
from app.source.reader import Source
from tests.support.doubles import MemoryQueue, VirtualClock
from tests.support.sources import source_feed
from tests.support.stateful import LONG, run_at_random

EXAMPLES, STEPS = 8, 30
COLLECTIONS = ("batches", "certificates", "cursors", "deliveries", "floors", "walks")
COLUMNS = {"identity": "id", "rowversion": "rv", "timestamp": "at"}
WAIT = timedelta(minutes=1)
Row = dict[str, Any]

picks = st.lists(st.integers(0, 30), min_size=1, max_size=3)


class Shop(RuleBasedStateMachine):
    """Rules are what an application, its administrator and an operator do."""

    def __init__(self, folder: Path, runner: asyncio.Runner, ledger: Ledger) -> None:
        super().__init__()
        self.path = folder / "shop.db"
        self.runner, self.ledger = runner, ledger
        self.clock, self.queue = VirtualClock(), MemoryQueue()
        self.accepted: dict[str, list[Row]] = {}
        self.written = 0
        self.source: Source | None = None
        self.kept_rows: list[Row] = []
        self.kept_ledger: dict[str, list[Document]] = {}

    @initialize(strategy=st.sampled_from(sorted(COLUMNS)), key=st.sampled_from(["id", "code"]))
    def begin(self, strategy: str, key: str) -> None:
        self.path.unlink(missing_ok=True)
        self.db = sqlite3.connect(self.path, isolation_level=None)
        self.db.execute(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, code TEXT, note TEXT, rv INTEGER, at TEXT)"
        )
        self.extra = 0
        self.source = Source(open_engine(f"sqlite:///{self.path}", timedelta(seconds=5)))
        self.feed: Feed = source_feed("orders", strategy, COLUMNS[strategy], key=key, page_size=4)
        self.runner.run(self._empty_ledger())
        self.insert(3)
        self.poll()

    def teardown(self) -> None:
        if self.source is not None:
            self.certify()
            self.runner.run(self.source.close())
            self.db.close()

    # --- the application

    @rule(count=st.integers(1, 5))
    def insert(self, count: int) -> None:
        for _ in range(count):
            self._write(None, f"c{self.written}")

    @rule(pick=picks, bumped=st.booleans())
    def update(self, pick: list[int], bumped: bool) -> None:
        """`bumped`: the cursor column moves, as it should."""
        for row in self._picked(pick):
            self.db.execute("UPDATE orders SET note = ? WHERE id = ?", (self._note(), row["id"]))
            if bumped:
                self.db.execute(
                    "UPDATE orders SET rv = ?, at = ? WHERE id = ?", (*self._moved(), row["id"])
                )

    @rule(pick=picks)
    def delete(self, pick: list[int]) -> None:
        for row in self._picked(pick):
            self.db.execute("DELETE FROM orders WHERE id = ?", (row["id"],))

    @rule(pick=picks)
    def use_a_key_again(self, pick: list[int]) -> None:
        for row in self._picked(pick):
            self.db.execute("DELETE FROM orders WHERE id = ?", (row["id"],))
            self._write(row["id"], row["code"])

    @rule(pick=picks)
    def put_a_second_row_under_a_key(self, pick: list[int]) -> None:
        for row in self._picked(pick):
            self._write(None, row["code"])

    @rule(pick=picks)
    def swap_two_rows(self, pick: list[int]) -> None:
        rows = self._picked(pick)
        if len(rows) > 1:
            for one, other in ((rows[0], rows[1]), (rows[1], rows[0])):
                self.db.execute(
                    "UPDATE orders SET note = ? WHERE id = ?", (other["note"], one["id"])
                )

    @rule(pick=picks)
    def forget_the_cursor_column(self, pick: list[int]) -> None:
        for row in self._picked(pick):
            self.db.execute("UPDATE orders SET rv = NULL, at = NULL WHERE id = ?", (row["id"],))

    # --- the administrator

    @rule(to=st.integers(-50, 50), count=st.integers(1, 3))
    def reseed(self, to: int, count: int) -> None:
        self.db.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'orders'", (to,))
        taken = {row["id"] for row in self._rows()}
        for number in range(to, to + count):
            if number not in taken:
                self._write(number, f"c{self.written}")

    @rule(count=st.integers(1, 12))
    def truncate_and_load_again(self, count: int) -> None:
        self.db.execute("DELETE FROM orders")
        self.db.execute("DELETE FROM sqlite_sequence")
        for number in range(count):
            self._write(None, f"c{number}")

    @rule()
    def back_up(self) -> None:
        self.kept_rows = self._rows()
        self.kept_ledger = self.runner.run(self._ledger_as_it_is())

    @precondition(lambda self: self.kept_rows)
    @rule(count=st.integers(0, 6))
    def restore_the_source(self, count: int) -> None:
        """To the state of the backup; its counters go back, too, and new rows come under what was
        used since.
        """
        self.db.execute("DELETE FROM orders")
        for row in self.kept_rows:
            self.db.execute(
                "INSERT INTO orders (id, code, note, rv, at) VALUES (:id, :code, :note, :rv, :at)",
                row,
            )
        seq = max(row["id"] for row in self.kept_rows)
        self.db.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'orders'", (seq,))
        self.written = max([0, *(row["rv"] or 0 for row in self.kept_rows)])
        self.insert_some(count)

    @precondition(lambda self: self.kept_ledger)
    @rule()
    def restore_the_ledger(self) -> None:
        self.runner.run(self._put_back(self.kept_ledger))

    @precondition(lambda self: self.extra < 2)
    @rule(value=st.sampled_from([None, "'x'"]))
    def add_a_column(self, value: str | None) -> None:
        self.extra += 1
        default = f" DEFAULT {value}" if value else ""
        self.db.execute(f"ALTER TABLE orders ADD COLUMN extra{self.extra} TEXT{default}")

    @precondition(lambda self: self.extra > 0)
    @rule()
    def drop_a_column(self) -> None:
        self.db.execute(f"ALTER TABLE orders DROP COLUMN extra{self.extra}")
        self.extra -= 1

    # --- the system

    @rule()
    def poll(self) -> None:
        assert self.source is not None
        polling = Polling(self.source, self.ledger, self.queue, message_wait=WAIT, now=self.clock)
        self.runner.run(polling.poll(self.feed))

    @rule(dead=st.booleans())
    def deliver(self, dead: bool) -> None:
        self.runner.run(self._deliver(dead=dead))

    @rule()
    def drop_payloads(self) -> None:
        gone = {"$unset": {"payload": ""}}
        self.runner.run(self._deliveries.update_many({"state": State.DELIVERED.value}, gone))

    @rule()
    def time_passes(self) -> None:
        self.clock.advance(timedelta(minutes=11))

    @rule()
    def operator_resumes(self) -> None:
        self.runner.run(self.ledger.pauses.resume(self.feed.name))

    @rule()
    def certify(self) -> None:
        """What is promised."""
        self.poll()
        self.deliver(dead=False)
        self._reconcile()
        self.deliver(dead=False)
        certificate = self._reconcile()
        named = {known for found in certificate.discrepancies for known in found.ids} | {
            *certificate.missing_ids
        }
        without = self._unsent_columns(certificate)
        states = self.runner.run(self.ledger.deliveries.ids(self.feed.name))
        rows = [
            {name: value for name, value in row.items() if name not in without}
            for row in self._rows()
        ]
        unaccounted = [row for row in rows if not self._is_accepted(row)]
        for row in unaccounted:
            known = self._id(row)
            counted_dead = states.get(known) is State.DEAD
            assert known in named or counted_dead, (row, certificate)
        if certificate.complete:
            assert all(states.get(self._id(row)) is State.DEAD for row in unaccounted), certificate

    # --- how

    @property
    def _deliveries(self) -> Any:
        return self.ledger._database["deliveries"]

    def insert_some(self, count: int) -> None:
        for _ in range(count):
            self._write(None, f"c{self.written}")

    def _write(self, number: int | None, code: str) -> None:
        values = (number, code, self._note(), *self._moved())
        self.db.execute(
            "INSERT INTO orders (id, code, note, rv, at) VALUES (?, ?, ?, ?, ?)", values
        )

    def _note(self) -> str:
        self.written += 1
        return f"n{self.written}-{len(self.accepted)}"

    def _moved(self) -> tuple[int, str]:
        self.written += 1
        return self.written, f"2026-01-01 10:{self.written // 60 % 60:02}:{self.written % 60:02}"

    def _rows(self) -> list[Row]:
        found = self.db.execute("SELECT * FROM orders ORDER BY id")
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def _picked(self, pick: list[int]) -> list[Row]:
        rows = self._rows()
        return (
            list({row["id"]: row for row in (rows[place % len(rows)] for place in pick)}.values())
            if rows
            else []
        )

    def _id(self, row: Row) -> str:
        return f"{self.feed.name}:{quote(str(row[self.feed.key[0]]), safe='')}"

    def _unsent_columns(self, certificate: Certificate) -> set[str]:
        """The columns that the certificate says are sent with no row yet."""
        unsent = [
            found.note
            for found in certificate.discrepancies
            if found.kind is DiscrepancyKind.UNSENT_COLUMNS
        ]
        return {
            f"extra{number}"
            for number in (1, 2)
            if any(f"'extra{number}'" in note for note in unsent)
        }

    def _is_accepted(self, row: Row) -> bool:
        held = {name: value for name, value in row.items() if value is not None}
        return held in self.accepted.get(self._id(row), [])

    def _reconcile(self) -> Certificate:
        assert self.source is not None
        reconciling = Reconciling(
            self.source, self.ledger, self.queue, message_wait=WAIT, now=self.clock, sleep=_at_once
        )
        return self.runner.run(reconciling.reconcile(self.feed, resume=False))

    async def _deliver(self, *, dead: bool) -> None:
        """What is queued is accepted, or, if `dead`, refused for good."""
        async for document in self._deliveries.find({"state": State.QUEUED.value}):
            if not dead:
                held = {
                    name: value
                    for name, value in json.loads(document["payload"]).items()
                    if value is not None
                }
                self.accepted.setdefault(document["_id"], []).append(held)
        state = State.DEAD if dead else State.DELIVERED
        settled = {
            "$set": {"state": state.value, "finished_at": self.clock()},
            "$unset": {"batch": ""},
        }
        await self._deliveries.update_many({"state": State.QUEUED.value}, settled)
        await self.ledger._database["batches"].delete_many({})

    async def _empty_ledger(self) -> None:
        for name in COLLECTIONS:
            await self.ledger._database[name].delete_many({})

    async def _ledger_as_it_is(self) -> dict[str, list[Document]]:
        return {name: await self.ledger._database[name].find().to_list() for name in COLLECTIONS}

    async def _put_back(self, kept: dict[str, list[Document]]) -> None:
        await self._empty_ledger()
        for name, documents in kept.items():
            if documents:
                await self.ledger._database[name].insert_many(documents)


async def _at_once(_: float) -> None:
    """Sleep not at all."""


@pytest.mark.timeout(0 if LONG else 600)
def test_a_row_was_accepted_as_it_is_or_the_certificate_names_it(
    tmp_path: Path, runner: asyncio.Runner, runner_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "LIFE", timedelta(0))
    make: Callable[[], RuleBasedStateMachine] = lambda: Shop(tmp_path, runner, runner_ledger)  # noqa: E731
    run_at_random(make, EXAMPLES, STEPS)
