"""`deliveries list` and `show`, as an operator types them."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from typer.testing import CliRunner, Result

from app.cli.main import main
from app.core.clock import utc_now
from app.core.states import State
from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.listing import Order, Place, moment_of
from app.ledger.selection import Selection
from app.source.payload import key_text

T = TypeVar("T")
FEEDS = """
[feeds.{name}]
table = "{name}"
key = {key}
cursor = {{ strategy = "identity", column = "id" }}
partner = {{ url = "https://partner.invalid/" }}
"""
NOW = utc_now().replace(microsecond=0)
INVOICE = ("acme", "INV-2026/00060")


@dataclass(frozen=True, slots=True)
class Desk:
    """Where an operator sits."""

    url: str

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(main, ["deliveries", *words])

    def told(self, *words: str) -> str:
        result = self.run(*words)
        assert result.exit_code == 0, result.output
        return result.output

    def json(self, *words: str) -> Any:
        return json.loads(self.told(*words, "--json"))

    def ids(self, *words: str) -> list[str]:
        return [one["_id"] for one in self.json("list", *words)["deliveries"]]

    def ask(self, question: Callable[[Ledger], Awaitable[T]]) -> T:
        async def asking() -> T:
            ledger = Ledger.at(self.url, timedelta(seconds=5))
            try:
                return await question(ledger)
            finally:
                await ledger.close()

        return asyncio.run(asking())

    def put(self, *documents: Document) -> None:
        """Write deliveries into the ledger."""

        async def insert(ledger: Ledger) -> None:
            await ledger._database["deliveries"].insert_many(documents)

        self.ask(insert)


def delivery(
    feed: str, *parts: object, state: State = State.DEAD, at: datetime = NOW, **more: Any
) -> Document:
    """A delivery of that key."""
    key = key_text(parts)
    moment = {"next_attempt_at": at} if state is State.RETRYING else {"finished_at": at}
    return {
        "_id": f"{feed}:{key}", "feed": feed, "key": key, "position": 1, "payload": '{"a":1}', "created_at": at,
        "attempts": 1, "state": state.value, **({} if state is State.QUEUED else moment), **more,
    }  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path, mongo_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Desk:
    feeds = [("invoices", '["tenant", "number"]'), ("orders", '"id"'), ("people", '"name"')]
    text = "".join(FEEDS.format(name=name, key=key) for name, key in feeds)
    (tmp_path / "feeds.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MONGO_URL", mongo_database_url)
    monkeypatch.setenv("SOURCE_URL", f"sqlite:///{tmp_path}/source.db")
    monkeypatch.delenv("COLUMNS", raising=False)
    return Desk(mongo_database_url)


@pytest.mark.parametrize(
    "typed",
    [
        "invoices:acme:INV-2026%2F00060",
        "invoices:acme:INV-2026/00060",
        "acme:INV-2026/00060",
        "acme:INV-2026%2f00060",
    ],
)
def test_a_key_is_found_as_people_write_it(desk: Desk, typed: str) -> None:
    desk.put(
        delivery("invoices", *INVOICE),
        delivery("invoices", "acme", "INV-2026/00061"),
        delivery("orders", 60),
    )
    known = "invoices:acme:INV-2026%2F00060"
    assert desk.json("show", typed)["delivery"]["_id"] == known
    assert desk.ids(typed) == [known]
    assert "invoices:acme:INV-2026/00060" in desk.told("list", typed)
    assert desk.told("show", typed).startswith("delivery   invoices:acme:INV-2026/00060\n")


@pytest.mark.parametrize(
    "name",
    ["Ärzte & Söhne", " two  blanks ", "10:30", "100%", "a\u202eb", "anna@example.com", "文"],
)
def test_what_is_shown_is_found_again_whatever_the_key_holds(desk: Desk, name: str) -> None:
    desk.put(delivery("people", name))
    (known,) = desk.ids()
    shown = desk.told("show", known).splitlines()[0].removeprefix("delivery").lstrip()
    for typed in (shown, known, f"people:{name}", name):
        assert desk.json("show", typed)["delivery"]["_id"] == known


@pytest.mark.parametrize("width", ["80", "40"])
def test_a_narrow_terminal_cuts_no_id(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    desk.put(
        delivery(
            "invoices",
            "a tenant",
            "INV-2026/0006000000001",
            reason="422 Unprocessable Entity: " + "x" * 60,
        )
    )
    monkeypatch.setenv("COLUMNS", width)
    told = desk.told("list")
    assert "invoices:a tenant:INV-2026/0006000000001" in told
    assert "1 of 1" in told


def test_a_key_that_means_several_deliveries_names_them_and_is_no_choice_of_ours(
    desk: Desk,
) -> None:
    desk.put(delivery("orders", 7), delivery("people", 7), delivery("orders", 8))
    result = desk.run("show", "7")
    assert result.exit_code == 2
    assert "'7': means 2 deliveries; name one of them: orders:7, people:7" in result.stderr
    assert desk.ids("7") == ["orders:7", "people:7"]
    assert desk.json("show", "7", "--feed", "people")["delivery"]["_id"] == "people:7"


def test_the_changes_of_a_row_are_found_by_its_key(desk: Desk) -> None:
    desk.put(
        *(delivery("orders", 7) | {"_id": f"orders:7:0x0{number}"} for number in (1, 2)),
        delivery("orders", 70),
    )
    assert desk.ids("orders:7") == ["orders:7:0x01", "orders:7:0x02"]
    assert desk.json("show", "7:0x02")["delivery"]["_id"] == "orders:7:0x02"


def test_what_is_not_there_is_said_and_exits_1(desk: Desk) -> None:
    desk.put(delivery("orders", 7))
    shown = desk.run("show", "orders:8")
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "'orders:8': no delivery in the ledger" in shown.stderr
    result = desk.run("list", "orders:7", "orders:8", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["unknown"] == ["orders:8"]
    assert "'orders:8': nothing of that key in the ledger" in result.stderr


@pytest.mark.parametrize("command", [("list",), ("show", "7")])
def test_a_feed_that_nobody_knows_is_an_error(desk: Desk, command: tuple[str, ...]) -> None:
    desk.put(delivery("removed", 7), delivery("orders", 7))
    result = desk.run(*command, "--feed", "ordres")
    assert result.exit_code == 2
    assert (
        result.stderr
        == "rowrelay: feed 'ordres': not configured; known feeds: invoices, orders, people\n"
    )
    assert desk.run(*command, "--feed", "removed").exit_code == 0


def test_pages_go_on_by_their_mark_and_list_each_once_also_of_one_moment(desk: Desk) -> None:
    """205 dead letters, most of which died together, in two feeds."""
    dead = [
        delivery("orders", number, at=NOW - timedelta(seconds=number // 60))
        for number in range(200)
    ]
    desk.put(
        *dead,
        *(delivery("people", number) for number in range(5)),
        delivery("orders", "x", state=State.QUEUED),
    )
    told = desk.told("list", "--state", "dead")
    assert "\n50 of 205\n" in told
    found: list[str] = []
    for end in (50, 100, 150, 200, 205):
        found += [
            line.split()[0] for line in told.splitlines() if line.startswith(("orders:", "people:"))
        ]
        assert len(found) == end
        following = [line for line in told.splitlines() if line.startswith("the next: ")]
        if following:
            words = shlex.split(following[0].removeprefix("the next: "))
            assert words[:4] == ["python", "-m", "app", "deliveries"]
            told = desk.told(*words[4:])
            assert f"{end + 1} to {min(end + 50, 205)} of 205" in told
    assert not following
    expected = sorted(((one["finished_at"], one["_id"]) for one in [*dead]), reverse=True)
    assert len(set(found)) == 205
    assert [one for one in found if one.startswith("orders")] == [one for _, one in expected]


@pytest.mark.parametrize("order", Order)
async def test_pages_of_all_states_list_each_once_in_order(ledger: Ledger, order: Order) -> None:
    documents = [
        delivery(feed, number, state=state, at=NOW + timedelta(seconds=number % 2))
        for place, state in enumerate(State)
        for feed in ("orders", "people")
        for number in range(place * 10, place * 10 + 4)
    ]
    await ledger._database["deliveries"].insert_many(documents)
    selection = Selection(tuple(State))
    for size in (3, 7, 100):
        found, after = list[Document](), None
        while page := await ledger.listing.page(selection, order, after, size):
            found += page
            after = Place(moment_of(page[-1]), page[-1]["_id"])
        ids = [one["_id"] for one in found]
        assert sorted(ids) == sorted(one["_id"] for one in documents)
        keyed = ids if order is Order.ID else [*zip(map(moment_of, found), ids, strict=True)]
        assert keyed == sorted(keyed, reverse=order is Order.NEWEST)


def test_what_narrows_the_list(desk: Desk) -> None:
    hour = timedelta(hours=1)
    desk.put(
        delivery("orders", 1, reason="422 Unprocessable", last={"status": 422}, attempts=1),
        delivery(
            "orders",
            2,
            reason="attempts spent: 503",
            last={"status": 503},
            attempts=12,
            at=NOW - 3 * hour,
        ),
        delivery(
            "orders",
            3,
            state=State.RETRYING,
            last={"error": "read timeout"},
            attempts=4,
            at=NOW + hour,
        ),
        delivery("orders", 4, state=State.DELIVERED, last={"status": 200}),
        delivery("people", "Jo/Ann", state=State.QUEUED, attempts=0),
    )
    by: dict[str, tuple[str, ...]] = {
        "--state dead": ("orders:1", "orders:2"),
        "--state dead --state queued": ("orders:1", "orders:2", "people:Jo%2FAnn"),
        "--feed people": ("people:Jo%2FAnn",),
        "--reason UNPROCESS": ("orders:1",),
        "--reason timeout": ("orders:3",),
        "--status 503": ("orders:2",),
        "--since 2h --state dead": ("orders:1",),
        "--until 2h": ("orders:2",),
        "--attempts 4": ("orders:3",),
        "--attempts 4+": ("orders:2", "orders:3"),
        "--attempts 0-1": ("orders:1", "orders:4", "people:Jo%2FAnn"),
        "--contains jo/": ("people:Jo%2FAnn",),
        "--feed orders --status 200 --attempts 1": ("orders:4",),
    }
    assert {options: tuple(sorted(desk.ids(*options.split()))) for options in by} == by
    assert "0 of 0" in desk.told("list", "--status", "418")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--attempts", "many"), "not a number of attempts"),
        (("--attempts", "5-2"), "5 is more than 2"),
        (("--after", "nonsense"), "not what a page of this command ended with"),
        (("--since", "yesterday"), "neither a moment"),
    ],
)
def test_wrong_usage_is_told_and_exits_2(desk: Desk, words: tuple[str, ...], told: str) -> None:
    result = desk.run("list", *words)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.replace("│", "").split())


def test_a_mark_of_another_order_is_refused(desk: Desk) -> None:
    desk.put(delivery("orders", 1), delivery("orders", 2))
    token = desk.json("list", "--limit", "1")["next"]
    result = desk.run("list", "--limit", "1", "--sort", "id", "--after", token)
    assert result.exit_code == 2
    assert "--after: a page of --sort newest" in result.stderr


TOLD = r"""delivery  orders:7
feed      orders
key       7
state     dead
reason    HTTP 422: no such customer
attempts  2 since it was replayed
position  7

