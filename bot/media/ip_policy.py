"""IP policy: which addresses a download may reach, by the address itself and by an IPv4 address embedded in it."""

from __future__ import annotations

from enum import Enum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

# Own tables: what `ipaddress` calls private or global differs between Python versions, and it treats embedded IPv4
# addresses (NAT64, 6to4) as global. From the IANA special-purpose registries.


class AddressScope(Enum):
    """The kind of network of an address."""

    PUBLIC = "public"
    PRIVATE = "private"
    """This machine or its own network: allowed in local development, never for addresses that users send."""
    FORBIDDEN = "forbidden"
    """Never the source of an image: cloud metadata, link-local, multicast, reserved, tunnels."""


_FORBIDDEN_HOSTS = frozenset(
    ip_address(address)
    for address in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254", "fd00:42::42")
)
"""Cloud metadata services outside 169.254.0.0/16."""

_PRIVATE = tuple(
    ip_network(network)
    for network in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "100.64.0.0/10", "fc00::/7", "::1/128"
    )
)  # fmt: skip

_FORBIDDEN = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "2001::/23",      # protocol assignments, Teredo tunnels among them
        "2001:db8::/32",  # documentation
        "2002::/16",      # 6to4 tunnels
        "3fff::/20",      # documentation
    )
)  # fmt: skip

_GLOBAL_IPV6 = IPv6Network("2000::/3")
"""All allocated addresses. Others are unspecified, translated, link-local, multicast or unused."""

_EMBEDS_IPV4 = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
"""Mapped addresses connect to the IPv4 address; the well-known NAT64 prefix is how an IPv6-only host reaches one."""


def address_scope(address: str) -> AddressScope:
    """Return the kind of network of an address in the notation of sockets (a zone such as `%eth0` is ignored)."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return AddressScope.FORBIDDEN
    return _scope(parsed)


def _scope(address: IPv4Address | IPv6Address) -> AddressScope:
    if isinstance(address, IPv6Address) and any(address in network for network in _EMBEDS_IPV4):
        return _scope(IPv4Address(int(address) & 0xFFFF_FFFF))
    if address in _FORBIDDEN_HOSTS or any(address in network for network in _FORBIDDEN):
        return AddressScope.FORBIDDEN
    if any(address in network for network in _PRIVATE):
        return AddressScope.PRIVATE
    if isinstance(address, IPv6Address) and address not in _GLOBAL_IPV6:
        return AddressScope.FORBIDDEN
    return AddressScope.PUBLIC
