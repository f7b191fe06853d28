"""SIGHUP: worker and beat read feeds.toml anew, without a restart (docs/decisions/0045)."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import psutil
import pymongo
import pytest

from app.testbed.embedded.process import Process
from app.testbed.embedded.stack import Stack
from tests.acceptance.conftest import PATIENT
from tests.support.command import command
from tests.support.databases import Databases, of_database
from tests.support.wait import wait_until

WAIT = 150
FEED = """
[feeds.{name}]
table = "orders"
key = "id"
cursor = {{ strategy = "identity", column = "id", gap_timeout = "10s" }}
poll_every = "1s"
partner = {{ url = "{url}/{name}", timeout = "30s", headers = {{ x-version = "{version}" }} }}
"""


class Partner(ThreadingHTTPServer):
    """Accepts everything, and keeps of each request its path, version and key."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def of(self, feed: str, version: str) -> list[str]:
        """The keys of the requests of that feed and version."""
        return [
            key for path, found, key in list(self.seen) if (path, found) == (f"/{feed}", version)
        ]

    def versions(self, feed: str) -> dict[str, str]:
        """Key → the version that it came in, the last time."""
        return {key: found for path, found, key in list(self.seen) if path == f"/{feed}"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Partner

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append(
            (self.path, self.headers["x-version"], self.headers["idempotency-key"])
        )
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class Installation:
    """A worker and beat, and feeds.toml as the tests write it."""

    def __init__(self, stack: Stack, partner: Partner) -> None:
        self.stack, self.partner, self.rows = stack, partner, 0
        self.write(orders="one")
        self.processes: tuple[Process, ...] = (stack.start_beat(), stack.start_worker())
        self.pids = [process.pid for process in self.processes]

    def write(self, **feeds: str) -> None:
        """Feed → its version."""
        text = "".join(
            FEED.format(name=name, url=self.partner.url, version=to) for name, to in feeds.items()
        )
        self.write_text(text)

    def write_text(self, text: str) -> None:
        (self.stack.directory / "feeds.toml").write_text(text, encoding="utf-8")

    def reload(self) -> None:
        """SIGHUP to both, and wait until both say that they run with what was written, or cannot."""
        before = {beat["_id"]: beat["configuration"] for beat in self.heartbeats()}
        for process in self.processes:
            process.signal(signal.SIGHUP)
        wait_until(
            lambda: (
                len(before) == 2
                and all(beat["configuration"] != before[beat["_id"]] for beat in self.heartbeats())
            ),
            timeout=WAIT,
            message="both to have read it anew",
        )

    def all_go(self, rows: int, version: str) -> bool:
        """Rows come and are sent: whether all of them are of that version."""
        before = self.partner.versions("orders")
        self.stack.start_generator(rows)
        self.rows += rows
        wanted = len(before) + rows
        wait_until(
            lambda: len(self.partner.versions("orders")) >= wanted,
            timeout=WAIT,
            message=f"{wanted} rows of orders, {len(before)} of which were there before",
        )
        after = self.partner.versions("orders")
        return {after[key] for key in after.keys() - before.keys()} == {version}

    def attempts(self, key: str) -> list[str]:
        """What came of each attempt at a delivery."""
        with pymongo.MongoClient[dict[str, Any]](self.stack.mongo_url) as client:
            attempts = client.get_default_database()["attempts"]
            return [
                found["outcome"]
                for found in attempts.find({"_id": {"$gte": f"{key}#", "$lt": f"{key}$"}})
            ]

    def heartbeats(self) -> list[dict[str, Any]]:
        with pymongo.MongoClient[dict[str, Any]](self.stack.mongo_url) as client:
            return list(client.get_default_database()["progress"].find())

    def sends(self, rows: int, **versions: str) -> None:
        """Rows come, and so many of each feed arrive in that version; nothing was restarted for it."""
        before = {feed: len(self.partner.of(feed, version)) for feed, version in versions.items()}
        self.stack.start_generator(rows)
        self.rows += rows
        for feed, version in versions.items():
            wait_until(
                lambda: len(self.partner.of(feed, version)) >= before[feed] + rows,  # noqa: B023 - called in the same turn
                timeout=WAIT,
                message=f"{rows} rows of {feed} in version {version}",
            )
        assert [process.pid for process in self.processes if process.alive] == self.pids
        assert all(psutil.pid_exists(pid) for pid in self.pids)
        sent = Counter((path, key) for path, _, key in list(self.partner.seen))
        twice = {key: self.attempts(key) for (_, key), times in sent.items() if times > 1}
        assert all("unknown" in outcomes for outcomes in twice.values()), (
            f"sent twice, and nobody knows why: {twice}"
        )


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, mongo_url: str, databases: Databases
) -> Iterator[Installation]:
    partner = Partner()
    threading.Thread(target=partner.serve_forever, daemon=True).start()
    with (
        databases.bare() as name,
        Stack(
            tmp_path_factory.mktemp("reload"),
            settings={**PATIENT, "MONGO_URL": of_database(mongo_url, name)},
        ) as stack,
    ):
        installation = Installation(stack, partner)
        wait_until(
            lambda: len(installation.heartbeats()) == 2, timeout=WAIT, message="a worker and beat"
        )
        yield installation
    partner.shutdown()
    partner.server_close()


