"""From a database URL to an open SQLAlchemy engine. Nothing is opened at import."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.core.errors import ConfigError, Problem, SourceUnavailable
from app.core.source_url import ALLOWED, UNREADABLE, source_url_problem, split_scheme
from app.core.unreached import why_unreached
from app.source.products.product import Product, Timeouts
from app.source.products.registry import PRODUCTS, product_of

_ALIASES = {"postgres": "postgresql"}

POOL_SIZE = 5
POOL_OVERFLOW = 5
POOL_RECYCLE_SECONDS = 1800
POOL_WAIT_SECONDS = 30.0
STATEMENT_TIMEOUT = timedelta(seconds=30)


SETTING = "SOURCE_URL"


def async_url(url: str, setting: str = SETTING) -> str:
    """Give a plain database URL its async driver; all behind `://` stays as it is. `setting`: where
    it was given, for the error.

    Takes `mssql://…`, `sqlite://…`, `postgresql://…`, `postgres://…`, or a URL that already names
    an async driver, which is returned unchanged. Raises `ConfigError`, never showing what stands
    behind `://`, for a driver that is sync or unknown and for text that is no URL.
    """
    if problem := source_url_problem(url):
        raise _wrong(*problem, setting)
    scheme, rest = split_scheme(url)
    backend, _, driver = scheme.partition("+")
    backend = _ALIASES.get(backend, backend)
    name = f"{backend}+{driver or PRODUCTS[backend].driver}"
    if driver and not _is_async(name):
        raise _wrong(f"{scheme}://…, whose driver is unknown or not async", ALLOWED, setting)
    _parse(f"{name}://{rest}", setting)
    return f"{name}://{rest}"


def open_engine(
    url: str, connect_timeout: timedelta, statement_timeout: timedelta = STATEMENT_TIMEOUT
) -> AsyncEngine:
    """An engine with a pool for that URL (plain, or with its async driver); it connects on first
    use.

    `connect_timeout` bounds a new connection; on SQLite, the wait for a writer's lock.
    `statement_timeout` bounds a statement, on SQL Server. Connections are tested before use and
    replaced after half an hour. Close it with `Source.close()`. Raises `ConfigError` for a URL that
    `async_url` refuses and for a driver that cannot be loaded.
    """
    parsed = _parse(async_url(url))
    product = product_of(parsed)
    timeouts = Timeouts(connect_timeout.total_seconds(), statement_timeout.total_seconds())
    try:
        engine = create_async_engine(
            product.prepare_url(parsed),
            connect_args=dict(product.connect_args(timeouts)),
            hide_parameters=True,
            **{**_pool_options(product, parsed), **product.engine_options},
        )
    except ImportError as error:
        raise _wrong(
            f"{parsed.drivername}, which cannot be loaded: {error}", "install that driver"
        ) from error
    if product.type_names:
        found: Any = engine.dialect  # only dialects that can read a catalogue have this attribute
        found.ischema_names = {**found.ischema_names, **product.type_names}
    if product.on_connect is not None:
        prepare = product.on_connect
        event.listen(engine.sync_engine, "connect", lambda connection, _record: prepare(connection))
    return engine


async def check_reachable(url: str, within: timedelta) -> None:
    """Open and close a TCP connection to the URL's host, where it names host and port.

    Drivers give one and the same answer for a wrong name, a closed port and a silent host: this
    tells them apart. Raises `SourceUnavailable` that says which.
    """
    parsed = _parse(async_url(url))
    if not parsed.host or not parsed.port:
        return
    place, seconds = f"{source_name(parsed)}: {parsed.host}:{parsed.port}", within.total_seconds()
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(parsed.host, parsed.port)
    except TimeoutError:
        raise SourceUnavailable(
            f"{place}: no answer within {seconds:g} s: check host, network and firewall"
        ) from None
    except socket.gaierror as error:
        raise SourceUnavailable(
            f"{place}: the host's name is not known: {error.strerror}"
        ) from error
    except OSError as error:
        raise SourceUnavailable(
            f"{place}: no server listens there: {why_unreached(error)}"
        ) from error
    writer.close()


def source_name(url: URL) -> str:
    """The source for a message: product, host and database, and no more of the URL than that."""
    place = "" if url.host is None else url.host + (f":{url.port}" if url.port else "")
    database = url.database or ""
    if database.startswith("file://"):
        database = unquote(database.removeprefix("file://"))
    return (
        f"{url.get_backend_name()} {'/'.join(part for part in (place, database) if part)}".strip()
    )


def _pool_options(product: Product, url: URL) -> dict[str, Any]:
    if product.in_one_connection(url):
        return {}  # SQLAlchemy keeps it
    return {
        "pool_size": POOL_SIZE,
        "max_overflow": POOL_OVERFLOW,
        "pool_recycle": POOL_RECYCLE_SECONDS,
        "pool_timeout": POOL_WAIT_SECONDS,
        "pool_pre_ping": True,
    }


def _is_async(name: str) -> bool:
    try:
        return make_url(f"{name}://").get_dialect().is_async
    except NoSuchModuleError:
        return False


def _parse(url: str, setting: str = SETTING) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        # Not chained: the parser's text may quote a piece of the password.
        raise _wrong(*UNREADABLE, setting) from None


def _wrong(found: str, allowed: str, setting: str = SETTING) -> ConfigError:
    return ConfigError([Problem("environment", setting, found, allowed)])
