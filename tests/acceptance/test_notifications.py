"""Beat has a worker look, and the worker tells: real processes, and a real server that the webhook
is posted to.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

from app.ledger import Ledger
from app.testbed.embedded.stack import Stack
from tests.support.wait import wait_until


@contextmanager
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that takes whatever is posted. Yields its URL and the messages."""
    messages: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(orjson.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", messages
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


async def pause(url: str, feed: str) -> None:
    ledger = Ledger.at(url, timedelta(seconds=30))
    try:
        await ledger.pauses.pause(feed, "by an operator")
    finally:
        await ledger.close()


def test_a_feed_that_is_paused_is_told_of_once_by_two_workers(stack: Stack) -> None:
    with hook() as (url, messages):
        stack.settings["NOTIFY_WEBHOOK_URL"] = url
        asyncio.run(pause(stack.environment["MONGO_URL"], "orders"))
        workers = [stack.start_worker("--hostname", f"w{number}@%h") for number in (1, 2)]
        beat = stack.start_beat()
        told = ("feed-paused", "orders", "began")
        wait_until(lambda: told in _told(messages), timeout=120, message="the message")
        assert beat.stop(timeout=60) == 0
        assert [worker.stop(timeout=60) for worker in workers] == [0, 0]
    assert _told(messages).count(told) == 1


def _told(messages: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(one["event"], one["subject"], one["message"]) for one in messages]
