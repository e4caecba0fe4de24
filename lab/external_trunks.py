"""Trunks whose edge is not the lab's: real servers that somebody starts beside it, called by the lab's carrier.

The lab gives them certificate A and a carrier with a health API; where they listen it is told once they do
(`POST /lab/external`), and only then its carrier begins to call them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.call_mix import CallMix
from lab.carrier import Carrier, CarrierTrunk, Resolve, Target
from lab.carrier_ca import CarrierCa
from lab.ledger import Direction
from lab.vault_setup import DOMAIN, IssuedCertificate

CALLERS_NAME = "sbc.callers.example"
"""Another peer of these trunks, for callers that are not the lab's; it is certified by the carrier's CA."""

_MIX = CallMix(long_s=3.0, outbound=False, callee_hangs_up=False)


@dataclass(frozen=True)
class ExternalTrunk:
    """One such trunk. With `mutual` the carrier shows its certificate, and demands the edge's when it is called."""

    name: str
    mutual: bool = False

    @property
    def fqdn(self) -> str:
        """Its SIP domain, which stands in certificate A."""
        return f"trunk.{self.name}.{DOMAIN}"

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The directions in which the edge presents its certificate."""
        return ("INBOUND", "OUTBOUND") if self.mutual else ("INBOUND",)

    def as_carrier_trunk(self) -> CarrierTrunk:
        """As the carrier has it: silent until it is told where to call."""
        return CarrierTrunk(self.name, self.fqdn, mutual=self.mutual, calls_per_s=0, mix=_MIX)

    @staticmethod
    def parsed(text: str) -> ExternalTrunk:
        """`name` or `name:mutual`. Raises ValueError."""
        name, _, role = text.partition(":")
        if not name.isalnum() or role not in ("", "mutual"):
            raise ValueError(f"{text!r} is neither NAME nor NAME:mutual")
        return ExternalTrunk(name.lower(), role == "mutual")


class ExternalTargets:
    """Where the external trunks' edges listen; every other trunk is left to `resolve`. Nodes take turns."""

    def __init__(self, trunks: Sequence[ExternalTrunk], resolve: Resolve) -> None:
        self._resolve = resolve
        self._targets: dict[str, list[Target]] = {trunk.name: [] for trunk in trunks}

    def set(self, trunk: str, targets: Sequence[Target]) -> None:
        """From now on calls go there."""
        self._targets[trunk] = list(targets)

    def known(self, trunk: str) -> bool:
        """The carrier was told where the trunk's edge listens."""
        return bool(self._targets[trunk])

    async def resolve(self, trunk: str) -> Sequence[Target]:
        """See `lab.carrier.Resolve`."""
        if trunk not in self._targets:
            return await self._resolve(trunk)
        targets = self._targets[trunk]
        self._targets[trunk] = targets[1:] + targets[:1]
        return targets


@dataclass
class ExternalTrunks:
    """The external trunks of a running lab, as its control API reaches them."""

    trunks: Sequence[ExternalTrunk]
    targets: ExternalTargets
    carrier: Carrier
    calls_per_s: float
    root_pem: str
    intermediate_a_pem: str

    def call(self, trunk: str, targets: Sequence[Target]) -> None:
        """The trunk's edge listens there: the carrier calls it from now on. Without targets it stops to call."""
        self.targets.set(trunk, targets)
        self.carrier.set_rate(trunk, self.calls_per_s if targets else 0)

    def distrust_b(self, trunk: str, on: bool) -> None:
        """The carrier trusts A's issuer alone on this trunk, so that it refuses B; or the root again."""
        self.carrier.set_trust(self.intermediate_a_pem if on else self.root_pem, on, trunk=trunk)

    def up(self, trunk: str) -> bool:
        """What the carrier's health API says of the trunk."""
        return self.targets.known(trunk)

    def facts(self) -> dict[str, object]:
        """What whoever starts the edges must know: names, and where calls for the carrier go."""
        return {
            trunk.name: {
                "fqdn": trunk.fqdn,
                "mutual": trunk.mutual,
                "carrier": list(self.carrier.outbound_target(trunk.name)),
                "carrier_name": self.carrier.name,
                "callers_name": CALLERS_NAME,
            }
            for trunk in self.trunks
        }


def external_files(a: IssuedCertificate, ca: CarrierCa) -> dict[str, str]:
    """What whoever starts the edges needs: A with its key, the carrier's CA, and another peer's identity."""
    callers = ca.issue(CALLERS_NAME)
    return {
        "certificate-a.pem": a.chain_pem,
        "certificate-a.key": a.key_pem,
        "carrier-ca.pem": ca.certificate_pem,
        "callers.pem": callers.certificate_pem,
        "callers.key": callers.key_pem,
    }
