"""`doctor`: connects to everything, and says version, latency and what is wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import typer
from redis.asyncio import Redis
from redis.exceptions import RedisError

import config
from app.cli.output import FOUND_WRONG, AsJson, load_config, print_json, print_table, run
from app.errors import RowrelayError
from app.feed import Feed
from app.ledger import Ledger
from app.source.engine import open_engine
from app.source.reader import Source


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found."""

    name: str
    ok: bool
    detail: str
    latency_ms: float


def doctor(as_json: AsJson = False) -> None:
    """Connect to Redis, MongoDB, the source and every partner; check every feed's table. Exit code 1 if any fails."""
    checks = run(_check_all(load_config()))
    if as_json:
        print_json({"ok": all(check.ok for check in checks), "checks": checks})
    else:
        rows = [["ok" if c.ok else "FAILED", c.name, f"{c.latency_ms:.0f} ms", c.detail] for c in checks]
        print_table("Doctor", ["", "check", "took", "found"], rows)
    if not all(check.ok for check in checks):
        raise typer.Exit(FOUND_WRONG)


async def _check_all(loaded: config.Config) -> list[Check]:
    source = Source(open_engine(loaded.settings.source_url.get_secret_value(), loaded.settings.connect_timeout))
    timeout = loaded.settings.connect_timeout.total_seconds()
    try:
        return [
            await _checked("broker (REDIS_URL)", lambda: _redis_version(loaded.settings)),
            await _checked("ledger (MONGO_URL)", lambda: _ledger_version(loaded.settings)),
            await _checked("source (SOURCE_URL)", source.version),
            *[await _checked(f"feed {feed.name}", _table_check(source, feed)) for feed in loaded.feeds.values()],
            *[await _checked(f"partner {feed.name}", _partner_check(feed, timeout)) for feed in loaded.feeds.values()],
        ]
    finally:
        await source.close()


async def _checked(name: str, check: Callable[[], Awaitable[str]]) -> Check:
    started = time.monotonic()
    try:
        detail, ok = await check(), True
    except (RowrelayError, RedisError, OSError, TimeoutError) as error:
        detail, ok = " ".join(str(error).split()) or type(error).__name__, False
    return Check(name, ok, detail, (time.monotonic() - started) * 1000)


async def _redis_version(settings: config.Settings) -> str:
    timeout = settings.connect_timeout.total_seconds()
    client = Redis.from_url(
        settings.redis_url.get_secret_value(), socket_timeout=timeout, socket_connect_timeout=timeout
    )
    try:
        info = await client.info("server")
        memory = await client.info("memory")
    finally:
        with suppress(RedisError):
            await client.aclose()
    policy = memory.get("maxmemory_policy")
    if policy not in ("noeviction", None):
        raise RedisError(f"maxmemory-policy is {policy}: queued messages may be evicted; set it to noeviction")
    return f"Redis {info['redis_version']}"


async def _ledger_version(settings: config.Settings) -> str:
    ledger = Ledger.at(settings.mongo_url.get_secret_value(), settings.connect_timeout)
    try:
        return f"MongoDB {await ledger.version()}"
    finally:
        await ledger.close()


def _table_check(source: Source, feed: Feed) -> Callable[[], Awaitable[str]]:
    async def check() -> str:
        columns = await source.check(feed)
        return f"{feed.table}: {len(columns)} columns"

    return check


def _partner_check(feed: Feed, timeout: float) -> Callable[[], Awaitable[str]]:
    """Connect to the partner's host and port, TLS included, and send nothing."""

    async def check() -> str:
        host, port = str(feed.partner.url.host), feed.partner.url.port or 443
        secure = feed.partner.url.scheme == "https"
        try:
            async with asyncio.timeout(timeout):
                _, writer = await asyncio.open_connection(host.strip("[]"), port, ssl=secure or None)
        except TimeoutError:
            raise TimeoutError(f"{host}:{port}: no answer within {timeout:g} s") from None
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return f"{host}:{port} accepts connections"

    return check
