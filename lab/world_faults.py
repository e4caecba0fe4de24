"""What the faults do to edges and carrier, and what the carrier therefore trusts."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509

from lab.carrier import Carrier
from lab.edge import Edge
from lab.faults import Faults

REFUSED_SHARE = 0.25


class CarrierAnchors:
    """The carrier's trust anchors, changed together with the record of what they are."""

    def __init__(self, carrier: Carrier, root_pem: str, intermediate_a_pem: str) -> None:
        self._carrier = carrier
        self._root_pem, self._intermediate_a_pem = root_pem, intermediate_a_pem
        self._current = _parsed(root_pem)

    def current(self) -> Sequence[x509.Certificate]:
        """What a platform's chain must lead to now."""
        return self._current

    def distrust_b(self, on: bool) -> None:
        """Trust intermediate A alone (a partial chain), or the root again."""
        pem = self._intermediate_a_pem if on else self._root_pem
        self._carrier.set_trust(pem, on)
        self._current = _parsed(pem)


def connect_faults(
    faults: Faults,
    *,
    carrier: Carrier,
    anchors: CarrierAnchors,
    edges: Sequence[Edge],
    leaf_a_pem: str,
) -> None:
    """Register every fault that acts on edges or carrier. `leaf_a_pem` is what a refused share spares."""

    def refuse_share(on: bool, seen_b: frozenset[str]) -> None:
        for edge in edges:
            carrier.refuse_share(edge.name, REFUSED_SHARE if on else 0.0, spared_pem=leaf_a_pem)

    def reject_invites(on: bool, seen_b: frozenset[str]) -> None:
        callees: list[Carrier | Edge] = [carrier, *edges]
        for callee in callees:
            callee.reject_invites_on = set(seen_b) if on else set()

    faults.effect("carrier-distrusts-b", lambda on, seen_b: anchors.distrust_b(on))
    faults.effect("b-refused-by-share", refuse_share)
    faults.effect("invites-403", reject_invites)


def _parsed(pem: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem.encode())
