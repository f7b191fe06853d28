"""`python -m app operations`: a set is frozen, and only that is acted on, with no console anywhere."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from app.core.states import State
from app.ledger import Ledger
from app.operations.bulk_run import RunSettings
from tests.integration.cli.test_replay_command import Desk, desk
from tests.support.console_ledger import delivery

__all__ = ["desk"]

WHY = ("--why", "the partner mended it")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody delivers here, so an operation does not wait for a minute for what it moved last."""
    settings = partial(RunSettings, last_patience=timedelta(seconds=1))
    monkeypatch.setattr("app.operations.bulk_run.RunSettings", settings)


async def _two_more(ledger: Ledger) -> None:
    """Dead letters that were not there when the set was frozen."""
    await ledger._database["deliveries"].insert_many([delivery(5), delivery(6)])


def test_a_set_is_frozen_and_only_that_is_replayed(desk: Desk) -> None:
    desk.log_dead(5)
    create = ("operations", "create", "replay", "--feed", "orders", "--rate", "1000/second", *WHY)
    looked = desk.answer(*create, "--dry-run")
    assert (looked["count"], looked["feed"], looked["states"]) == (5, "orders", ["dead"])
    assert desk.answer("operations", "list") == {"operations": []}, "nothing is written by that"

    made = desk.answer(*create, "--id", "shift-night")
    assert (made["state"], made["size"], made["moved"]) == ("frozen", 5, 0)
    again = desk.answer(*create, "--id", "shift-night")
    assert (again["id"], again["version"]) == ("shift-night", made["version"])
    desk.ask(_two_more)
    done = desk.answer("operations", "run", "shift-night", *WHY)
    assert done["state"] == "done"
    closing = done["closing"]
    assert (closing["moved"], closing["size"], closing["others"]) == (5, 5, 0)
    states = {found["_id"]: found["state"] for found in desk.found()}
    assert states.pop("orders:5") == states.pop("orders:6") == State.DEAD.value
    assert set(states.values()) == {State.QUEUED.value}

    code, told, _ = desk.run("operations", "show", "shift-night", "--set")
    assert (code, "5 of 5" in told, "orders:4" in told) == (0, True, True)
    of_set = desk.answer("operations", "show", "shift-night", "--set", "--limit", "2")["set"]
    assert [one["outcome"] for one in of_set] == ["moved", "moved"]
    (listed,) = desk.answer("operations", "list", "--feed", "orders", "--state", "done")[
        "operations"
    ]
    assert listed["by"] == made["by"]
    assert [one["what"] for one in listed["history"]] == ["created", "frozen", "started", "done"]


def test_what_a_paused_feed_stops_is_resumed_or_abandoned(desk: Desk) -> None:
    desk.log_dead(3)
    create = ("operations", "create", "replay", "--feed", "orders", *WHY, "--id")
    for named in ("first-one", "second-one"):
        desk.answer(*create, named)
    assert desk.run("feeds", "pause", "orders", "--reason", "maintenance")[0] == 0
    code, told, wrong = desk.run("operations", "run", "first-one", *WHY)
    assert (code, "is paused: feed orders is paused" in wrong) == (1, True), told + wrong
    code, _, wrong = desk.run("operations", "run", "second-one", *WHY)
    assert (code, "there is one at a time" in wrong) == (1, True)
    assert desk.run("feeds", "resume", "orders")[0] == 0
    done = desk.answer("operations", "resume", "first-one", *WHY)
    assert (done["state"], done["closing"]["moved"]) == ("done", 3)

    ended = desk.answer("operations", "abandon", "second-one", *WHY)
    assert (ended["state"], ended["closing"]["unreached"]) == ("abandoned", 3)
    code, _, wrong = desk.run("operations", "pause", "second-one", *WHY)
    assert (code, "only what is running can be paused" in wrong) == (1, True)


def test_what_cannot_be_taken_is_wrong_usage_and_names_the_option(desk: Desk) -> None:
    desk.log_dead(1)
    refused = {
        ("cancel", "--feed", "orders", "--canary", "5"): "canary: a cancel sends nothing",
        ("replay", "--feed", "orders", "--state", "queued"): "states: a replay takes",
        ("replay", "--feed", "orders", "--rate", "fast"): "rate: found 'fast'",
        ("replay",): "filter: nothing is selected",
        ("replay", "--feed", "nowhere"): "feed 'nowhere': not configured",
        ("replay", "--feed", "orders", "--reason", "no such"): "filter: nothing is selected",
    }
    for arguments, said in refused.items():
        code, _, wrong = desk.run("operations", "create", *arguments, *WHY)
        assert (code, said in wrong) == (2, True), (arguments, wrong)
    code, _, wrong = desk.run("operations", "show", "nobody-made-it")
    assert (code, "no operation has the id nobody-made-it" in wrong) == (2, True)
