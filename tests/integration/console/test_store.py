"""The console's database: the same on SQLite, on PostgreSQL (TEST_CONSOLE_POSTGRES_URL, or this machine's) and on
the SQL Server that TEST_CONSOLE_MSSQL_URL names."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from app.console.audit.service import Audit
from app.console.errors import Conflict, Invalid, NotAuthenticated, Stale
from app.console.idempotency.repository import IdempotencyRepository
from app.console.idempotency.service import Answer, Idempotency
from app.console.security.access_tokens import AccessTokens
from app.console.security.login_limits import LoginLimits
from app.console.security.opaque import hash_of
from app.console.security.roles import Principal, Role
from app.console.sessions.service import Caller, Sessions
from app.console.store.base import Base
from app.console.store.engine import open_engine
from app.console.store.migrate import migrate
from app.console.store.store import Store
from app.console.tokens.repository import TokenRepository
from app.console.tokens.service import Tokens
from app.console.users.repository import UserRepository
from app.console.users.schemas import NewUser, UserChange
from app.console.users.service import Users
from app.core.clock import utc_now
from tests.support.console import PASSWORD, SHELL, URL, cheap_passwords, console_config
from tests.support.postgres import WHY_NOT, postgres_database, running_postgres

MSSQL_URL = os.environ.get("TEST_CONSOLE_MSSQL_URL", "")
PRODUCTS = [
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")),
    pytest.param(
        "mssql",
        marks=pytest.mark.skipif(not MSSQL_URL, reason="TEST_CONSOLE_MSSQL_URL is not set"),
    ),
]
HERE = Caller("127.0.0.1", "test")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """One PostgreSQL for this file."""
    with running_postgres() as url:
        yield url


@pytest.fixture(params=PRODUCTS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each product."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/console.db"
    elif request.param == "mssql":
        yield MSSQL_URL
    else:
        with postgres_database(request.getfixturevalue("postgres")) as url:
            yield url


class World:
    """Services over one database, as a console has them."""

    def __init__(self, settings: Any) -> None:
        self.store = Store(open_engine(settings))
        self.audit = Audit(self.store)
        passwords = cheap_passwords()
        self.limits = LoginLimits(settings.redis, timedelta(seconds=5))
        self.users = Users(self.store, self.audit, passwords, self.limits, URL)
        lasts = timedelta(hours=1)
        self.sessions = Sessions(self.store, self.audit, passwords, self.limits, lasts, lasts)
        self.tokens = Tokens(self.store, self.audit, self.sessions, AccessTokens("s" * 32))
        self.idempotency = Idempotency(self.store, "s" * 32)

    async def user(self, name: str) -> str:
        """A user with `PASSWORD`; returns the id."""
        user, link = await self.users.create(SHELL, NewUser(name=name, role=Role.ADMIN))
        await self.users.set_password(link.url.rpartition("/")[2], PASSWORD, "127.0.0.1")
        return user.id


@pytest.fixture
async def world(database_url: str, tmp_path: Path, clean_redis_url: str) -> AsyncIterator[World]:
    """Services over an empty database at this version's schema."""
    settings = console_config(
        tmp_path,
        "mongodb://127.0.0.1/never_asked",
        clean_redis_url,
        console_database_url=database_url,
        console_pool_overflow=30,
    ).settings
    made = World(settings)
    try:
        await migrate(made.store.engine)
        yield made
    finally:
        await migrate(made.store.engine, "base")
        await made.limits.close()
        await made.store.close()


async def test_the_schema_goes_up_down_and_up_and_is_that_of_the_tables(world: World) -> None:
    engine = world.store.engine
    assert await migrate(engine, "base") == ("0001", None)
    async with engine.connect() as connection:
        left = await connection.run_sync(_differences)
    assert {kind for kind, *_ in left} <= {"add_table", "add_index"}
    assert await migrate(engine) == (None, "0001")
    async with engine.connect() as connection:
        assert await connection.run_sync(_differences) == []


def _differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    found: list[Any] = compare_metadata(context, Base.metadata)
    return found


async def test_the_audit_chain_holds_under_twenty_writers(world: World) -> None:
    async def write(writer: int) -> None:
        for number in range(3):
            await world.audit.note(SHELL, "test.done", f"{writer}.{number}", after={"Ánh": number})

    await asyncio.gather(*(write(writer) for writer in range(20)))
    verified = await world.audit.verify()
    assert (verified.entries, verified.wrong) == (60, None)


async def test_users_are_kept_by_name_and_changed_by_version(world: World) -> None:
    user_id = await world.user("mai")
    with pytest.raises(Conflict):
        await world.users.create(SHELL, NewUser(name="MAI", role=Role.VIEWER))
    user = await world.users.get(SHELL, user_id)
    assert user.created_at.tzinfo is not None
    assert abs(utc_now() - user.created_at) < timedelta(minutes=5)
    change = UserChange(display_name="Đặng Thị Ánh 😀")
    await world.users.change(SHELL, user_id, change, user.version)
    with pytest.raises(Stale):
        await world.users.change(SHELL, user_id, change, user.version)
    assert (await world.users.get(SHELL, user_id)).display_name == "Đặng Thị Ánh 😀"
    page, following = await world.users.list(SHELL, None, 1)
    assert ([one.name for one in page], following) == (["mai"], None)


