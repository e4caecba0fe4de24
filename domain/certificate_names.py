"""Which names a trunk's certificate must bear, and which it may: SIP identities and the CAs' name constraints."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from cryptography import x509

from domain.certificate_facts import CertificateFacts, host_name, ip_text
from domain.plan import Plan, Topology

_SIP_DOMAIN = re.compile(r"sip:([^@:;?/]+)", re.IGNORECASE)


def identity_names(plan: Plan) -> tuple[str, ...]:
    """Every FQDN, SRV target and IP address that the certificate must cover (guide section 1), sorted.

    The plan's own list, each trunk's SIP domain, every SRV target; a node's address where the carrier dials addresses
    (`static_ip`). Elsewhere a node's address is only where we connect: no peer compares it (RFC 5922 section 7.1).
    """
    names = [*plan.certificate.dns_names, *plan.certificate.ip_addresses]
    for endpoint in plan.endpoints:
        names.append(endpoint.fqdn)
        names += [node.target for node in endpoint.nodes if node.target is not None]
        if endpoint.srv is not None:
            names += [endpoint.srv.target_a, endpoint.srv.target_b]
        if endpoint.topology is Topology.STATIC_IP:
            names += [node.address for node in endpoint.nodes if ip_text(node.address) is not None]
    return tuple(sorted({ip_text(name) or host_name(name) for name in names}))


def uncovered(names: Iterable[str], leaf: CertificateFacts) -> tuple[str, ...]:
    """The names that the leaf's SANs do not bear, literally.

    A wildcard covers nothing (RFC 5922 section 7.2: SIP matches none); `URI:sip:domain` covers its domain (7.1).
    """
    borne = {*leaf.dns_names, *leaf.ip_addresses, *sip_domains(leaf.uris)}
    return tuple(name for name in names if name not in borne)


def sip_domains(uris: Iterable[str]) -> tuple[str, ...]:
    """The domains of `sip:` URIs; other schemes and URIs with a user part name no domain (RFC 5922 section 7.1)."""
    matches = (_SIP_DOMAIN.match(uri) for uri in uris if "@" not in uri)
    return tuple(host_name(match.group(1)) for match in matches if match)


def forbidden_names(leaf: CertificateFacts, constraints: x509.NameConstraints) -> tuple[str, ...]:
    """The leaf's DNS names and addresses that a CA's constraints do not let it sign (RFC 5280 section 4.2.1.10)."""
    permitted = _subtrees(constraints.permitted_subtrees)
    excluded = _subtrees(constraints.excluded_subtrees)
    names = [x509.DNSName(name) for name in leaf.dns_names]
    addresses = [x509.IPAddress(ipaddress.ip_address(address)) for address in leaf.ip_addresses]
    found = []
    for name in (*names, *addresses):
        allowed = [tree for tree in permitted if type(tree) is type(name)]
        if (allowed and not any(_within(name, tree) for tree in allowed)) or any(_within(name, t) for t in excluded):
            found.append(str(name.value))
    return tuple(found)


def _subtrees(trees: Sequence[x509.GeneralName] | None) -> Sequence[x509.GeneralName]:
    return trees or ()


def _within(name: x509.GeneralName, tree: x509.GeneralName) -> bool:
    if isinstance(name, x509.DNSName) and isinstance(tree, x509.DNSName):
        base = host_name(tree.value)
        return not base or host_name(name.value) == base.lstrip(".") or name.value.endswith(f".{base.lstrip('.')}")
    if isinstance(name, x509.IPAddress) and isinstance(tree, x509.IPAddress):
        address, network = name.value, tree.value
        return (
            isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address)
            and isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network)
            and address in network
        )
    return False
