"""Platform figures as samples: zero failures dropped, our own probes marked, sums checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from domain.errors import UnexpectedAnswer
from domain.handshakes import Reporter, Sample, Tally
from domain.plan import Direction, Endpoint

WireDirection = Literal["INBOUND", "OUTBOUND"]
"""How both platforms and the carrier write a direction, seen from the platform."""

DIRECTIONS: Mapping[str, Direction] = {"INBOUND": Direction.INBOUND, "OUTBOUND": Direction.OUTBOUND}


def tally(where: str, attempts: int, successes: int, failures: Iterable[tuple[str, int]]) -> Tally:
    """Attempts and outcomes. Raises `UnexpectedAnswer` when they do not add up: such figures prove nothing."""
    causes: dict[str, int] = {}
    for cause, count in failures:
        causes[cause] = causes.get(cause, 0) + count
    if min(attempts, successes, *causes.values()) < 0 or attempts != successes + sum(causes.values()):
        raise UnexpectedAnswer(
            "figures do not add up",
            where=where,
            seen=f"{attempts} attempts, {successes} successes, failures {causes}",
            action="figures that contradict themselves are not used; ask whoever counts them",
        )
    return Tally(
        attempts=attempts, successes=successes, failures={cause: count for cause, count in causes.items() if count}
    )


def platform_sample(
    endpoint: Endpoint,
    *,
    sha256: str | None,
    direction: WireDirection,
    peer: str | None,
    handshakes: Tally,
    call_setups: Tally,
) -> Sample:
    """One entry of a platform's metrics; synthetic when the peer is one of the endpoint's probe addresses."""
    return Sample(
        endpoint=endpoint.name,
        reporter=Reporter.PLATFORM,
        direction=DIRECTIONS[direction],
        sha256=sha256,
        peer=peer,
        synthetic=peer is not None and peer in endpoint.probe_addresses,
        handshakes=handshakes,
        call_setups=call_setups,
    )


def calls_by_leaf(where: str, counted: Iterable[tuple[str, str | None, int]]) -> dict[str, int]:
    """Live calls per leaf from (platform id, leaf, count).

    Raises `UnexpectedAnswer` when calls live on an id without a known leaf: they could be A's, and are never dropped.
    """
    calls: dict[str, int] = {}
    for certificate_id, sha256, count in counted:
        if sha256 is not None:
            calls[sha256] = calls.get(sha256, 0) + count
        elif count:
            raise UnexpectedAnswer(
                "calls are active on a certificate that the platform's store does not show",
                where=where,
                seen=f"{count} on {certificate_id}",
                action="find out which certificate that was before anything is removed or revoked",
            )
    return calls


def one_each(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """One sample for each certificate, direction and peer, summed up, in the order in which they first come.

    Several entries may stand for one: a leaf under two ids, or certificates that the platform does not hold any more.
    """
    found: dict[tuple[str | None, Direction, str | None], Sample] = {}
    for sample in samples:
        key = (sample.sha256, sample.direction, sample.peer)
        before = found.get(key)
        found[key] = (
            sample
            if before is None
            else before.model_copy(
                update={
                    "handshakes": before.handshakes + sample.handshakes,
                    "call_setups": before.call_setups + sample.call_setups,
                }
            )
        )
    return tuple(found.values())
