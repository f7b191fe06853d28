"""A PostgreSQL of the tests' own: that which TEST_CONSOLE_POSTGRES_URL names, else one that is started from
the binaries of this machine, in a directory that is deleted afterwards."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg  # type: ignore[import-untyped] # it has none

from tests.support.wait import wait_until

NAMED = os.environ.get("TEST_CONSOLE_POSTGRES_URL", "")
NOBODY = 65534


def binaries() -> Path | None:
    """Where `initdb` and `postgres` are: Debian keeps them out of PATH."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return debian[-1].parent if debian else None


WHY_NOT = (
    "" if NAMED or binaries() else "no PostgreSQL: set TEST_CONSOLE_POSTGRES_URL, or install it"
)
"""Why tests on it are skipped; empty where they are not."""


@contextmanager
def running_postgres() -> Iterator[str]:
    """The URL of a server, whose user may make databases."""
    if NAMED:
        yield NAMED
        return
    found = binaries()
    assert found is not None
    with (
        tempfile.TemporaryDirectory(prefix="rowrelay-postgres-") as kept,
        _started(found, Path(kept)) as url,
    ):
        yield url


@contextmanager
def _started(found: Path, directory: Path) -> Iterator[str]:
    """It refuses to run as root."""
    as_whom: dict[str, Any] = {"stdout": subprocess.DEVNULL, "cwd": directory}
    if os.geteuid() == 0:
        directory.chmod(0o755)
        os.chown(directory, NOBODY, NOBODY)
        as_whom |= {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    data, port = directory / "data", _free_port()
    initdb: list[str | Path] = [
        found / "initdb",
        "-D",
        data,
        "-U",
        "tests",
        "-A",
        "trust",
        "-N",
        "-E",
        "UTF8",
        "--locale",
        "C",
    ]
    subprocess.run(initdb, check=True, **as_whom)
    options = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "off",
    }
    told = [text for name, value in options.items() for text in ("-c", f"{name}={value}")]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen([found / "postgres", "-D", data, *told], stderr=log, **as_whom)
    url = f"postgresql://tests@127.0.0.1:{port}/postgres"
    try:
        wait_until(lambda: asyncio.run(_answers(url)), 30, "PostgreSQL to answer")
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # the fast shutdown
        server.wait(20)


@contextmanager
def postgres_database(server: str) -> Iterator[str]:
    """The URL of a database on that server, which is dropped afterwards."""
    name = f"rowrelay_{uuid4().hex[:12]}"
    asyncio.run(_execute(server, f"CREATE DATABASE {name}"))
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        asyncio.run(_execute(server, f"DROP DATABASE {name} WITH (FORCE)"))


async def _answers(url: str) -> bool:
    try:
        await _execute(url, "SELECT 1")
    except (OSError, asyncpg.PostgresError):
        return False
    return True


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
