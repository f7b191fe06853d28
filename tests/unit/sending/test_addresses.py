"""A webhook that a user set calls no address that the user may not."""

from __future__ import annotations

import pytest

from app.sending.addresses import Guarded, may_call

INSIDE = (
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.10", "100.64.0.1", "::1", "fd00::1",
    "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
)  # fmt: skip
NOBODY_S = (
    "169.254.169.254",
    "fe80::1",
    "fe80::1%eth0",
    "0.0.0.0",  # noqa: S104 - is refused
    "::",
    "224.0.0.1",
    "ff02::1",
    "::ffff:169.254.169.254",
    "fd00:ec2::254",
    "168.63.129.16",
)
PUBLIC = ("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:93.184.215.14")


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_inside_the_network_are_an_admin_s_alone(address: str) -> None:
    assert not may_call(address, inside=False)


@pytest.mark.parametrize("address", INSIDE[:7])
def test_an_admin_s_webhook_may_call_the_network_s_own_machines(address: str) -> None:
    assert may_call(address, inside=True)


@pytest.mark.parametrize("address", NOBODY_S)
@pytest.mark.parametrize("inside", [True, False])
def test_no_webhook_calls_what_only_machines_ask(address: str, *, inside: bool) -> None:
    assert not may_call(address, inside=inside)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_everybody_s(address: str) -> None:
    assert may_call(address, inside=False)


async def test_a_name_is_judged_by_the_addresses_that_it_leads_to() -> None:
    with pytest.raises(PermissionError, match="inside the network"):
        await Guarded(inside=False).find("localhost", 80)
    assert await Guarded(inside=True).find("localhost", 80)
