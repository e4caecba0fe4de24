"""The lab's PKI as a careless administrator uses it: revocations, CRLs, and an OCSP responder that is late."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import hvac
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from lab import staples
from lab.served_certificate import ServedCertificate
from lab.vault_setup import DOMAIN, RETIRING_MOUNT, SIGNING_MOUNT

_RESPONDER_ROLE = "ocsp-responder"


class PkiDesk:
    """Works on the server of `vault_setup`, with its root token. Blocking: some tens of milliseconds each."""

    def __init__(self, address: str, token: str) -> None:
        self._address, self._token = address, token

    def revoke(self, leaf: x509.Certificate) -> None:
        """Revokes a certificate that intermediate B issued; twice is no error. Raises hvac's errors."""
        digits = f"{leaf.serial_number:x}"
        digits = digits.zfill(len(digits) + len(digits) % 2)
        with _client(self._address, self._token) as client:
            pki: Any = client.secrets.pki
            serial = ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
            pki.revoke_certificate(serial_number=serial, mount_point=SIGNING_MOUNT)

    def crls(self) -> tuple[x509.CertificateRevocationList, ...]:
        """What both intermediates publish now."""
        with _client(self._address, self._token) as client:
            pki: Any = client.secrets.pki
            return tuple(
                x509.load_pem_x509_crl(str(pki.read_crl(mount_point=mount)).encode())
                for mount in (RETIRING_MOUNT, SIGNING_MOUNT)
            )

    def stale_staple(self, served: ServedCertificate) -> bytes:
        """An OCSP response for the leaf that is over its time, by the responder of its issuer (DER)."""
        leaf, issuer = x509.load_pem_x509_certificates(served.chain_pem.encode())[:2]
        signer, key = self._responder
        return staples.stale(leaf, issuer, signer, key)

    @functools.cached_property
    def _responder(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """A certificate that intermediate B issued for signing OCSP responses (RFC 6960 section 4.2.2.2)."""
        with _client(self._address, self._token) as client:
            pki: Any = client.secrets.pki
            pki.create_or_update_role(
                _RESPONDER_ROLE,
                mount_point=SIGNING_MOUNT,
                extra_params={
                    "allowed_domains": [DOMAIN],
                    "allow_subdomains": True,
                    "server_flag": False,
                    "client_flag": False,
                    "ext_key_usage": ["OCSPSigning"],
                    "key_type": "ec",
                    "key_bits": 256,
                    "not_before_duration": "480h",
                    "ttl": "48h",
                },
            )
            answer: Mapping[str, Any] = pki.generate_certificate(
                name=_RESPONDER_ROLE, common_name=f"ocsp.{DOMAIN}", mount_point=SIGNING_MOUNT
            )
        data = answer["data"]
        key = load_pem_private_key(data["private_key"].encode(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return x509.load_pem_x509_certificate(data["certificate"].encode()), key


class _client:
    """A client that goes through no proxy and leaves no connection behind."""

    def __init__(self, address: str, token: str) -> None:
        self._client = hvac.Client(url=address, token=token, timeout=5)
        self._client.session.trust_env = False

    def __enter__(self) -> hvac.Client:
        return self._client

    def __exit__(self, *failure: object) -> None:
        self._client.adapter.close()
