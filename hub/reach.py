"""Which addresses outgoing calls may reach: public ones, and what an operator lets through by name or network.

Whoever controls a name can lead it anywhere, also into the hub's own network and to the machine's metadata service. So a
name is looked up once, every address that it has must be public, and the call goes to one of these.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp import DefaultResolver
from aiohttp.abc import AbstractResolver, ResolveResult

from hub.errors import AddressRefused, ConfigError

# Not public, whatever the standard library of this Python says (IANA special-purpose registries, read 2026-11).
_CLOSED_V4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",
            "100.64.0.0/10",  # shared by carriers
            "127.0.0.0/8",
            "169.254.0.0/16",  # link-local, metadata services
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",  # multicast, reserved, broadcast
        ),
    )
)
# Of IPv6 only global unicast is public: that leaves out loopback, mapped, unique-local, link-local and multicast
# addresses, NAT64 (64:ff9b::/96), discard (100::/64) and SRv6 (5f00::/16). Within it these are not.
_OPEN_V6 = IPv6Network("2000::/3")
_CLOSED_V6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # Teredo, benchmarks, ORCHID
            "2001:db8::/32",
            "2002::/16",  # 6to4, which may hold any IPv4 address
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    )
)


class Reach:
    """What calls may reach beyond what is public: `allowed` holds host names and networks (`10.1.0.0/16`)."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._names: set[str] = set()
        self._networks: list[IPv4Network | IPv6Network] = []
        for one in allowed:
            try:
                self._networks.append(ip_network(one))
            except ValueError:
                if "/" in one:
                    raise ConfigError(f"HUB_PRIVATE_HOSTS: {one} is no network; write one like 10.1.0.0/16") from None
                self._names.add(one.lower())

    def check(self, host: str, addresses: Iterable[str]) -> None:
        """Raise AddressRefused unless calls to `host` may go to each of these addresses."""
        if host.lower() in self._names:
            return
        for text in addresses:
            address = ip_address(text.partition("%")[0])
            if not is_public(address) and not any(address in network for network in self._networks):
                raise AddressRefused(
                    f"{host} leads to {address}, which is no public address; if it is meant, add {host} to "
                    "HUB_PRIVATE_HOSTS"
                )


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether this is an address of the public internet, and nothing that stands for another one."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    return address in _OPEN_V6 and not any(address in network for network in _CLOSED_V6)


class Resolver(AbstractResolver):
    """Looks names up for the connection pool, which connects to what it is given here and looks nothing up itself."""

    def __init__(self, reach: Reach, inner: AbstractResolver | None = None) -> None:
        self._reach, self._inner = reach, inner or DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        self._reach.check(host, [one["host"] for one in found])
        return found

    async def close(self) -> None:
        await self._inner.close()
