"""The cloud's end of a BYOC trunk, as Genesys Cloud keeps it: is it connected, and who answers its OPTIONS pings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from lab.wire_time import now

BYOC_PREMISES = "external_sip.json"
BYOC_CLOUD = "external_sip_pcv_byoc_carrier.json"
"""Metabases. On a trunk of BYOC Cloud the organisation's certificate authorities play no part."""


@dataclass(frozen=True)
class Ping:
    """What the last OPTIONS to one address came to, since when that has been so, and why it failed."""

    answered: bool
    since: datetime
    error: str | None = None


class ByocTrunk:
    """One trunk. `proxies` are the `host:port` of the SBC's nodes. Public fields may be changed while running."""

    def __init__(
        self,
        trunk_id: str,
        name: str,
        proxies: Iterable[str],
        *,
        metabase: str = BYOC_PREMISES,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self.id, self.name, self.metabase = trunk_id, name, metabase
        self.in_service = self.edge_in_service = True
        self.options_enabled = "ENABLED"
        self.calls: Callable[[], tuple[int, int]] = lambda: (0, 0)
        """Live calls that the cloud got from the SBC, and sent to it."""
        self._clock = clock
        self._pings = {proxy: Ping(True, clock()) for proxy in proxies}
        self._cut = False
        self._connected, self._connected_since = True, clock()
        self._frozen_at: datetime | None = None

    @property
    def proxies(self) -> tuple[str, ...]:
        """The addresses that are pinged."""
        return tuple(self._pings)

    @property
    def pings(self) -> dict[str, Ping]:
        """The last ping to each address."""
        return dict(self._pings)

    @property
    def connected(self) -> tuple[bool, datetime]:
        """Whether the trunk is connected, and since when that has been so."""
        return self._connected, self._connected_since

    @property
    def reported_at(self) -> datetime:
        """When the trunk's edge last reported to the API."""
        return self._frozen_at or self._clock()

    def ping(self, proxy: str, error: str | None) -> None:
        """A ping was answered, or not, and why; without a single answer the trunk is disconnected."""
        before = self._pings[proxy]
        answered = error is None
        since = before.since if answered == before.answered else self._clock()
        self._pings[proxy] = Ping(answered, since, error)
        self._reconsider()

    def cut(self, on: bool) -> None:
        """Disconnected, whatever its pings say; or not any more."""
        self._cut = on
        self._reconsider()

    def freeze(self, on: bool) -> None:
        """The trunk's edge has lost its own way to the cloud: nothing new is heard from it."""
        self._frozen_at = self._clock() if on else None

    def _reconsider(self) -> None:
        connected = not self._cut and any(ping.answered for ping in self._pings.values())
        if connected != self._connected:
            self._connected, self._connected_since = connected, self._clock()
