"""The faults that each have one cause: what they do to the edges, the carrier, the PKI and the zone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any

from cryptography import x509

from lab.carrier import Carrier
from lab.carrier_view import Views
from lab.dns_zone import Zone
from lab.edge import ADDRESS, Edge
from lab.edge_flaws import EdgeFlaws
from lab.faults import Faults
from lab.lab_names import CXONE, CXONE_TARGET_B
from lab.pki_desk import PkiDesk
from lab.trunk import Trunk
from lab.world_dns import TTL_S

BEHIND = timedelta(hours=-25)
"""B's notBefore lies 24 h 10 min back, A's two months."""
AHEAD = timedelta(days=120)
"""B lives for 90 days, A for another 30."""

_TLS12_AES128 = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256"
_TLS12_AES256 = "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384"


@dataclass
class Causes:
    """The parts on which the faults act."""

    faults: Faults
    carrier: Carrier
    trunks: Mapping[str, Trunk]
    edges: Sequence[Edge]
    zone: Zone
    pki: PkiDesk
    _views: Views = field(default_factory=Views)
    _flaws: dict[str, EdgeFlaws] = field(default_factory=dict)

    def connect(self) -> None:
        """Registers every fault."""
        self._register("b-without-intermediate", flaws=EdgeFlaws(leaf_alone=True))
        self._register("carrier-expects-other-name", view=lambda b: {"other_name_on": b, "shown_on": self._shown_on})
        self._register(
            "cipher-mismatch-on-b",
            view=lambda _: {"tls12_suites": _TLS12_AES128},
            flaws=EdgeFlaws(tls12_suites=_TLS12_AES256),
        )
        self._register(
            "protocol-mismatch-on-b",
            view=lambda _: {"tls12_suites": f"{_TLS12_AES128}:{_TLS12_AES256}"},
            flaws=EdgeFlaws(tls13_only=True),
        )
        self._register("carrier-clock-behind", view=lambda _: {"clock_ahead": BEHIND}, skew=BEHIND)
        self._register("carrier-clock-ahead", view=lambda _: {"clock_ahead": AHEAD}, skew=AHEAD)
        self._register("b-revoked", view=self._revoked)
        self._register("staple-missing", view=lambda seen_b: {"staple_on": seen_b})
        self._register(
            "staple-stale", view=lambda seen_b: {"staple_on": seen_b}, flaws=EdgeFlaws(staple=self.pki.stale_staple)
        )
        self._register(
            "resumption-breaks-on-b", view=lambda seen_b: {"resumes_on": seen_b}, flaws=EdgeFlaws(session_context=False)
        )
        self.faults.effect("dns-gone-for-b", lambda on, seen_b: self._address(not on))
        port = _SecondaryPort(self.trunks[CXONE])
        self.faults.effect("tcp-refused-for-b", port.refuse)
        self.trunks[CXONE].observe(port.follow)

    def _register(
        self,
        name: str,
        *,
        view: Callable[[frozenset[str]], Mapping[str, Any]] | None = None,
        flaws: EdgeFlaws | None = None,
        skew: timedelta | None = None,
    ) -> None:
        def effect(on: bool, seen_b: frozenset[str]) -> None:
            if flaws is not None:
                self._spoil(name, on, flaws, seen_b)
            if view is not None:
                self.carrier.set_view(self._views.set(name, on, **(view(seen_b) if on else {})))
            if skew is not None:
                for trunk in self.trunks:
                    self.carrier.ledger(trunk).skew = skew if on else timedelta(0)

        self.faults.effect(name, effect)

    def _spoil(self, name: str, on: bool, flaws: EdgeFlaws, leaves: frozenset[str]) -> None:
        """All flaws that are on, together, strike the same leaves: every B."""
        self._flaws.pop(name, None)
        if on:
            self._flaws[name] = flaws
        usual = EdgeFlaws()
        unusual = {
            one.name: value
            for flaw in self._flaws.values()
            for one in fields(flaw)
            if (value := getattr(flaw, one.name)) != getattr(usual, one.name)
        }
        together = EdgeFlaws(**{**unusual, "leaves": leaves}) if unusual else usual
        for edge in self.edges:
            edge.set_flaws(together)

    def _revoked(self, seen_b: frozenset[str]) -> Mapping[str, Any]:
        for leaf in self._leaves(seen_b):
            self.pki.revoke(leaf)
        return {"crls": self.pki.crls()}

    def _leaves(self, wanted: Iterable[str]) -> list[x509.Certificate]:
        bound = {one.sha256: one.chain.leaf for trunk in self.trunks.values() for one in trunk.pool}
        return [bound[sha256] for sha256 in wanted if sha256 in bound]

    def _shown_on(self, port: int) -> str | None:
        return next(filter(None, (edge.leaf_on(port) for edge in self.edges)), None)

    def _address(self, there: bool) -> None:
        if there:
            self.zone.put(CXONE_TARGET_B, TTL_S, "A", ADDRESS)
        else:
            self.zone.remove(CXONE_TARGET_B, "A")


class _SecondaryPort:
    """The second port of a trunk, which refuses connections as long as it would serve one of some leaves."""

    def __init__(self, trunk: Trunk) -> None:
        self._trunk = trunk
        self._refused: frozenset[str] = frozenset()
        self._open = True
        self._changing: set[asyncio.Task[None]] = set()

    def refuse(self, on: bool, leaves: frozenset[str]) -> None:
        """The fault was switched, or there is another B."""
        self._refused = leaves if on else frozenset()
        self.follow(self._trunk)

    def follow(self, trunk: Trunk) -> None:
        """The pool may have changed."""
        is_open = not any(one.sha256 in self._refused for one in trunk.pool)
        if is_open != self._open:
            self._open = is_open
            task = asyncio.ensure_future(trunk.edge.set_listening(is_open, only="secondary"))
            self._changing.add(task)
            task.add_done_callback(self._changing.discard)
