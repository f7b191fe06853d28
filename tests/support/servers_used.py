"""Says on which servers the tests run: at the head what is meant to be used, at the end what was."""

from __future__ import annotations

import os
from typing import Any

import pytest
import redis
from pymongo import MongoClient

from app.testbed.embedded.server import NoServer
from app.testbed.embedded.servers import EmbeddedMongo, EmbeddedRedis


def named_mongo(url: str) -> str:
    """The server and version behind `TEST_MONGO_URL`."""
    with MongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=5000) as client:
        return f"MongoDB {client.server_info()['version']}, which TEST_MONGO_URL names"


def named_redis(url: str) -> str:
    """The server and version behind `TEST_REDIS_URL`."""
    with redis.Redis.from_url(url) as client:
        found = client.info("server")
    kind = "valkey" if "valkey_version" in found else "redis"
    return f"{kind.title()} {found[f'{kind}_version']}, which TEST_REDIS_URL names"


def _meant() -> list[str]:
    """What the fixtures would start; each in a line."""
    mongo, named = os.environ.get("TEST_MONGO_URL"), os.environ.get("TEST_REDIS_URL")
    try:
        by_redis = named_redis(named) if named else EmbeddedRedis().description
    except NoServer as error:
        by_redis = str(error)
    return [named_mongo(mongo) if mongo else EmbeddedMongo().description, by_redis]


class ServersUsed:
    """A plugin of pytest; `note()` is for the fixtures that start a server."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def note(self, description: str) -> None:
        """Remember that tests ran on this server."""
        self._used.add(description)

    def pytest_report_header(self) -> list[str]:
        """Lines at the head of a run."""
        return [f"server: {line}" for line in _meant()]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand what a worker of pytest-xdist noted to the process that reports."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["servers"] = sorted(self._used)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a worker noted; one that crashed noted nothing."""
        self._used.update(getattr(node, "workeroutput", {}).get("servers", []))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Lines at the end of a run."""
        for line in sorted(self._used):
            terminalreporter.write_line(f"ran on: {line}")
