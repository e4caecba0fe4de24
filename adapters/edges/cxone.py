"""NICE CXone as an edge: the pool is primary and secondary certificate, the secondary port the canary path.

Guide section 2 gives the upload; the vendor does not publish these requests, and their paths are settings
(docs/platform-contract.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import httpx
from pydantic import SecretStr

from adapters.edges import cxone_wire as wire
from adapters.edges.base import (
    Canary,
    CanaryPath,
    Capabilities,
    CertificateHealth,
    EdgeHealth,
    PlatformCertificate,
    TrunkChange,
    TrunkSettings,
    TrunkState,
)
from adapters.edges.counting import calls_by_leaf, one_each, platform_sample, tally
from adapters.edges.oauth import AuthorizedHttp, TokenAnswer, Tokens, access_key
from adapters.edges.store import Store, Stored
from adapters.edges.uploading import upload_once
from adapters.http import Http, url_of
from adapters.wire_time import same_moment, utc_text
from domain.errors import CapabilityMissing, NotAsWritten, PlanInvalid, RequestRefused
from domain.handshakes import Reading, Reporter
from domain.plan import Endpoint
from settings import CxoneProfile

REQUIRED_SCOPES = ("telephony:trunk:edit", "platform:certificate:manage", "admin:api", "telephony:health:read")
"""The OAuth scopes of the guide's prerequisites."""

POOL_SIZE = 2
"""Certificates that a trunk profile can name."""


