"""The operations that tests hold, by what they mean; the crash matrix needs none of these names."""

from __future__ import annotations

from lab.lab_names import CXONE, GENESYS, SRV_NAMES

TRUNK = {
    GENESYS: "/api/v2/telephony/providers/edge/edge/{id}/siptrunks/{id}",
    CXONE: "/restapi/v1.0/sip/trunks/{id}/profile",
}
"""A trunk's settings, the pool among them: GET reads, PUT binds, prefers, removes, goes back."""

UPLOAD = {
    GENESYS: "PUT /api/v2/platform/certificates",
    CXONE: "POST /restapi/v1.0/security/certificates",
}
SRV_CHANGE = f"UPDATE {SRV_NAMES[CXONE]}"
METRICS = {
    GENESYS: f"GET {TRUNK[GENESYS]}/tlsmetrics",
    CXONE: "GET /restapi/v1.0/system/metrics/sip-trunks/{id}/tls",
}
"""What the guard looks at."""

KEY_FOR_UPLOAD = "POST /v1/transit/decrypt/sip-keys"
"""How the private key leaves custody; the last read before an upload."""
