"""The links that the fault matrix cuts: it is known who connects, and what a cut holds back comes
when it heals.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from app.testbed.embedded.server import HOST
from tests.chaos.links import Links
from tests.support.wait import wait_until

ECHO = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    connection, _ = server.accept()
    connection.sendall(connection.recv(100))
"""
ASK = """
import socket, sys
client = socket.create_connection(("127.0.0.1", int(sys.stdin.readline())))
client.sendall(b"from a member")
print(client.recv(100).decode(), flush=True)
sys.stdin.readline()
"""


def _python(running: ExitStack, program: str) -> subprocess.Popen[str]:
    process = running.enter_context(
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
    )
    running.callback(process.kill)
    return process


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_cut_link_holds_back_what_one_member_sends_and_lets_clients_through(
    running: ExitStack,
) -> None:
    server, member = _python(running, ECHO), _python(running, ASK)
    assert server.stdout is not None
    assert member.stdin is not None
    assert member.stdout is not None
    links: Links[str] = Links({"server": server.pid, "member": member.pid}.__getitem__)
    running.enter_context(links.running())
    port = links.open_to("server", int(server.stdout.readline()))
    links.open_to("member", 1)  # nobody connects to it
    links.cut("server", "member")

    answers: list[str] = []
    told = member.stdout
    reading = threading.Thread(target=lambda: answers.append(told.readline()))
    member.stdin.write(f"{port}\n")
    reading.start()
    with socket.create_connection((HOST, port), timeout=30) as client:
        client.sendall(b"from a client")
        assert client.recv(100) == b"from a client"
    assert answers == []

    links.heal()
    wait_until(
        lambda: answers == ["from a member\n"], timeout=30, message="what the link held back"
    )
    reading.join()


def test_clients_are_cut_off_alone(running: ExitStack) -> None:
    server = _python(running, ECHO)
    assert server.stdout is not None
    links: Links[str] = Links({"server": server.pid}.__getitem__)
    running.enter_context(links.running())
    port = links.open_to("server", int(server.stdout.readline()))
    links.cut("server", None)
    with socket.create_connection((HOST, port), timeout=0.3) as client:
        client.sendall(b"from a client")
        with pytest.raises(TimeoutError):
            client.recv(100)
        links.heal()
        client.settimeout(30)
        assert client.recv(100) == b"from a client"
