"""The parts of a running lab, as the control API and the tests reach them."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from lab.api_guard import RequestLog
from lab.carrier import Carrier
from lab.carrier_api import CarrierApi
from lab.dns_zone import Zone
from lab.faults import Faults
from lab.promise import PromiseCheck
from lab.tokens import Tokens
from lab.trunk import Trunk

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
    carrier_api: CarrierApi
    faults: Faults
    promise: PromiseCheck
    log: RequestLog
    facts: dict[str, object] = field(default_factory=dict)

    async def settle(self) -> bool:
        """Place no more calls, and end the active ones with a BYE.

        True when no call is active any more: then placed = completed + lost on every trunk, for good.
        """
        self.carrier.stop_placing()
        await self.carrier.drain(_DRAIN_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while self._calls_active():
                    await asyncio.sleep(_LOOK_AGAIN_S)
        return not self._calls_active()

    def _calls_active(self) -> bool:
        return any(stats.active for stats in self.carrier.stats().values())
