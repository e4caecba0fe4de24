"""The world's two trunks, each with its platform: certificate A registered and bound, as production had it before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cryptography import x509

from lab.edge import Edge
from lab.lab_names import (
    CERTIFICATE_A,
    CXONE,
    CXONE_FQDN,
    CXONE_TRUNK,
    GENESYS,
    GENESYS_FQDN,
    GENESYS_TRUNK,
    OTHER_TRUNK,
)
from lab.platform_state import PlatformState
from lab.trunk import Binding, RegisteredCertificate, Trunk
from lab.vault_setup import IssuedCertificate

_CIPHER_SUITES = ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")
"""Another order than a plan asks for: a rotation has something to change, and to put back."""


def genesys_trunk(
    edge: Edge, anchors: Sequence[x509.Certificate], a: IssuedCertificate, *, more_nodes: Sequence[Edge] = ()
) -> tuple[PlatformState, Trunk]:
    """The Genesys organisation with one mutual-TLS trunk, whose nodes have one port each and are started."""
    platform = PlatformState(GENESYS, anchors)
    certificate = platform.register(CERTIFICATE_A, a.chain_pem, a.key_pem)
    settings: dict[str, Any] = {
        "id": GENESYS_TRUNK,
        "version": 7,
        "name": "PROD-CARRIER-TRUNK-A",
        "enabled": True,
        "certificateIds": [certificate.id],
        "transport": "TLS",
        "sipsUri": f"sip:{GENESYS_FQDN}:{edge.primary_port}",
        "retransmissionTimeoutSeconds": None,
        "tlsCipherSuites": list(_CIPHER_SUITES),
        "tlsSessionTicketLifetimeSeconds": 7200,
        "tlsCanary": None,
        "mutualTls": edge.mutual,
        "inboundSite": "site-main",
        "maxConcurrentCalls": 200,
    }
    return platform, _add_trunk(platform, GENESYS_TRUNK, edge, settings, certificate, more_nodes)


def add_other_trunk(platform: PlatformState, trunk: Trunk, edge: Edge) -> None:
    """Another trunk of the organisation that names the same certificates; nobody calls it. `edge` is started."""
    settings = {**trunk.settings, "id": OTHER_TRUNK, "name": "PROD-CARRIER-TRUNK-OTHER"}
    platform.add_trunk(Trunk(OTHER_TRUNK, edge, settings, trunk.binding))


def cxone_trunk(edge: Edge, anchors: Sequence[x509.Certificate], a: IssuedCertificate) -> tuple[PlatformState, Trunk]:
    """The CXone tenant with one trunk on `edge`, which has two ports and is started."""
    platform = PlatformState(CXONE, anchors)
    certificate = platform.register(CERTIFICATE_A, a.chain_pem, a.key_pem)
    settings: dict[str, Any] = {
        "trunkId": CXONE_TRUNK,
        "version": 3,
        "name": "PROD-CARRIER-TRUNK-B",
        "enabled": True,
        "transport": "TLS",
        "sipDomain": CXONE_FQDN,
        "primaryCertificateId": certificate.id,
        "secondaryCertificateId": None,
        "retransmissionTimeoutSeconds": None,
        "tlsCipherSuites": list(_CIPHER_SUITES),
        "tlsSessionTicketLifetimeSeconds": 7200,
        "mutualTls": edge.mutual,
        "listeners": {"primaryPort": edge.primary_port, "secondaryPort": edge.secondary_port},
        "routingProfile": "inbound-default",
        "tags": ["prod", "carrier-a"],
    }
    return platform, _add_trunk(platform, CXONE_TRUNK, edge, settings, certificate)


def _add_trunk(
    platform: PlatformState,
    trunk_id: str,
    edge: Edge,
    settings: dict[str, Any],
    certificate: RegisteredCertificate,
    more_nodes: Sequence[Edge] = (),
) -> Trunk:
    pool = (certificate,)
    trunk = Trunk(trunk_id, edge, settings, Binding(pool, on_primary=pool), more_nodes=more_nodes)
    platform.add_trunk(trunk)
    return trunk
