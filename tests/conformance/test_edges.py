"""The conformance kit of the role `Edge`: the same tests for every adapter, each against a server that serves TLS.

Genesys and CXone run against the lab's strict stand-ins, HAProxy and Kamailio against the real servers (marker `sip`).
What the adapter says is compared with what a handshake is served.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from adapters.edges.base import Edge, PlatformCertificate, TrunkChange, TrunkSettings
from domain.errors import ConcurrentEdit, CredentialsRefused, PermissionMissing, RequestRefused
from domain.errors import Unreachable as NobodyAnswers
from domain.handshakes import Reading, handshakes
from tests.adapters.trunk_leaves import TrunkLeaf, expired_leaf, key_lines, trunk_leaf
from tests.conformance.edge_under_test import EdgeUnderTest, state
from tests.conformance.edges import EDGES
from tests.lab.waiting import until

A, B, FOREIGN = trunk_leaf("A"), trunk_leaf("B"), trunk_leaf("foreign")
NAME = "rotation-b-0123456789ab"

Opening = Callable[[Path], AbstractAsyncContextManager[EdgeUnderTest]]


@pytest_asyncio.fixture(params=EDGES)
async def lab(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[EdgeUnderTest]:
    """An edge whose trunk presents A alone."""
    monkeypatch.setenv("TEST_LAB_SECRET", "s3cret")
    opening: Opening = request.param
    async with opening(tmp_path) as running:
        yield running


def window(lab: EdgeUnderTest) -> TrunkSettings | None:
    """The settings of BIND, where the edge has such."""
    if not lab.edge.capabilities.trunk_settings:
        return None
    return TrunkSettings(retransmission_timeout_s=30, cipher_suites=("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",))


def binding(lab: EdgeUnderTest) -> TrunkChange:
    """What BIND writes."""
    return TrunkChange(pool=(A.sha256, B.sha256), canary=B.sha256, settings=window(lab))


async def bound(lab: EdgeUnderTest) -> None:
    """B uploaded and bound beside A, as UPLOAD and BIND do."""
    await lab.edge.upload(NAME, B.chain_pem, B.private_key)
    await lab.edge.update_trunk(lab.endpoint.trunk, binding(lab))


async def served(lab: EdgeUnderTest, *, canary: bool = False) -> str | None:
    """The leaf that a fresh handshake gets."""
    return (await lab.probe(canary=canary)).leaf_sha256


async def reading(lab: EdgeUnderTest, since: datetime) -> Reading:
    """The figures from `since` to now."""
    return await lab.edge.reading(lab.endpoint, since, datetime.now(UTC))


# -- what a rotation does ----------------------------------------------------------------------------------------------


async def test_a_rotation_is_served_step_by_step_as_the_edge_says(lab: EdgeUnderTest) -> None:
    edge, trunk = lab.edge, lab.endpoint.trunk
    await lab.count()
    before = await state(lab)
    assert (before.pool, before.canary) == ((A.sha256,), None)
    assert await served(lab) == A.sha256
    assert await edge.configuration_problems(trunk) == ()

    stored = await edge.upload(NAME, B.chain_pem, B.private_key)
    assert (stored.sha256, stored.valid, stored.name) == (B.sha256, True, NAME)
    assert (await state(lab)).pool == (A.sha256,)
    assert await served(lab) == A.sha256

    both = await edge.update_trunk(trunk, binding(lab))
    assert (both.pool, both.canary) == ((A.sha256, B.sha256), B.sha256)
    assert await served(lab) == A.sha256
    canary = await lab.probe(canary=True)
    assert canary.good, canary.text()
    assert canary.leaf_sha256 == B.sha256

    preferred = await edge.update_trunk(trunk, TrunkChange(pool=(B.sha256, A.sha256)))
    assert preferred.pool == (B.sha256, A.sha256)
    assert preferred.presented == (B.sha256,)
    assert await served(lab) == B.sha256

    alone = await edge.update_trunk(trunk, TrunkChange(pool=(B.sha256,), canary=""))
    assert (alone.pool, alone.canary, alone.canary_path) == ((B.sha256,), None, None)
    if edge.capabilities.ticket_flush:
        await edge.flush_tickets(trunk)
    assert await edge.delete_certificate(A.sha256) is True
    assert await edge.find_certificate(A.sha256) is None
    assert lab.held() == [B.sha256]
    assert (await state(lab)) == alone
    assert await served(lab) == B.sha256


async def test_going_back_to_a_alone_leaves_nothing_of_b(lab: EdgeUnderTest) -> None:
    edge, trunk = lab.edge, lab.endpoint.trunk
    before = await state(lab)
    await bound(lab)
    await edge.update_trunk(trunk, TrunkChange(pool=(B.sha256, A.sha256)))
    await edge.update_trunk(trunk, TrunkChange(pool=(A.sha256, B.sha256), canary=""))
    assert await served(lab) == A.sha256
    settings = before.settings if edge.capabilities.trunk_settings else None
    await edge.update_trunk(trunk, TrunkChange(pool=before.pool, canary="", settings=settings))
    assert await edge.delete_certificate(B.sha256) is True
    after = await state(lab)
    assert after.model_copy(update={"version": before.version}) == before
    assert lab.held() == [A.sha256]
    assert await served(lab) == A.sha256


async def test_a_certificate_that_left_the_pool_comes_back_as_the_preferred_one(lab: EdgeUnderTest) -> None:
    """A rollback from HOLD: B stands alone, A was kept and is bound first again."""
    await bound(lab)
    await lab.edge.update_trunk(lab.endpoint.trunk, TrunkChange(pool=(B.sha256, A.sha256)))
    await lab.edge.update_trunk(lab.endpoint.trunk, TrunkChange(pool=(B.sha256,), canary=""))
    back = await lab.edge.update_trunk(lab.endpoint.trunk, TrunkChange(pool=(A.sha256, B.sha256), canary=""))
    assert back.pool == (A.sha256, B.sha256)
    assert await served(lab) == A.sha256


async def test_whose_pool_holds_a_certificate_is_told_in_the_plans_words(lab: EdgeUnderTest) -> None:
    await state(lab)
    assert await lab.edge.trunks_presenting(A.sha256) == (lab.endpoint.trunk,)
    assert await lab.edge.trunks_presenting(B.sha256) == ()
    await bound(lab)
    assert await lab.edge.trunks_presenting(B.sha256) == (lab.endpoint.trunk,)


async def test_a_weighted_edge_gives_each_certificate_its_share(lab: EdgeUnderTest) -> None:
    if not lab.edge.capabilities.weights:
        assert (await state(lab)).shares is None
        return
    await bound(lab)
    step = TrunkChange(pool=(A.sha256, B.sha256), shares=(75, 25))
    ramped = await lab.edge.update_trunk(lab.endpoint.trunk, step)
    assert (ramped.pool, ramped.shares) == ((A.sha256, B.sha256), (75, 25))
    assert ramped.presented == (A.sha256, B.sha256)
    seen = [await served(lab) for _ in range(40)]
    assert seen.count(A.sha256) + seen.count(B.sha256) == 40
    assert abs(seen.count(B.sha256) - 10) <= 2, "where the turn began is not ours to say"


# -- repeated, lost and concurrent requests ----------------------------------------------------------------------------


async def test_every_side_effect_may_be_repeated(lab: EdgeUnderTest) -> None:
    await bound(lab)
    once = lab.changes()
    for _ in range(2):
        await bound(lab)
    assert lab.changes() == once
    assert sorted(lab.held()) == sorted([A.sha256, B.sha256])
    assert await lab.edge.delete_certificate(FOREIGN.sha256) is False


async def test_a_write_that_is_always_made_moves_the_version_on(lab: EdgeUnderTest) -> None:
    await bound(lab)
    found = await state(lab)
    assert (await lab.edge.update_trunk(lab.endpoint.trunk, TrunkChange(pool=found.pool))).version == found.version
    moved = await lab.edge.update_trunk(lab.endpoint.trunk, TrunkChange(pool=found.pool, always=True))
    assert moved.version > found.version
    assert moved.model_copy(update={"version": found.version}) == found


async def test_lost_answers_leave_no_duplicate_and_no_half_bound_pool(lab: EdgeUnderTest) -> None:
    for step in (
        lambda: lab.edge.upload(NAME, B.chain_pem, B.private_key),
        lambda: lab.edge.update_trunk(lab.endpoint.trunk, binding(lab)),
        lambda: lab.edge.update_trunk(lab.endpoint.trunk, TrunkChange(pool=(B.sha256, A.sha256))),
        lambda: lab.edge.update_trunk(lab.endpoint.trunk, TrunkChange(pool=(B.sha256,), canary="")),
        lambda: lab.edge.delete_certificate(A.sha256),
    ):
        lab.lose_an_answer()
        with pytest.raises(NobodyAnswers):
            await step()
        await step()
        held = lab.held()
        assert len(held) == len(set(held))
        assert await served(lab) == (await state(lab)).presented[0]
    assert lab.held() == [B.sha256]


async def test_somebody_elses_change_is_not_overwritten(lab: EdgeUnderTest) -> None:
    await lab.edge.upload(NAME, B.chain_pem, B.private_key)
    lab.edited_by_somebody()
    with pytest.raises(ConcurrentEdit):
        await lab.edge.update_trunk(lab.endpoint.trunk, binding(lab))
    assert (await state(lab)).pool == (A.sha256,)
    assert await served(lab) == A.sha256
    assert (await lab.edge.update_trunk(lab.endpoint.trunk, binding(lab))).pool == (A.sha256, B.sha256)
    assert lab.edit_survived()


# -- what must be refused ----------------------------------------------------------------------------------------------


def _truncated(chain_pem: str) -> str:
    return chain_pem[: len(chain_pem) // 4]


BAD = {
    "leaf only": (B.chain_pem.partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n", B),
    "key of another": (B.chain_pem, FOREIGN),
    "truncated": (_truncated(B.chain_pem), B),
    "no certificate": ("", B),
    "expired": (expired_leaf().chain_pem, expired_leaf()),
}


async def _uploaded(
    lab: EdgeUnderTest, chain_pem: str, owner: TrunkLeaf
) -> tuple[PlatformCertificate | None, RequestRefused | None]:
    """What became of an upload."""
    try:
        return await lab.edge.upload(NAME, chain_pem, owner.private_key), None
    except RequestRefused as refused:
        return None, refused


@pytest.mark.parametrize("what", BAD)
async def test_what_could_not_serve_is_refused_and_nothing_changes(what: str, lab: EdgeUnderTest) -> None:
    chain_pem, owner = BAD[what]
    before = await state(lab)
    found, refused = await _uploaded(lab, chain_pem, owner)
    if refused is not None:
        assert not any(line in str(refused) for line in key_lines(owner))
        assert lab.held() == [A.sha256]
    else:
        assert what == "expired", "some platforms keep what is not valid, and say so"
        assert found is not None
        assert not found.valid
        assert found.reason
    assert await state(lab) == before
    assert await served(lab) == A.sha256


async def test_what_is_not_uploaded_is_not_bound_and_a_pool_is_never_empty(lab: EdgeUnderTest) -> None:
    changes = lab.changes()
    with pytest.raises(RequestRefused, match="not uploaded"):
        await lab.edge.update_trunk(lab.endpoint.trunk, binding(lab))
    with pytest.raises(RequestRefused, match="never written"):
        await lab.edge.update_trunk(lab.endpoint.trunk, TrunkChange(pool=()))
    assert lab.changes() == changes
    assert await served(lab) == A.sha256


async def test_a_certificate_in_use_is_not_deleted(lab: EdgeUnderTest) -> None:
    with pytest.raises(RequestRefused, match="in use"):
        await lab.edge.delete_certificate(A.sha256)
    assert lab.held() == [A.sha256]
    assert await served(lab) == A.sha256


async def test_a_trunk_that_does_not_exist_is_refused(lab: EdgeUnderTest) -> None:
    with pytest.raises(RequestRefused):
        await lab.edge.read_trunk(f"{lab.endpoint.trunk}9")


# -- health and figures ------------------------------------------------------------------------------------------------


async def test_health_speaks_of_every_certificate_of_the_pool(lab: EdgeUnderTest) -> None:
    await bound(lab)
    health = await lab.edge.health(lab.endpoint.trunk)
    assert health.listener_up is True
    assert [(one.sha256, one.valid) for one in health.certificates] == [(A.sha256, True), (B.sha256, True)]
    assert health.active_calls == {A.sha256: 0, B.sha256: 0}
    assert health.clock is not None
    assert abs(health.clock - health.read_at) < timedelta(seconds=10)


async def _eventually(lab: EdgeUnderTest, since: datetime, wanted: Callable[[Reading], bool]) -> Reading:
    """A reading as wanted, as soon as the figures have it. TimeoutError when they do not get it in their time."""

    async def look() -> Reading | None:
        found = await reading(lab, since)
        return found if wanted(found) else None

    return await until(look, 2 + lab.counts_within_s)


async def test_our_own_handshakes_are_counted_per_certificate_and_marked_synthetic(lab: EdgeUnderTest) -> None:
    await lab.count()
    await bound(lab)
    since = datetime.now(UTC)
    for canary in (False, True, True):
        assert (await lab.probe(canary=canary)).good

    def counted(found: Reading) -> dict[str | None, int]:
        return {s.sha256: s.handshakes.successes for s in found.samples if s.synthetic and s.handshakes.attempts}

    found = await _eventually(lab, since, lambda r: sum(counted(r).values()) >= 3)
    assert counted(found) == {A.sha256: 1, B.sha256: 2}
    assert handshakes(found.real()).attempts == 0


async def test_counters_that_began_anew_lose_nothing_unsaid(lab: EdgeUnderTest) -> None:
    """Either the figures reach over the reset, or the reading says when it was: never silently too few."""
    await lab.count()
    since = datetime.now(UTC)
    assert (await lab.probe()).good
    await _eventually(lab, since, lambda r: handshakes(r.samples).successes >= 1)
    await lab.restart()
    assert (await lab.probe()).good
    found = await _eventually(lab, since, lambda r: r.reset_within() or handshakes(r.samples).successes >= 2)
    assert found.reset_within() or handshakes(found.samples).successes == 2


# -- access ------------------------------------------------------------------------------------------------------------


async def test_an_edge_that_cannot_be_reached_is_told_as_such_and_is_there_again(lab: EdgeUnderTest) -> None:
    await bound(lab)
    before = await state(lab)
    async with lab.unreachable():
        for look in (
            lab.edge.read_trunk(lab.endpoint.trunk),
            lab.edge.health(lab.endpoint.trunk),
            lab.edge.update_trunk(lab.endpoint.trunk, TrunkChange(pool=(B.sha256, A.sha256))),
        ):
            with pytest.raises(NobodyAnswers) as raised:
                await look
            assert raised.value.retryable
    assert await state(lab) == before


async def test_an_edge_that_answers_too_late_is_not_waited_for(lab: EdgeUnderTest) -> None:
    async with lab.slow():
        with pytest.raises(NobodyAnswers):
            await lab.edge.read_trunk(lab.endpoint.trunk)
    assert (await state(lab)).pool == (A.sha256,)


async def _access_problems(edge: Edge) -> tuple[str, ...]:
    """What PREFLIGHT would show, whether it is returned or raised."""
    try:
        return await edge.check_access()
    except (CredentialsRefused, PermissionMissing) as refused:
        return (str(refused),)


async def test_wrong_credentials_are_refused_without_showing_them(lab: EdgeUnderTest) -> None:
    async with lab.stranger() as stranger:
        problems = await _access_problems(stranger)
        with pytest.raises((CredentialsRefused, PermissionMissing)) as raised:
            await stranger.upload(NAME, B.chain_pem, B.private_key)
    assert problems
    assert not any("wr0ng" in text for text in (*problems, str(raised.value)))
    assert lab.held() == [A.sha256]


async def test_a_restart_after_any_step_comes_up_as_it_was(lab: EdgeUnderTest) -> None:
    await lab.edge.upload(NAME, B.chain_pem, B.private_key)
    await lab.restart()
    for change in (
        binding(lab),
        TrunkChange(pool=(B.sha256, A.sha256)),
        TrunkChange(pool=(B.sha256,), canary=""),
        TrunkChange(pool=(A.sha256, B.sha256)),
    ):
        wanted = await lab.edge.update_trunk(lab.endpoint.trunk, change)
        await lab.restart()
        assert await state(lab) == wanted
        assert await served(lab) == wanted.presented[0]
        if wanted.canary is not None:
            assert await served(lab, canary=True) == wanted.canary
