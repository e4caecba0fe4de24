"""Genesys Cloud as an observer, by its published platform API: the cloud behind a customer's SBC (BYOC).

Reads `trunks/{id}`, `trunks/{id}/metrics` and `certificateauthorities` below `/api/v2/telephony/providers/edges`;
writes nothing. Permission `telephony:plugin:all`, OAuth scope `telephony:readonly` (docs/genesys-observer.md).
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from adapters.access_check import access_problems
from adapters.edges.oauth import AuthorizedHttp, TokenAnswer, Tokens, client_credentials
from adapters.http import Http, url_of
from adapters.observers import genesys_wire as wire
from domain.observed import ObservedTrunk
from settings import GenesysObserverProfile

TOKEN: Final = "/oauth/token"
EDGES: Final = "/api/v2/telephony/providers/edges"
TRUNK: Final = EDGES + "/trunks/{trunk_id}"
METRICS: Final = TRUNK + "/metrics"
AUTHORITIES: Final = EDGES + "/certificateauthorities"

MOST_PAGES: Final = 20
"""Pages of the trust store that are followed; the API's links could go in a circle."""


class GenesysObserver:
    """One Genesys Cloud organisation. Implements `adapters.observers.base.Observer`; trunks are the API's trunk ids."""

    def __init__(
        self, profile_name: str, profile: GenesysObserverProfile, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.profile = profile_name
        self._settings = profile
        self._http = Http(f"[observers.{profile_name}]", profile, transport=transport)
        self._tokens = Tokens(self._log_in)
        self._api = AuthorizedHttp(self._http, self._tokens)

    async def _log_in(self) -> TokenAnswer:
        secret = self._settings.client_secret.read(f"observers.{self.profile}.client_secret")
        url = url_of(self._settings.login_url, TOKEN)
        return await client_credentials(self._http, url, self._settings.client_id, secret)

    async def check_access(self, trunk: str) -> tuple[str, ...]:
        """Logs in anew and reads the trunk and its metrics; returns what is missing, in words."""
        return await access_problems(self._tokens.fresh, lambda: self.trunk(trunk))

    async def trunk(self, trunk: str) -> ObservedTrunk:
        """The trunk and its latest report. Raises `UnexpectedAnswer` for another trunk than the one asked for."""
        answer = await self._get(TRUNK, trunk)
        clock, found = _clock(answer), self._http.parse(answer, wire.Trunk)
        self._ensure_same(answer, trunk, found.id)
        answer = await self._get(METRICS, trunk)
        metrics = self._http.parse(answer, wire.Metrics)
        self._ensure_same(answer, trunk, metrics.trunk.id if metrics.trunk else trunk)
        return ObservedTrunk(
            trunk=trunk,
            name=found.name,
            out_of_service=found.out_of_service(),
            connected=found.connected_status.connected,
            connected_since=found.connected_status.connected_state_time,
            pings=found.pings(),
            inbound_calls=metrics.calls.inbound_call_count,
            outbound_calls=metrics.calls.outbound_call_count,
            heard_at=metrics.event_time,
            clock=clock,
        )

    async def trusted_roots(self, trunk: str) -> frozenset[str] | None:
        """The organisation's certificate authorities; None for a trunk of BYOC Cloud, which does not use them.

        Raises `UnexpectedAnswer` when the list is not complete: an absence must be true.
        """
        found = self._http.parse(await self._get(TRUNK, trunk), wire.Trunk)
        if found.byoc_cloud:
            return None
        url, ids, trusted = url_of(self._settings.base_url, AUTHORITIES), set[str](), frozenset[str]()
        for _ in range(MOST_PAGES):
            response = await self._api.send("GET", url)
            page = self._http.parse(response, wire.AuthorityPage)
            ids |= {authority.id for authority in page.entities}
            trusted = trusted.union(*(authority.sha256s() for authority in page.entities))
            if not page.next_uri or not page.next_uri.startswith(AUTHORITIES):
                break
            url = url_of(self._settings.base_url, "") + page.next_uri
        if page.total is not None and len(ids) < page.total:
            raise self._http.unexpected(
                response, "the list of certificate authorities is not complete", f"{len(ids)} of {page.total}"
            )
        return trusted

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.close()

    def _ensure_same(self, response: httpx.Response, asked: str, named: str) -> None:
        if named != asked:
            raise self._http.unexpected(response, "this is not the trunk that was asked for", f"trunk {named}")

    async def _get(self, path: str, trunk: str) -> httpx.Response:
        return await self._api.send("GET", url_of(self._settings.base_url, path, trunk_id=trunk))


def _clock(response: httpx.Response) -> datetime:
    """The API's own time (RFC 9110 section 6.6.1), in seconds; ours when it does not tell."""
    try:
        told = parsedate_to_datetime(response.headers.get("Date", ""))
    except ValueError:
        return datetime.now(UTC)
    return told if told.tzinfo is not None else told.replace(tzinfo=UTC)
