"""A console for tests: the real application over a database, a ledger and a Redis of its own, called by
httpx over ASGI as users of each role."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from fastapi import FastAPI
from pwdlib.hashers.argon2 import Argon2Hasher

import config
from app.configuration.loaded import Loaded
from app.console.app import make_app
from app.console.security.passwords import Passwords
from app.console.security.roles import Role, of_command
from app.console.services import Services, open_services
from app.console.sessions.service import Caller
from app.console.store.engine import open_engine, sqlite_file
from app.console.store.migrate import migrate
from app.console.users.schemas import NewUser
from app.feeds.feed import Feed
from tests.support.doubles import MemoryQueue
from tests.support.feeds import make_feed

URL = "http://127.0.0.1:8800"
PASSWORD = "correct horse battery"  # noqa: S105 - of users that a test makes
SHELL = of_command("root@test")
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


def cheap_passwords() -> Passwords:
    """Argon2 that costs next to nothing."""
    return Passwords(Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1))


@dataclass(slots=True)
class Consoled:
    """A console that runs."""

    app: FastAPI
    services: Services
    queue: MemoryQueue
    closing: AsyncExitStack
    url: str = URL
    ids: dict[str, str] = field(default_factory=dict)
    """User's name → id."""

    async def client(self) -> httpx.AsyncClient:
        """A client of nobody."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        made = httpx.AsyncClient(transport=transport, base_url=self.url, headers=SAME_ORIGIN)
        return await self.closing.enter_async_context(made)

    async def user(self, role: Role, name: str | None = None) -> str:
        """A user of that role, who has `PASSWORD`; returns the name, by default the role's."""
        name = name or role.value
        if name not in self.ids:
            user, link = await self.services.users.create(SHELL, NewUser(name=name, role=role))
            secret = link.url.rpartition("/")[2]
            await self.services.users.set_password(secret, PASSWORD, "127.0.0.1")
            self.ids[name] = user.id
        return name

    async def logged_in(self, role: Role, name: str | None = None) -> httpx.AsyncClient:
        """A browser in which a user of that role is logged in."""
        name = await self.user(role, name)
        begun = await self.services.sessions.log_in(name, PASSWORD, Caller("127.0.0.1", "test"))
        client = await self.client()
        cookie = self.services.authentication.cookie.name
        client.cookies.set(cookie, begun.secret, domain="127.0.0.1", path="/")
        return client


def console_config(
    directory: Path, mongo_url: str, redis_url: str, feeds: Sequence[Feed] = (), **settings: object
) -> config.Config:
    """A configuration for a console. The source is an SQLite file in the directory."""
    given = {
        "mongo_url": mongo_url,
        "redis_url": redis_url,
        "source_url": f"sqlite:///{directory}/source.db",
        "console_database_url": f"sqlite:///{directory}/console.db",
        "reports_dir": directory / "reports",
    } | settings
    made = config.Settings.model_validate(given)
    return config.Config(made, {feed.name: feed for feed in feeds or [make_feed()]})


_MIGRATED: list[bytes] = []
"""An SQLite database at this version's schema, made once a process."""


async def _migrated(settings: config.Settings) -> None:
    """Put one in the place of a database that is not there yet."""
    file = sqlite_file(settings)
    if file is None or file.exists():
        return
    if _MIGRATED:
        file.write_bytes(_MIGRATED[0])
        return
    engine = open_engine(settings)
    await migrate(engine)
    await engine.dispose()
    _MIGRATED.append(file.read_bytes())


@asynccontextmanager
async def running_console(loaded: config.Config, url: str = URL) -> AsyncIterator[Consoled]:
    """The application, started as uvicorn starts it. `url`: where browsers find it."""
    queue = MemoryQueue()
    await _migrated(loaded.settings)
    async with (
        open_services(Loaded(loaded), lambda: queue, url) as services,
        AsyncExitStack() as closing,
    ):
        yield Consoled(make_app(services), services, queue, closing, url)
