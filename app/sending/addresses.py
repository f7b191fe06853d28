"""Which addresses a webhook may call.

A URL that a user set is a request from inside the network: what they may not reach themselves it must not
reach for them. The addresses are looked at where they are connected to, after the name was looked up, so
that a name whose address changes in between is no way around.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from app.partner.dial import Address, Names

_NAT64 = ip_network("64:ff9b::/96")
"""An IPv4 address in an IPv6 one (RFC 6052)."""

_OF_MACHINES = frozenset(map(ip_address, ("fd00:ec2::254", "100.100.100.200", "168.63.129.16")))
"""Where AWS, Alibaba and Azure keep machines' settings and credentials, besides 169.254.169.254."""


class Guarded(Names):
    """Names whose addresses are public. `inside`: those of the network's own machines are well too,
    except those that only machines ask for their own settings (169.254.0.0/16 and its like)."""

    def __init__(self, *, inside: bool) -> None:
        super().__init__()
        self._inside = inside

    async def find(self, host: str, port: int) -> Sequence[Address]:
        """As of `Names`. Raises `PermissionError` where any of the addresses may not be called."""
        found = await super().find(host, port)
        for _, place in found:
            if not may_call(str(place[0]), inside=self._inside):
                said = "an address inside the network, which only an admin's webhook may call"
                if self._inside:
                    said = "an address that no webhook may call"
                raise PermissionError(errno.EACCES, said)
        return found


def may_call(text: str, *, inside: bool) -> bool:
    """Whether a webhook may call that IP address."""
    address = _meant(ip_address(text.partition("%")[0]))
    if (
        address in _OF_MACHINES
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
    ):
        return False
    return inside or address.is_global


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that one of IPv6 leads to, where it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour or address
