"""Checks `SOURCE_URL` before a driver is loaded. Never quotes any part of a password."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

DRIVERS = MappingProxyType({"mssql": "aioodbc", "sqlite": "aiosqlite", "postgresql": "asyncpg"})
"""Database → the driver for a URL that names none."""
ALLOWED = "one of " + ", ".join(
    f"{backend}:// ({backend}+{driver}://)" for backend, driver in DRIVERS.items()
)
_ALIASES = ("postgres",)
_SCHEME = re.compile(r"[a-z][a-z0-9_]*(\+[a-z0-9_]+)?")
_LOGIN = re.compile(r"[^:/]*(?::[^@]*)?@")
"""As SQLAlchemy reads it: up to the first @."""
_PORT = re.compile(r"(?:\[[^\]]*\]|[^/:]*)(?::(?P<port>[^/]*))?")
_OPTIONS = re.compile(r"[^&=]+=[^&]*(&[^&=]+=[^&]*)*&?")
UNREADABLE = (
    "a URL that cannot be read (not shown: it may hold a password)",
    "write @ : / in a user or password as %40 %3A %2F, and the port as a number",
)


def mssql_url(parts: Mapping[str, Any]) -> str:
    """`mssql://user:password@host:port/database`, each part escaped; without a user, the process's
    Kerberos ticket.

    `parts`: the settings `mssql_*`, by their names.
    """
    password = parts["mssql_password"].get_secret_value()
    user = (
        f"{quote(parts['mssql_user'], safe='')}:{quote(password, safe='')}@"
        if parts["mssql_user"]
        else ""
    )
    host = f"[{parts['mssql_host']}]" if ":" in parts["mssql_host"] else parts["mssql_host"]
    return f"mssql://{user}{host}:{parts['mssql_port']}/{quote(parts['mssql_database'], safe='')}"


def split_scheme(url: str) -> tuple[str, str]:
    """Scheme and rest; two empty texts where it is no URL."""
    scheme, separator, rest = url.partition("://")
    return (scheme, rest) if separator and _SCHEME.fullmatch(scheme) else ("", "")


def source_url_problem(url: str) -> tuple[str, str] | None:
    """What is wrong with the URL: what was found, and what to do."""
    scheme, rest = split_scheme(url)
    if not scheme:
        return "a value that is no database URL" if url else "nothing", ALLOWED
    if "+" not in scheme and scheme not in (*DRIVERS, *_ALIASES):
        return f"{scheme}://…", ALLOWED
    if scheme.partition("+")[0] == "sqlite":  # a file, whose path may hold what it likes
        return None
    login = _LOGIN.match(rest)
    place = rest[login.end() :] if login else rest
    where, _, options = place.partition("?")
    port = _PORT.match(where)
    cut_short = "@" in where or ("@" in options and not _OPTIONS.fullmatch(options))
    if cut_short or (port and port["port"] and not _is_port(port["port"])):
        return UNREADABLE
    return None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < 2**16
