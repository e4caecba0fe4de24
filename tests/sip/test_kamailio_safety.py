"""Kamailio as an edge, on the real server: what is refused and put back, restarts, and nodes that are away."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from adapters.edges.base import TrunkChange
from adapters.edges.kamailio.edge import KamailioEdge
from domain.errors import RequestRefused, Unreachable
from tests.adapters.sftp_host import SftpHost, mode_of
from tests.adapters.trunk_leaves import expired_leaf, key_lines, trunk_leaf
from tests.sip.kamailio_node import TRUNK
from tests.sip.kamailio_rig import (
    A_ALONE,
    BACK,
    BIND,
    NAME,
    PREFER,
    REMOVE,
    A,
    B,
    Rig,
    kamailio_rig,
    lose_answer_of,
    nothing,
    profile,
    resumed,
    ticket_of,
)

pytestmark = pytest.mark.sip


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """One node that serves A alone, its canary a name."""
    async with kamailio_rig(tmp_path) as running:
        yield running


@pytest_asyncio.fixture
async def two(tmp_path: Path) -> AsyncIterator[Rig]:
    """Two nodes."""
    async with kamailio_rig(tmp_path, nodes=2) as running:
        yield running


# -- what Kamailio refuses, and what it would take ---------------------------------------------------------------------


async def test_a_file_that_kamailio_refuses_is_put_back(rig: Rig) -> None:
    await rig.upload_b()
    await rig.change(BIND)
    broken = (
        rig.node.tls_cfg.read_bytes()
        + b"[server:127.0.0.1:1]\ncertificate = /nowhere.pem\nprivate_key = /nowhere.key\n"
    )
    rig.node.tls_cfg.write_bytes(broken)
    with pytest.raises(RequestRefused, match="refuses to load") as refused:
        await rig.change(PREFER)
    assert "500" in str(refused.value)
    assert rig.node.tls_cfg.read_bytes() == broken, "as it was found, to the byte"
    assert (rig.served(), rig.served(canary=True)) == (A.sha256, B.sha256)
    rig.node.tls_cfg.write_bytes(broken.partition(b"[server:127.0.0.1:1]")[0])
    assert (await rig.change(PREFER)).pool == PREFER.pool
    assert rig.served() == B.sha256


async def test_a_refused_file_is_put_back_also_by_the_next_worker(rig: Rig) -> None:
    """The answer that it is refused gets lost: the next attempt finds the file written and not loaded."""
    await rig.upload_b()
    before = rig.node.tls_cfg.read_bytes()
    key = rig.node.tls_directory / f"{NAME}.key"
    content = key.read_bytes()

    def break_key(what: str) -> None:
        if what == "tls.reload":
            key.write_bytes(b"no key")

    rig.tap.before, rig.tap.after = break_key, lose_answer_of("tls.reload")
    with pytest.raises(Unreachable):
        await rig.change(BIND)
    assert rig.node.tls_cfg.read_bytes() != before
    rig.tap.before = nothing
    with pytest.raises(RequestRefused, match="refuses to load"):
        await rig.change(BIND)
    assert rig.node.tls_cfg.read_bytes() == before
    await asyncio.to_thread(rig.node.restart, killed=True)
    assert rig.served() == A.sha256
    key.write_bytes(content)
    assert (await rig.change(BIND)).pool == BIND.pool
    assert rig.served(canary=True) == B.sha256


async def test_a_file_that_is_refused_once_by_chance_is_loaded(rig: Rig) -> None:
    await rig.upload_b()
    key = rig.node.tls_directory / f"{NAME}.key"
    contents = iter([b"no key", key.read_bytes()])

    def unlucky(what: str) -> None:
        if what == "tls.reload":
            key.write_bytes(next(contents))

    rig.tap.before = unlucky
    assert (await rig.change(BIND)).pool == BIND.pool
    assert rig.served(canary=True) == B.sha256


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another user")
async def test_a_key_that_kamailio_may_not_read_is_refused_and_one_of_ours_it_may() -> None:
    """Kamailio without root: new files belong to the directory's owner, which is the user that it runs as."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)
        async with kamailio_rig(Path(folder)) as rig:
            rig.node.kill()
            rig.node.user = "nobody"
            await asyncio.to_thread(rig.node.start)
            await rig.upload_b()
            key = rig.node.tls_directory / f"{NAME}.key"
            assert key.owner() == "nobody"
            os.chown(key, 0, 0)
            before = rig.node.tls_cfg.read_bytes()
            with pytest.raises(RequestRefused, match="refuses to load"):
                await rig.change(BIND)
            assert rig.node.tls_cfg.read_bytes() == before
            shutil.chown(key, "nobody")
            for step in (BIND, PREFER):
                await rig.change(step)
            assert rig.served() == B.sha256


