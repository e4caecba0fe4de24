"""Kamailio as an edge, on the real server: every step of a rotation, the way back, and whatever may come in between."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from adapters.edges.base import CanaryPath, TrunkChange
from domain.errors import ConcurrentEdit, Unreachable
from tests.adapters.trunk_leaves import key_lines, trunk_leaf
from tests.sip.kamailio_node import CANARY_NAME, TRUNK
from tests.sip.kamailio_rig import (
    A_ALONE,
    BACK,
    BIND,
    NAME,
    PREFER,
    REMOVE,
    A,
    B,
    Deed,
    Rig,
    kamailio_rig,
    lose_answer_of,
    nothing,
)

pytestmark = pytest.mark.sip

STEPS = (BIND, PREFER, REMOVE)


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """One node that serves A alone, its canary a name."""
    async with kamailio_rig(tmp_path) as running:
        yield running


# -- the steps ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("canary", ["sni", "port", None])
async def test_a_whole_rotation_is_served_step_by_step_with_two_reloads(tmp_path: Path, canary: str | None) -> None:
    async with kamailio_rig(tmp_path, canary=canary) as rig:
        shipped = rig.node.tls_cfg.read_bytes()
        assert await rig.edge.configuration_problems(TRUNK) == ()
        assert (await rig.state()).pool == (A.sha256,)
        await rig.upload_b()
        assert (rig.served(), rig.reloads()) == (A.sha256, 0)

        bound = await rig.change(BIND if canary else TrunkChange(pool=BIND.pool))
        paths = {"sni": CanaryPath(server_name=CANARY_NAME), "port": CanaryPath(port=rig.node.ports["canary"])}
        assert (bound.pool, bound.canary) == (BIND.pool, B.sha256 if canary else None)
        assert bound.canary_path == paths.get(canary or "")
        assert rig.served() == A.sha256
        if canary:
            assert rig.served(canary=True) == B.sha256
        assert rig.reloads() == (1 if canary else 0)

        before = rig.reloads()
        assert (await rig.change(PREFER)).presented == (B.sha256,)
        assert (rig.served(), rig.reloads()) == (B.sha256, before + 1)

        alone = await rig.change(REMOVE)
        assert (alone.pool, alone.canary, alone.canary_path) == ((B.sha256,), None, None)
        assert rig.reloads() == before + 1, "nothing that Kamailio loads has changed"
        assert await rig.edge.delete_certificate(A.sha256) is True
        assert await rig.state() == alone
        assert rig.served() == B.sha256
        assert [name for name in rig.files() if name.startswith("trunk.")] == []
        assert _without_note(rig.node.tls_cfg.read_bytes()) == shipped.replace(
            b"trunk.chain.pem", f"{NAME}.chain.pem".encode()
        ).replace(b"trunk.key", f"{NAME}.key".encode())


@pytest.mark.parametrize("reached", [0, 1, 2, 3], ids=["uploaded", "bound", "preferred", "removed"])
async def test_the_way_back_from_every_step_leaves_nothing_of_b(rig: Rig, reached: int) -> None:
    before, shipped = await rig.state(), rig.node.tls_cfg.read_bytes()
    await rig.upload_b()
    for step in STEPS[:reached]:
        await rig.change(step)
    await rig.change(BACK)
    assert (rig.served(), rig.served(canary=True)) == (A.sha256, A.sha256)
    alone = await rig.change(A_ALONE)
    assert alone.model_copy(update={"version": 0}) == before
    assert await rig.edge.delete_certificate(B.sha256) is True
    assert _without_note(rig.node.tls_cfg.read_bytes()) == shipped
    assert [name for name in rig.files() if NAME in name] == []
    assert not any(line in _everything(rig) for line in key_lines(B))


async def test_repeated_steps_write_and_load_nothing(rig: Rig) -> None:
    for step in STEPS:
        await rig.upload_b()
        await rig.change(step)
        done, reloads = len(rig.tap.done), rig.reloads()
        for _ in range(2):
            await rig.upload_b()
            await rig.change(step)
        assert (len(rig.tap.done), rig.reloads()) == (done, reloads)


async def test_a_write_that_is_always_made_moves_the_version_without_a_reload(rig: Rig) -> None:
    await rig.upload_b()
    bound = await rig.change(BIND)
    reloads = rig.reloads()
    moved = await rig.change(BIND.model_copy(update={"always": True}))
    assert moved == bound.model_copy(update={"version": bound.version + 1})
    assert rig.reloads() == reloads


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another user")
async def test_keys_are_private_and_owners_stay(rig: Rig) -> None:
    os.chown(rig.node.tls_directory, 1234, 1234)
    os.chown(rig.node.tls_cfg, 1234, 4321)
    rig.node.tls_cfg.chmod(0o640)
    await rig.upload_b()
    await rig.change(BIND)
    for name, mode, owner, group in (
        ("tls.cfg", 0o640, 1234, 4321),
        (f"{NAME}.key", 0o600, 1234, 1234),
        (f"{NAME}.chain.pem", 0o600, 1234, 1234),
    ):
        found = (rig.node.tls_directory / name).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (mode, owner, group), name


# -- lost answers, dead workers, other people --------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["tls.reload", "htable.sets", "write tls.cfg", "write tls.cfg.previous"])
async def test_a_lost_answer_is_made_good_by_the_next_attempt(rig: Rig, lost: str) -> None:
    await rig.upload_b()
    for step, canary in ((BIND, B), (PREFER, B)):
        rig.tap.after = lose_answer_of(lost)
        with pytest.raises(Unreachable):
            await rig.change(step)
        state = await rig.change(step)
        assert state.pool == step.pool
        assert (rig.served(), rig.served(canary=True)) == (state.pool[0], canary.sha256)


async def test_an_upload_whose_answers_get_lost_is_there_once(rig: Rig) -> None:
    for lost in (f"write {NAME}.chain.pem", f"write {NAME}.key"):
        rig.tap.after = lose_answer_of(lost)
        with pytest.raises(Unreachable):
            await rig.upload_b()
        found = await rig.edge.find_certificate(B.sha256)
        assert (found is None) == lost.endswith("chain.pem"), "without its key it is not there"
    await rig.upload_b()
    assert [name for name in rig.files() if NAME in name] == [f"{NAME}.chain.pem", f"{NAME}.key"]
    assert await rig.edge.delete_certificate(B.sha256) is True
    assert [name for name in rig.files() if NAME in name] == []


class Died(Exception):
    """A worker that is not there any more."""


@pytest.mark.parametrize("killed", [False, True], ids=["Kamailio lives", "Kamailio is killed too"])
async def test_a_worker_may_die_before_any_of_its_deeds(tmp_path: Path, killed: bool) -> None:
    """Cut off before the first deed of a rotation, before the second, and so on; another worker repeats that step."""
    cut, deeds = 0, 1
    while cut < deeds:
        async with kamailio_rig(tmp_path / str(cut)) as rig:
            rig.tap.before = _die_before(rig, cut)
            for step in _rotation(rig):
                try:
                    await step()
                except Died:
                    rig.tap.before = nothing
                    assert rig.served() in (A.sha256, B.sha256)
                    if killed:
                        await asyncio.to_thread(rig.node.restart, killed=True)
                    await step()
            deeds = max(deeds, len(rig.tap.done))
            assert (await rig.state()).pool == (B.sha256,)
            assert (rig.served(), rig.served(canary=True)) == (B.sha256, B.sha256)
            assert not any(line in _everything(rig) for line in key_lines(A))
            assert await rig.edge.configuration_problems(TRUNK) == ()
        cut += 1
    assert deeds > 12


async def test_somebody_elses_edit_is_seen_right_before_the_write(rig: Rig) -> None:
    await rig.upload_b()

    def edit(what: str) -> None:
        if what == "write tls.cfg.previous":
            rig.tap.before = nothing
            rig.node.tls_cfg.write_bytes(rig.node.tls_cfg.read_bytes() + b"# somebody else was here\n")

    rig.tap.before = edit
    with pytest.raises(ConcurrentEdit):
        await rig.change(BIND)
    assert (await rig.state()).pool == (A.sha256,)
    assert (rig.served(), rig.reloads()) == (A.sha256, 0)
    assert (await rig.change(BIND)).pool == BIND.pool
    assert b"# somebody else was here\n" in rig.node.tls_cfg.read_bytes()


async def test_what_an_operator_loaded_or_did_not_load_is_seen(rig: Rig) -> None:
    """tls.cfg edited by hand: what is served counts, and the next change loads the file."""
    await rig.upload_b()
    await rig.change(BIND)
    written = rig.node.tls_cfg.read_text()
    rig.node.tls_cfg.write_text(_switched(written, to_b=True))
    seen = await rig.state()
    assert seen.pool == (A.sha256, B.sha256), "A runs, whatever is written"
    assert "not what tls.cfg says" in " ".join(await rig.edge.configuration_problems(TRUNK))
    assert (await rig.change(PREFER)).pool == PREFER.pool
    assert rig.served() == B.sha256


async def test_a_certificate_that_an_operator_put_there_outdates_the_note(rig: Rig) -> None:
    await rig.upload_b()
    await rig.change(BIND)
    await rig.edge.upload("by-hand", trunk_leaf("C").chain_pem, trunk_leaf("C").private_key)
    text = rig.node.tls_cfg.read_text()
    rig.node.tls_cfg.write_text(
        text.replace("trunk.chain.pem", "by-hand.chain.pem").replace("trunk.key", "by-hand.key")
    )
    await asyncio.to_thread(rig.node.restart)
    assert (await rig.state()).pool == (trunk_leaf("C").sha256,)


# -- parts -------------------------------------------------------------------------------------------------------------


def _rotation(rig: Rig) -> list[Callable[[], Awaitable[object]]]:
    return [
        rig.upload_b,
        *(partial(rig.change, step) for step in STEPS),
        partial(rig.edge.delete_certificate, A.sha256),
    ]


def _die_before(rig: Rig, number: int) -> Deed:
    def die(_: str) -> None:
        if len(rig.tap.done) == number:
            raise Died

    return die


def _without_note(content: bytes) -> bytes:
    first, _, rest = content.partition(b"\n")
    assert first.startswith(b"# rotation: version "), first
    return rest


def _everything(rig: Rig) -> str:
    """All files of the directory, hidden ones too."""
    return "\n".join(path.read_text(errors="replace") for path in rig.node.tls_directory.iterdir())


def _switched(text: str, *, to_b: bool) -> str:
    """The server's section, which is the first, naming B."""
    assert to_b
    return text.replace("trunk.chain.pem", f"{NAME}.chain.pem", 1).replace("trunk.key", f"{NAME}.key", 1)