Timeline, UTC
  2026-01-31 10:00:00.000  logged
  2026-01-31 10:00:01.000  attempt 1, to be retried: HTTP 503 after 12 ms
      503 Service Unavailable
      | <html>
      | down for maintenance
      by w1
  2026-01-31 10:00:02.000  attempt 2, outcome unknown: the worker's lease ran out
      by w2
  2026-01-31 10:00:03.000  replayed by me@desk; it was dead
  2026-01-31 10:00:04.250  attempt 3, given up: HTTP 422 after 30 ms
      | {"error": "no such customer \x1b[31m"}
      by w1
  2026-01-31 10:00:05.000  dead letter
      HTTP 422: no such customer
  to send it again: python -m app replay orders:7

Payload
{"id": 7, "note": "x"}
"""


def test_show_tells_what_happened_in_order_and_what_the_partner_answered(desk: Desk) -> None:
    moments = [datetime(2026, 1, 31, 10, 0, second, tzinfo=UTC) for second in range(6)]
    late = moments[4].replace(microsecond=250_000)
    attempts = [
        {"_id": "orders:7#a", "at": moments[1], "outcome": "retry", "status": 503, "duration_ms": 12, "worker": "w1",
         "error": "503 Service Unavailable", "response": "<html>\ndown for maintenance"},
        {"_id": "orders:7#b", "at": moments[2], "outcome": "unknown", "worker": "w2"},
        {"_id": "orders:7#c", "at": late, "outcome": "dead", "status": 422, "duration_ms": 30, "worker": "w1",
         "response": '{"error": "no such customer \x1b[31m"}'},
    ]  # fmt: skip
    desk.put(
        delivery(
            "orders", 7, at=moments[5], created_at=moments[0], position=7, payload='{"id": 7, "note": "x"}',
            reason="HTTP 422: no such customer", attempts=2, replay_count=1,
            replays=[{"at": moments[3], "by": "me@desk", "was": "dead"}],
        )
    )  # fmt: skip

    async def insert(ledger: Ledger) -> None:
        await ledger._database["attempts"].insert_many(attempts)

    desk.ask(insert)
    assert desk.told("show", "orders:7") == TOLD
    found = desk.json("show", "orders:7")
    assert found["attempts"][0]["response"] == "<html>\ndown for maintenance"


@pytest.mark.parametrize(
    ("state", "more", "told"),
    [
        (State.RETRYING, {"at": NOW + timedelta(days=5)}, "next attempt, in 5 d"),
        (State.QUEUED, {}, "now: waits to be sent"),
        (State.CANCELLED, {"cancelled": {"at": NOW, "by": "me"}}, "cancelled by me"),
        (State.DEAD, {"acknowledged": {"at": NOW, "by": "me"}}, "dead, acknowledged"),
        (State.SKIPPED, {"reason": "filter: not id < 100"}, "filter: not id < 100"),
        (
            State.DELIVERED,
            {"restored_at": NOW, "restored_from": "orders-2026-01-31"},
            "put back from an archive",
        ),
        (
            State.DEAD,
            {"payload": ""},
            "mend the row in the source, then: python -m app replay orders:7",
        ),
    ],
)
def test_show_speaks_no_python_in_any_state(
    desk: Desk, state: State, more: dict[str, Any], told: str
) -> None:
    desk.put(delivery("orders", 7, state=state, position=[1, ["a", "b"], None], **more))
    output = desk.told("show", "orders:7")
    assert told in output
    assert not re.search(r"None|datetime|[{\[]'|True|False|State\.", output), output