LEAF_ONLY = B.chain_pem.partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("chain_pem", "key"),
    [
        (LEAF_ONLY, B),
        (B.chain_pem, A),
        (B.chain_pem[: len(B.chain_pem) // 4], B),
        ("", B),
        (expired_leaf().chain_pem, expired_leaf()),
    ],
    ids=["no intermediate", "key of another", "truncated", "nothing", "expired"],
)
async def test_what_kamailio_would_take_and_carriers_would_not_is_refused(
    rig: Rig, chain_pem: str, key: object
) -> None:
    with pytest.raises(RequestRefused) as refused:
        await rig.edge.upload(NAME, chain_pem, key.private_key)  # type: ignore[attr-defined]
    assert not any(line in str(refused.value) for line in key_lines(key))  # type: ignore[arg-type]
    assert rig.tap.done == []


async def test_an_expired_certificate_that_lies_there_is_not_switched_to(rig: Rig) -> None:
    old = expired_leaf()
    for suffix, text in ((".chain.pem", old.chain_pem), (".key", old.private_key.get_secret_value())):
        (rig.node.tls_directory / f"old{suffix}").write_text(text)
    found = await rig.edge.find_certificate(old.sha256)
    assert found is not None
    assert not found.valid
    assert "is valid from" in (found.reason or "")
    with pytest.raises(RequestRefused, match="outside its validity"):
        await rig.change(TrunkChange(pool=(old.sha256, A.sha256)))
    assert (rig.served(), rig.tap.done) == (A.sha256, [])


async def test_what_is_in_use_is_not_deleted_and_names_are_not_taken_over(rig: Rig) -> None:
    with pytest.raises(RequestRefused, match="in use"):
        await rig.edge.delete_certificate(A.sha256)
    await rig.upload_b()
    with pytest.raises(RequestRefused, match="taken by another"):
        await rig.edge.upload(NAME, trunk_leaf("C").chain_pem, trunk_leaf("C").private_key)
    text = rig.node.tls_cfg.read_text()
    files = (
        f"certificate = {rig.node.tls_directory}/{NAME}.chain.pem\nprivate_key = {rig.node.tls_directory}/{NAME}.key\n"
    )
    rig.node.tls_cfg.write_text(text + f"[server:127.0.0.9:5061]\n{files}")
    assert await rig.edge.trunks_presenting(B.sha256) == ("section:server:127.0.0.9:5061",)
    with pytest.raises(RequestRefused, match=r"127\.0\.0\.9"):
        await rig.edge.delete_certificate(B.sha256)


async def test_a_key_under_another_name_goes_with_its_certificate(tmp_path: Path) -> None:
    """An operator's own names: found by what is in the files, as long as no section needs them."""
    async with kamailio_rig(tmp_path) as rig:
        folder = rig.node.tls_directory
        (folder / "trunk.key").rename(folder / "private.pem")
        rig.node.tls_cfg.write_text(rig.node.tls_cfg.read_text().replace("trunk.key", "private.pem"))
        await asyncio.to_thread(rig.node.restart)
        await rig.upload_b()
        for step in (BIND, PREFER, BACK):
            assert (await rig.change(step)).pool == step.pool
        for step in (PREFER, REMOVE):
            await rig.change(step)
        assert await rig.edge.delete_certificate(A.sha256) is True
        assert not (folder / "private.pem").exists()


# -- files on another host ---------------------------------------------------------------------------------------------


async def test_a_rotation_whose_files_go_through_sftp(rig: Rig, tmp_path: Path) -> None:
    """One SSH connection for all of it."""
    host = SftpHost(rig.node.tls_directory, tmp_path)
    await host.start()
    settings = profile(tmp_path, rig.nodes)
    nodes = [settings.nodes[0].model_copy(update={"files": host.source()})]
    edge = KamailioEdge("edge", settings.model_copy(update={"nodes": tuple(nodes)}))
    try:
        assert await edge.configuration_problems(TRUNK) == ()
        await edge.upload(NAME, B.chain_pem, B.private_key)
        for step in (BIND, PREFER, REMOVE):
            assert (await edge.update_trunk(TRUNK, step)).pool == step.pool
        assert rig.served() == B.sha256
        assert mode_of(rig.node.tls_directory / f"{NAME}.key") == 0o600
        assert await edge.delete_certificate(A.sha256) is True
        assert not (rig.node.tls_directory / "trunk.key").exists()
        assert host.logins == 1
    finally:
        await edge.close()
        await host.stop()


# -- restarts and nodes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("killed", [False, True], ids=["restarted", "killed"])
async def test_kamailio_comes_up_as_it_was_after_every_step(rig: Rig, killed: bool) -> None:
    await rig.upload_b()
    for step in (BIND, PREFER, REMOVE, BACK, A_ALONE):
        wanted = await rig.change(step)
        served = rig.served(), rig.served(canary=True)
        await asyncio.to_thread(rig.node.restart, killed=killed)
        assert await rig.state() == wanted
        assert (rig.served(), rig.served(canary=True)) == served
        reloads = rig.reloads()
        assert await rig.change(step.model_copy(update={"always": False})) == wanted
        assert rig.reloads() == reloads, "a start has loaded the file"


async def test_a_node_that_is_away_is_told_and_repaired_when_it_is_back(two: Rig) -> None:
    await two.upload_b()
    await two.change(BIND)
    await asyncio.to_thread(two.nodes[1].kill)
    with pytest.raises(Unreachable):
        await two.change(PREFER)
    assert two.served(0) == B.sha256, "the other one was switched"
    with pytest.raises(Unreachable):
        await two.state()
    back = await two.change(TrunkChange(pool=(A.sha256, B.sha256), canary="", reachable_only=True))
    assert (back.pool, back.unread) == ((A.sha256, B.sha256), ("node1",))
    read = await two.edge.read_trunk(TRUNK, reachable_only=True)
    assert (read.pool, read.unread, two.served(0)) == ((A.sha256, B.sha256), ("node1",), A.sha256)
    await asyncio.to_thread(two.nodes[1].start)
    assert two.served(1, canary=True) == B.sha256, "it came back with what it had"
    alone = await two.change(A_ALONE)
    assert (alone.pool, alone.canary, alone.unread) == ((A.sha256,), None, ())
    assert [two.served(n, canary=canary) for n in (0, 1) for canary in (False, True)] == [A.sha256] * 4


async def test_no_node_at_all_is_unreachable_also_when_one_would_do(two: Rig) -> None:
    for node in two.nodes:
        await asyncio.to_thread(node.kill)
    with pytest.raises(Unreachable):
        await two.edge.read_trunk(TRUNK, reachable_only=True)


async def test_nodes_that_differ_hide_nothing(two: Rig) -> None:
    await two.upload_b()
    lone = KamailioEdge("edge", profile(two.nodes[0].directory.parent, two.nodes[1:]))
    await lone.update_trunk(TRUNK, BIND)
    await lone.update_trunk(TRUNK, PREFER)
    await lone.close()
    mixed = await two.state()
    assert (set(mixed.pool), mixed.canary) == ({A.sha256, B.sha256}, B.sha256)
    assert (await two.change(BACK)).pool == BACK.pool
    assert [two.served(n) for n in (0, 1)] == [A.sha256, A.sha256]


async def test_an_upload_that_reached_one_node_is_repeated_on_the_other(two: Rig) -> None:
    await asyncio.to_thread(two.nodes[1].kill)
    with pytest.raises(Unreachable):
        await two.upload_b()
    await asyncio.to_thread(two.nodes[1].start)
    assert await two.edge.find_certificate(B.sha256) is None
    await two.upload_b()
    for number in (0, 1):
        assert [name for name in two.files(number) if NAME in name] == [f"{NAME}.chain.pem", f"{NAME}.key"]


async def test_tickets_of_a_die_with_the_switch(rig: Rig) -> None:
    await rig.upload_b()
    context, session = ticket_of(rig)
    assert resumed(rig, context, session)
    await rig.change(PREFER)
    assert not resumed(rig, context, session)
