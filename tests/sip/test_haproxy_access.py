"""The ways to a node: a socket, one on another host through SSH, TCP with TLS; and what keeps us out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import ValidationError

from adapters.edges.haproxy.edge import HaproxyEdge
from domain.errors import (
    CredentialsRefused,
    RotatorError,
    SettingsInvalid,
    TlsUntrusted,
    Unreachable,
)
from lab.carrier_ca import CarrierCa
from lab.ports import free_port
from settings import HaproxyProfile
from tests.adapters.sftp_host import SftpHost, new_key
from tests.adapters.trunk_leaves import key_lines
from tests.sip.haproxy_node import SHIPPED
from tests.sip.haproxy_rig import BIND, NAME, PREFER, TRUNK, A, B, HaproxyRig, haproxy_rig, profile_of

pytestmark = pytest.mark.sip


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[HaproxyRig]:
    """One node that presents A, slot `two` empty."""
    async with haproxy_rig(tmp_path) as running:
        yield running


def reached_by(rig: HaproxyRig, folder: Path, **node: Any) -> HaproxyEdge:
    """The adapter with other settings of the node."""
    local = {"kind": "local", "directory": str(rig.node.sip)}
    usual = profile_of(folder, rig.nodes, rig.taps, metrics_url="http://127.0.0.1:9")
    nodes = [{"name": "node0", "runtime": rig.node.runtime, "files": local, **node}]
    settings = {**usual.model_dump(exclude={"nodes", "timeout"}), "nodes": nodes, "timeout": "1s"}
    return HaproxyEdge("edge", HaproxyProfile.model_validate(settings))


async def rotates(edge: HaproxyEdge) -> None:
    """A few steps work on that way."""
    assert await edge.check_access() == ()
    await edge.upload(NAME, B.chain_pem, B.private_key)
    await edge.update_trunk(TRUNK, BIND)
    assert (await edge.update_trunk(TRUNK, PREFER)).presented == (B.sha256,)
    await edge.close()


async def refusal(edge: HaproxyEdge) -> RotatorError:
    """Why a look fails; an upload fails in the same way, without the key in its error."""
    with pytest.raises(RotatorError) as raised:
        await edge.read_trunk(TRUNK)
    with pytest.raises(type(raised.value)) as again:
        await edge.upload(NAME, B.chain_pem, B.private_key)
    assert not any(line in str(again.value) for line in key_lines(B))
    await edge.close()
    return raised.value


# -- SSH ---------------------------------------------------------------------------------------------------------------


async def test_files_and_command_line_of_another_host_are_reached_through_its_ssh_server(
    rig: HaproxyRig, tmp_path: Path
) -> None:
    host = SftpHost(rig.node.sip, tmp_path)
    await host.start()
    try:
        edge = reached_by(rig, tmp_path, runtime=f"ssh:{rig.node.master}", files=host.source())
        await rotates(edge)
        assert rig.held() == {"one": "A", "two": "B"}
        stranger = host.source(key_file=host.key_file("stranger", new_key()))
        assert isinstance(
            await refusal(reached_by(rig, tmp_path, runtime=f"ssh:{rig.node.master}", files=stranger)),
            CredentialsRefused,
        )
        nowhere = await refusal(reached_by(rig, tmp_path, runtime="ssh:/no/such.sock", files=host.source()))
        assert isinstance(nowhere, Unreachable)
        host.sockets = False
        forbidden = await refusal(reached_by(rig, tmp_path, runtime=f"ssh:{rig.node.master}", files=host.source()))
        assert "opens no way" in str(forbidden)
    finally:
        await host.stop()


async def test_a_broken_ssh_connection_is_opened_again(rig: HaproxyRig, tmp_path: Path) -> None:
    host = SftpHost(rig.node.sip, tmp_path)
    await host.start()
    edge = reached_by(rig, tmp_path, runtime=f"ssh:{rig.node.master}", files=host.source(timeout="1s"))
    try:
        assert (await edge.read_trunk(TRUNK)).pool == (A.sha256,)
        await host.stop()
        with pytest.raises(Unreachable):
            await edge.read_trunk(TRUNK)
        await host.start()
        assert (await edge.read_trunk(TRUNK)).pool == (A.sha256,)
    finally:
        await edge.close()
        await host.stop()


# -- TCP ---------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def in_front(rig: HaproxyRig) -> AsyncIterator[int]:
    """A TCP port in front of the command line."""

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_master, to_master = await asyncio.open_unix_connection(rig.node.master)
        await asyncio.gather(pump(reader, to_master), pump(from_master, writer))

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_a_command_line_on_loopback_may_be_in_clear(rig: HaproxyRig, tmp_path: Path) -> None:
    async with in_front(rig) as port:
        await rotates(reached_by(rig, tmp_path, runtime=f"tcp:127.0.0.1:{port}"))


async def test_haproxys_own_tls_in_front_proves_itself_and_knows_us(tmp_path: Path) -> None:
    """As the README shows it: a section more, in which HAProxy ends TLS for its own command line."""
    ours, theirs = CarrierCa(), CarrierCa()
    for name, identity in (("server", theirs.issue("localhost")), ("worker", ours.issue("worker"))):
        (tmp_path / f"{name}.pem").write_text(identity.certificate_pem + identity.key_pem)
    (tmp_path / "theirs.pem").write_text(theirs.certificate_pem)
    (tmp_path / "ours.pem").write_text(ours.certificate_pem)
    port, begin = free_port(), "# What Prometheus scrapes"
    section = _from_readme("listen rotator from sip")
    for shown, mine in {
        "10.0.0.10:9443": f"127.0.0.1:{port}",
        "/etc/haproxy/control.pem": str(tmp_path / "server.pem"),
        "/etc/haproxy/rotator-ca.pem": str(tmp_path / "ours.pem"),
        "/run/haproxy-master.sock": "${SIP_RUN}/master.sock",
    }.items():
        assert shown in section
        section = section.replace(shown, mine)
    async with haproxy_rig(tmp_path, changes={begin: f"{section}\n\n{begin}"}) as rig:
        worker = str(tmp_path / "worker.pem")
        usual = {
            "runtime": f"tcp:localhost:{port}",
            "ca_file": str(tmp_path / "theirs.pem"),
            "client_certificate_file": worker,
            "client_key_file": worker,
        }
        await rotates(reached_by(rig, tmp_path, **usual))
        untrusted = await refusal(reached_by(rig, tmp_path, **{**usual, "ca_file": str(tmp_path / "ours.pem")}))
        assert isinstance(untrusted, TlsUntrusted)
        nobody = {**usual, "client_certificate_file": None, "client_key_file": None}
        assert isinstance(await refusal(reached_by(rig, tmp_path, **nobody)), CredentialsRefused)
        unreadable = {**usual, "client_key_file": str(tmp_path / "no-such.key")}
        assert isinstance(await refusal(reached_by(rig, tmp_path, **unreadable)), SettingsInvalid)


def _from_readme(first_line: str) -> str:
    """The block of the README that begins with that line."""
    text = (SHIPPED / "README.md").read_text()
    return text[text.index(first_line) :].partition("```")[0].rstrip()


def test_a_key_does_not_cross_a_network_in_clear(tmp_path: Path) -> None:
    usual = {
        "kind": "haproxy",
        "listener": TRUNK,
        "trust_anchor_file": "anchors.pem",
        "metrics": {"base_url": "https://prometheus.example.com"},
    }
    files = {"kind": "local", "directory": "/etc/haproxy/sip"}
    for runtime, allowed in {
        "tcp:10.0.0.10:9999": False,
        "tcp:127.example.com:9999": False,
        "tcp:[::1]:9999": True,
        "tcp:localhost:9999": True,
        "unix:/run/haproxy-master.sock": True,
        "ssh:/run/haproxy-master.sock": False,
        "/run/haproxy-master.sock": False,
    }.items():
        settings = {**usual, "nodes": [{"name": "edge1", "runtime": runtime, "files": files}]}
        if allowed:
            HaproxyProfile.model_validate(settings)
        else:
            with pytest.raises(ValidationError):
                HaproxyProfile.model_validate(settings)
    tls = {"name": "edge1", "runtime": "tcp:10.0.0.10:9999", "files": files, "ca_file": "ca.pem"}
    HaproxyProfile.model_validate({**usual, "nodes": [tls]})
    with pytest.raises(ValidationError, match="same name"):
        HaproxyProfile.model_validate({**usual, "nodes": [tls, tls]})


# -- what keeps us out -------------------------------------------------------------------------------------------------


async def test_a_command_line_that_is_not_there_or_silent_is_unreachable(rig: HaproxyRig, tmp_path: Path) -> None:
    for runtime in ("unix:/no/such.sock", "tcp:127.0.0.1:1"):
        assert isinstance(await refusal(reached_by(rig, tmp_path, runtime=runtime)), Unreachable)
    rig.taps[0].silent = True
    silent = await refusal(reached_by(rig, tmp_path, runtime=rig.taps[0].runtime))
    assert isinstance(silent, Unreachable)
    assert "no answer within 1.0 s" in str(silent)
    assert silent.retryable


async def test_a_command_line_of_a_lower_level_is_told_at_the_access_check(tmp_path: Path) -> None:
    async with haproxy_rig(tmp_path, level="operator") as rig:
        (problem,) = await rig.edge.check_access()
        assert "level admin" in problem
        with pytest.raises(RotatorError) as refused:
            await rig.upload_b()
        assert not any(line in str(refused.value) for line in key_lines(B))
        assert await rig.served() == {"A": 1}
