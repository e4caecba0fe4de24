"""The names of the lab's world: domains, trunks and ids. What the written plan says, the stand-ins must be."""

from __future__ import annotations

DOMAIN = "lab.example"
GENESYS, CXONE = "genesys", "cxone"
"""The trunks, as the lab and the carrier call them."""

OBSERVER = "observer"

GENESYS_FQDN = f"trunk.genesys.{DOMAIN}"
CXONE_FQDN = f"trunk.cxone.{DOMAIN}"
CXONE_TARGET_A = f"a.{CXONE_FQDN}"
CXONE_TARGET_B = f"b.{CXONE_FQDN}"
SRV_NAMES = {GENESYS: f"_sips._tcp.{GENESYS_FQDN}", CXONE: f"_sips._tcp.{CXONE_FQDN}"}

CERTIFICATE_DNS_NAMES = (GENESYS_FQDN, CXONE_FQDN, CXONE_TARGET_A, CXONE_TARGET_B)
CERTIFICATE_ADDRESSES = ("127.0.0.1",)

EDGE_ID = "edge-1"
GENESYS_TRUNK = "trunk-1"
OTHER_TRUNK = "trunk-other"
CXONE_TRUNK = "trunk-2"
OBSERVED_TRUNK = "0c1a7d2e-5d1f-4a6b-9d58-3f6c2b7f9a10"
"""The Genesys trunk's other end, as the published API of the cloud behind it calls it."""

OBSERVER_NAME = "byoc.cloud.example"
OBSERVER_ADDRESS = "127.0.0.4"
"""Where that cloud's OPTIONS pings come from."""

CARRIER_NAME = "sbc.carrier.example"
PROBER_NAME = "prober.carrier.example"
API_CLIENT = "rotator"
TSIG_KEY = "rotator"
CERTIFICATE_A = "SIP-TRUNK-CERT-A"
"""The name under which both platforms hold A from the start."""

DORMANT_NAME = "sbc.dormant.example"
DORMANT_ADDRESS = "127.0.0.3"
"""A second carrier, which is known and does not call."""
