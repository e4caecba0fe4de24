"""The carrier's SIP health endpoint over HTTP (guide section 4: "carrier SIP health endpoints")."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import httpx
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from adapters.access_check import access_problems
from adapters.edges.counting import DIRECTIONS, WireDirection, tally
from adapters.http import Http, url_of
from adapters.wire_time import same_moment, utc_text
from domain.handshakes import Reading, Reporter, Sample
from domain.plan import Endpoint
from settings import CarrierProfile

ACCESS_WINDOW = timedelta(seconds=60)
"""How far back the access check asks."""


class Answer(BaseModel):
    """camelCase on the wire; fields that we do not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class Counts(Answer):
    """Attempts and their outcomes, failures by TLS alert or SIP status."""

    attempts: int
    successes: int
    failures: dict[str, int]


class ShownCertificate(Answer):
    """Counts of one certificate that the carrier was shown; no leaf when it could not tell."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None
    direction: WireDirection
    handshakes: Counts
    call_setups: Counts


class TlsHealth(Answer):
    """The carrier's answer for one trunk and window (docs/platform-contract.md, "The carrier")."""

    trunk: str
    timestamp: AwareDatetime
    since: str
    until: str
    status: Literal["UP", "DOWN"]
    certificates: tuple[ShownCertificate, ...]


class HttpHealthCarrier:
    """One carrier. Implements `adapters.carriers.base.Carrier`."""

    def __init__(
        self, profile_name: str, profile: CarrierProfile, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.profile = profile_name
        self._settings = profile
        self._label = f"[carriers.{profile_name}]"
        self._http = Http(self._label, profile, transport=transport)

    async def check_access(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Asks for the trunk's last minute; returns what is missing, in words: access, the trunk, or its being up."""
        until = datetime.now(UTC)
        seen: list[TlsHealth] = []

        async def look() -> None:
            seen.append(await self._health(endpoint, until - ACCESS_WINDOW, until))

        problems = await access_problems(look)
        down = [
            f"the carrier reports trunk {health.trunk} as {health.status}" for health in seen if health.status != "UP"
        ]
        return (*problems, *down)

    async def reading(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        """The carrier's counts in [since, until). Raises `UnexpectedAnswer` for another trunk, window or wrong sums."""
        health, where = await self._health(endpoint, since, until), f"{self._label} trunk {endpoint.carrier_trunk}"
        return Reading(
            endpoint=endpoint.name,
            reporter=Reporter.CARRIER,
            since=since,
            until=until,
            read_at=health.timestamp,
            samples=tuple(
                Sample(
                    endpoint=endpoint.name,
                    reporter=Reporter.CARRIER,
                    direction=DIRECTIONS[shown.direction],
                    sha256=shown.sha256,
                    handshakes=tally(
                        where, shown.handshakes.attempts, shown.handshakes.successes, shown.handshakes.failures.items()
                    ),
                    call_setups=tally(
                        where,
                        shown.call_setups.attempts,
                        shown.call_setups.successes,
                        shown.call_setups.failures.items(),
                    ),
                )
                for shown in health.certificates
            ),
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.close()

    async def _health(self, endpoint: Endpoint, since: datetime, until: datetime) -> TlsHealth:
        token = self._settings.token.read(f"carriers.{self.profile}.token")
        response = await self._http.send(
            "GET",
            url_of(self._settings.base_url, self._settings.path, trunk=endpoint.carrier_trunk),
            params={"since": utc_text(since), "until": utc_text(until)},
            headers={"Accept": "application/json", "Authorization": f"Bearer {token.get_secret_value()}"},
        )
        health = self._http.parse(response, TlsHealth)
        window = same_moment(health.since, since) and same_moment(health.until, until)
        if health.trunk != endpoint.carrier_trunk or not window:
            raise self._http.unexpected(
                response,
                "the figures are not those that were asked for",
                f"trunk {health.trunk}, {health.since} to {health.until}; "
                f"asked for {endpoint.carrier_trunk}, {utc_text(since)} to {utc_text(until)}",
            )
        return health
