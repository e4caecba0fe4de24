"""What an endpoint's observer adds to PREFLIGHT and to the gates: the trunk as it is seen from its other side."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from adapters.registry import Adapters
from domain.certificates import facts_of, parse_chain
from domain.gates import Finding, Verdict
from domain.observed import connected_finding, trusted_finding
from domain.plan import Endpoint


class Observing:
    """The looks through the observer of one endpoint; none where the plan names no observer."""

    def __init__(self, adapters: Adapters, endpoint: Endpoint, clock: Callable[[], datetime]) -> None:
        self._adapters, self._endpoint, self._clock = adapters, endpoint, clock

    async def begin(self) -> list[Finding]:
        """Access; and that the trunk is well to begin with, so that what breaks later is ours. For PREFLIGHT."""
        named = self._endpoint.observer
        if named is None:
            return []
        missing = await self._adapters.observer(named.profile).check_access(named.trunk)
        access = Finding(
            check="observer",
            verdict=Verdict.FAIL if missing else Verdict.PASS,
            seen=f"missing: {', '.join(missing)}" if missing else f"{named.profile}: nothing is missing",
            endpoint=self._endpoint.name,
        )
        return [access] if missing else [access, *await self.connected(at_once=True)]

    async def connected(self, *, at_once: bool = False) -> list[Finding]:
        """Whether the trunk is connected and answers its pings; `at_once`: without patience for a flap."""
        named = self._endpoint.observer
        if named is None:
            return []
        seen = await self._adapters.observer(named.profile).trunk(named.trunk)
        return [connected_finding(self._endpoint, seen, now=self._clock(), at_once=at_once)]

    async def trust(self, ca: str) -> list[Finding]:
        """The roots to which ISSUE completes B's chain (`[pki.<ca>]`), against what the other side trusts."""
        named = self._endpoint.observer
        if named is None:
            return []
        anchors = parse_chain(await self._adapters.authority(ca).trust_anchors(), "the trust anchors")
        needed = {root.sha256: root.common_name or root.issuer for root in map(facts_of, anchors)}
        trusted = await self._adapters.observer(named.profile).trusted_roots(named.trunk)
        return [trusted_finding(self._endpoint, needed, trusted)]
