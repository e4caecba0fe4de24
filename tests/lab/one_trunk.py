"""One edge and one carrier on loopback, with a small PKI: the stage of the tests about handshakes and calls."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lab.call_mix import CallMix, CallShape
from lab.calls import CallResult
from lab.carrier import Carrier, CarrierTrunk
from lab.edge import Edge
from lab.ledger import Counts, Direction, Group, Ledger
from tests.lab.small_ca import Authority

FQDN = "trunk.example.com"
CANARY = "canary.trunk.example.com"
SBC = "sbc.carrier.example"
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
FOREVER = datetime(2100, 1, 1, tzinfo=UTC)

INBOUND = CallShape("INBOUND", hold_s=0.01, reinvite=False, bye_from="caller", new_connection=True)
OUTBOUND = CallShape("OUTBOUND", hold_s=0.01, reinvite=False, bye_from="caller", new_connection=True)


async def until(condition: Callable[[], bool], deadline_s: float = 5.0) -> None:
    """Waits for a condition; fails the test when it does not come true in time."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 -- what other tasks do sets no event
            await asyncio.sleep(0.005)


def counted(ledger: Ledger) -> Mapping[Group, Counts]:
    return ledger.counts(EPOCH, FOREVER)


def handshakes(ledger: Ledger, direction: Direction, leaf: str | None) -> tuple[int, dict[str, int]]:
    """Successes and failures by cause, over all peers."""
    successes, failures = 0, dict[str, int]()
    for group, counts in counted(ledger).items():
        if group.direction == direction and group.sha256 == leaf:
            successes += counts.handshakes.successes
            for cause, count in counts.handshakes.failures.items():
                failures[cause] = failures.get(cause, 0) + count
    return successes, failures


def call_setups(ledger: Ledger, direction: Direction, leaf: str | None) -> tuple[int, dict[int, int]]:
    successes, failures = 0, dict[int, int]()
    for group, counts in counted(ledger).items():
        if group.direction == direction and group.sha256 == leaf:
            successes += counts.call_setups.successes
            for status, count in counts.call_setups.failures.items():
                failures[status] = failures.get(status, 0) + count
    return successes, failures


@dataclass
class Pki:
    root: Authority = field(default_factory=lambda: Authority("root"))

    def __post_init__(self) -> None:
        self.intermediate_a = Authority("intermediate A", self.root)
        self.intermediate_b = Authority("intermediate B", self.root)
        self.a = self.intermediate_a.issue(FQDN)
        self.b = self.intermediate_b.issue(FQDN)
        self.sbc = self.intermediate_a.identity(SBC)


@dataclass
class Trunk:
    """One edge and the carrier that serves it."""

    pki: Pki
    edge: Edge
    carrier: Carrier
    targets: list[tuple[str, int]]

    async def call(self, shape: CallShape) -> CallResult:
        return await self.carrier.place_call("pstn", shape)

    @property
    def carrier_ledger(self) -> Ledger:
        return self.carrier.ledger("pstn")


@contextlib.asynccontextmanager
async def running(
    pki: Pki,
    *,
    mutual: bool,
    calls_per_s: float = 5.0,
    mix: CallMix | None = None,
    placing: bool = False,
    allowed_names: frozenset[str] = frozenset(),
) -> AsyncIterator[Trunk]:
    edge = Edge("pstn", FQDN, mutual=mutual, peer_trust_pem=pki.root.pem, ledger=Ledger(), ports=(0, 0))
    edge.serve([pki.a])
    await edge.start()
    targets = [("127.0.0.1", edge.primary_port)]

    async def resolve(trunk: str) -> list[tuple[str, int]]:
        assert trunk == "pstn"
        return targets

    settings = CarrierTrunk(
        "pstn",
        FQDN,
        mutual=mutual,
        place_outbound=edge.place_call,
        calls_per_s=calls_per_s,
        mix=mix or CallMix(),
        allowed_names=allowed_names,
    )
    carrier = Carrier(pki.sbc, name=SBC, trust_pem=pki.root.pem, trunks=[settings], resolve=resolve)
    await carrier.start(placing=placing)
    try:
        yield Trunk(pki, edge, carrier, targets)
    finally:
        started = time.monotonic()
        await carrier.stop()
        await edge.stop()
        assert time.monotonic() - started < 2
