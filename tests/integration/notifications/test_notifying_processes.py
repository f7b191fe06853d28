"""Who tells, and what an operator sees of it: where no worker looks, whoever notices; `python -m
app notifications`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

import config
from app.broker.depths import Broker
from app.cli.main import main
from app.ledger import Ledger
from app.notifications.notify import Notifying
from app.notifications.stand_in import StandIn
from app.runtime.senders import notifying_of
from tests.support.feeds import make_feed
from tests.support.hooks import listener
from tests.support.wait import until

FEEDS = """\
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "http://partner.invalid/" }
"""
SOON = timedelta(milliseconds=20)


def loaded_with(mongo: str, redis: str, hook: str) -> config.Config:
    settings = config.Settings(
        mongo_url=SecretStr(mongo), redis_url=SecretStr(redis), notify_webhook_url=SecretStr(hook)
    )
    return config.Config(settings, {"orders": make_feed()})


async def test_where_no_worker_looks_another_process_does(
    ledger: Ledger, mongo_database_url: str, clean_redis_url: str
) -> None:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Notifying]:
        broker = Broker(clean_redis_url, timedelta(seconds=5))
        theirs = Ledger.at(mongo_database_url, timedelta(seconds=5))
        try:
            yield notifying_of(
                loaded_with(mongo_database_url, clean_redis_url, url), theirs, broker
            )
        finally:
            await broker.close()
            await theirs.close()

    await ledger.pauses.pause("orders", "by an operator")
    async with listener([]) as (url, received):
        stand_in = StandIn(opened, SOON, SOON)
        stand_in.start()
        try:
            await until(lambda: received)
        finally:
            await asyncio.to_thread(stand_in.stop)
    assert [orjson.loads(body)["event"] for _, body in received] == ["feed-paused"]
    assert "rowrelay-stand-in" not in {thread.name for thread in threading.enumerate()}


# --- the command


@pytest.fixture
def place(
    tmp_path: Path, mongo_database_url: str, clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory to run commands in."""
    (tmp_path / "feeds.toml").write_text(FEEDS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MONGO_URL", mongo_database_url)
    monkeypatch.setenv("REDIS_URL", clean_redis_url)


async def run(*arguments: str, code: int = 0, **settings: str) -> str:
    ran = await asyncio.to_thread(
        CliRunner().invoke, main, ["notifications", *arguments], env=settings
    )
    assert ran.exit_code == code, (ran.output, ran.exception)
    return str(ran.output)


@pytest.mark.usefixtures("place")
async def test_the_command_says_what_was_told_and_by_whom_it_was_not_taken(ledger: Ledger) -> None:
    said = await run()
    assert "Nobody is told: set NOTIFY_MAIL_TO or NOTIFY_WEBHOOK_URL." in said
    assert "No event is on record." in said
    await ledger.pauses.pause("orders", "by an operator")
    async with listener([500]) as (url, _):
        broker = Broker("redis://127.0.0.1:1/0", timedelta(seconds=1))
        await notifying_of(
            loaded_with("mongodb://127.0.0.1:1/", "redis://127.0.0.1:1/0", url), ledger, broker
        ).check()
        await broker.close()
        (told,) = [
            one for one in orjson.loads(await run("--json")) if one["event"] == "feed-paused"
        ]
        assert (told["subject"], told["messages"], told["over_at"]) == ("orders", 1, None)
        assert told["ways"] == {"webhook": "webhook: answered 500"}
        assert "orders: the feed is paused" in await run(NOTIFY_WEBHOOK_URL=url, COLUMNS="200")


@pytest.mark.usefixtures("place")
async def test_a_message_is_sent_on_asking_and_what_is_not_taken_is_said() -> None:
    assert "no way is configured" in await run("--test", code=2)
    async with listener([204, 404]) as (url, received):
        assert (
            await run("--test", NOTIFY_WEBHOOK_URL=url, NOTIFY_WEBHOOK_FORMAT="slack")
            == "webhook: sent\n"
        )
        said = await run("--test", NOTIFY_WEBHOOK_URL=url, code=1)
    assert said.endswith("\nwebhook: answered 404\n")
    assert orjson.loads(received[0][1])["text"].startswith("Rowrelay: test: nothing is wrong")
