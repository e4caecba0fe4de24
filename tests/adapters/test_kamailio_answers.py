"""What Kamailio answers, and what the adapter makes of it: other versions, other trunks, refusals, nonsense."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.edges.kamailio import checks
from adapters.edges.kamailio.host import KamailioNode, RpcRefused
from adapters.files.local import LocalFiles
from domain.errors import CredentialsRefused, RequestRefused, RotatorError, ServerFailed, UnexpectedAnswer
from settings import KamailioProfile

STATE = {"contract": 1, "trunk": "carrier-x", "started": 1, "now": 2, "loaded": "", "certificates": []}
HEALTHY: Mapping[str, Any] = {
    "core.version": "kamailio 5.6.3 (x86_64/linux) ",
    "core.tcp_info": {"readers": 1, "max_connections": 4096},
    "core.tcp_options": {"connection_lifetime": 14400},
    "tls.options": {"connection_timeout": 14400, "config": "/etc/kamailio/tls.cfg", "low_mem_threshold1": 6 * 2**20},
    "core.shmmem": {"free": 60 * 2**20},
    "core.modules": sorted(checks.MODULES),
}


def profile(folder: Path) -> KamailioProfile:
    (folder / "token").write_text("t0ken")
    return KamailioProfile.model_validate(
        {
            "kind": "kamailio",
            "trunk": "carrier-x",
            "nodes": [
                {
                    "name": "edge1",
                    "base_url": "https://edge1.example.com:8443",
                    "listener": "192.0.2.10:5061",
                    "files": {"kind": "local", "directory": str(folder)},
                }
            ],
            "token": {"file": str(folder / "token")},
            "trust_anchor_file": str(folder / "roots.pem"),
            "metrics": {"base_url": "https://prometheus.example.com"},
        }
    )


def node(folder: Path, answers: Mapping[str, Any], state: object = STATE, status: int = 200) -> KamailioNode:
    """A node whose commands answer so; one that is not named is unknown to it, as its module is not loaded."""

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["Authorization"] == "Bearer t0ken"
        if request.url.path == "/rotation/state":
            return httpx.Response(status, json=state)
        method = json.loads(request.content)["method"]
        if method not in answers:
            error = {"code": 500, "message": "Method Not Found"}
            return httpx.Response(500, json={"jsonrpc": "2.0", "error": error, "id": 1})
        return httpx.Response(200, json={"jsonrpc": "2.0", "result": answers[method], "id": 1})

    settings = profile(folder)
    transport = httpx.MockTransport(answer)
    return KamailioNode("[platforms.edge]", settings.nodes[0], settings, LocalFiles(folder), transport=transport)


@pytest.mark.parametrize(
    ("state", "status", "failure", "said"),
    [
        (STATE | {"contract": 2}, 200, RequestRefused, "another version of rotation.cfg"),
        (STATE | {"trunk": "carrier-y"}, 200, RequestRefused, "TRUNK_NAME carrier-y"),
        ({}, 404, RequestRefused, "include rotation.cfg"),
        ({"contract": "one"}, 200, UnexpectedAnswer, "contract"),
        (STATE | {"certificates": [{"serial": "1", "connections": 0, "calls": -1}]}, 200, UnexpectedAnswer, "calls"),
        ({}, 401, CredentialsRefused, "platforms.edge"),
        ({}, 503, ServerFailed, "503"),
    ],
)
async def test_a_state_that_cannot_be_used_says_why(
    tmp_path: Path, state: object, status: int, failure: type[RotatorError], said: str
) -> None:
    with pytest.raises(failure, match=said) as raised:
        await node(tmp_path, {}, state, status).state()
    assert "t0ken" not in str(raised.value)


async def test_a_refused_command_and_one_of_another_form_are_told_apart(tmp_path: Path) -> None:
    asked = node(tmp_path, {"core.version": "kamailio 5.6.3"})
    assert await asked.ask("core.version", str) == "kamailio 5.6.3"
    with pytest.raises(RpcRefused, match="500 Method Not Found"):
        await asked.ask("tls.reload", object)
    with pytest.raises(UnexpectedAnswer, match=r"core\.version"):
        await asked.ask("core.version", list[str])
    with pytest.raises(RequestRefused, match="does not keep what it has loaded"):
        await asked.note_loaded("x")


@pytest.mark.parametrize(
    ("version", "readers", "said"),
    [
        ("kamailio 5.6.3 (x86_64/linux) ", 1, ()),
        ("kamailio 5.6.3 (x86_64/linux) ", 2, ("tcp_children = 2 crashes kamailio 5.6.3",)),
        ("kamailio 5.7.6 (x86_64/linux)", 8, ("tcp_children = 8 crashes kamailio 5.7.6",)),
        ("kamailio 5.8.0 (x86_64/linux)", 8, ()),
        ("kamailio 6.0.1 (x86_64/linux)", 8, ()),
        ("of another fork", 8, ("tcp_children = 8 crashes of another fork",)),
    ],
)
async def test_one_tcp_process_before_5_8(tmp_path: Path, version: str, readers: int, said: tuple[str, ...]) -> None:
    asked = node(tmp_path, {**HEALTHY, "core.version": version, "core.tcp_info": {"readers": readers}})
    found = await checks.children(asked, profile(tmp_path))
    assert [one.partition(" (")[0].partition(" with")[0] for one in found] == list(said)


@pytest.mark.parametrize(
    ("tcp", "tls", "said"),
    [
        (14400, -1, []),
        (-1, 14400, []),
        (120, 14400, ["tcp_connection_lifetime = 120 s"]),
        (14399, 600, ["tcp_connection_lifetime = 14399 s", "tls connection_timeout = 600 s"]),
    ],
)
async def test_lifetimes_reach_over_the_longest_call_or_have_no_end(
    tmp_path: Path, tcp: int, tls: int, said: list[str]
) -> None:
    options = {**HEALTHY["tls.options"], "connection_timeout": tls}
    answers = {**HEALTHY, "core.tcp_options": {"connection_lifetime": tcp}, "tls.options": options}
    found = await checks.lifetimes(node(tmp_path, answers), profile(tmp_path))
    assert [one.partition(",")[0] for one in found] == said


async def test_modules_and_memory(tmp_path: Path) -> None:
    answers = {
        **HEALTHY,
        "core.modules": sorted(checks.MODULES - {"dialog", "tcpops"}),
        "core.shmmem": {"free": 12 * 2**20},
    }
    lacking = node(tmp_path, answers)
    assert await checks.modules(lacking, profile(tmp_path)) == ("modules are missing: load dialog, tcpops",)
    (memory,) = await checks.memory(lacking, profile(tmp_path))
    assert memory.startswith("12 MiB of shared memory are free and TLS stops below 6 MiB")
    fit = node(tmp_path, HEALTHY)
    assert await checks.modules(fit, profile(tmp_path)) + await checks.memory(fit, profile(tmp_path)) == ()


async def test_every_problem_is_told_with_its_node_and_an_unknown_command_is_one(tmp_path: Path) -> None:
    (tmp_path / "tls.cfg").write_text("[server:default]\ncertificate = /x.pem\n")
    answers = {method: result for method, result in HEALTHY.items() if method != "core.shmmem"}
    found = await checks.problems_of(node(tmp_path, answers), profile(tmp_path))
    assert found == (
        "edge1: a command is not known (500 Method Not Found): load the modules of rotation.cfg",
        "edge1: [server:default] of tls.cfg has no private_key: write them",
    )


def test_a_control_listener_without_tls_is_for_a_lab(tmp_path: Path) -> None:
    data = profile(tmp_path).model_dump()
    data["nodes"][0]["base_url"] = "http://edge1.example.com:8088"
    with pytest.raises(ValueError, match="base_url of edge1 must be https"):
        KamailioProfile.model_validate(data)
    assert KamailioProfile.model_validate(data | {"lab": True}).lab
    twice = {**data["nodes"][0], "base_url": "https://edge1.example.com:8443"}
    with pytest.raises(ValueError, match="the same name"):
        KamailioProfile.model_validate(data | {"nodes": [twice, twice]})