class CxoneEdge:
    """One CXone tenant. Implements `adapters.edges.base.Edge`; a trunk is the tenant's `trunkId`."""

    capabilities = Capabilities(
        pool=True,
        prefer=True,
        canary=Canary.PORT,
        per_certificate_handshakes=True,
        active_calls=True,
        ticket_flush=True,
        close_connections=True,
    )

    def __init__(
        self, profile_name: str, profile: CxoneProfile, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.profile = profile_name
        self._settings = profile
        self._label = f"[platforms.{profile_name}]"
        self._http = Http(self._label, profile, transport=transport)
        self._tokens = Tokens(self._log_in)
        self._api = AuthorizedHttp(self._http, self._tokens)

    async def _log_in(self) -> TokenAnswer:
        secret = self._settings.access_key_secret.read(f"platforms.{self.profile}.access_key_secret")
        url = url_of(self._settings.auth_url, self._settings.paths.token)
        return await access_key(self._http, url, self._settings.access_key_id, secret)

    def physical_trunk(self, trunk: str) -> str:
        """`<host of the API>/<trunkId>`. Raises `PlanInvalid` when this cannot be a trunk id."""
        return f"{httpx.URL(self._settings.base_url).netloc.decode()}/{self._id(trunk)}"

    async def check_access(self) -> tuple[str, ...]:
        """Logs in anew; returns which of the guide's four scopes the token lacks."""
        grant = await self._tokens.fresh()
        return tuple(scope for scope in REQUIRED_SCOPES if scope not in grant.scopes)

    async def configuration_problems(self, trunk: str) -> tuple[str, ...]:
        """Nothing: the vendor configures the edge."""
        return ()

    async def read_trunk(self, trunk: str, *, reachable_only: bool = False) -> TrunkState:
        """The trunk as it is, its pool by leaf SHA-256."""
        found, _ = await self._profile(trunk)
        return self._state(trunk, found, await self._store())

    async def trunks_presenting(self, sha256: str) -> tuple[str, ...]:
        """All trunks of the tenant whose pool holds the certificate."""
        response = await self._api.send("GET", url_of(self._settings.base_url, self._settings.paths.trunks))
        trunks = self._http.parse(response, wire.TrunkList)
        if len(trunks.trunks) < trunks.total_records:
            raise self._http.unexpected(
                response, "the list of trunks is not complete", f"{len(trunks.trunks)} of {trunks.total_records}"
            )
        store = await self._store()
        return tuple(
            trunk.trunk_id for trunk in trunks.trunks if any(store.sha256(bound) == sha256 for bound in trunk.bound)
        )

    async def find_certificate(self, sha256: str) -> PlatformCertificate | None:
        """The uploaded certificate with that leaf, whatever its name."""
        return (await self._store()).find(sha256)

    async def certificates(self) -> tuple[PlatformCertificate, ...]:
        """Every uploaded certificate whose leaf is shown."""
        return (await self._store()).certificates()

    async def upload(self, name: str, chain_pem: str, private_key: SecretStr) -> PlatformCertificate:
        """The guide's upload (section 2); nothing is sent when the leaf is there under any name.

        The platform answers a name that exists with 409, also when it is our own upload whose answer was lost: the
        certificate is then looked up and adopted.
        """

        async def register() -> str | None:
            response = await self._api.send(
                "POST",
                url_of(self._settings.base_url, self._settings.paths.certificates),
                json={
                    "name": name,
                    "certificateData": chain_pem,
                    "privateKeyData": private_key.get_secret_value(),
                    "certificateType": "SIP_TLS",
                },
                accept={409},
            )
            return None if response.status_code == 409 else self._http.parse(response, wire.Created).certificate_id

        return await upload_once(
            name, chain_pem, where=self._label, store=self._store, register=register, stored=self._stored
        )

    async def update_trunk(self, trunk: str, change: TrunkChange) -> TrunkState:
        """Writes the whole profile as read, with the difference and `If-Match` (guide section 2: primary, secondary).

        Raises as the role says, and `CapabilityMissing` for more than two certificates, or for a canary that is not
        the pool's second certificate: the secondary port serves nothing else.
        """
        found, etag = await self._profile(trunk)
        store = await self._store()
        wanted = self._wanted(trunk, found, change, store)
        if wanted is not found or change.always:
            await self._api.send(
                "PUT", self._url(self._settings.paths.profile, trunk), json=wanted.body(), headers={"If-Match": etag}
            )
            found, _ = await self._profile(trunk)
            differences = _differences(wanted, found)
            if differences:
                raise NotAsWritten(
                    "the trunk is not as written",
                    where=f"{self._label} trunk {trunk}",
                    seen="; ".join(differences),
                    action="find out who else writes this trunk",
                )
        return self._state(trunk, found, store)

    async def health(self, trunk: str) -> EdgeHealth:
        """The trunk's system health (guide section 4)."""
        response = await self._api.send("GET", self._url(self._settings.paths.health, trunk))
        read_at = datetime.now(UTC)
        health = self._http.parse(response, wire.Health)
        store = await self._store()
        return EdgeHealth(
            listener_up=health.tls_connectivity == "UP",
            certificates=tuple(
                CertificateHealth(sha256=sha256, valid=validation.status == "Valid", reason=validation.reason)
                for validation in health.certificate_validation
                if (sha256 := store.sha256(validation.certificate_id)) is not None
            ),
            active_calls=calls_by_leaf(
                f"{self._label} trunk {trunk}",
                [
                    (calls.certificate_id, store.sha256(calls.certificate_id), calls.count)
                    for calls in health.active_calls
                ],
            ),
            clock=health.timestamp,
            read_at=read_at,
        )

    async def reading(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        """The trunk's counts in [since, until). Raises `UnexpectedAnswer` for another window or sums that are wrong."""
        trunk, where = endpoint.trunk, f"{self._label} trunk {endpoint.trunk}"
        response = await self._api.send(
            "GET",
            self._url(self._settings.paths.metrics, trunk),
            params={"startDate": utc_text(since), "endDate": utc_text(until)},
        )
        metrics = self._http.parse(response, wire.Metrics)
        window = same_moment(metrics.start_date, since) and same_moment(metrics.end_date, until)
        if metrics.trunk_id != trunk or not window:
            raise self._http.unexpected(
                response,
                "the figures are not those that were asked for",
                f"trunk {metrics.trunk_id}, {metrics.start_date} to {metrics.end_date}; "
                f"asked for {trunk}, {utc_text(since)} to {utc_text(until)}",
            )
        store = await self._store()
        return Reading(
            endpoint=endpoint.name,
            reporter=Reporter.PLATFORM,
            since=since,
            until=until,
            read_at=metrics.timestamp,
            counters_since=metrics.counters_since,
            samples=one_each(
                platform_sample(
                    endpoint,
                    sha256=store.sha256(series.certificate_id),
                    direction=series.direction,
                    peer=series.remote_address,
                    handshakes=tally(
                        where, series.handshakes.total, series.handshakes.ok, series.handshakes.failed.items()
                    ),
                    call_setups=tally(where, series.invites.total, series.invites.ok, series.invites.failed.items()),
                )
                for series in metrics.series
            ),
        )

    async def flush_tickets(self, trunk: str) -> None:
        """Flushes the trunk's TLS session cache (guide edge case 2); flushing twice does no harm."""
        response = await self._api.send("POST", self._url(self._settings.paths.ticket_flush, trunk), json={})
        self._http.parse(response, wire.Flushed)

    async def close_connections(self, trunk: str, sha256: str) -> int:
        """Asks for an orderly close of every connection set up with that leaf, under each of its ids."""
        url = self._url(self._settings.paths.close_connections, trunk)
        ids = (await self._store()).ids(sha256)
        if not ids:
            raise RequestRefused(
                "the connections of a certificate that the platform does not hold cannot be told apart",
                where=f"{self._label} trunk {trunk}",
                seen=f"no certificate with leaf SHA-256 {sha256}",
            )
        closed = 0
        for certificate_id in ids:
            response = await self._api.send("POST", url, json={"certificateId": certificate_id})
            closed += self._http.parse(response, wire.Closed).closed_connections
        return closed

    async def delete_certificate(self, sha256: str) -> bool:
        """Deletes every certificate with that leaf. Raises `RequestRefused` while a trunk uses it."""
        deleted = False
        for certificate_id in (await self._store()).ids(sha256):
            response = await self._api.send("DELETE", self._certificate_url(certificate_id), accept={404, 409})
            if response.status_code == 409:
                raise RequestRefused(
                    "the certificate is in use and is not deleted",
                    where=self._label,
                    seen=str(self._http.refusal(response).seen),
                    action="take it out of every pool first",
                )
            deleted = deleted or response.status_code != 404
        return deleted

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.close()

    # -- parts ---------------------------------------------------------------------------------------------------

    def _id(self, trunk: str) -> str:
        if not trunk or "/" in trunk or any(character.isspace() for character in trunk):
            raise PlanInvalid("a CXone trunk is written as its trunkId", where=self._label, seen=f"trunk = {trunk!r}")
        return trunk

    def _url(self, path: str, trunk: str) -> str:
        return url_of(self._settings.base_url, path, trunk_id=self._id(trunk))

    def _certificate_url(self, certificate_id: str) -> str:
        return url_of(self._settings.base_url, self._settings.paths.certificate, certificate_id=certificate_id)

    async def _profile(self, trunk: str) -> tuple[wire.Profile, str]:
        """The profile and its `ETag`. Raises `UnexpectedAnswer` without one: writing would need a guess."""
        response = await self._api.send("GET", self._url(self._settings.paths.profile, trunk))
        etag = response.headers.get("ETag")
        if not etag:
            raise self._http.unexpected(response, "the trunk profile came without an ETag", "no header ETag")
        return self._http.parse(response, wire.Profile), etag

    async def _stored(self, certificate_id: str) -> Stored:
        response = await self._api.send("GET", self._certificate_url(certificate_id))
        return self._http.parse(response, wire.Certificate).stored()

    async def _store(self) -> Store:
        """The whole store. Raises `UnexpectedAnswer` when entries are missing: an absence must be true."""
        response = await self._api.send("GET", url_of(self._settings.base_url, self._settings.paths.certificates))
        listed = self._http.parse(response, wire.CertificateList)
        if len(listed.certificates) < listed.total_records:
            raise self._http.unexpected(
                response,
                "the list of certificates is not complete",
                f"{len(listed.certificates)} of {listed.total_records}",
            )
        return Store(self._label, (certificate.stored() for certificate in listed.certificates))

    def _wanted(self, trunk: str, found: wire.Profile, change: TrunkChange, store: Store) -> wire.Profile:
        """The profile with the change applied; `found` itself when there is nothing to do."""
        wanted: dict[str, object] = {}
        pool = store.pool(found.bound)
        if change.pool is not None and pool != tuple(dict.fromkeys(change.pool)):
            ids = store.pool_ids(change.pool, found.bound)
            self._fits(trunk, ids)
            wanted["primary_certificate_id"] = ids[0]
            wanted["secondary_certificate_id"] = ids[1] if len(ids) > 1 else None
            pool = store.pool(ids)
        if change.canary and pool[1:2] != (change.canary,):
            raise CapabilityMissing(
                "the canary path serves the pool's second certificate and no other",
                where=f"{self._label} trunk {trunk}",
                seen=f"canary {change.canary}, pool {', '.join(pool)}",
                action="bind the certificate as the second of the pool",
            )
        if change.settings is not None:
            if change.settings.retransmission_timeout_s != found.retransmission_timeout_seconds:
                wanted["retransmission_timeout_seconds"] = change.settings.retransmission_timeout_s
            if change.settings.cipher_suites != found.tls_cipher_suites:
                wanted["tls_cipher_suites"] = change.settings.cipher_suites
        return found.model_copy(update=wanted) if wanted else found

    def _fits(self, trunk: str, ids: Sequence[str]) -> None:
        if len(ids) > POOL_SIZE:
            raise CapabilityMissing(
                "a CXone pool holds a primary and a secondary certificate",
                where=f"{self._label} trunk {trunk}",
                seen=f"{len(ids)} certificates",
                action="free the secondary place before the rotation",
            )

    def _state(self, trunk: str, found: wire.Profile, store: Store) -> TrunkState:
        pool = store.pool(found.bound)
        canary = pool[1] if len(pool) > 1 else None
        return TrunkState(
            trunk=trunk,
            name=found.name,
            enabled=found.enabled,
            pool=pool,
            canary=canary,
            canary_path=None if canary is None else CanaryPath(port=found.listeners.secondary_port),
            settings=TrunkSettings(
                retransmission_timeout_s=found.retransmission_timeout_seconds, cipher_suites=found.tls_cipher_suites
            ),
            mutual_tls=found.mutual_tls,
            version=found.version,
        )


def _differences(wanted: wire.Profile, found: wire.Profile) -> list[str]:
    """The fields that a rotation writes, where the profile as read back is not as wanted."""
    pairs = {
        "primaryCertificateId": (wanted.primary_certificate_id, found.primary_certificate_id),
        "secondaryCertificateId": (wanted.secondary_certificate_id, found.secondary_certificate_id),
        "retransmissionTimeoutSeconds": (wanted.retransmission_timeout_seconds, found.retransmission_timeout_seconds),
        "tlsCipherSuites": (wanted.tls_cipher_suites, found.tls_cipher_suites),
    }
    return [f"{field} {got}, written {sent}" for field, (sent, got) in pairs.items() if got != sent]
