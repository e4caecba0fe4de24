"""A slot's file: leaf, intermediates and key in one PEM, with the name of the upload above; or a placeholder.

A TLS listener of HAProxy does not start without a certificate, so an empty slot holds a self-signed one that nobody
trusts. No object here holds a key, apart from a `SecretStr` on its way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from adapters.edges.haproxy.answers import EMPTY_SLOT
from adapters.edges.haproxy.runtime import LONGEST_PAYLOAD
from adapters.edges.servable import defects, key_spki_sha256
from domain.certificates import parse_chain
from domain.errors import CertificateRefused, RequestRefused

SLOTS: Final = ("one", "two")

_NAME: Final = re.compile(rb"(?m)^# rotation: (.+?)[ \t\r]*$")
_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_FIRST_LINE: Final = "# rotation: "


@dataclass(frozen=True)
class SlotFile:
    """What a slot's file says. `chain` is empty when it cannot be read; `key_spki` hashes the key's public half."""

    name: str | None
    chain: tuple[x509.Certificate, ...]
    key_spki: str | None

    @property
    def leaf(self) -> str | None:
        """Hex SHA-256 of the leaf; None for a placeholder, and for what cannot be read."""
        return None if not self.chain or self.is_placeholder else self.chain[0].fingerprint(SHA256()).hex()

    @property
    def sha1(self) -> str | None:
        """Hex SHA-1 of the first certificate: it names, it proves nothing. HAProxy tells no other fingerprint."""
        return self.chain[0].fingerprint(SHA1()).hex() if self.chain else None  # noqa: S303

    @property
    def is_placeholder(self) -> bool:
        return bool(self.chain) and self.chain[0].issuer == self.chain[0].subject == _EMPTY

    def defects(self, anchors: Sequence[x509.Certificate], now: datetime) -> Mapping[str, str]:
        """What keeps it from being served well, by name of the rule (adapters/edges/servable.py)."""
        return defects(self.chain, anchors, self.key_spki, now)


def slot_file(content: bytes) -> SlotFile:
    """The file read."""
    name = _NAME.search(content)
    try:
        chain = tuple(x509.load_pem_x509_certificate(block) for block in _CERTIFICATE.findall(content))
        for certificate in chain:  # parsed lazily
            _ = certificate.extensions, certificate.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        chain = ()
    return SlotFile(
        name=None if name is None else name[1].decode(errors="replace"), chain=chain, key_spki=key_spki_sha256(content)
    )


def sealed(
    name: str,
    chain_pem: str,
    private_key: SecretStr,
    anchors: Sequence[x509.Certificate],
    now: datetime,
    where: str,
) -> SecretStr:
    """A slot's content for that upload, checked as HAProxy does not: it takes a chain without its intermediates.

    Raises `RequestRefused` that says all that is wrong, and never shows the key.
    """
    refused: str | None = None
    if not name.isprintable() or not name.strip():
        refused = "the name is not one printable line"
    else:
        try:
            chain = parse_chain(chain_pem)
        except CertificateRefused as unreadable:
            refused = "; ".join(unreadable.violations.values())
    if refused is None:
        key = "\n".join(line.strip() for line in private_key.get_secret_value().splitlines() if line.strip())
        found = defects(chain, anchors, key_spki_sha256(key.encode()), now)
        refused = "; ".join(f"{rule}: {message}" for rule, message in found.items()) or None
    if refused is None:
        certificates = "".join(one.public_bytes(Encoding.PEM).decode() for one in chain)
        content = f"{_FIRST_LINE}{name}\n{certificates}{key}\n"
        if len(content) <= LONGEST_PAYLOAD:
            return SecretStr(content)
        refused = f"{len(content)} characters, and HAProxy takes {LONGEST_PAYLOAD}"
    raise RequestRefused(
        "this cannot be served, and is not uploaded", where=where, seen=refused, action="upload leaf, chain and key"
    )


def placeholder() -> SecretStr:
    """A new self-signed certificate with its key, for a slot that is to be empty. Ten years: nobody renews it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_EMPTY)
        .issuer_name(_EMPTY)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return SecretStr((certificate.public_bytes(Encoding.PEM) + private).decode())


def payload(content: SecretStr) -> SecretStr:
    """The content as HAProxy's command line takes it: PEM alone."""
    lines = content.get_secret_value().splitlines()
    return SecretStr("\n".join(line for line in lines if line.strip() and not line.startswith("#")))


_EMPTY: Final = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, EMPTY_SLOT)])
