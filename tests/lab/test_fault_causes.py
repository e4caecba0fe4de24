"""Each fault that has one cause: the alert, the status or the silence that really comes of it, on both sides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import pytest
import pytest_asyncio

from lab.bao import Bao
from lab.lab_names import CXONE, GENESYS, SRV_NAMES
from lab.ledger import Direction
from lab.resolver import NameNotFound, Resolver
from tests.lab.lab_with_b import LabWithB, lab_for_faults
from tests.lab.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENOUGH = 3
"""Failures that have to be counted."""


class Seen(NamedTuple):
    """What a side counts as failed: on which leaf (A, B, or none shown), and as what."""

    trunk: str
    side: str
    direction: Direction
    leaf: str
    cause: str


def on_both(trunk: str, direction: Direction, cause: str, platform: str = "B", carrier: str = "B") -> list[Seen]:
    return [Seen(trunk, "platform", direction, platform, cause), Seen(trunk, "carrier", direction, carrier, cause)]


def everywhere(cause: str) -> list[Seen]:
    """On both trunks, in each direction in which our certificate is shown."""
    return [
        *on_both(GENESYS, "INBOUND", cause),
        *on_both(GENESYS, "OUTBOUND", cause),
        *on_both(CXONE, "INBOUND", cause),
    ]


REFUSED_NAME = [
    *on_both(GENESYS, "INBOUND", "bad_certificate"),
    *on_both(GENESYS, "OUTBOUND", "403"),
    *on_both(CXONE, "INBOUND", "bad_certificate"),
]
STAPLE = [seen for trunk in (GENESYS, CXONE) for seen in on_both(trunk, "INBOUND", "bad_certificate_status_response")]
CIPHER = [
    *on_both(GENESYS, "INBOUND", "handshake_failure", carrier="none"),
    *on_both(GENESYS, "OUTBOUND", "handshake_failure", carrier="none"),
    *on_both(CXONE, "INBOUND", "handshake_failure", carrier="none"),
]
PROTOCOL = [
    *on_both(GENESYS, "INBOUND", "protocol_version", platform="none", carrier="none"),
    *on_both(GENESYS, "OUTBOUND", "protocol_version", carrier="none"),
    *on_both(CXONE, "INBOUND", "protocol_version", platform="none", carrier="none"),
]

COUNTED = {
    "carrier-distrusts-b": everywhere("unknown_ca"),
    "b-without-intermediate": everywhere("unknown_ca"),
    "carrier-expects-other-name": REFUSED_NAME,
    "cipher-mismatch-on-b": CIPHER,
    "protocol-mismatch-on-b": PROTOCOL,
    "carrier-clock-behind": everywhere("bad_certificate"),
    "carrier-clock-ahead": everywhere("certificate_expired"),
    "b-revoked": everywhere("certificate_revoked"),
    "staple-missing": STAPLE,
    "staple-stale": STAPLE,
    "resumption-breaks-on-b": on_both(GENESYS, "INBOUND", "internal_error", carrier="none"),
    "invites-403": [*on_both(GENESYS, "INBOUND", "403"), *on_both(GENESYS, "OUTBOUND", "403")],
}


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    with Bao(tmp_path_factory.mktemp("bao")) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory, bao: Bao) -> AsyncIterator[LabWithB]:
    async with lab_for_faults(tmp_path_factory.mktemp("lab") / "faults", bao) as running:
        yield running


@pytest.mark.parametrize("fault", COUNTED)
async def test_a_fault_is_counted_as_what_really_ended_the_handshake_or_the_call(lab: LabWithB, fault: str) -> None:
    wanted = COUNTED[fault]
    async with lab.fault(fault):
        leaves = {"A": lab.sha256_a, "B": lab.sha256_b, "none": None}

        async def counted() -> bool:
            found = [lab.failures(s.trunk, s.side, s.direction, leaves[s.leaf]).get(s.cause, 0) for s in wanted]
            return min(found) >= ENOUGH

        await until(counted)
        causes = {
            cause
            for trunk in (GENESYS, CXONE)
            for side in ("platform", "carrier")
            for direction in ("INBOUND", "OUTBOUND")
            for leaf in leaves.values()
            for cause in lab.failures(trunk, side, direction, leaf)  # type: ignore[arg-type]
        }
    assert causes == {seen.cause for seen in wanted}
    await calls_go_well_again(lab)


async def test_a_clock_that_is_ahead_refuses_a_as_well(lab: LabWithB) -> None:
    async with lab.fault("carrier-clock-ahead", prefer_b=False):

        async def on_a() -> bool:
            seen = [
                lab.failures(trunk, side, "INBOUND", lab.sha256_a).get("certificate_expired", 0)
                for trunk in (GENESYS, CXONE)
                for side in ("platform", "carrier")
            ]
            return min(seen) >= ENOUGH

        await until(on_a)


async def test_only_resumed_sessions_break_and_fresh_handshakes_on_b_go_on(lab: LabWithB) -> None:
    async with lab.fault("resumption-breaks-on-b"):

        async def both() -> bool:
            failed = lab.failures(GENESYS, "platform", "INBOUND", lab.sha256_b).get("internal_error", 0)
            fine = lab.successes(GENESYS, "platform", "INBOUND", lab.sha256_b)
            return failed >= ENOUGH and fine >= ENOUGH and lab.successes(CXONE, "carrier", "INBOUND", lab.sha256_b) > 0

        await until(both)
        assert lab.losses(GENESYS) == {"tls internal_error"}
        assert lab.losses(CXONE) == set()


async def test_a_target_without_an_address_is_passed_over_for_the_next_one(lab: LabWithB) -> None:
    async with lab.fault("dns-gone-for-b"):
        resolver = resolver_of(lab)
        first_port = lab.lab.facts["trunks"][CXONE]["primary_port"]
        assert await resolver.resolve(CXONE) == [("127.0.0.1", first_port)]
        with pytest.raises(NameNotFound):
            await resolver.resolve("nobody")
        since = lab.successes(CXONE, "platform", "INBOUND", lab.sha256_a)

        async def calls_on_a() -> bool:
            return lab.successes(CXONE, "platform", "INBOUND", lab.sha256_a) >= since + ENOUGH

        await until(calls_on_a)
    assert len(await resolver_of(lab).resolve(CXONE)) == 2


async def test_the_port_of_b_refuses_as_long_as_b_is_bound(lab: LabWithB) -> None:
    edge = lab.lab.world.trunks[CXONE].edge
    async with lab.fault("tcp-refused-for-b"):

        async def refused() -> bool:
            return not edge.up()

        await until(refused)
        assert (await lab.lab.bind_cxone(lab.a_ids[1], None)).status_code == 200

        async def back() -> bool:
            return edge.up()

        await until(back)


def resolver_of(lab: LabWithB) -> Resolver:
    where = lab.lab.facts["dns"]
    return Resolver(where["address"], where["port"], {**SRV_NAMES, "nobody": "_sips._tcp.nobody.lab.example"})


async def calls_go_well_again(lab: LabWithB) -> None:
    """What a fault did is over with it."""
    before = {trunk: stats.completed for trunk, stats in lab.lab.world.carrier.stats().items()}

    async def completed() -> bool:
        return all(s.completed >= before[trunk] + ENOUGH for trunk, s in lab.lab.world.carrier.stats().items())

    await until(completed)
