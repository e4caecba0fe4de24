"""The parts of a running lab, as the control API and the tests reach them."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import timedelta

from lab.api_guard import RequestLog
from lab.carrier import Carrier
from lab.carrier_api import CarrierApi
from lab.dns_zone import Zone
from lab.external_trunks import ExternalTrunks
from lab.faults import Faults
from lab.ntp_server import NtpServer
from lab.promise import PromiseCheck
from lab.tokens import Tokens
from lab.trunk import Trunk
from lab.world_observer import Observer

_DRAIN_S = 10.0
_LOOK_AGAIN_S = 0.02


@dataclass
class World:
    """Everything that runs. `trunks` and `tokens` go by the names of `lab_names`; `facts` is what `lab.json` says."""

    certificate_a: str
    trunks: dict[str, Trunk]
    tokens: dict[str, Tokens]
    zone: Zone
    carrier: Carrier
    dormant: Carrier | None
    carrier_api: CarrierApi
    faults: Faults
    promise: PromiseCheck
    log: RequestLog
    external: ExternalTrunks
    ntp: NtpServer
    observer: Observer | None = None
    facts: dict[str, object] = field(default_factory=dict)

    def peers(self, trunk: str) -> list[str]:
        """The addresses of all carriers that know a trunk."""
        return [one.address for one in (self.carrier, self.dormant) if one is not None and trunk in one.stats()]

    def set_persistent(self, trunk: str, on: bool) -> None:
        """All calls of a trunk share one connection in each direction, which never ages out."""
        self.carrier.set_persistent(trunk, on)
        self.trunks[trunk].set_persistent(on)

    def set_skew(self, service: str, skew: timedelta) -> None:
        """How far a platform's, or the `carrier`'s, clock is ahead of the true one."""
        for name, trunk in self.trunks.items():
            if service == "carrier":
                self.carrier.ledger(name).skew = skew
            elif service == name:
                trunk.ledger.skew = skew

    async def settle(self) -> bool:
        """Place no more calls, and end the active ones with a BYE.

        True when no call is active any more: then placed = completed + lost on every trunk, for good.
        """
        for carrier in filter(None, (self.carrier, self.dormant)):
            carrier.stop_placing()
            await carrier.drain(_DRAIN_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while self._calls_active():
                    await asyncio.sleep(_LOOK_AGAIN_S)
        return not self._calls_active()

    def _calls_active(self) -> bool:
        return any(stats.active for stats in self.carrier.stats().values())
