"""Origins as browsers send them (RFC 6454, 6.1; WHATWG URL): `https://host`, and the port where it is not 443."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "[::1]", "localhost")
PORTS = {"https": 443, "http": 80}
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def normal_origin(text: str) -> str:
    """The origin as a browser sends it: in lower case, without the port that its scheme has anyway.

    Raises `ValueError`, which says what to write, for anything that a browser would not send.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError("https://host or https://host:port") from error
    scheme = parts.scheme.lower()
    if scheme not in PORTS or not parts.hostname or not text.isascii() or not text.isprintable():
        raise ValueError("https://host or https://host:port, a name as browsers send it (xn--…)")
    if (
        " " in text
        or "@" in parts.netloc
        or "?" in text
        or "#" in text
        or parts.path not in {"", "/"}
    ):
        raise ValueError("https://host or https://host:port, without a path or a user")
    host = _host(parts.hostname)
    if scheme == "http" and host not in LOOPBACK:
        raise ValueError("https://; plain http:// for pages of this machine alone")
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError("a port of 1 to 65535, or none")
    return f"{scheme}://{host}" + (f":{port}" if port and port != PORTS[scheme] else "")


def _host(name: str) -> str:
    """Raises `ValueError`."""
    if ":" in name:
        return f"[{ipaddress.IPv6Address(name).compressed}]"
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("a host by its exact name: no *, no blank, no dot at its end")
    if labels[-1].isdigit() or labels[-1].startswith("0x"):  # browsers read it as IPv4
        return str(ipaddress.IPv4Address(name))
    return name
