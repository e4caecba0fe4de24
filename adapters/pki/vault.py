"""A PKI secrets engine of HashiCorp Vault or OpenBao as `CertificateAuthority`.

B is signed on `{mount}/sign/{role}` and back-dated only by the role's `not_before_duration`. A may come from any of our
mounts; which one, its signature decides, never its name. Neither Vault nor OpenBao 2.7 takes a reason when it revokes:
the CRL entry carries none, and the reason stands in the evidence alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import requests
from cryptography import x509

from adapters.access_check import access_problems
from adapters.pki import revocation
from adapters.pki.base import AuthorityCapabilities, BackDating, RevocationReason, RevocationStatus
from adapters.pki.chain import pem_of, without_root
from adapters.pki.vault_answers import CertificateList, Issuer, IssuerList, Role, SignedCertificate, StoredCertificate
from adapters.vault_failures import of_transport
from adapters.vault_session import VaultSession
from domain.certificate_path import issued
from domain.certificates import CertificateFacts, facts_of, parse_chain, public_key_sha256
from domain.errors import (
    CertificateRefused,
    PermissionMissing,
    RequestRefused,
    RotatorError,
    SettingsInvalid,
    UnexpectedAnswer,
)
from settings import VaultPkiProfile

PAGE: Final = 1000
RESPONDER_TIMEOUT_S: Final = 3.0
"""For a responder that a certificate names; the mount's own is asked when it does not answer."""


@dataclass(frozen=True)
class IssuingAuthority:
    """One CA certificate whose key lies in one of our mounts."""

    mount: str
    ref: str
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]


