"""Which addresses a download may scope: a table of every kind there is."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.media.ip_policy import AddressScope, address_scope

PUBLIC = ["1.1.1.1", "93.184.216.34", "162.159.135.233", "172.15.255.255", "172.32.0.0", "100.63.255.255",
          "100.128.0.0", "223.255.255.255", "198.17.255.255", "2606:4700::6810:84e5", "2a00:1450:4001::1",
          "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"]  # fmt: skip

PRIVATE = ["127.0.0.1", "127.255.255.254", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.1.1",
           "100.64.0.1", "100.127.255.255", "::1", "fc00::1", "fdff::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
           "::ffff:7f00:1", "64:ff9b::127.0.0.1", "64:ff9b::c0a8:101"]  # fmt: skip

FORBIDDEN = [
    "0.0.0.0", "0.1.2.3", "169.254.0.1", "169.254.169.254", "169.254.170.2", "224.0.0.1", "239.255.255.255",
    "240.0.0.1", "255.255.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255",
    "198.51.100.1", "203.0.113.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254",
    "::", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::127.0.0.1", "::1.1.1.1", "::ffff:0:127.0.0.1",
    "64:ff9b::169.254.169.254", "64:ff9b:1::1", "64:ff9b:1:ffff::7f00:1", "2002:7f00:1::1", "2002:a9fe:a9fe::1",
    "2002:101:101::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:10::1", "2001:20::1", "2001:db8::1",
    "3fff::1", "100::1", "5f00::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "4000::1",
    "", "localhost", "127.1", "0x7f.0.0.1", "1.2.3.4.5", "/run/socket",
]  # fmt: skip

TABLE = (
    [(a, AddressScope.PUBLIC) for a in PUBLIC]
    + [(a, AddressScope.PRIVATE) for a in PRIVATE]
    + [(a, AddressScope.FORBIDDEN) for a in FORBIDDEN]
)


@pytest.mark.f55
@pytest.mark.parametrize(("address", "scope"), TABLE)
def test_the_scope_of_an_address(address: str, scope: AddressScope) -> None:
    assert address_scope(address) is scope


@pytest.mark.f55
@given(st.ip_addresses(v=4))
@pytest.mark.f55
def test_an_ipv4_address_has_the_same_scope_embedded_in_ipv6(address: IPv4Address) -> None:
    number = int(address)
    assert address_scope(f"::ffff:{address}") is address_scope(str(address))
    assert address_scope(f"64:ff9b::{address}") is address_scope(str(address))
    for clothes in (number, 0x2002 << 112 | number << 80, 0x0064_FF9B_0001 << 80 | number, 0x2001 << 112 | number):
        assert address_scope(str(IPv6Address(clothes))) is not AddressScope.PUBLIC


@pytest.mark.f55
@given(st.ip_addresses())
def test_what_the_standard_library_calls_not_global_is_never_public(address: IPv4Address | IPv6Address) -> None:
    if not address.is_global and not (isinstance(address, IPv6Address) and address.ipv4_mapped):
        assert address_scope(str(address)) is not AddressScope.PUBLIC