def test_a_header_that_was_changed_is_sent_without_a_restart(running: Installation) -> None:
    running.write(orders="one")
    running.sends(30, orders="one")
    running.write(orders="two")
    running.reload()
    sent_before = len(running.partner.of("orders", "one"))
    running.sends(30, orders="two")
    assert len(running.partner.of("orders", "one")) == sent_before, (
        "nothing more goes out as it was"
    )


def test_a_feed_that_is_new_is_polled_and_one_that_is_gone_is_not(running: Installation) -> None:
    running.write(orders="three")
    running.reload()
    running.sends(5, orders="three")
    running.write(orders="three", copies="three")
    running.reload()
    running.sends(10, orders="three", copies="three")
    wait_until(
        lambda: len(running.partner.of("copies", "three")) == running.rows,
        timeout=WAIT,
        message="the table's other rows",
    )
    running.write(orders="four")
    running.reload()
    rows = running.rows
    running.sends(10, orders="four")
    assert len(running.partner.of("copies", "three")) == rows


def test_rows_that_come_while_it_is_read_anew_again_and_again_are_sent_once_each(
    running: Installation,
) -> None:
    running.write(orders="first")
    running.reload()
    before = len(running.partner.seen)
    writing = running.stack.start_generator(300, rate=100)
    running.rows += 300
    for number in range(5):
        running.write(orders=f"turn{number}")
        running.reload()
    assert writing.wait(WAIT) == 0
    wait_until(lambda: len(running.partner.seen) - before >= 300, timeout=WAIT, message="all rows")
    running.sends(5, orders="turn4")
    keys = [key for _, _, key in running.partner.seen[before:]]
    assert len(keys) == len(set(keys)) == 305


def test_a_broken_file_changes_nothing_and_is_said_until_it_is_mended(
    running: Installation,
) -> None:
    running.write(orders="five")
    running.reload()
    running.write_text('[feeds.orders]\ntable = "orders"\nkeys = "id"\n')
    running.reload()
    running.sends(10, orders="five")
    said = _health(running)
    assert len(said) == 2
    for told in said.values():
        assert "keeps the configuration" in told
        assert "feeds.orders.keys" in told
    for process in running.processes:
        assert "configuration_kept" in process.log.read_text(encoding="utf-8"), process.name
    running.write(orders="five", copies="five")
    assert all("an older feeds.toml" not in told for told in _health(running).values()), (
        "it says what is wrong"
    )
    running.reload()
    assert list(_health(running).values()) == ["", ""]


def _health(running: Installation) -> dict[str, str]:
    """Worker and beat → what is said of them."""
    checks = orjson.loads(command(running.stack.environment, "health", "--json").stdout)["checks"]
    return {
        check["name"]: check["found"] for check in checks if check["role"] in ("worker", "beat")
    }


def test_every_process_of_a_pool_reads_it_anew(running: Installation) -> None:
    beat, worker = running.processes
    running.processes = (
        beat,
        running.stack.start_worker("--pool", "processes", "--concurrency", "2"),
    )
    running.pids = [process.pid for process in running.processes]
    worker.stop()
    wait_until(
        lambda: len(running.heartbeats()) == 2,
        timeout=WAIT,
        message="the pool in place of the other worker",
    )
    running.write(orders="seven")
    running.reload()
    running.sends(20, orders="seven")
    children = {child.pid for child in psutil.Process(running.pids[1]).children()}
    running.write(orders="eight")
    running.reload()
    wait_until(
        lambda: running.all_go(20, "eight"),
        timeout=WAIT,
        message="the children, a moment after the worker",
    )
    for _ in range(3):
        assert running.all_go(20, "eight"), "none goes on with what it was"
    assert {child.pid for child in psutil.Process(running.pids[1]).children()} == children, (
        "none was ended for it"
    )
