"""Genuine mongods that tests may order about: alone or in a set, with a login or without, failing
on command.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from pymongo import MongoClient

from app.testbed.embedded.mongod import REPLICA_SET, Mongod, find_mongod
from app.testbed.embedded.replica_set import EmbeddedReplicaSet, Member
from app.testbed.embedded.server import NoServer

PASSWORD = secrets.token_urlsafe(12)
Client = MongoClient[dict[str, Any]]


def url_of(members: Sequence[Member], login: str = "") -> str:
    """The URL of the database `ledger`, by all members; `login` as a URL has it, `user:password@`."""
    hosts = ",".join(member.address for member in members)
    source = "&authSource=admin" if login else ""
    return f"mongodb://{login}{hosts}/ledger?replicaSet={REPLICA_SET}{source}"


def genuine() -> Mongod:
    """The mongod that runs here. Without one the test is skipped, but fails under CI."""
    try:
        return find_mongod()
    except NoServer as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@contextmanager
def lone(*, in_set: bool) -> Iterator[Member]:
    """One that is by itself; `in_set`: it was told of a set, and nobody made one."""
    with Member(None, genuine(), None, in_set=in_set, test_commands=True) as member:
        yield member


@contextmanager
def replica_set(count: int, *, login: bool = False) -> Iterator[list[Member]]:
    """A set, its primary first. It knows its commands for tests."""
    genuine()
    with EmbeddedReplicaSet(members=count, login=login, test_commands=True) as running:
        primary = running.primary()
        yield [primary, *(member for member in running.members if member is not primary)]


def hello(member: Member) -> dict[str, Any]:
    with Client(member.url) as client:
        return dict(client.admin.command("hello"))


@contextmanager
def failing(
    url: str, commands: Sequence[str], share: float = 1.0, **failure: Any
) -> Iterator[None]:
    """Make the server fail that share of these commands of Rowrelay's clients, for as long as the
    body runs.

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
