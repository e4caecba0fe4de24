"""What PREFLIGHT is told about an HAProxy that is not set up as shipped: each missing piece by its name."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from domain.errors import RequestRefused, UnexpectedAnswer
from lab.ports import free_port
from tests.sip.haproxy_rig import REMOVE, TRUNK, A, B, HaproxyRig, client_context, connected, haproxy_rig
from tests.sip.ocsp_signer import good

pytestmark = pytest.mark.sip


async def problems(rig: HaproxyRig) -> list[str]:
    """Without Prometheus, which is another matter."""

    async def scraped(selector: str) -> tuple[object, ...]:
        return (object(),) * len(rig.nodes)

    rig.edge._series.instant = scraped  # type: ignore[method-assign, assignment]
    return list(await rig.edge.configuration_problems(TRUNK))


async def test_what_is_shipped_has_no_problems(tmp_path: Path) -> None:
    async with haproxy_rig(tmp_path / "inbound", nodes=2) as rig:
        assert await problems(rig) == []
    async with haproxy_rig(tmp_path / "both", carrier="127.0.0.1:1", carrier_roots_pem=A.chain_pem) as rig:
        assert await problems(rig) == []


MISSING: Mapping[str, tuple[dict[str, str], dict[str, Any], str]] = {
    "canary": (
        {"frontend trunk-canary from sip": "frontend elsewhere from sip"},
        {},
        "frontend trunk-canary is missing",
    ),
    "try": (
        {"frontend trunk-try-two from sip": "frontend trunk-attempt-two from sip"},
        {},
        "frontend trunk-try-two is missing",
    ),
    "tls": (
        {"frontend trunk-tls-one from sip": "frontend trunk-ends-one from sip"},
        {},
        "frontend trunk-tls-one is missing",
    ),
    "sip": (
        {
            "backend trunk-sip-one from sip": "backend server-one from sip",
            "default_backend trunk-sip-one": "default_backend server-one",
        },
        {},
        "backend trunk-sip-one is missing",
    ),
    "table": (
        {
            "backend trunk-sessions-two from sip": "backend counts-two from sip",
            "table trunk-sessions-two": "table counts-two",
        },
        {},
        "backend trunk-sessions-two is missing",
    ),
    "outbound": (
        {
            "backend trunk-carrier-two from sip": "backend carrier-two from sip",
            "default_backend trunk-carrier-two": "default_backend carrier-two",
        },
        {"carrier": "127.0.0.1:1", "carrier_roots_pem": A.chain_pem},
        "backend trunk-carrier-two is missing",
    ),
}


@pytest.mark.parametrize("what", MISSING)
async def test_a_section_that_is_missing_is_named(what: str, tmp_path: Path) -> None:
    changes, options, why = MISSING[what]
    async with haproxy_rig(tmp_path, changes=changes, **options) as rig:
        found = await problems(rig)
        assert [one for one in found if why in one], found
        assert len(found) == 1, found


async def test_without_a_canary_port_in_the_settings_no_canary_listener_is_missed(tmp_path: Path) -> None:
    changes = {"frontend trunk-canary from sip": "frontend elsewhere from sip"}
    async with haproxy_rig(tmp_path, changes=changes, settings={"canary_port": None}) as rig:
        assert await problems(rig) == []
        assert rig.edge.capabilities.canary == "none"


async def test_pools_that_would_not_survive_a_restart_are_told(tmp_path: Path) -> None:
    async with haproxy_rig(tmp_path) as rig:
        await rig.node.command("@1 set server trunk-pool/one weight 40")
        (problem,) = await problems(rig)
        assert "trunk-pool is one 40, two out at run time and one 100, two out in sip-pool.cfg" in problem

    moved = tmp_path / "moved"
    async with haproxy_rig(moved) as rig:
        text = rig.node.pool_file.read_text()
        start = text.index("backend trunk-canary-pool")
        configuration = rig.node.folder / "haproxy.cfg"
        configuration.write_text(configuration.read_text() + "\n" + text[start:])
        rig.node.pool_file.write_text(text[:start])
        await rig.node.restart()
        (problem,) = await problems(rig)
        assert "trunk-canary-pool does not stand in sip-pool.cfg" in problem


async def test_servers_with_other_names_are_told(tmp_path: Path) -> None:
    async with haproxy_rig(tmp_path) as rig:
        text = rig.node.pool_file.read_text()
        third = '    server three "unix@${SIP_RUN}/trunk-try-two.sock" send-proxy-v2 weight 0 disabled\n'
        rig.node.pool_file.write_text(
            text.replace("\nbackend trunk-canary-pool", f"{third}\nbackend trunk-canary-pool")
        )
        await rig.node.restart()
        assert any(
            "the servers of trunk-pool are one, three, two: name them one and two" in p for p in await problems(rig)
        )


@pytest.mark.parametrize(
    ("text", "why"), [("", "no line '# rotation:"), ("# rotation: version 1 first one canary none\n", "no server in")]
)
async def test_a_file_of_the_pools_without_its_form_is_told(text: str, why: str, tmp_path: Path) -> None:
    async with haproxy_rig(tmp_path) as rig:
        rig.node.pool_file.write_text(text)
        (problem,) = await problems(rig)
        assert why in problem
        with pytest.raises(UnexpectedAnswer, match=why):
            await rig.state()
        rig.node.pool_file.unlink()
        (problem,) = await problems(rig)
        assert "there is no file of the pools" in problem


async def test_certificates_that_are_loaded_from_elsewhere_are_told(tmp_path: Path) -> None:
    async with haproxy_rig(tmp_path, changes={"trunk-two.pem": "second.pem"}, prepare=_as_second_pem) as rig:
        (problem,) = await problems(rig)
        assert "trunk-two.pem is not loaded: bind trunk-tls-two with ssl crt and that file" in problem

    async with haproxy_rig(tmp_path / "lost") as rig:
        rig.node.slot("two").unlink()
        (problem,) = await problems(rig)
        assert "trunk-two.pem is not in the directory of the settings" in problem


def _as_second_pem(sip: Path) -> None:
    (sip / "second.pem").write_bytes((sip / "trunk-two.pem").read_bytes())


async def test_another_listener_with_the_same_leaf_is_another_user_of_it(tmp_path: Path) -> None:
    port, begin = free_port(), "# What Prometheus scrapes"
    section = f'frontend web from sip\n    bind 127.0.0.1:{port} ssl crt "${{SIP_DIRECTORY}}/web.pem"\n\n{begin}'

    def same_as_the_trunk(sip: Path) -> None:
        (sip / "web.pem").write_bytes((sip / "trunk-one.pem").read_bytes())

    async with haproxy_rig(tmp_path, changes={begin: section}, prepare=same_as_the_trunk) as rig:
        web = f"file:{rig.node.sip / 'web.pem'}"
        assert await rig.edge.trunks_presenting(A.sha256) == (TRUNK, web)
        await rig.bound()
        assert await rig.edge.trunks_presenting(B.sha256) == (TRUNK,)
        await rig.change(REMOVE)
        assert await rig.edge.trunks_presenting(A.sha256) == (web,)
        with pytest.raises(RequestRefused, match="in use"):
            await rig.edge.delete_certificate(A.sha256)
        assert rig.held() == {"one": "A", "two": "B"}


async def test_an_edge_that_resumes_sessions_is_told(tmp_path: Path) -> None:
    changes = {" no-tls-tickets": "", "tune.ssl.cachesize 0": "tune.ssl.cachesize 1000"}
    async with haproxy_rig(tmp_path, changes=changes) as rig:
        assert await problems(rig) == []
        context = client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        address = (rig.node.address, rig.node.ports["public"])
        with connected(*address, context=context) as first:
            session = first.session
        with connected(*address, context=context, session=session) as second:
            assert second.session_reused
        (problem,) = await problems(rig)
        assert "1 TLS sessions were resumed" in problem


async def test_what_would_keep_haproxy_from_starting_or_us_from_changing_is_told(tmp_path: Path) -> None:
    async with haproxy_rig(tmp_path) as rig:
        staple = rig.node.sip / "trunk-two.pem.ocsp"
        staple.write_bytes(good(A))
        (problem,) = await problems(rig)
        assert "trunk-two.pem.ocsp belongs to no certificate" in problem
        staple.unlink()
        pem = A.chain_pem + A.private_key.get_secret_value()
        await rig.node.command(f"@1 set ssl cert {rig.node.slot('two')} <<\n{pem.strip()}\n")
        (problem,) = await problems(rig)
        assert "a transaction on" in problem
        await rig.upload_b()
        assert await problems(rig) == [], "what we may have left open ourselves does not keep us from going on"


async def test_nodes_whose_slots_differ_are_told(tmp_path: Path) -> None:
    async with haproxy_rig(tmp_path, nodes=2) as rig:
        await rig.upload_b()
        for slot in ("one", "two"):
            rig.nodes[1].slot(slot).rename(rig.nodes[1].sip / f"was-{slot}")
        (rig.nodes[1].sip / "was-one").rename(rig.nodes[1].slot("two"))
        (rig.nodes[1].sip / "was-two").rename(rig.nodes[1].slot("one"))
        await rig.nodes[1].restart()
        found = await problems(rig)
        assert [p for p in found if "slot one holds different certificates" in p and "on node1" in p], found


async def test_a_workers_own_socket_is_not_the_masters(tmp_path: Path) -> None:
    changes = {"    maxconn 9000\n": '    maxconn 9000\n    stats socket "${SIP_RUN}/worker.sock" level admin\n'}
    async with haproxy_rig(tmp_path, changes=changes) as rig:
        rig.taps[0].master = rig.node.run / "worker.sock"
        (problem,) = await problems(rig)
        assert "give the address of -S" in problem
