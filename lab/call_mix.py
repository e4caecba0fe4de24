"""What calls a carrier places: a fixed pattern, so that every run of the lab is loaded alike."""

from __future__ import annotations

from dataclasses import dataclass

from lab.dialogs import Side
from lab.ledger import Direction


@dataclass(frozen=True, slots=True)
class CallShape:
    """One call; `hold_s` is the time from answer to BYE in seconds."""

    direction: Direction
    hold_s: float
    reinvite: bool
    bye_from: Side
    new_connection: bool


@dataclass(frozen=True, slots=True)
class CallMix:
    """The proportions. Short calls last 0.3–1 s; a call of `long_s` seconds starts every `long_every_s`.

    Without `outbound` the calls that would be the platform's are the carrier's; without `callee_hangs_up` every BYE is
    the caller's.
    """

    long_s: float = 12.0
    long_every_s: float = 4.0
    outbound: bool = True
    callee_hangs_up: bool = True

    def shape(self, number: int, *, long: bool) -> CallShape:
        """The `number`-th call: 2 of 5 outbound, 1 of 6 on a shared connection, 1 of 4 with a re-INVITE."""
        return CallShape(
            direction="OUTBOUND" if self.outbound and number % 5 in (1, 3) else "INBOUND",
            hold_s=self.long_s if long else 0.3 + 0.1 * (number * 3 % 8),
            reinvite=long or number % 4 == 0,
            bye_from="callee" if self.callee_hangs_up and number % 3 == 0 else "caller",
            new_connection=number % 6 != 5,
        )


INBOUND_ONLY = CallMix(long_s=1.0, outbound=False)
"""A carrier that calls and is not called."""
