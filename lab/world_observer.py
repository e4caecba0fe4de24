"""The world's observer: Genesys Cloud as the one on the other side of the Genesys trunk, with pings of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lab.api_guard import RequestFaults, RequestLog
from lab.authorities import Authorities
from lab.byoc_pings import Pinger
from lab.byoc_trunk import ByocTrunk
from lab.edge import ADDRESS, Edge
from lab.genesys_public_api import GenesysPublicApi
from lab.genesys_public_wire import PERMISSION
from lab.lab_names import API_CLIENT, GENESYS_FQDN, OBSERVED_TRUNK, OBSERVER_ADDRESS
from lab.tls_contexts import Identity
from lab.tokens import ApiClient, Tokens

PING_INTERVAL_S = 0.5


@dataclass(frozen=True)
class Observer:
    """The trunk's other end, and the trust store by which it verifies what the trunk serves."""

    trunk: ByocTrunk
    authorities: Authorities
    tokens: Tokens
    pinger: Pinger
    root_pem: str = field(repr=False)

    def trusts_our_root(self, on: bool) -> None:
        """An operator takes the enterprise root out of the organisation's certificate authorities, or adds it."""
        for entry in self.authorities.all:
            self.authorities.remove(entry)
        if on:
            self.authorities.add("enterprise root", self.root_pem)

    def api(self, log: RequestLog, faults: RequestFaults) -> GenesysPublicApi:
        """The published API, to be served."""
        return GenesysPublicApi([self.trunk], self.authorities, self.tokens, log, faults)


def observer_of(
    nodes: Sequence[Edge], *, root_pem: str, secret: str, identity: Identity, calls: Callable[[], tuple[int, int]]
) -> Observer:
    """The observer of the trunk on these nodes. `identity` is what the cloud shows when the trunk demands one."""
    trunk = ByocTrunk(OBSERVED_TRUNK, "SBC", [f"{ADDRESS}:{node.primary_port}" for node in nodes])
    trunk.calls = calls
    authorities = Authorities()
    pinger = Pinger(
        trunk,
        fqdn=GENESYS_FQDN,
        trust=lambda: authorities.pem,
        source=OBSERVER_ADDRESS,
        identity=identity,
        interval_s=PING_INTERVAL_S,
    )
    tokens = Tokens([ApiClient(API_CLIENT, secret, (PERMISSION,))], 86400)
    observer = Observer(trunk, authorities, tokens, pinger, root_pem)
    observer.trusts_our_root(True)
    return observer
