"""The zone lab.example as it is before a rotation: both trunks' SRV records, which lead to the edges' real ports."""

from __future__ import annotations

from collections.abc import Sequence

from lab.dns_zone import Zone
from lab.lab_names import (
    CXONE,
    CXONE_FQDN,
    CXONE_TARGET_A,
    CXONE_TARGET_B,
    DOMAIN,
    GENESYS,
    GENESYS_FQDN,
    SRV_NAMES,
)

TTL_S = 1
PREFERRED, OTHER = 10, 20
"""SRV priorities: the lowest is tried first (RFC 2782)."""


def lab_zone(address: str, *, genesys_ports: Sequence[int], cxone_ports: tuple[int, int]) -> Zone:
    """`address` is where all edges listen: one port for each node of Genesys, primary and secondary of CXone."""
    zone = Zone(DOMAIN, name_server=f"ns.{DOMAIN}", address=address)
    for host in (GENESYS_FQDN, CXONE_FQDN, CXONE_TARGET_A, CXONE_TARGET_B):
        zone.put(host, TTL_S, "A", address)
    zone.put(SRV_NAMES[GENESYS], TTL_S, "SRV", *(f"{PREFERRED} 100 {port} {GENESYS_FQDN}." for port in genesys_ports))
    zone.put(
        SRV_NAMES[CXONE],
        TTL_S,
        "SRV",
        f"{PREFERRED} 100 {cxone_ports[0]} {CXONE_TARGET_A}.",
        f"{OTHER} 100 {cxone_ports[1]} {CXONE_TARGET_B}.",
    )
    return zone
