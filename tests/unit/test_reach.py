"""Which addresses calls may reach: public ones only, however they are written and whoever answers for the name."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import AddressRefused, ConfigError
from hub.reach import Reach, Resolver, is_public

CLOSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.170",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "100:0:0:1::1",
    "2001::1",
    "2001:0:4137:9e76::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2620:4f:8000::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fdff::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]
OPEN = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.0.1",
    "172.32.0.1",
    "2606:4700::1111",
    "2a00:1450:4001::1",
]


@pytest.mark.parametrize("address", CLOSED)
def test_what_is_not_public_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))
    with pytest.raises(AddressRefused, match=r"vendor\.example leads to .* HUB_PRIVATE_HOSTS"):
        Reach().check("vendor.example", [address])


@pytest.mark.parametrize("address", OPEN)
def test_what_is_public_is_reached(address: str) -> None:
    Reach().check("vendor.example", [address])


@given(st.ip_addresses())
def test_nothing_that_the_standard_library_calls_private_is_public(address: IPv4Address | IPv6Address) -> None:
    if (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_reserved
    ):
        assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_no_way_of_wrapping_an_address_makes_it_public(address: IPv4Address) -> None:
    inner = int(address)
    wrapped = [
        IPv6Address((0xFFFF << 32) | inner),  # mapped
        IPv6Address(inner),  # compatible
        IPv6Address((0x64FF9B << 96) | inner),  # NAT64
        IPv6Address((0x2002 << 112) | (inner << 80)),  # 6to4
        IPv6Address((0x20010000 << 96) | (inner ^ 0xFFFFFFFF)),  # Teredo
    ]
    assert not any(map(is_public, wrapped))


def test_one_address_among_several_that_is_not_public_is_enough() -> None:
    with pytest.raises(AddressRefused):
        Reach().check("vendor.example", ["8.8.8.8", "127.0.0.1"])


def test_an_operator_lets_names_and_networks_through() -> None:
    reach = Reach(["erp.internal", "10.1.0.0/16", "fd00:1::/32"])
    reach.check("ERP.internal", ["127.0.0.1"])
    reach.check("vendor.example", ["10.1.2.3", "fd00:1::5", "8.8.8.8"])
    with pytest.raises(AddressRefused):
        reach.check("vendor.example", ["10.2.0.1"])
    with pytest.raises(ConfigError, match=r"HUB_PRIVATE_HOSTS: 10\.1\.2\.3/99 is no network"):
        Reach(["10.1.2.3/99"])


class Fickle(AbstractResolver):
    """A name server that says something else each time."""

    def __init__(self, *answers: str) -> None:
        self._answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self._answers.pop(0)
        return [{"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": 0}]

    async def close(self) -> None: ...


async def test_a_name_that_is_led_elsewhere_later_is_looked_at_again() -> None:
    resolver = Resolver(Reach(), Fickle("8.8.8.8", "169.254.169.254"))
    [first] = await resolver.resolve("vendor.example", 443)
    assert first["host"] == "8.8.8.8"
    with pytest.raises(AddressRefused):
        await resolver.resolve("vendor.example", 443)
