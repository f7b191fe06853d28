"""The operator console over a stack, with an admin whose password is made for this run."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from dataclasses import dataclass

import httpx
import orjson

from app.testbed.embedded.process import NotStarted
from app.testbed.embedded.server import free_port
from app.testbed.embedded.stack import ROOT, Stack

NAME = "admin"
STARTS_SECONDS = 60.0
_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class DemoConsole:
    """Where the console is, and how to log in."""

    url: str
    name: str
    password: str
    pid: int


def start_console(stack: Stack) -> DemoConsole:
    """Serve the console over the stack's servers, on a free port, with a database in its directory.
    Raises `NotStarted`.

    The user is made as an operator makes one: by a command that prints a link, which sets the
    password once.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    stack.settings |= {
        "CONSOLE_URL": url,
        "CONSOLE_PORT": str(port),
        "CONSOLE_DATABASE_URL": f"sqlite:///{stack.directory / 'console.db'}",
    }
    link = _add_user(stack)
    process = stack.start_console()
    with httpx.Client(headers={"Origin": url}, timeout=10, trust_env=False) as client:
        deadline = time.monotonic() + STARTS_SECONDS
        while not _lives(client, url):
            if not process.alive or time.monotonic() > deadline:
                raise NotStarted(process.failure())
            time.sleep(_PAUSE_SECONDS)
        password = secrets.token_urlsafe(12)
        set_by = client.post(link, data={"password": password, "again": password})
    if set_by.status_code != 303:
        raise NotStarted(f"console: no password could be set: {set_by.status_code}")
    return DemoConsole(url, NAME, password, process.pid)


def _add_user(stack: Stack) -> str:
    """The link with which the admin's password is set."""
    command = [
        sys.executable,
        "-m",
        "app",
        "console",
        "add-user",
        NAME,
        "--role",
        "admin",
        "--json",
    ]
    made = subprocess.run(
        command, env=stack.environment, cwd=ROOT, check=False, capture_output=True, text=True
    )
    if made.returncode != 0:
        raise NotStarted(f"console: no user could be made: {made.stderr.strip()[-500:]}")
    return str(orjson.loads(made.stdout)["link"])


def _lives(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/health/live").status_code == 200
    except httpx.TransportError:
        return False
