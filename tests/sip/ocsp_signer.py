"""A small OCSP responder's pen: signs what the issuer of the trunk's certificates would say (RFC 6960)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.adapters.trunk_leaves import TrunkLeaf, intermediate


def good(leaf: TrunkLeaf, *, age: timedelta = timedelta(0), life: timedelta = timedelta(hours=1)) -> bytes:
    """A response in DER that calls the leaf good, said `age` ago and worth `life` from then on."""
    issuer, said = intermediate(), datetime.now(UTC) - age
    return (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=leaf.certificate,
            issuer=issuer.certificate,
            algorithm=SHA1(),
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=said,
            next_update=said + life,
            revocation_time=None,
            revocation_reason=None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, issuer.certificate)
        .sign(issuer.key, SHA256())
        .public_bytes(Encoding.DER)
    )
