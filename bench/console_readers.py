"""Whether the console's async database layer serves many readers better than threads would: the same question
(whose session is this, joined with the user) behind the same server, asked by many at once.

    python -m bench.console_readers [--readers 100] [--seconds 5] [--rounds 3]

Prints, for SQLite and for the PostgreSQL that TEST_CONSOLE_POSTGRES_URL names or this machine has: answers a second and
their p50 and p95, of async routes over an AsyncEngine and of sync routes in Starlette's 40 threads over an Engine.
Medians of the rounds, which are interleaved; server and clients share the processors.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import aiohttp
import uvicorn
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import joinedload, sessionmaker
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from app.console.security.opaque import hash_of, new_secret
from app.console.sessions.repository import SessionRepository
from app.console.store.engine import open_engine
from app.console.store.migrate import migrate
from app.console.store.store import Store
from app.console.store.tables import Session, User
from app.core.clock import utc_now
from tests.support.console import console_config
from tests.support.postgres import WHY_NOT, postgres_database, running_postgres

SECRET = new_secret()
POOL = 15
"""Connections, of either engine: CONSOLE_POOL_SIZE and CONSOLE_POOL_OVERFLOW by default."""


@dataclass(frozen=True)
class Round:
    """What came of asking for some seconds."""

    a_second: float
    p50_ms: float
    p95_ms: float


def async_app(engine: AsyncEngine) -> Starlette:
    """As the console reads."""
    store = Store(engine)

    async def who(_request: Request) -> JSONResponse:
        now = utc_now()
        async with store.reading() as work:
            found = await SessionRepository(work).alive(
                hash_of(SECRET), now, now - timedelta(hours=1)
            )
        return JSONResponse({"name": found.user.name if found else None})

    return Starlette(routes=[Route("/", who)])


def sync_app(engine: Engine) -> Starlette:
    """The same by a sync session, which Starlette runs in a thread."""
    sessions = sessionmaker(engine, expire_on_commit=False)

    def who(_request: Request) -> JSONResponse:
        statement = (
            select(Session)
            .join(Session.user)
            .options(joinedload(Session.user))
            .where(
                Session.token_hash == hash_of(SECRET),
                Session.ended_at.is_(None),
                Session.expires_at > utc_now(),
                User.disabled_at.is_(None),
            )
        )
        with sessions() as work:
            found = work.scalar(statement)
        return JSONResponse({"name": found.user.name if found else None})

    return Starlette(routes=[Route("/", who)])


@contextlib.asynccontextmanager
async def _served(app: Starlette) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        await task


def _client() -> aiohttp.ClientSession:
    """Not httpx, whose pool takes longer than the server with so many at once (decision 0002)."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


async def _ask(app: Starlette, readers: int, seconds: float) -> Round:
    took: list[float] = []
    async with _served(app) as url, _client() as client:
        ends = time.perf_counter() + seconds

        async def reading() -> None:
            while (begun := time.perf_counter()) < ends:
                async with client.get(url) as answer:
                    assert await answer.json() == {"name": "reader"}, answer.status
                took.append(time.perf_counter() - begun)

        await asyncio.gather(*(reading() for _ in range(readers)))
    parts = statistics.quantiles(took, n=20)
    return Round(len(took) / seconds, parts[9] * 1000, parts[18] * 1000)


async def _compare(url: str, sync_url: str, given: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as directory:
        settings = console_config(
            Path(directory),
            "mongodb://127.0.0.1/x",
            "redis://127.0.0.1/0",
            console_database_url=url,
        ).settings
        engine = open_engine(settings)
        await migrate(engine)
        await _fill(Store(engine))
        sync_engine = create_engine(sync_url, pool_size=5, max_overflow=POOL - 5, pool_timeout=60)
        apps: dict[str, Callable[[], Starlette]] = {
            "async": lambda: async_app(engine),
            "sync": lambda: sync_app(sync_engine),
        }
        rounds: dict[str, list[Round]] = {name: [] for name in apps}
        for _ in range(given.rounds):
            for name, made in apps.items():
                rounds[name].append(await _ask(made(), given.readers, given.seconds))
        for name, found in rounds.items():
            _print(f"{engine.dialect.name}, {name}", found)
        await engine.dispose()
        sync_engine.dispose()


async def _fill(store: Store) -> None:
    now = utc_now()
    async with store.writing() as work:
        user = User(name="reader", display_name="reader", role="viewer", created_at=now)
        work.add(user)
        await work.flush()
        work.add(
            Session(
                token_hash=hash_of(SECRET),
                user_id=user.id,
                created_at=now,
                last_seen_at=now,
                expires_at=now.replace(year=now.year + 1),
                address="127.0.0.1",
                user_agent="bench",
            )
        )


def _print(name: str, rounds: list[Round]) -> None:
    a_second, p50, p95 = (
        statistics.median(getattr(one, field) for one in rounds)
        for field in ("a_second", "p50_ms", "p95_ms")
    )
    print(f"{name:20} {a_second:6.0f}/s  p50 {p50:5.0f} ms  p95 {p95:5.0f} ms", flush=True)


def main() -> None:
    """Compare both on each database."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{directory}/console.db"
        asyncio.run(_compare(url, url, given))
    why_not = WHY_NOT or (
        "" if find_spec("psycopg") else "for PostgreSQL: pip install psycopg[binary]"
    )
    if why_not:
        print(why_not)
        return
    with running_postgres() as server, postgres_database(server) as url:
        asyncio.run(_compare(url, url.replace("postgresql://", "postgresql+psycopg://"), given))


if __name__ == "__main__":
    main()
