"""Named faults: what goes wrong in the lab when somebody arms it.

They come on only after BIND, that is, once a trunk's pool has held a second certificate: B. They then stay on
until they are disarmed, whatever becomes of B. What a fault does to edges and carrier is registered as its
effect; what it does to the APIs is asked here, request by request.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

API_429_S = 10.0
API_500_S = 6.0

FAULTS = {
    "carrier-distrusts-b": "the carrier trusts intermediate A only, so that it refuses B (unknown_ca)",
    "b-refused-by-share": "the carrier refuses a quarter of the handshakes on B",
    "invites-403": "handshakes on B succeed, but every INVITE on B is answered 403, in both directions",
    "api-429": f"three of four platform API requests get 429 with Retry-After: 1, for {API_429_S:.0f} s",
    "api-500": f"every platform API request gets 500, for {API_500_S:.0f} s",
    "health-invalid": "both platforms' health reports B as invalid",
    "metrics-empty": "both platforms' metrics have no entities: nothing is said, which is not zero",
    "refuse-removal": "a change that takes A out of a pool and leaves B there gets 500",
    "carrier-health-down": "the carrier's health endpoint answers 503",
    "b-without-intermediate": "the edges serve B's leaf without its intermediate",
    "carrier-expects-other-name": "the carrier finds another name on B than it expects: an alert inbound, 403 outbound",
    "cipher-mismatch-on-b": "with B the edges offer TLS 1.2 suites that the carrier, which speaks 1.2 alone, lacks",
    "protocol-mismatch-on-b": "with B the edges speak TLS 1.3 alone, and the carrier TLS 1.2 alone",
    "carrier-clock-behind": "the carrier's clock is 25 hours behind, so that B is not yet valid there",
    "carrier-clock-ahead": "the carrier's clock is 120 days ahead, so that B has expired there, and A as well",
    "b-revoked": "somebody revokes B in the PKI, and the carrier reads its CRL",
    "staple-missing": "the carrier demands an OCSP staple on B, and the edges staple none",
    "staple-stale": "the edges staple an OCSP response on B that is over its time, and the carrier refuses it",
    "resumption-breaks-on-b": "the carrier resumes sessions in which B was shown, and that fails (mutual TLS only)",
    "dns-gone-for-b": "the name of B's target on the CXone trunk has no address any more",
    "tcp-refused-for-b": "the port on which the CXone trunk serves B refuses connections as long as B is bound",
}
"""Every fault's name and what it does, once it is armed and B is bound."""

Effect = Callable[[bool, frozenset[str]], None]
"""Called with (on, fingerprints of every B so far) whenever either changes."""


@dataclass
class _Armed:
    active_since: float | None = None


class Faults:
    """The switches. `certificate_a` is A's SHA-256; `clock` gives seconds."""

    def __init__(
        self, certificate_a: str, armed: Iterable[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises KeyError for a name that is not in `FAULTS`."""
        self._a = certificate_a
        self._clock = clock
        self._armed: dict[str, _Armed] = {}
        self._seen_b: frozenset[str] = frozenset()
        self._bound = False
        self._effects: dict[str, Effect] = {}
        self._requests: Counter[str] = Counter()
        for name in armed:
            self.switch(name, on=True)

    def effect(self, name: str, effect: Effect) -> None:
        """What `name` does outside the APIs; called at once if it is on already."""
        self._effects[name] = effect
        if self.active(name):
            effect(True, self._seen_b)

    def switch(self, name: str, *, on: bool) -> None:
        """Arm or disarm. Raises KeyError for an unknown name."""
        if name not in FAULTS:
            raise KeyError(name)
        was_active = self.active(name)
        if not on:
            self._armed.pop(name, None)
            if was_active and name in self._effects:
                self._effects[name](False, self._seen_b)
        elif name not in self._armed:
            self._armed[name] = _Armed()
            self._wake(name)

    def pool_changed(self, pool: Iterable[str]) -> None:
        """A trunk's pool holds these fingerprints now: whatever is not A is B, and B's arrival is BIND."""
        others = frozenset(pool) - {self._a}
        self._bound = bool(others)
        seen_b = self._seen_b | others
        if seen_b == self._seen_b:
            return
        self._seen_b = seen_b
        for name in list(self._armed):
            self._wake(name)

    @property
    def armed(self) -> dict[str, bool]:
        """Every armed fault, and whether it is on yet."""
        return {name: self.active(name) for name in self._armed}

    def active(self, name: str) -> bool:
        """Armed, and B has been bound."""
        armed = self._armed.get(name)
        return armed is not None and armed.active_since is not None

    def _wake(self, name: str) -> None:
        """Comes on when a B is bound now; one that an earlier rotation took back does not count."""
        if not self._bound:
            return
        armed = self._armed[name]
        if armed.active_since is None:
            armed.active_since = self._clock()
        if name in self._effects:
            self._effects[name](True, self._seen_b)

    # What the APIs ask

    def request_fault(self, service: str) -> int | None:
        """429 or 500 when this request to a platform is to be refused with it, otherwise None."""
        if self._active_for("api-500", API_500_S):
            return 500
        if self._active_for("api-429", API_429_S):
            self._requests[service] += 1
            return None if self._requests[service] % 4 == 0 else 429
        return None

    def reports_invalid(self, sha256: str) -> bool:
        """Whether a platform's health reports this certificate as invalid although it is not."""
        return self.active("health-invalid") and sha256 in self._seen_b

    def metrics_empty(self) -> bool:
        """Whether the platforms' metrics have nothing to say."""
        return self.active("metrics-empty")

    def refuses_change(self, before: frozenset[str], after: frozenset[str]) -> bool:
        """Whether a change of a pool (fingerprints before and after) fails: it would leave B without A."""
        takes_a_out = self._a in before and self._a not in after
        return self.active("refuse-removal") and takes_a_out and bool(after & self._seen_b)

    def carrier_health_down(self) -> bool:
        """Whether the carrier's health endpoint is down."""
        return self.active("carrier-health-down")

    def _active_for(self, name: str, seconds: float) -> bool:
        armed = self._armed.get(name)
        since = armed.active_since if armed else None
        return since is not None and self._clock() - since < seconds
