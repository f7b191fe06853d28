"""Servers for every test: embedded ones, or those that TEST_REDIS_URL and TEST_MONGO_URL name.

What the tests find in a named Redis database is flushed, so name one that holds nothing else. In a
named MongoDB the tests have databases of their own, which are dropped; a URL with a login names its
`authSource`.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
import structlog
from hypothesis import HealthCheck, settings

from app.core import logs
from app.testbed.embedded import server as server_module
from app.testbed.embedded.server import NoServer, Server
from app.testbed.embedded.servers import EmbeddedMongo, EmbeddedRedis
from tests.support.databases import Databases, of_database
from tests.support.order import in_order
from tests.support.servers_used import ServersUsed, named_mongo, named_redis

HERE = Path(__file__).parent
PORTS_EACH = 2000
AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""What this machine trusts besides is no matter of the tests, and is read at each load of a configuration."""
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")
"""A machine that stands still for a moment makes no property false."""

USED = pytest.StashKey[ServersUsed]()

AnyServer = TypeVar("AnyServer", bound=Server)


def pytest_configure(config: pytest.Config) -> None:
    """Give each worker of pytest-xdist ports of its own: none may take one that another has drawn
    and not bound yet.
    """
    _plain_tracebacks()
    _take_interrupts()
    for name in AUTHORITIES:
        os.environ.pop(name, None)
    config.stash[USED] = ServersUsed()
    config.pluginmanager.register(config.stash[USED])
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        slices = len(server_module._PORTS) // PORTS_EACH
        begin = PORTS_EACH * (int(worker.removeprefix("gw")) % slices)
        server_module._PORTS = server_module._PORTS[begin : begin + PORTS_EACH]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes run them, in the order for so many."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    items[:] = in_order(items, processes, lambda item: item.path.parts[len(HERE.parts) :])


def pytest_collection_finish() -> None:
    """What was collected stays to the end: the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


def _take_interrupts() -> None:
    """What is interrupted in a test must see it. A shell starts what it runs in the background with
    SIGINT ignored, and so would be all that the tests start.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _plain_tracebacks() -> None:
    """Until a command sets up logging, a fault is logged as Python prints it: structlog's default, with
    the locals of every frame, takes seconds for one that went through a web framework.
    """
    *others, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[*others, plain])


@contextmanager
def _running(server: AnyServer) -> Iterator[AnyServer]:
    """An embedded server. Without a program for it the test is skipped, but fails under CI."""
    try:
        server.start()
    except NoServer as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture(autouse=True)
def _logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that a test runs sets up logging for its process, which is that of all tests after
    it.

    A logger that keeps what was set up when it was first used cannot be set up again, so none does.
    """
    monkeypatch.setattr(structlog, "configure", partial(_configure, structlog.configure))
    ours = structlog.get_config() | {"processors": list(structlog.get_config()["processors"])}
    loggers = [logging.getLogger(), *map(logging.getLogger, (*logs._OURS, *logs._QUIET))]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers
    structlog.configure(**ours)


def _configure(configure: Callable[..., None], **options: Any) -> None:
    configure(**options | {"cache_logger_on_first_use": False})


@pytest.fixture(scope="session")
def redis_url(pytestconfig: pytest.Config) -> Iterator[str]:
    """One Redis for the whole run."""
    used = pytestconfig.stash[USED]
    if named := os.environ.get("TEST_REDIS_URL"):
        used.note(named_redis(named))
        yield named
        return
    with _running(EmbeddedRedis()) as server:
        used.note(server.description)
        yield server.url


@pytest.fixture(scope="session")
def mongo_urls(pytestconfig: pytest.Config) -> Iterator[tuple[str, str]]:
    """One MongoDB for the whole run: its URL for the ledger's user and for the administrator, who
    may be the same.
    """
    used = pytestconfig.stash[USED]
    if named := os.environ.get("TEST_MONGO_URL"):
        used.note(named_mongo(named))
        yield named, named
        return
    with _running(EmbeddedMongo()) as server:
        used.note(server.description)
        yield server.url, server.admin_url


@pytest.fixture(scope="session")
def mongo_url(mongo_urls: tuple[str, str]) -> str:
    """That MongoDB, for a user that may read and write, and no more."""
    return mongo_urls[0]


@pytest.fixture(scope="session")
def mongo_admin_url(mongo_urls: tuple[str, str]) -> str:
    """That MongoDB, for what an administrator does: profiles, dropped databases."""
    return mongo_urls[1]


@pytest.fixture
def clean_redis_url(redis_url: str) -> str:
    """A Redis without keys."""
    with redis.Redis.from_url(redis_url) as client:
        if os.environ.get("TEST_REDIS_URL"):
            client.flushdb()
        else:
            client.flushall()
    return redis_url


@pytest.fixture(scope="session")
def databases(mongo_admin_url: str) -> Iterator[Databases]:
    """The databases of the tests on that MongoDB."""
    opened = Databases(mongo_admin_url)
    yield opened
    opened.close()


@pytest.fixture
def mongo_database_url(mongo_url: str, databases: Databases) -> Iterator[str]:
    """A MongoDB URL with a database for this test alone: the ledger's indexes are there, and no
    document.
    """
    with databases.prepared() as name:
        yield of_database(mongo_url, name)


@pytest.fixture
def bare_database_url(mongo_url: str, databases: Databases) -> Iterator[str]:
    """As `mongo_database_url`, without anything in it."""
    with databases.bare() as name:
        yield of_database(mongo_url, name)
