"""A reader and an operator open what is asked for, once, and leave nothing open."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

import config
from app.broker.depths import Broker
from app.core.errors import ConfigError
from app.ledger import Ledger
from app.reconcile import Reconciling
from app.runtime.operator import open_operator
from app.runtime.reader import open_reader
from tests.support.doubles import MemoryQueue
from tests.support.feeds import make_feed


def nowhere(source: str = "sqlite:///nowhere.db") -> config.Config:
    """A configuration of servers that are not there: nothing may connect."""
    settings = config.Settings(
        _env_file=None,
        mongo_url=SecretStr("mongodb://127.0.0.1:1/x"),
        redis_url=SecretStr("redis://127.0.0.1:1/0"),
        source_url=SecretStr(source),
    )
    return config.Config(settings, {"orders": make_feed()})


async def test_a_reader_opens_each_server_once_and_only_when_it_is_asked_for() -> None:
    async with open_reader(nowhere()) as reader:
        assert vars(reader).keys() == {"config", "_closing"}
        assert reader.ledger is reader.ledger
        assert "source" not in vars(reader)
        assert reader.source is reader.source


async def test_what_was_opened_is_closed_also_where_the_next_cannot_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[object] = []
    closed: list[str] = []

    async def close_ledger(_: Ledger) -> None:
        closed.append("ledger")

    async def close_broker(_: Broker) -> None:
        closed.append("broker")

    monkeypatch.setattr(Ledger, "close", close_ledger)
    monkeypatch.setattr(Broker, "close", close_broker)

    async def open_all() -> None:
        async with open_reader(nowhere("oracle://somewhere/x")) as reader:
            opened.extend((reader.ledger, reader.broker))
            opened.append(reader.source)

    with pytest.raises(ConfigError, match="SOURCE_URL"):
        await open_all()
    assert (len(opened), closed) == (2, ["broker", "ledger"]), "the last opened first"


async def test_an_operator_opens_the_queue_for_what_publishes_alone() -> None:
    opened: list[MemoryQueue] = []

    def open_queue() -> MemoryQueue:
        opened.append(MemoryQueue())
        return opened[-1]

    async with open_operator(nowhere(), open_queue) as operator:
        assert operator.purging is operator.purging
        assert opened == []
        assert operator.replaying is operator.replaying
        assert isinstance(operator.reconciling(heal_at_most=1), Reconciling)
        assert opened == [operator.queue]


async def test_an_operator_that_publishes_nothing_needs_no_queue() -> None:
    async with open_operator(nowhere()) as operator:
        assert operator.rewinding is operator.rewinding
        with pytest.raises(AssertionError, match="queue"):
            assert operator.queue is None