class VaultAuthority:
    """One `[pki.…]` profile of kind `vault`. All methods raise `domain.errors.RotatorError`s only."""

    capabilities = AuthorityCapabilities(back_dating=BackDating.ROLE, revocation=True, ocsp=True, crl=True)

    def __init__(self, profile: str, settings: VaultPkiProfile, session: VaultSession | None = None) -> None:
        self.profile = profile
        self._settings = settings
        self._session = session or VaultSession(f"[pki.{profile}]", settings)
        self._mounts = tuple(dict.fromkeys((settings.mount, *settings.issuing_mounts)))

    async def check_access(self) -> tuple[str, ...]:
        """Logs in and tries what cannot succeed: to sign an empty CSR, to revoke serial number 0; lists and reads.

        So it needs no capability that the work itself does not need (`sys/capabilities-self` would be one more).
        Returns what is missing in words. Raises what passes by itself: `Unreachable`, `ServerFailed`, `Throttled`.
        """
        per_mount = [partial(check, mount) for mount in self._mounts for check in (self._try_issuers, self._try_revoke)]
        return await access_problems(
            self._session.log_in, self.trust_anchors, self._try_role, self._try_listing, *per_mount
        )

    async def back_dated_by(self) -> timedelta | None:
        """The role's `not_before_duration`; None when our policy may not read the role (it need not)."""
        path = f"{self._settings.mount}/roles/{self._settings.role}"
        try:
            role = await self._session.read(path, Role)
        except PermissionMissing:
            return None
        if role is None:
            raise RequestRefused(
                "there is no such role", where=self._session.where(path), action="check mount and role in the settings"
            )
        return timedelta(seconds=role.not_before_duration)

    async def trust_anchors(self) -> str:
        """The PEM of `trust_anchor_file`. Raises `SettingsInvalid` when it cannot be read or holds no certificate."""
        path = self._settings.trust_anchor_file
        field = f"[pki.{self.profile}] trust_anchor_file"
        try:
            pem = await asyncio.to_thread(path.read_text, encoding="utf-8")
            parse_chain(pem, str(path))
        except OSError as error:
            seen = f"{path}: {error.strerror}"
        except (UnicodeDecodeError, CertificateRefused) as error:
            seen = f"{path} is no PEM file of certificates ({type(error).__name__})"
        else:
            return pem
        raise SettingsInvalid("the trust anchors cannot be read", where=field, seen=seen, action="name the PEM file")

    async def sign(
        self,
        csr_pem: str,
        *,
        common_name: str,
        dns_names: Sequence[str],
        ip_addresses: Sequence[str],
        lifetime: timedelta | None,
    ) -> str:
        """Leaf + intermediates as PEM; `lifetime` counts from now, None leaves it to the role.

        Not idempotent: see `find_issued`.

        The role has the last word on names, dates and usages, so the caller judges the certificate that came back; only
        its public key is compared here. Raises `UnexpectedAnswer` when that is not the CSR's.
        """
        path = f"{self._settings.mount}/sign/{self._settings.role}"
        try:
            requested = x509.load_pem_x509_csr(csr_pem.encode())
        except ValueError:
            raise RequestRefused("the CSR cannot be read", where=self._session.where(path)) from None
        request = {
            "csr": csr_pem,
            "common_name": common_name,
            "alt_names": ",".join(dns_names),
            "ip_sans": ",".join(ip_addresses),
            "exclude_cn_from_sans": True,
        }
        if lifetime is not None:
            request["ttl"] = f"{round(lifetime.total_seconds())}s"
        answer = await self._session.write(path, request, SignedCertificate)
        leaf = self._one(answer.certificate, path)
        signed = public_key_sha256(leaf.public_key())
        if signed != public_key_sha256(requested.public_key()):
            raise UnexpectedAnswer(
                "the signed certificate is for another public key",
                where=self._session.where(path),
                seen=f"SPKI SHA-256 {signed}",
                action="look at the PKI before anything else",
            )
        return without_root(leaf, self._many((*answer.ca_chain, answer.issuing_ca), path))

    async def find_issued(self, *, common_name: str, spki_sha256: str) -> tuple[str, ...]:
        """Chains of unrevoked, unexpired certificates that the mount issued for that public key (hex SHA-256 of SPKI).

        OpenBao lists names and dates (`certs/detailed`), so that few are read; Vault lists serial numbers alone, and
        every certificate of the mount is read, about 2 ms each. Roles with `no_store` leave nothing to find.
        """
        issuers = await self._issuers_of(self._settings.mount)
        now, found = datetime.now(UTC), []
        for serial in await self._candidates(common_name, now):
            path = f"{self._settings.mount}/cert/{serial}"
            stored = await self._session.read(path, StoredCertificate)
            if stored is None or stored.revocation_time:
                continue
            leaf = self._one(stored.certificate, path)
            if _is(facts_of(leaf), common_name, spki_sha256) and leaf.not_valid_after_utc > now:
                found.append(without_root(leaf, (ca for issuer in issuers for ca in issuer.chain)))
        return tuple(found)

    async def issued(self, leaf_pem: str) -> bool:
        """True when an issuer of `mount` or `issuing_mounts`, whose key lies there, made the leaf's signature."""
        return await self._issuer_of(parse_chain(leaf_pem, "the leaf")[0]) is not None

    async def revoke(self, leaf_pem: str, reason: RevocationReason) -> None:
        """Revokes on the mount that issued the leaf; a second time is no error, and neither is an expired certificate.

        `reason` is not sent: the revoke API of Vault and OpenBao has no field for it. Raises `RequestRefused` when
        another CA issued the certificate.
        """
        leaf = parse_chain(leaf_pem, "the leaf")[0]
        issuer = await self._issuer_of(leaf)
        if issuer is None:
            raise RequestRefused(
                "another CA issued this certificate",
                where=self._session.where(", ".join(self._mounts)),
                seen=f"issuer {leaf.issuer.rfc4514_string()}, serial {leaf.serial_number:x}",
                action="hand the revocation over to that CA, or add its mount to issuing_mounts",
            )
        await self._session.send(f"{issuer.mount}/revoke", {"certificate": pem_of(leaf)})

    async def status(self, leaf_pem: str) -> RevocationStatus:
        """What OCSP and the issuer's CRL say. The CRL is rotated first where our policy allows it."""
        leaf = parse_chain(leaf_pem, "the leaf")[0]
        issuer = await self._issuer_of(leaf)
        if issuer is None:
            detail = f"another CA issued it, ask there: {leaf.issuer.rfc4514_string()}"
            return RevocationStatus(ocsp_revoked=None, crl_revoked=None, detail=detail)
        by_ocsp, by_crl = await self._ask_ocsp(leaf, issuer), await self._ask_crl(leaf, issuer)
        return RevocationStatus(
            ocsp_revoked=by_ocsp.revoked,
            crl_revoked=by_crl.revoked,
            detail=f"{by_ocsp.detail}; {by_crl.detail}",
            revoked_at=by_ocsp.revoked_at or by_crl.revoked_at,
        )

    async def close(self) -> None:
        """Closes idle connections."""
        self._session.close()

    async def _candidates(self, common_name: str, now: datetime) -> list[str]:
        mount = self._settings.mount
        try:
            detailed = await self._all_serials(f"{mount}/certs/detailed")
        except (RequestRefused, PermissionMissing):
            detailed = CertificateList(keys=())
        if detailed.key_info:
            return [serial for serial in detailed.keys if detailed.may_be(serial, common_name, now)]
        return list((await self._all_serials(f"{mount}/certs")).keys)

    async def _all_serials(self, path: str) -> CertificateList:
        """A whole listing, page by page; a server that does not page gives all of it at once."""
        whole, after = CertificateList(keys=()), ""
        while page := await self._session.list(path, CertificateList, after=after, limit=PAGE):
            known = frozenset(whole.keys)
            whole = whole.extended(page)
            if len(page.keys) != PAGE or known.issuperset(page.keys):
                break
            after = page.keys[-1].replace(":", "-")  # as it is stored: a colon sorts behind a hyphen
        return whole

    async def _issuers_of(self, mount: str) -> list[IssuingAuthority]:
        """The CA certificates of a mount whose keys lie there; `set-signed` with a bundle leaves keyless ones too."""
        listed = await self._session.list(f"{mount}/issuers", IssuerList)
        issuers = []
        for ref in listed.with_key if listed else ():
            path = f"{mount}/issuer/{ref}/json"
            if answer := await self._session.read(path, Issuer):
                chain = tuple(self._many((answer.certificate, *answer.ca_chain), path))
                issuers.append(IssuingAuthority(mount, ref, chain[0], chain))
        return issuers

    async def _issuer_of(self, leaf: x509.Certificate) -> IssuingAuthority | None:
        for mount in self._mounts:
            for issuer in await self._issuers_of(mount):
                if issued(leaf, issuer.certificate):
                    return issuer
        return None

    async def _ask_ocsp(self, leaf: x509.Certificate, issuer: IssuingAuthority) -> revocation.Verdict:
        """Asks where the certificate points to, as a carrier would; the mount's own responder stands in."""
        request, reasons = revocation.ocsp_request(leaf, issuer.certificate), []
        for url in (*revocation.responder_urls(leaf), None):
            try:
                answer = await self._post_ocsp(url, issuer.mount, request)
            except RotatorError as error:
                reasons.append(f"OCSP: {error}")
                continue
            verdict = revocation.read_ocsp(answer, leaf, issuer.certificate, datetime.now(UTC))
            if verdict.revoked is not None:
                return revocation.Verdict(verdict.revoked, "; ".join([verdict.detail, *reasons]), verdict.revoked_at)
            reasons.append(verdict.detail)
        return revocation.Verdict(None, "; ".join(reasons))

    async def _post_ocsp(self, url: str | None, mount: str, request: bytes) -> bytes:
        if url is None:
            return await self._session.fetch(
                f"{mount}/ocsp", content=request, content_type=revocation.OCSP_REQUEST_TYPE
            )
        return await asyncio.to_thread(_post, url, request)

    async def _ask_crl(self, leaf: x509.Certificate, issuer: IssuingAuthority) -> revocation.Verdict:
        note = ""
        try:
            try:
                await self._session.fetch(f"{issuer.mount}/crl/rotate")
            except RotatorError as error:
                note = f" (not rotated: {error})"
            crl = await self._session.fetch(f"{issuer.mount}/issuer/{issuer.ref}/crl/pem")
        except RotatorError as error:
            return revocation.Verdict(None, f"CRL: {error}{note}")
        verdict = revocation.read_crl(crl, leaf, issuer.certificate, datetime.now(UTC))
        return revocation.Verdict(verdict.revoked, verdict.detail + note, verdict.revoked_at)

    async def _try_role(self) -> None:
        path = f"{self._settings.mount}/sign/{self._settings.role}"
        try:
            await self._session.send(path, {"csr": ""})
        except RequestRefused as error:
            if "role" in error.seen or error.seen.startswith("404"):
                raise

    async def _try_revoke(self, mount: str) -> None:
        """Serial number 0 was never given (RFC 5280 section 4.1.2.2), so that nothing can be revoked."""
        try:
            await self._session.send(f"{mount}/revoke", {"serial_number": "00"})
        except RequestRefused as error:
            if error.seen.startswith("404"):
                raise

    async def _try_listing(self) -> None:
        await self._session.list(f"{self._settings.mount}/certs", CertificateList, limit=1)

    async def _try_issuers(self, mount: str) -> None:
        if not await self._issuers_of(mount):
            raise RequestRefused(
                "the mount has no CA certificate with its key",
                where=self._session.where(f"{mount}/issuers"),
                action="check that it is a PKI mount and has an issuer",
            )

    def _one(self, pem: str, path: str) -> x509.Certificate:
        return self._many((pem,), path)[0]

    def _many(self, pems: Iterable[str], path: str) -> list[x509.Certificate]:
        try:
            return [certificate for pem in pems if pem.strip() for certificate in parse_chain(pem)]
        except CertificateRefused as error:
            raise UnexpectedAnswer(
                "the answer holds a certificate that cannot be read", where=self._session.where(path), seen=str(error)
            ) from None


def _is(leaf: CertificateFacts, common_name: str, spki_sha256: str) -> bool:
    return (leaf.common_name or "").casefold() == common_name.casefold() and leaf.spki_sha256 == spki_sha256.lower()


def _post(url: str, request: bytes) -> bytes:
    """POSTs an OCSP request to a responder that a certificate names; plain http is usual (RFC 6960 appendix A)."""
    try:
        response = requests.post(
            url,
            data=request,
            headers={"Content-Type": revocation.OCSP_REQUEST_TYPE},
            timeout=RESPONDER_TIMEOUT_S,
            allow_redirects=False,
        )
    except OSError as error:
        raise of_transport(error, where=url, ca_file=None) from None
    if not response.ok:
        raise RequestRefused("the responder refuses", where=url, seen=str(response.status_code))
    return response.content
