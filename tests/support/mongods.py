"""Genuine mongods that tests may order about: alone or in a set, with a login or without, failing on command."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from app.embedded.mongod import find_mongod
from app.embedded.server import HOST, NoServer, Server

SET = "rs0"
PASSWORD = secrets.token_urlsafe(12)
Client = MongoClient[dict[str, Any]]


class Member(Server):
    """One mongod, which knows its commands for tests (`failCommand`). With `key` it wants a login."""

    name = "mongod"

    def __init__(self, replica_set: str | None = SET, key: str | None = None) -> None:
        super().__init__()
        self._set = replica_set
        self._key = key

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """Reaches this server alone."""
        return f"mongodb://{self.address}/ledger?directConnection=true"

    def command(self, data: Path) -> Sequence[str]:
        try:
            program = find_mongod().program
        except NoServer as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        command = [
            *(program, "--bind_ip", HOST, "--port", str(self.port), "--dbpath", str(data), "--nounixsocket", "--quiet"),
            *("--wiredTigerCacheSizeGB", "0.25", "--setParameter", "enableTestCommands=1"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        ]
        if self._set:
            command += ["--replSet", self._set, "--oplogSize", "64"]
        if self._key:
            keyfile = data.parent / "key"
            keyfile.touch(mode=0o600)
            keyfile.write_text(self._key, encoding="ascii")
            command += ["--keyFile", str(keyfile)]
        return command

    def ping(self) -> bool:
        options: dict[str, Any] = {"serverSelectionTimeoutMS": 500, "socketTimeoutMS": 1000, "directConnection": True}
        with Client(HOST, self.port, **options) as client:
            try:
                return bool(client.admin.command("hello")["ok"])
            except PyMongoError:
                return False


def url_of(members: Sequence[Member], login: str = "", options: str = "") -> str:
    """The URL of the database `ledger`, by all members."""
    hosts = ",".join(member.address for member in members)
    source = "&authSource=admin" if login else ""
    return f"mongodb://{login}{hosts}/ledger?replicaSet={SET}{source}{options}"


@contextmanager
def standalone() -> Iterator[Member]:
    with Member(replica_set=None) as member:
        yield member


@contextmanager
def replica_set(count: int, *, key: str | None = None) -> Iterator[list[Member]]:
    """A set with a primary, the first member where all are well."""
    with ExitStack() as running:
        members = [running.enter_context(Member(key=key)) for _ in range(count)]
        initiate(members)
        yield members


def initiate(members: Sequence[Member]) -> None:
    config = {
        "_id": SET,
        "members": [
            {"_id": n, "host": member.address, "priority": 2 if n == 0 else 1} for n, member in enumerate(members)
        ],
        "settings": {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500},
    }
    with Client(members[0].url) as client:
        client.admin.command("replSetInitiate", config)
        deadline = time.monotonic() + 60
        while not client.admin.command("hello")["isWritablePrimary"]:
            assert time.monotonic() < deadline, "no primary"
            time.sleep(0.05)


def hello(member: Member) -> dict[str, Any]:
    with Client(member.url) as client:
        return dict(client.admin.command("hello"))


@contextmanager
def failing(url: str, commands: Sequence[str], share: float = 1.0, **failure: Any) -> Iterator[None]:
    """Make the server fail that share of these commands of Rowrelay's clients, for as long as the body runs.

    `failure` is as `failCommand` has it: `errorCode`, `errorLabels`, `writeConcernError`.
    """
    data = {"failCommands": list(commands), "appName": "rowrelay", **failure}
    mode: Any = "alwaysOn" if share == 1.0 else {"activationProbability": share}
    with Client(url) as client:
        client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})
        try:
            yield
        finally:
            client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
