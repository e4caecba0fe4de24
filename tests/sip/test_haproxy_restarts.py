"""HAProxy ends at any moment of a rotation and comes up as it was; the worker ends between file and run time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from adapters.edges.base import TrunkChange
from domain.errors import UnexpectedAnswer, Unreachable
from tests.sip.command_tap import nothing
from tests.sip.haproxy_node import HaproxyNode
from tests.sip.haproxy_rig import A_ALONE, BACK, BIND, NAME, PREFER, REMOVE, A, B, HaproxyRig, haproxy_rig, ramp

pytestmark = pytest.mark.sip

Step = Callable[[HaproxyRig], Awaitable[object]]


def changed(change: TrunkChange) -> Step:
    """A step that writes the pools."""
    return lambda rig: rig.change(change)


UPLOAD: Step = lambda rig: rig.edge.upload(NAME, B.chain_pem, B.private_key)  # noqa: E731
DELETE_A: Step = lambda rig: rig.edge.delete_certificate(A.sha256)  # noqa: E731
DELETE_B: Step = lambda rig: rig.edge.delete_certificate(B.sha256)  # noqa: E731

FORWARD: dict[str, Step] = {
    "upload": UPLOAD,
    "bind": changed(BIND),
    "ramp to 20 %": changed(ramp(20)),
    "ramp to 50 %": changed(ramp(50)),
    "prefer": changed(PREFER),
    "remove": changed(REMOVE),
    "delete A": DELETE_A,
}
THERE_AND_BACK: dict[str, Step] = {
    "upload": UPLOAD,
    "bind": changed(BIND),
    "prefer": changed(PREFER),
    "back": changed(BACK),
    "A alone": changed(A_ALONE),
    "delete B": DELETE_B,
}
ENDS: dict[str, Callable[[HaproxyNode], Awaitable[None]]] = {
    "restart": lambda node: node.restart(),
    "SIGKILL": lambda node: node.restart(killed=True),
    "reload": lambda node: node.reload(),
}


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[HaproxyRig]:
    """One node that presents A, slot `two` empty."""
    async with haproxy_rig(tmp_path) as running:
        yield running


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", [FORWARD, THERE_AND_BACK], ids=["forward", "there and back"])
async def test_after_every_step_it_comes_up_in_the_same_state(way: dict[str, Step], end: str, rig: HaproxyRig) -> None:
    for name, step in way.items():
        await step(rig)
        wanted, held = await rig.state(), rig.held()
        served, canary = await rig.served(times=20), await rig.served(canary=True)
        await ENDS[end](rig.node)
        assert await rig.state() == wanted, name
        assert rig.held() == held, name
        assert await rig.served(times=20) == served, name
        assert await rig.served(canary=True) == canary, name
        done, writes = len(rig.taps[0].done), len(rig.files[0].writes)
        await step(rig)
        redone = (len(rig.taps[0].done) - done, len(rig.files[0].writes) - writes)
        assert redone == (0, 0) or (name == "A alone" and redone == (0, 1)), f"{name}: nothing is left to do"


def interrupted(change: str) -> None:
    """The worker ends before this is sent."""
    raise ConnectionError(change)


@pytest.mark.parametrize("then", ["repeated", "restart", "SIGKILL"])
@pytest.mark.parametrize("way", [FORWARD, THERE_AND_BACK], ids=["forward", "there and back"])
async def test_a_worker_that_ends_between_file_and_run_time_is_made_good(
    way: dict[str, Step], then: str, rig: HaproxyRig
) -> None:
    for name, step in way.items():
        rig.taps[0].before = interrupted
        with pytest.raises(Unreachable):
            await step(rig)
        rig.taps[0].before = nothing
        if then != "repeated":
            await ENDS[then](rig.node)
        between = await rig.served(times=10)
        assert set(between) <= {"A", "B"}, name
        await step(rig)
        wanted = await rig.state()
        assert set(await rig.served(times=10)) == {{A.sha256: "A", B.sha256: "B"}[leaf] for leaf in wanted.presented}
        done = len(rig.taps[0].done)
        await step(rig)
        assert len(rig.taps[0].done) == done, f"{name}: nothing is left to do"
    assert rig.held() == ({"one": "-", "two": "B"} if way is FORWARD else {"one": "A", "two": "-"})


async def test_what_only_the_file_or_only_run_time_has_is_in_the_pool(rig: HaproxyRig) -> None:
    """Nothing is taken for gone that a new connection may get now, or after a restart."""
    await rig.bound()
    rig.taps[0].before = interrupted
    with pytest.raises(Unreachable):
        await rig.change(TrunkChange(pool=(A.sha256,), canary=""))
    rig.taps[0].before = nothing
    half = await rig.state()
    assert (half.pool, half.shares, half.canary) == ((A.sha256, B.sha256), (100, 0), B.sha256)
    await rig.node.command("@1 set server trunk-pool/two state maint")
    await rig.node.restart()
    assert (await rig.state()).pool == (A.sha256,)

    await rig.bound()
    await rig.node.command("@1 set server trunk-pool/two state maint")
    assert (await rig.state()).pool == (A.sha256, B.sha256), "a restart would bring it back"
    assert (await rig.change(TrunkChange(pool=(A.sha256,), canary=""))).pool == (A.sha256,)


async def test_a_half_done_upload_is_no_upload_and_is_finished(rig: HaproxyRig) -> None:
    rig.taps[0].before = interrupted
    with pytest.raises(Unreachable):
        await rig.upload_b()
    rig.taps[0].before = nothing
    assert rig.held() == {"one": "A", "two": "B"}
    assert await rig.edge.find_certificate(B.sha256) is None
    assert [one.sha256 for one in await rig.edge.certificates()] == [A.sha256, B.sha256], "what is left is shown"
    assert (await rig.state()).pool == (A.sha256,)
    await rig.upload_b()
    assert rig.files[0].writes == ["trunk-two.pem"]
    assert await rig.edge.find_certificate(B.sha256) is not None


async def test_a_half_done_upload_can_be_deleted(rig: HaproxyRig) -> None:
    rig.taps[0].before = interrupted
    with pytest.raises(Unreachable):
        await rig.upload_b()
    rig.taps[0].before = nothing
    assert await rig.edge.delete_certificate(B.sha256) is True
    assert rig.held() == {"one": "A", "two": "-"}


async def test_a_certificate_put_into_a_file_by_hand_is_not_guessed_at(rig: HaproxyRig) -> None:
    """What is served can only be told while it stands in a file."""
    kept = rig.node.slot("one").read_bytes()
    rig.node.slot("one").write_text(B.chain_pem + B.private_key.get_secret_value())
    with pytest.raises(UnexpectedAnswer, match="does not serve what its file holds"):
        await rig.state()
    assert any("slot one" in problem for problem in await problems(rig))
    rig.node.slot("one").write_bytes(kept)
    assert (await rig.state()).pool == (A.sha256,)


async def test_a_rollback_takes_away_what_nobody_can_tell(rig: HaproxyRig) -> None:
    await rig.bound()
    await rig.change(PREFER)
    rig.node.slot("two").write_text("an operator's mistake\n")
    with pytest.raises(UnexpectedAnswer):
        await rig.state()
    assert (await rig.change(A_ALONE)).pool == (A.sha256,)
    assert await rig.served(times=5) == {"A": 5}


async def problems(rig: HaproxyRig) -> tuple[str, ...]:
    """Without Prometheus, whose absence is another matter."""

    async def instant(selector: str) -> tuple[object, ...]:
        return (object(),) * len(rig.nodes)

    rig.edge._series.instant = instant  # type: ignore[method-assign, assignment]
    return await rig.edge.configuration_problems("trunk")
