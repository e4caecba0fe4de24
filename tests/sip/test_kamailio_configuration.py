"""What PREFLIGHT says of a Kamailio's own configuration, asked of real ones that lack something; and who may ask."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.edges.base import Canary
from adapters.edges.kamailio.edge import KamailioEdge
from adapters.edges.store import leaf_sha256
from domain.errors import CredentialsRefused
from lab.carrier_ca import CarrierCa
from settings import KamailioProfile
from tests.adapters.trunk_leaves import trunk_leaf
from tests.sip.kamailio_node import TOKEN, TRUNK
from tests.sip.kamailio_rig import BIND, PREFER, B, Rig, kamailio_rig, profile

pytestmark = pytest.mark.sip


async def problems(rig: Rig) -> str:
    return "\n".join(await rig.edge.configuration_problems(TRUNK))


async def problems_with(rig: Rig, **changes: object) -> str:
    """With other settings than the rig's."""
    settings = profile(rig.node.directory.parent, rig.nodes)
    edge = KamailioEdge("edge", KamailioProfile.model_validate(settings.model_dump() | changes))
    try:
        return "\n".join(await edge.configuration_problems(TRUNK))
    finally:
        await edge.close()


async def test_what_is_shipped_is_fit(tmp_path: Path) -> None:
    for number, shape in enumerate[dict[str, Any]]([{"canary": "port"}, {"canary": None}, {"outbound": True}]):
        async with kamailio_rig(tmp_path / str(number), **shape) as rig:
            assert await rig.edge.configuration_problems(TRUNK) == ()
            assert await rig.edge.check_access() == ()
            assert rig.edge.capabilities.canary is Canary(shape.get("canary", "sni") or "none")


def _children(text: str) -> str:
    return _replaced(text, "tcp_children=1", "tcp_children=2")


def _without_rotation(text: str) -> str:
    """A Kamailio that somebody set up for JSON-RPC alone."""
    bare = 'loadmodule "kex.so"\nloadmodule "corex.so"\nloadmodule "jsonrpcs.so"\nloadmodule "xhttp.so"\n'
    bare += 'modparam("jsonrpcs", "transport", 1)\n'
    bare += 'event_route[xhttp:request] {\n    if ($hu == "/RPC") jsonrpc_dispatch();\n'
    bare += '    else xhttp_reply("404", "Not Found", "text/plain", "");\n}\n'
    text = _replaced(text, 'include_file "rotation.cfg"', bare)
    return re.sub(r"route\(ROTATION_\w+\);", "", text)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ({"changes": _children}, ["tcp_children = 2 crashes kamailio 5.6.3", "set tcp_children=1"]),
        (
            {"longest_call_s": 600},
            ["tcp_connection_lifetime = 600 s", "tls connection_timeout = 600 s", "set it to 14400 or more"],
        ),
        (
            {"changes": _without_rotation},
            ["does not know /rotation/state", "load dialog, htable, rtimer, tcpops", "include rotation.cfg"],
        ),
        ({"shared_memory_mb": 16}, ["MiB of shared memory are free", "restart Kamailio with more"]),
    ],
    ids=["children", "lifetimes", "no rotation.cfg", "memory"],
)
async def test_what_is_missing_or_unsafe_is_told_with_what_to_do(
    tmp_path: Path, shape: dict[str, Any], said: list[str]
) -> None:
    async with kamailio_rig(tmp_path, **shape) as rig:
        told = await problems(rig)
        assert [part for part in said if part not in told] == []
        assert all(line.startswith("node0: ") for line in told.splitlines())


