"""PKI and key custody on paper. The certificates are real, with dates around the server's clock."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from adapters.pki.base import AuthorityCapabilities, BackDating, RevocationReason, RevocationStatus
from domain.certificates import facts, parse_chain, public_key_sha256
from domain.errors import RequestRefused
from domain.plan import KeyType
from tests.domain.chains import CLIENT, SERVER, Issuer, authority, pem

BACK_DATED = timedelta(hours=24, minutes=10)
LIFETIME = timedelta(days=90)


class PaperAuthority:
    """A root and an intermediate that signs. Revoked serials are shown at once."""

    profile = "corp"
    capabilities = AuthorityCapabilities(back_dating=BackDating.ROLE, revocation=True, ocsp=True, crl=True)

    def __init__(self, started_at: datetime, clock: Callable[[], datetime]) -> None:
        before, after = started_at - timedelta(days=365), started_at + timedelta(days=3650)
        self._clock = clock
        self._root = authority("Paper Root", not_before=before, not_after=after)
        self._signer = authority("Paper Issuing CA", self._root, not_before=before, not_after=after)
        self.signed: list[str] = []
        self.revoked: dict[str, RevocationReason] = {}

    async def check_access(self) -> tuple[str, ...]:
        return ()

    async def back_dated_by(self) -> timedelta:
        return BACK_DATED

    async def trust_anchors(self) -> str:
        return pem(self._root.certificate)

    async def sign(
        self,
        csr_pem: str,
        *,
        common_name: str,
        dns_names: Sequence[str],
        ip_addresses: Sequence[str],
        lifetime: timedelta | None,
    ) -> str:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        not_before = self._clock() - BACK_DATED
        chain = self.issue(csr.public_key(), common_name, dns_names, ip_addresses, not_before, lifetime or LIFETIME)
        self.signed.append(chain)
        return chain

    def issue(
        self,
        public_key: object,
        common_name: str,
        dns_names: Sequence[str],
        ip_addresses: Sequence[str],
        not_before: datetime,
        lifetime: timedelta,
    ) -> str:
        """A leaf and its intermediate."""
        signer: Issuer = self._signer
        names = [x509.DNSName(name) for name in dns_names]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ip_addresses]
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .issuer_name(signer.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_before + lifetime)
            .add_extension(x509.SubjectAlternativeName(names), False)
            .add_extension(x509.ExtendedKeyUsage([SERVER, CLIENT]), False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .sign(signer.key, hashes.SHA256())
        )
        return pem(leaf, signer.certificate)

    async def find_issued(self, *, common_name: str, spki_sha256: str) -> tuple[str, ...]:
        found = [(chain, facts(chain)) for chain in self.signed]
        return tuple(c for c, f in found if f.spki_sha256 == spki_sha256 and f.serial not in self.revoked)

    async def issued(self, leaf_pem: str) -> bool:
        return parse_chain(leaf_pem)[0].issuer == self._signer.certificate.subject

    async def revoke(self, leaf_pem: str, reason: RevocationReason) -> None:
        self.revoked.setdefault(facts(leaf_pem).serial, reason)

    async def status(self, leaf_pem: str) -> RevocationStatus:
        revoked = facts(leaf_pem).serial in self.revoked
        return RevocationStatus(ocsp_revoked=revoked, crl_revoked=revoked, detail="revoked" if revoked else "good")


class PaperCustody:
    """Keys by run."""

    profile = "vault"
    exportable = True

    def __init__(self) -> None:
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.chains: dict[str, str] = {}

    async def check_access(self) -> tuple[str, ...]:
        return ()

    async def csr(
        self, run: str, *, key_type: KeyType, common_name: str, dns_names: Sequence[str], ip_addresses: Sequence[str]
    ) -> str:
        key = self.keys.setdefault(run, ec.generate_private_key(ec.SECP256R1()))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        return csr.public_bytes(serialization.Encoding.PEM).decode()

    async def runs(self) -> tuple[str, ...]:
        return tuple(sorted(self.keys))

    async def keep_chain(self, run: str, chain_pem: str) -> str:
        return self.chains.setdefault(run, chain_pem)

    async def chain(self, run: str) -> str | None:
        return self.chains.get(run)

    async def public_key_sha256(self, run: str) -> str | None:
        return public_key_sha256(self.keys[run].public_key()) if run in self.keys else None

    async def private_key(self, run: str) -> SecretStr:
        if run not in self.keys:
            raise RequestRefused("no key for this run", where=run)
        return SecretStr("a key on paper")

    async def destroy(self, run: str) -> bool:
        there = run in self.keys or run in self.chains
        self.keys.pop(run, None)
        self.chains.pop(run, None)
        return there
