"""Steps 1 and 10: issue B, revoke A; and the end of a certificate that is not wanted any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from temporalio import activity

from adapters.pki.base import RevocationReason, RevocationStatus
from adapters.registry import Adapters
from domain.certificates import CertificateCase, CertificateFacts, RuleResult, check_certificate, facts, spki_sha256
from domain.errors import CertificateRefused, NotAsWritten
from domain.handshakes import Record
from domain.rotation import Run, SideEffect, short
from domain.texts import listed


class IssueRequest(Record):
    """Sign B for the run; `a` is what B's names are held against."""

    run: Run
    a: CertificateFacts


class Issued(Record):
    """B as it came back from the PKI: public facts, and every rule with what it saw."""

    b: CertificateFacts
    b_pem: str
    rules: tuple[RuleResult, ...]
    effects: tuple[SideEffect, ...]


class DiscardRequest(Record):
    """End the run's B: key destroyed, certificate revoked."""

    run: Run


class RevokeRequest(Record):
    """Revoke A once nothing can need it any more."""

    run: Run
    sha256_a: str
    a_pem: str


class Revoked(Record):
    """The end of A. `handed_over` gives the reason when A was not revoked by us."""

    effect: SideEffect
    status: RevocationStatus | None = None
    handed_over: str | None = None