async def test_of_two_changes_at_the_same_moment_one_is_told_that_it_is_stale(
    world: World,
) -> None:
    user_id = await world.user("mai")
    version = (await world.users.get(SHELL, user_id)).version
    answers = await asyncio.gather(
        *(
            world.users.change(SHELL, user_id, UserChange(display_name=name), version)
            for name in ("one", "other")
        ),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in answers) == ["Stale", "User"]


async def test_two_admins_who_disable_each_other_leave_one(world: World) -> None:
    users = [await world.users.get(SHELL, await world.user(name)) for name in ("mai", "nam")]
    disabled = UserChange(disabled=True)
    answers = await asyncio.gather(
        *(world.users.change(SHELL, user.id, disabled, user.version) for user in users),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in answers) == ["Conflict", "User"]


async def test_of_two_refreshes_at_the_same_moment_none_outlives_the_other(world: World) -> None:
    await world.user("mai")
    issued = await world.tokens.log_in("mai", PASSWORD, HERE)
    both = await asyncio.gather(
        *(world.tokens.refresh(issued.refresh, HERE) for _ in range(2)), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in both) == ["Issued", "NotAuthenticated"]
    (won,) = [one for one in both if not isinstance(one, BaseException)]
    with pytest.raises(NotAuthenticated):
        await world.tokens.refresh(won.refresh, HERE)


async def test_a_refresh_that_is_under_way_does_not_outlive_the_end_of_its_family(
    world: World,
) -> None:
    user_id = await world.user("mai")
    issued, now = await world.tokens.log_in("mai", PASSWORD, HERE), utc_now()
    async with world.store.writing() as work:
        tokens = TokenRepository(work)
        old = await tokens.get(hash_of(issued.refresh))
        assert old is not None
        assert await tokens.use(old.token_hash, now)
        following = world.tokens._issue(work, old.user, HERE, old.family, now)
        await work.flush()
        ending = asyncio.create_task(_end_all(world, user_id))
        await asyncio.sleep(0.2)  # until it waits for this transaction: a sooner commit tests less
    await ending
    with pytest.raises(NotAuthenticated):
        await world.tokens.refresh(following.refresh, HERE)


async def _end_all(world: World, user_id: str) -> None:
    async with world.store.writing() as work:
        await TokenRepository(work).end_of_user(user_id, utc_now())


async def test_a_repeated_request_is_known_by_its_key(world: World) -> None:
    by: Principal = SHELL
    asked = world.idempotency.asked(by, "key", "/api/v1/x", b"request")
    begun = await asyncio.gather(
        *(world.idempotency.begin(asked) for _ in range(5)), return_exceptions=True
    )
    assert [one for one in begun if not isinstance(one, Conflict)] == [None]
    await world.idempotency.end(asked, Answer(201, {"etag": '"1"'}, '{"tên": "Ánh"}'))
    again = await world.idempotency.begin(asked)
    assert again == Answer(201, {"etag": '"1"'}, '{"tên": "Ánh"}')
    with pytest.raises(Invalid):
        await world.idempotency.begin(world.idempotency.asked(by, "key", "/api/v1/x", b"another"))


async def test_what_is_past_is_deleted_a_bounded_number_at_once(world: World) -> None:
    for number in range(5):
        asked = world.idempotency.asked(SHELL, f"key {number}", "/api/v1/x", b"")
        await world.idempotency.begin(asked)
    world.idempotency._now = lambda: utc_now() + timedelta(days=2)
    async with world.store.writing() as work:
        requests = IdempotencyRepository(work)
        assert await requests.prune(utc_now() + timedelta(hours=1), 3) == 3
    assert await world.idempotency.prune() == 2


async def test_a_value_that_a_database_cannot_hold_is_no_outage(world: World) -> None:
    if world.store.engine.dialect.name != "postgresql":
        pytest.skip("the others hold it")
    with pytest.raises(Invalid):
        async with world.store.reading() as work:
            await UserRepository(work).named("a\x00b")


async def test_tokens_and_links_that_expired_are_pruned(world: World) -> None:
    await world.user("mai")
    await world.tokens.log_in("mai", PASSWORD, HERE)
    await world.sessions.log_in("mai", PASSWORD, HERE)
    later = lambda: utc_now() + timedelta(days=60)  # noqa: E731 - a clock
    assert await world.tokens.prune() + await world.sessions.prune() == 0
    for service in (world.tokens, world.sessions, world.users):
        service._now = later
    assert await world.tokens.prune() == 1
    assert await world.sessions.prune() == 1
    assert await world.users.prune_links() == 1