async def test_settings_and_kamailio_have_to_fit(tmp_path: Path) -> None:
    async with kamailio_rig(tmp_path) as rig:
        assert "no TLS listener on port 5999" in await problems_with(rig, canary={"kind": "port", "port": 5999})
        assert "no sections for outbound calls" in await problems_with(rig, client="client:10.9.9.9:5061")
        assert "[client:default] of tls.cfg has no certificate" in await problems_with(rig, client="client:default")
        assert "Kamailio loads tls.cfg, the settings say other.cfg" in await problems_with(rig, tls_config="other.cfg")
        named = replace(rig, edge=KamailioEdge("edge", _of_another_trunk(rig)))
        assert "another trunk" in "\n".join(await named.edge.configuration_problems("carrier-y"))
        await named.edge.close()


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (
            lambda text: text.replace("/trunk.chain.pem", "/elsewhere/trunk.chain.pem", 1),
            "name files in several directories",
        ),
        (
            lambda text: text.replace("trunk.chain.pem", "elsewhere.pem", 1),
            "elsewhere.pem, which is not in the directory",
        ),
        (
            lambda text: text.replace(
                "[server:any]", "[server:any]\nserver_name = canary.trunk.example.com\n[server:any]"
            ),
            "2 sections for the canary",
        ),
    ],
    ids=["another directory", "not there", "twice"],
)
async def test_a_tls_cfg_that_cannot_be_rotated_is_told(tmp_path: Path, edit: Callable[[str], str], said: str) -> None:
    async with kamailio_rig(tmp_path) as rig:
        rig.node.tls_cfg.write_text(edit(rig.node.tls_cfg.read_text()))
        assert said in await problems(rig)


async def test_an_outbound_certificate_of_its_own_is_told(tmp_path: Path) -> None:
    async with kamailio_rig(tmp_path, outbound=True) as rig:
        await rig.edge.upload("own", trunk_leaf("C").chain_pem, trunk_leaf("C").private_key)
        text = rig.node.tls_cfg.read_text()
        start = text.index("[client:default]")
        rig.node.tls_cfg.write_text(text[:start] + text[start:].replace("/trunk.", "/own."))
        assert "[client:default] and [server:default] present different certificates" in await problems(rig)


async def test_only_the_token_opens_the_control_listener(tmp_path: Path) -> None:
    async with kamailio_rig(tmp_path) as rig:
        stranger = KamailioEdge("edge", profile(tmp_path, rig.nodes, token="wr0ng-s3cret"))
        for attempt in (stranger.check_access(), stranger.read_trunk(TRUNK), stranger.health(TRUNK)):
            with pytest.raises(CredentialsRefused) as refused:
                await attempt
            assert "wr0ng" not in str(refused.value)
        await stranger.close()
        async with httpx.AsyncClient(verify=False, trust_env=False) as client:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            public = f"https://{rig.node.address}:{rig.node.ports['sips']}"
            for path in ("/metrics", "/rotation/state", "/RPC"):
                assert (await client.get(f"{public}{path}", headers=headers)).status_code == 404
                assert (await client.get(f"{rig.node.control_url}{path}")).status_code == 401


async def test_a_rotation_over_a_control_listener_with_tls(tmp_path: Path) -> None:
    ca = CarrierCa()
    own = ca.issue("localhost")
    (tmp_path / "control-ca.pem").write_text(ca.certificate_pem)
    control = ("localhost", own.certificate_pem, own.key_pem)
    async with kamailio_rig(tmp_path, control=control, ca_file=tmp_path / "control-ca.pem") as rig:
        assert await rig.edge.configuration_problems(TRUNK) == ()
        await rig.upload_b()
        await rig.change(BIND)
        assert (await rig.change(PREFER)).pool == PREFER.pool
        assert rig.served() == B.sha256
        assert (await rig.edge.health(TRUNK)).listener_up
        assert "section:server:127.0.0.1" in str(await rig.edge.trunks_presenting(_leaf(own.certificate_pem)))


def _of_another_trunk(rig: Rig) -> KamailioProfile:
    settings = profile(rig.node.directory.parent, rig.nodes)
    return KamailioProfile.model_validate(settings.model_dump() | {"trunk": "carrier-y"})


def _replaced(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


def _leaf(pem: str) -> str:
    return leaf_sha256(pem) or ""
