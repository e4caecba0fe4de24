"""Genesys Cloud CX as an edge: `certificateIds` is the pool, `tlsCanary` the canary path (guide sections 2 to 4).

The vendor does not publish these requests; their paths are settings (docs/platform-contract.md).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import httpx
from pydantic import SecretStr

from adapters.edges import genesys_wire as wire
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
from adapters.edges.oauth import AuthorizedHttp, TokenAnswer, Tokens, client_credentials
from adapters.edges.store import Store, Stored
from adapters.edges.uploading import upload_once
from adapters.http import Http, url_of
from adapters.wire_time import same_moment, utc_text
from domain.errors import CapabilityMissing, NotAsWritten, PlanInvalid, RequestRefused
from domain.handshakes import Reading, Reporter
from domain.plan import Endpoint
from settings import GenesysProfile

REQUIRED_SCOPES = ("telephony:trunk:edit", "platform:certificate:manage", "admin:api", "telephony:health:read")
"""The OAuth scopes of the guide's prerequisites."""

PAGE_SIZE = 100
"""Certificates per page of a listing."""

_TRUNK = re.compile(r"([^/\s]+)/([^/\s]+)")


class GenesysEdge:
    """One Genesys Cloud organisation. Implements `adapters.edges.base.Edge`; trunks are `<edgeId>/<sipTrunkId>`."""

    capabilities = Capabilities(
        pool=True,
        prefer=True,
        canary=Canary.SNI,
        per_certificate_handshakes=True,
        active_calls=True,
        ticket_flush=True,
        close_connections=True,
    )

    def __init__(
        self, profile_name: str, profile: GenesysProfile, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.profile = profile_name
        self._settings = profile
        self._label = f"[platforms.{profile_name}]"
        self._http = Http(self._label, profile, transport=transport)
        self._tokens = Tokens(self._log_in)
        self._api = AuthorizedHttp(self._http, self._tokens)
        self._edge_ids: set[str] = set()

    async def _log_in(self) -> TokenAnswer:
        secret = self._settings.client_secret.read(f"platforms.{self.profile}.client_secret")
        url = url_of(self._settings.login_url, self._settings.paths.token)
        return await client_credentials(self._http, url, self._settings.client_id, secret)

    def physical_trunk(self, trunk: str) -> str:
        """`<host of the API>/<edgeId>/<sipTrunkId>`. Raises `PlanInvalid` for another notation."""
        edge_id, trunk_id = self._ids(trunk)
        return f"{httpx.URL(self._settings.base_url).netloc.decode()}/{edge_id}/{trunk_id}"

    async def check_access(self) -> tuple[str, ...]:
        """Logs in anew; returns which of the guide's four scopes the token lacks."""
        grant = await self._tokens.fresh()
        return tuple(scope for scope in REQUIRED_SCOPES if scope not in grant.scopes)

    async def configuration_problems(self, trunk: str) -> tuple[str, ...]:
        """Nothing: the vendor configures the edge."""
        return ()

    async def read_trunk(self, trunk: str, *, reachable_only: bool = False) -> TrunkState:
        """The trunk as it is, its pool by leaf SHA-256."""
        found = await self._trunk(trunk)
        return self._state(trunk, found, await self._store())

    async def trunks_presenting(self, sha256: str) -> tuple[str, ...]:
        """Trunks whose pool holds the certificate, on every edge of which this object has read a trunk before.

        The API lists trunks per edge, so edges that no plan has named are not seen.
        """
        listed = []
        for edge_id in sorted(self._edge_ids):
            response = await self._api.send(
                "GET", url_of(self._settings.base_url, self._settings.paths.trunks, edge_id=edge_id)
            )
            trunks = self._http.parse(response, wire.TrunkList)
            if len(trunks.entities) < trunks.total:
                raise self._http.unexpected(
                    response, "the list of trunks is not complete", f"{len(trunks.entities)} of {trunks.total}"
                )
            listed += [(f"{edge_id}/{trunk.id}", trunk) for trunk in trunks.entities]
        store = await self._store()
        return tuple(
            name for name, trunk in listed if any(store.sha256(bound) == sha256 for bound in trunk.certificate_ids)
        )

    async def find_certificate(self, sha256: str) -> PlatformCertificate | None:
        """The uploaded certificate with that leaf, whatever its name."""
        return (await self._store()).find(sha256)

    async def certificates(self) -> tuple[PlatformCertificate, ...]:
        """Every uploaded certificate whose leaf is shown."""
        return (await self._store()).certificates()

    async def upload(self, name: str, chain_pem: str, private_key: SecretStr) -> PlatformCertificate:
        """The guide's registration (section 2); nothing is sent when the leaf is there under any name."""

        async def register() -> str | None:
            response = await self._api.send(
                "PUT",
                url_of(self._settings.base_url, self._settings.paths.certificates),
                json={
                    "name": name,
                    "type": "TLS_SERVER",
                    "certificate": chain_pem,
                    "privateKey": private_key.get_secret_value(),
                    "passphrase": None,
                },
                accept={409},
            )
            return None if response.status_code == 409 else self._http.parse(response, wire.Created).id

        return await upload_once(
            name, chain_pem, where=self._label, store=self._store, register=register, stored=self._stored
        )

    async def update_trunk(self, trunk: str, change: TrunkChange) -> TrunkState:
        """The guide's trunk update (section 3): the whole object as read, with the difference and its `version`.

        Raises as the role says, and `CapabilityMissing` for a canary on a trunk whose `sipsUri` holds an address.
        """
        found = await self._trunk(trunk)
        store = await self._store()
        wanted = self._wanted(trunk, found, change, store)
        if wanted is not found or change.always:
            await self._api.send("PUT", self._trunk_url(self._settings.paths.trunk, trunk), json=wanted.body())
            found = await self._trunk(trunk)
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
        """The guide's health query (section 4), this trunk's part of it."""
        _, trunk_id = self._ids(trunk)
        response = await self._api.send("GET", self._trunk_url(self._settings.paths.health, trunk))
        read_at = datetime.now(UTC)
        health = self._http.parse(response, wire.Health)
        store = await self._store()
        validations = [v for v in health.tls_certificate_validation if v.sip_trunk_id == trunk_id]
        sessions = [s for s in health.active_sessions if s.sip_trunk_id == trunk_id]
        return EdgeHealth(
            listener_up=health.status == "ACTIVE" and health.tls_listener.status == "UP",
            certificates=tuple(
                CertificateHealth(sha256=sha256, valid=validation.valid, reason=validation.reason)
                for validation in validations
                if (sha256 := store.sha256(validation.certificate_id)) is not None
            ),
            active_calls=calls_by_leaf(
                f"{self._label} trunk {trunk}",
                [(s.certificate_id, store.sha256(s.certificate_id), s.count) for s in sessions],
            ),
            clock=health.timestamp,
            read_at=read_at,
        )

    async def reading(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        """The trunk's counts in [since, until). Raises `UnexpectedAnswer` for another window or sums that are wrong."""
        _, trunk_id = self._ids(endpoint.trunk)
        interval = f"{utc_text(since)}/{utc_text(until)}"
        response = await self._api.send(
            "GET", self._trunk_url(self._settings.paths.metrics, endpoint.trunk), params={"interval": interval}
        )
        metrics = self._http.parse(response, wire.Metrics)
        start, _, end = metrics.interval.partition("/")
        if metrics.sip_trunk_id != trunk_id or not same_moment(start, since) or not same_moment(end, until):
            raise self._http.unexpected(
                response,
                "the figures are not those that were asked for",
                f"trunk {metrics.sip_trunk_id}, interval {metrics.interval}; asked for {trunk_id}, {interval}",
            )
        store, where = await self._store(), f"{self._label} trunk {endpoint.trunk}"
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
                    sha256=store.sha256(counted.certificate_id),
                    direction=counted.direction,
                    peer=counted.peer_address,
                    handshakes=tally(
                        where,
                        counted.tls_handshakes.attempts,
                        counted.tls_handshakes.successes,
                        [(failure.code, failure.count) for failure in counted.tls_handshakes.failures],
                    ),
                    call_setups=tally(
                        where,
                        counted.call_setups.attempts,
                        counted.call_setups.successes,
                        [(str(failure.sip_status), failure.count) for failure in counted.call_setups.failures],
                    ),
                )
                for counted in metrics.entities
            ),
        )

    async def flush_tickets(self, trunk: str) -> None:
        """Flushes the trunk's ticket cache (guide edge case 2); flushing twice does no harm."""
        response = await self._api.send("POST", self._trunk_url(self._settings.paths.ticket_flush, trunk), json={})
        self._http.parse(response, wire.Flushed)

    async def close_connections(self, trunk: str, sha256: str) -> int:
        """Asks for an orderly close of every connection set up with that leaf, under each of its ids."""
        url = self._trunk_url(self._settings.paths.close_connections, trunk)
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

    def _ids(self, trunk: str) -> tuple[str, str]:
        match = _TRUNK.fullmatch(trunk)
        if match is None:
            raise PlanInvalid(
                "a Genesys trunk is written <edgeId>/<sipTrunkId>", where=self._label, seen=f"trunk = {trunk!r}"
            )
        return match[1], match[2]

    def _trunk_url(self, path: str, trunk: str) -> str:
        edge_id, trunk_id = self._ids(trunk)
        return url_of(self._settings.base_url, path, edge_id=edge_id, trunk_id=trunk_id)

    def _certificate_url(self, certificate_id: str) -> str:
        return url_of(self._settings.base_url, self._settings.paths.certificate, certificate_id=certificate_id)

    async def _trunk(self, trunk: str) -> wire.Trunk:
        response = await self._api.send("GET", self._trunk_url(self._settings.paths.trunk, trunk))
        found = self._http.parse(response, wire.Trunk)
        self._edge_ids.add(self._ids(trunk)[0])
        return found

    async def _stored(self, certificate_id: str) -> Stored:
        response = await self._api.send("GET", self._certificate_url(certificate_id))
        return self._http.parse(response, wire.Certificate).stored()

    async def _store(self) -> Store:
        """Every page of the store. Raises `UnexpectedAnswer` when pages are missing: an absence must be true."""
        url, entries, number = (
            url_of(self._settings.base_url, self._settings.paths.certificates),
            dict[str, Stored](),
            1,
        )
        while True:
            response = await self._api.send("GET", url, params={"pageSize": str(PAGE_SIZE), "pageNumber": str(number)})
            page = self._http.parse(response, wire.CertificatePage)
            entries.update({certificate.id: certificate.stored() for certificate in page.entities})
            if number >= page.page_count or not page.entities:
                break
            number += 1
        if len(entries) < page.total:
            raise self._http.unexpected(
                response, "the list of certificates is not complete", f"{len(entries)} of {page.total}"
            )
        return Store(self._label, entries.values())

    def _wanted(self, trunk: str, found: wire.Trunk, change: TrunkChange, store: Store) -> wire.Trunk:
        """The trunk with the change applied; `found` itself when there is nothing to do."""
        wanted: dict[str, object] = {}
        if change.pool is not None and store.pool(found.certificate_ids) != tuple(dict.fromkeys(change.pool)):
            wanted["certificate_ids"] = store.pool_ids(change.pool, found.certificate_ids)
        if change.canary == "" and found.tls_canary is not None:
            wanted["tls_canary"] = None
        elif change.canary:
            canary = self._canary(trunk, found, change.canary, store)
            if canary != found.tls_canary:
                wanted["tls_canary"] = canary
        if change.settings is not None:
            if change.settings.retransmission_timeout_s != found.retransmission_timeout_seconds:
                wanted["retransmission_timeout_seconds"] = change.settings.retransmission_timeout_s
            if change.settings.cipher_suites != found.tls_cipher_suites:
                wanted["tls_cipher_suites"] = change.settings.cipher_suites
        return found.model_copy(update=wanted) if wanted else found

    def _canary(self, trunk: str, found: wire.Trunk, sha256: str, store: Store) -> wire.TlsCanary:
        name, present = found.canary_name(), found.tls_canary
        if name is None:
            raise CapabilityMissing(
                "a canary by SNI needs a host name",
                where=f"{self._label} trunk {trunk}",
                seen=f"sipsUri {found.sips_uri}",
                action="use a trunk whose sipsUri holds a name, or another topology",
            )
        bound: Sequence[str] = [] if present is None else [present.certificate_id]
        certificate_id = store.pool_ids([sha256], [*bound, *found.certificate_ids])[0]
        if present is not None:
            return present.model_copy(update={"server_name": name, "certificate_id": certificate_id})
        return wire.TlsCanary(server_name=name, certificate_id=certificate_id)

    def _state(self, trunk: str, found: wire.Trunk, store: Store) -> TrunkState:
        canary = None if found.tls_canary is None else store.sha256(found.tls_canary.certificate_id)
        return TrunkState(
            trunk=trunk,
            name=found.name,
            enabled=found.enabled,
            pool=store.pool(found.certificate_ids),
            canary=canary,
            canary_path=(
                None
                if found.tls_canary is None or canary is None
                else CanaryPath(server_name=found.tls_canary.server_name)
            ),
            settings=TrunkSettings(
                retransmission_timeout_s=found.retransmission_timeout_seconds, cipher_suites=found.tls_cipher_suites
            ),
            mutual_tls=found.mutual_tls,
            version=found.version,
        )


def _differences(wanted: wire.Trunk, found: wire.Trunk) -> list[str]:
    """The fields that a rotation writes, where the trunk as read back is not as wanted."""
    pairs = {
        "certificateIds": (wanted.certificate_ids, found.certificate_ids),
        "tlsCanary": (_canary_text(wanted), _canary_text(found)),
        "retransmissionTimeoutSeconds": (wanted.retransmission_timeout_seconds, found.retransmission_timeout_seconds),
        "tlsCipherSuites": (wanted.tls_cipher_suites, found.tls_cipher_suites),
    }
    return [f"{field} {got}, written {sent}" for field, (sent, got) in pairs.items() if got != sent]


def _canary_text(trunk: wire.Trunk) -> str | None:
    canary = trunk.tls_canary
    return None if canary is None else f"{canary.certificate_id} for {canary.server_name}"
