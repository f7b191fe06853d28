"""A partner on a real socket that keeps some requests waiting until a test lets them go."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HELD = "/held"
"""The path whose requests wait; all others are answered at once."""


@dataclass
class HoldingPartner:
    """What arrived, and what was answered, by path."""

    url: str = ""
    arrived: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    let_go: threading.Event = field(default_factory=threading.Event)

    def meet(self, path: str) -> None:
        """Wait for as long as the path asks for."""
        self.arrived[path] += 1
        if path == HELD:
            self.let_go.wait()
        self.answered[path] += 1


@contextmanager
def holding_partner() -> Iterator[HoldingPartner]:
    """The partner, until the context ends."""
    partner = HoldingPartner()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            partner.meet(self.path)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Not on the test's output."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 1024

    with Server(("127.0.0.1", 0), Handler) as server:
        partner.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield partner
        finally:
            partner.let_go.set()
            server.shutdown()