class CertificateActivities:
    """Key, signature, revocation. Keys stay in custody: nothing here returns one."""

    def __init__(self, adapters: Adapters, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._adapters = adapters
        self._clock = clock

    @activity.defn
    async def issue(self, request: IssueRequest) -> Issued:
        """Step 1: key and CSR in custody, signed once, checked by every rule. A retry adopts what is there.

        Raises `CertificateRefused` with all violated rules at once.
        """
        spec, run = request.run.plan.certificate, request.run.key
        custodian, ca = self._adapters.custodian(spec.custody), self._adapters.authority(spec.ca)
        csr = await custodian.csr(
            run,
            key_type=spec.key_type,
            common_name=spec.common_name,
            dns_names=spec.dns_names,
            ip_addresses=spec.ip_addresses,
        )
        public_key = x509.load_pem_x509_csr(csr.encode()).public_key()
        key_spki = spki_sha256(
            public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        chain, how = await custodian.chain(run), "found in custody"
        if chain is None:
            orphans = await ca.find_issued(common_name=spec.common_name, spki_sha256=key_spki)
            if orphans:
                signed, how = orphans[0], "adopted: signed earlier for this key"
            else:
                how = "signed"
                signed = await ca.sign(
                    csr,
                    common_name=spec.common_name,
                    dns_names=spec.dns_names,
                    ip_addresses=spec.ip_addresses,
                    lifetime=spec.lifetime,
                )
            chain = await custodian.keep_chain(run, signed)
            if facts(chain).sha256 != facts(signed).sha256:
                await ca.revoke(signed, RevocationReason.CESSATION_OF_OPERATION)
                how = "another worker's was kept, ours revoked"
        b = facts(chain)
        activity.logger.info(
            "B %s: key SPKI SHA-256 %s, certificate SPKI SHA-256 %s, modulus SHA-256 %s",
            short(b.sha256),
            key_spki,
            b.spki_sha256,
            b.modulus_sha256 or "none (not RSA)",
        )
        rules = check_certificate(
            CertificateCase(
                chain_pem=chain,
                trust_anchors_pem=await ca.trust_anchors(),
                key_spki_sha256=key_spki,
                a_leaf=request.a,
                plan=request.run.plan,
                now=self._clock(),
            )
        )
        violations = {rule.rule: f"{rule.seen}, expected {rule.expected}" for rule in rules if not rule.passed}
        if violations:
            raise CertificateRefused(
                "B would break a trunk and is not used", violations=violations, where=f"[pki.{spec.ca}]"
            )
        effects = (
            self._effect("key and CSR", f"[keys.{spec.custody}]", "no key for this run", f"SPKI {short(key_spki)}"),
            self._effect("sign B", f"[pki.{spec.ca}]", how, f"serial {b.serial}, SHA-256 {short(b.sha256)}"),
        )
        return Issued(b=b, b_pem=chain, rules=rules, effects=effects)

    @activity.defn
    async def discard(self, request: DiscardRequest) -> SideEffect:
        """Rollback or abort, last of all: B revoked (cessation of operation), its key destroyed."""
        spec, run = request.run.plan.certificate, request.run.key
        custodian, ca = self._adapters.custodian(spec.custody), self._adapters.authority(spec.ca)
        chains: tuple[str, ...] = ()
        kept = await custodian.chain(run)
        spki = await custodian.public_key_sha256(run)
        if spki is not None:
            chains = await ca.find_issued(common_name=spec.common_name, spki_sha256=spki)
        leaves: Mapping[str, str] = {facts(chain).sha256: chain for chain in (*chains, *([kept] if kept else []))}
        for sha256, chain in leaves.items():
            using = await self._trunks_presenting(request.run, sha256)
            if using:
                raise NotAsWritten("B is not revoked while a trunk uses it", where=", ".join(using), seen=short(sha256))
            await ca.revoke(chain, RevocationReason.CESSATION_OF_OPERATION)
        destroyed = await custodian.destroy(run)
        before = f"{len(leaves)} signed, key {'there' if destroyed else 'not there'}"
        return self._effect("discard B", f"[keys.{spec.custody}]", before, "revoked, key destroyed")

    @activity.defn
    async def revoke_strays(self, request: DiscardRequest) -> SideEffect:
        """Certificates that were signed for B's key besides B are revoked: a request for one may have landed late."""
        spec, run = request.run.plan.certificate, request.run.key
        custodian, ca = self._adapters.custodian(spec.custody), self._adapters.authority(spec.ca)
        kept, spki = await custodian.chain(run), await custodian.public_key_sha256(run)
        if kept is None or spki is None:
            raise NotAsWritten("custody does not hold B and its key any more", where=f"[keys.{spec.custody}]", seen=run)
        strays = [
            chain
            for chain in await ca.find_issued(common_name=spec.common_name, spki_sha256=spki)
            if facts(chain).sha256 != facts(kept).sha256
        ]
        for chain in strays:
            await ca.revoke(chain, RevocationReason.CESSATION_OF_OPERATION)
        before = f"{len(strays)} beside B" if strays else "none beside B"
        return self._effect("revoke strays", f"[pki.{spec.ca}]", before, "none beside B", changed=bool(strays))

    @activity.defn
    async def revoke_a(self, request: RevokeRequest) -> Revoked:
        """Step 10: A revoked (superseded) behind its interlock: out of every pool, no active call, no other user.

        Handed over instead when another CA issued it or another trunk uses it (`also_used_by`).
        """
        plan = request.run.plan
        ca = self._adapters.authority(plan.certificate.ca)
        where, serial = f"[pki.{plan.certificate.ca}]", facts(request.a_pem).serial
        named = plan.certificate.also_used_by
        using = await self._trunks_presenting(request.run, request.sha256_a, besides=named)
        if using:
            raise NotAsWritten("A is not revoked while a trunk presents it", where=", ".join(using), seen=serial)
        for endpoint in plan.endpoints:
            health = await self._adapters.edge(endpoint.platform).health(endpoint.trunk)
            calls = health.active_calls.get(request.sha256_a, 0)
            if calls:
                raise NotAsWritten("A is not revoked under a live call", where=endpoint.name, seen=f"{calls} calls")
        reason = None
        if plan.certificate.also_used_by:
            reason = f"A is also used by {listed(plan.certificate.also_used_by)}"
        elif not await ca.issued(request.a_pem):
            reason = f"A was not issued by {where}: its issuer must revoke serial {serial} (superseded)"
        if reason is not None:
            effect = self._effect(
                "revoke A", where, f"serial {serial}", "not revoked by us: handed over", changed=False
            )
            return Revoked(effect=effect, handed_over=reason)
        await ca.revoke(request.a_pem, RevocationReason.SUPERSEDED)
        status = await ca.status(request.a_pem)
        if not status.ocsp_revoked or not status.crl_revoked:
            raise NotAsWritten(
                "A is revoked, but OCSP and CRL do not both show it yet", where=where, seen=status.detail
            )
        return Revoked(effect=self._effect("revoke A", where, f"serial {serial}", status.detail), status=status)

    @activity.defn
    async def destroy_key_of_a(self, request: RevokeRequest) -> SideEffect:
        """Step 10, last: the key of A is destroyed where our custody holds it (an earlier rotation's B).

        Refuses while a trunk presents A.
        """
        custody = request.run.plan.certificate.custody
        custodian, where = self._adapters.custodian(custody), f"[keys.{custody}]"
        using = await self._trunks_presenting(request.run, request.sha256_a)
        if using:
            raise NotAsWritten("the key of A is not destroyed while a trunk presents A", where=", ".join(using))
        spki = facts(request.a_pem).spki_sha256
        destroyed = []
        for run in await custodian.runs():
            kept = await custodian.public_key_sha256(run)
            if kept is None:  # the key goes first: had we died then, the chain is what tells whose it was
                chain = await custodian.chain(run)
                kept = facts(chain).spki_sha256 if chain else None
            if kept == spki and await custodian.destroy(run):
                destroyed.append(run)
        before = f"there as {', '.join(destroyed)}" if destroyed else "not in our custody"
        return self._effect("destroy the key of A", where, before, "not there", changed=bool(destroyed))

    async def _trunks_presenting(self, run: Run, sha256: str, besides: Sequence[str] = ()) -> list[str]:
        found: list[str] = []
        for profile in sorted({endpoint.platform for endpoint in run.plan.endpoints}):
            edge = self._adapters.edge(profile)
            for endpoint in run.plan.endpoints:
                if endpoint.platform == profile:
                    await edge.read_trunk(endpoint.trunk)
            presenting = await edge.trunks_presenting(sha256)
            found += [f"{profile}: {trunk}" for trunk in presenting if trunk not in besides]
        return found

    def _effect(self, action: str, where: str, before: str, after: str, changed: bool = True) -> SideEffect:
        return SideEffect(action=action, where=where, before=before, after=after, changed=changed, at=self._clock())
