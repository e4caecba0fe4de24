"""The whole lab: calls flow, everything adds up, faults come on after BIND, and nothing is left when it stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import hvac
import pytest

from domain.plan import limits_undercut, parse_plan
from lab import vault_setup
from lab.bao import Bao
from lab.faults import FAULTS
from lab.lab_names import CERTIFICATE_ADDRESSES, CERTIFICATE_DNS_NAMES, GENESYS_FQDN
from lab.vault_setup import SIGNING_MOUNT, IssuedCertificate
from lab.world import WorldOptions, running_world
from lab.world_files import DirectoryInUse
from settings import load_settings
from tests.lab.lab_client import LabClient, lab_client
from tests.lab.waiting import until

ROOT = Path(__file__).resolve().parents[2]
RATE = 10.0
Start = Callable[..., contextlib.AbstractAsyncContextManager[LabClient]]


@pytest.fixture(scope="module")
def bao_for_b(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A Vault that a world is given, so that the test holds its root token and can sign B."""
    with Bao(tmp_path_factory.mktemp("bao")) as bao:
        yield bao


@pytest.fixture
def vault(bao_for_b: Bao) -> tuple[str, str]:
    """Address and token of a server without the lab's mounts."""
    client = hvac.Client(url=bao_for_b.address, token=bao_for_b.root_token)
    for mount in ("mounts/pki_root", "mounts/pki_int_a", "mounts/pki_int_b", "mounts/siptls", "mounts/transit"):
        client.adapter.delete(f"/v1/sys/{mount}")
    client.adapter.delete("/v1/sys/auth/approle")
    client.adapter.close()
    return bao_for_b.address, bao_for_b.root_token


@pytest.fixture
async def lab(tmp_path: Path, vault: tuple[str, str]) -> AsyncIterator[LabClient]:
    """A quick lab with many calls."""
    options = WorldOptions(tmp_path / "a lab", vault=vault, speed="test", call_rate=RATE)
    async with lab_client(options) as client:
        yield client


@pytest.fixture
async def certificate_b(vault: tuple[str, str], lab: LabClient) -> IssuedCertificate:
    """B, signed by the other intermediate; in a thread, because the lab's calls go on in this loop meanwhile."""
    client = hvac.Client(url=vault[0], token=vault[1])
    try:
        return await asyncio.to_thread(
            vault_setup.issue,
            client,
            SIGNING_MOUNT,
            common_name=GENESYS_FQDN,
            dns_names=CERTIFICATE_DNS_NAMES,
            ip_addresses=CERTIFICATE_ADDRESSES,
        )
    finally:
        client.adapter.close()


async def _calls(lab: LabClient, completed: int) -> dict[str, Any]:
    """The trunks once each has completed that many calls."""

    async def look() -> dict[str, Any] | None:
        trunks: dict[str, Any] = (await lab.state())["trunks"]
        done = all(trunk["calls"]["completed"] >= completed for trunk in trunks.values())
        return trunks if done else None

    return await until(look)


async def _handshakes_on(lab: LabClient, trunk: str, sha256: str, at_least: int) -> dict[str, Any]:
    """What the carrier counted on a certificate, once there are that many attempts."""

    async def look() -> dict[str, Any] | None:
        counted = (await lab.state())["trunks"][trunk]["handshakes"]["carrier"].get(sha256)
        return counted if counted and counted["attempts"] >= at_least else None

    return await until(look)


# A lab in peace


async def test_calls_flow_in_both_directions_and_every_one_is_accounted_for(lab: LabClient) -> None:
    trunks = await _calls(lab, 20)
    for trunk in trunks.values():
        assert trunk["pool"] == [lab.facts["certificate_a"]]
        assert trunk["preferred"] == lab.facts["certificate_a"]
        assert trunk["last_losses"] == []
    final = await lab.control("/lab/settle")
    assert final["settled"]
    assert final["adds_up"]
    for trunk in final["trunks"].values():
        assert trunk["calls"]["placed"] == trunk["calls"]["completed"] >= 20
        assert (trunk["calls"]["lost"], trunk["calls"]["active"], trunk["active_calls"]) == (0, 0, {})
    assert final["violations"] == []
    assert final["promise_checks"] > 2
    genesys = lab.world.trunks["genesys"].ledger.counts
    now = lab.world.trunks["genesys"].ledger.read_at
    directions = {group.direction for group in genesys(now - timedelta(minutes=5), now)}
    assert directions == {"INBOUND", "OUTBOUND"}


async def test_a_certificate_is_replaced_by_hand_without_a_lost_call_or_a_broken_promise(
    lab: LabClient, certificate_b: IssuedCertificate
) -> None:
    await _calls(lab, 5)
    genesys_b, cxone_b = await lab.upload(certificate_b)
    genesys_a, cxone_a = await lab.a_ids()
    assert (await lab.bind_genesys(genesys_a, genesys_b)).status_code == 200
    assert (await lab.bind_cxone(cxone_a, cxone_b)).status_code == 200
    sha256_b = (await lab.state())["trunks"]["genesys"]["pool"][1]
    assert (await lab.bind_genesys(genesys_b, genesys_a)).status_code == 200
    await lab.prefer_b_in_dns()
    state = await lab.state()
    assert state["dns_serial"] == 2
    assert {trunk["preferred"] for trunk in state["trunks"].values()} == {sha256_b}
    for name in ("genesys", "cxone"):
        assert (await _handshakes_on(lab, name, sha256_b, 10))["failures"] == {}

    async def drained() -> bool:
        trunks = (await lab.state())["trunks"].values()
        return not any(trunk["active_calls"].get(lab.facts["certificate_a"]) for trunk in trunks)

    await until(drained)
    assert (await lab.bind_genesys(genesys_b)).status_code == 200
    assert (await lab.bind_cxone(cxone_b, None)).status_code == 200
    final = await lab.control("/lab/settle")
    assert final["adds_up"]
    assert final["violations"] == []
    for trunk in final["trunks"].values():
        assert (trunk["pool"], trunk["last_losses"], trunk["calls"]["lost"]) == ([sha256_b], [], 0)


async def test_a_long_call_is_placed_on_each_trunk_and_keeps_its_certificate_busy(tmp_path: Path) -> None:
    options = WorldOptions(tmp_path, speed="test", call_rate=0.5, long_call_s=600)
    async with lab_client(options) as lab:
        await lab.control("/lab/quiet", {"trunk": "genesys", "on": True})
        await lab.control("/lab/quiet", {"trunk": "cxone", "on": True})

        async def only_the_long_calls() -> bool:
            trunks = (await lab.state())["trunks"].values()
            return all(trunk["active_calls"] == {lab.facts["certificate_a"]: 1} for trunk in trunks)

        await until(only_the_long_calls)
        final = await lab.control("/lab/settle")
        assert final["settled"]
        assert [trunk["calls"]["lost"] for trunk in final["trunks"].values()] == [0, 0]


# The directory


async def test_the_directory_holds_a_valid_plan_and_settings_and_private_files(
    lab: LabClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stat.S_IMODE(lab.directory.stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in lab.directory.iterdir()}
    assert set(files.values()) == {0o600}
    assert not [name for name in files if name.startswith(".")]
    assert json.loads(lab.secret("lab.json")) == lab.facts
    plan = parse_plan(lab.secret("plan.toml"))
    assert [endpoint.name for endpoint in plan.endpoints] == ["genesys", "cxone"]
    assert plan.endpoints[0].nodes[0].port == lab.facts["trunks"]["genesys"]["primary_port"]
    assert plan.endpoints[1].nodes[1].port == lab.facts["trunks"]["cxone"]["secondary_port"]
    assert plan.endpoints[0].peers == (lab.facts["peer_address"],)
    assert (plan.timings.soak, plan.timings.overlap) == (timedelta(seconds=2), timedelta(seconds=8))
    assert not plan.approvals.prefer
    assert limits_undercut(plan)
    monkeypatch.setenv("SIP_ROTATE_SETTINGS", "")
    settings = load_settings(lab.directory / "settings.toml")
    assert settings.codec.keys["demo-1"].read("codec").get_secret_value() == lab.secret("codec.key")
    assert settings.platforms["genesys-lab"].base_url == lab.facts["genesys"]
    assert all(platform.lab for platform in settings.platforms.values())


async def test_approvals_and_demo_speed_are_written_into_the_plan(tmp_path: Path) -> None:
    async with lab_client(WorldOptions(tmp_path, approvals=True, call_rate=1)) as lab:
        plan = parse_plan(lab.secret("plan.toml"))
    assert plan.approvals.prefer
    assert plan.approvals.remove
    assert (plan.timings.overlap, plan.timings.hold) == (timedelta(seconds=45), timedelta(seconds=8))


async def test_a_directory_whose_lab_runs_is_not_taken_over(tmp_path: Path) -> None:
    directory = tmp_path / "lab"
    directory.mkdir()
    (directory / "lab.json").write_text(json.dumps({"pid": os.getppid()}))
    with pytest.raises(DirectoryInUse):
        async with running_world(WorldOptions(directory)):
            pass
    (directory / "lab.json").write_text(json.dumps({"pid": 2**22 + 1}))
    async with running_world(WorldOptions(directory, call_rate=1)) as world:
        assert json.loads((directory / "lab.json").read_text()) == world.facts
    assert not (directory / "lab.json").exists()


# Faults


async def test_a_carrier_that_distrusts_b_refuses_it_and_b_alone_breaks_the_promise(
    lab: LabClient, certificate_b: IssuedCertificate
) -> None:
    await lab.control("/lab/faults", {"name": "carrier-distrusts-b", "on": True})
    assert (await lab.state())["faults"] == {"carrier-distrusts-b": False}
    genesys_b, _ = await lab.upload(certificate_b)
    genesys_a, _ = await lab.a_ids()
    await lab.bind_genesys(genesys_a, genesys_b)
    state = await lab.state()
    assert state["faults"] == {"carrier-distrusts-b": True}
    assert state["violations"] == []
    sha256_b = state["trunks"]["genesys"]["pool"][1]
    await lab.bind_genesys(genesys_b)
    (violation,) = (await lab.state())["violations"]
    assert violation["endpoint"] == "genesys"
    assert sha256_b[:12] in violation["reason"]
    assert set((await _handshakes_on(lab, "genesys", sha256_b, 3))["failures"]) == {"unknown_ca"}
    await lab.bind_genesys(genesys_a)
    assert len((await lab.state())["violations"]) == 1


async def test_a_quarter_of_the_handshakes_on_b_is_refused_and_none_on_a(
    lab: LabClient, certificate_b: IssuedCertificate
) -> None:
    await lab.control("/lab/faults", {"name": "b-refused-by-share", "on": True})
    genesys_b, _ = await lab.upload(certificate_b)
    genesys_a, _ = await lab.a_ids()
    await lab.bind_genesys(genesys_b, genesys_a)
    sha256_b = (await lab.state())["trunks"]["genesys"]["pool"][0]
    counted = await _handshakes_on(lab, "genesys", sha256_b, 40)
    share = sum(counted["failures"].values()) / counted["attempts"]
    assert 0.15 < share < 0.35
    trunks = (await lab.state())["trunks"]
    assert trunks["cxone"]["calls"]["lost"] == 0
    assert not trunks["genesys"]["handshakes"]["carrier"][lab.facts["certificate_a"]]["failures"]


async def test_invites_on_b_are_rejected_by_whoever_is_called_while_handshakes_are_fine(
    lab: LabClient, certificate_b: IssuedCertificate
) -> None:
    await lab.control("/lab/faults", {"name": "invites-403", "on": True})
    genesys_b, _ = await lab.upload(certificate_b)
    genesys_a, _ = await lab.a_ids()
    await lab.bind_genesys(genesys_b, genesys_a)
    sha256_b = (await lab.state())["trunks"]["genesys"]["pool"][0]
    assert (await _handshakes_on(lab, "genesys", sha256_b, 20))["failures"] == {}

    async def lost_both_ways() -> bool:
        losses = (await lab.state())["trunks"]["genesys"]["last_losses"]
        return {loss["direction"] for loss in losses if loss["cause"] == "sip 403"} == {"INBOUND", "OUTBOUND"}

    await until(lost_both_ways)
    await lab.control("/lab/faults", {"name": "invites-403", "on": False})
    assert (await lab.state())["faults"] == {}
    await lab.bind_genesys(genesys_a, genesys_b)
    assert (await lab.control("/lab/settle"))["adds_up"]


async def test_a_fault_armed_at_the_start_is_on_after_bind(tmp_path: Path, vault: tuple[str, str]) -> None:
    with pytest.raises(KeyError, match="no-such-fault"):
        async with running_world(WorldOptions(tmp_path, faults=("no-such-fault",))):
            pass
    options = WorldOptions(tmp_path, faults=("carrier-health-down",), vault=vault, call_rate=1)
    async with lab_client(options) as lab:
        answer = await lab.http.get(f"{lab.facts['control']}/lab/faults")
    assert set(answer.json()) == set(FAULTS)
    assert answer.json()["carrier-health-down"] == {
        "description": FAULTS["carrier-health-down"],
        "armed": True,
        "active": False,
    }


# The control API


async def test_a_quiet_trunk_places_no_calls_while_the_other_goes_on(lab: LabClient) -> None:
    await lab.control("/lab/quiet", {"trunk": "cxone", "on": True})

    async def silent() -> bool:
        return bool((await lab.state())["trunks"]["cxone"]["calls"]["active"] == 0)

    await until(silent)
    placed = {name: trunk["calls"]["placed"] for name, trunk in (await lab.state())["trunks"].items()}

    async def genesys_went_on() -> bool:
        return bool((await lab.state())["trunks"]["genesys"]["calls"]["placed"] >= placed["genesys"] + 10)

    await until(genesys_went_on)
    assert (await lab.state())["trunks"]["cxone"]["calls"]["placed"] == placed["cxone"]


async def test_counters_freeze_and_start_anew_on_one_side_alone(lab: LabClient) -> None:
    await _calls(lab, 5)
    await lab.control("/lab/metrics", {"trunk": "genesys", "frozen": True})
    trunk = (await lab.state())["trunks"]["genesys"]
    assert trunk["frozen"] == {"platform": True, "carrier": False}
    frozen = trunk["handshakes"]["platform"]
    before = trunk["calls"]["placed"]

    async def more() -> dict[str, Any] | None:
        found: dict[str, Any] = (await lab.state())["trunks"]["genesys"]
        return found if found["calls"]["placed"] > before + 10 else None

    after = await until(more)
    assert after["handshakes"]["platform"] == frozen
    assert after["handshakes"]["carrier"] != frozen
    ledger = lab.world.trunks["genesys"].ledger
    since = ledger.counters_since
    await lab.control("/lab/metrics", {"trunk": "genesys", "frozen": False, "reset": True})
    assert ledger.counters_since > since


async def test_tokens_can_be_expired_and_the_request_log_shows_what_was_refused(lab: LabClient) -> None:
    assert (await lab.send("genesys", "GET", "/api/v2/platform/certificates")).status_code == 200
    await lab.control("/lab/expire-tokens")
    assert (await lab.send("genesys", "GET", "/api/v2/platform/certificates")).status_code == 401
    assert (await lab.send("cxone", "GET", "/restapi/v1.0/sip/trunks")).status_code == 401
    log = (await lab.http.get(f"{lab.facts['control']}/lab/requests")).json()["requests"]
    assert [(one["service"], one["method"], one["status"]) for one in log[-3:]] == [
        ("genesys", "GET", 200),
        ("genesys", "GET", 401),
        ("cxone", "GET", 401),
    ]
    assert set(log[0]) == {"at", "service", "method", "path", "status"}
    assert (await lab.state())["api_requests"]["genesys"] == {"200": 2, "401": 1}


async def test_a_control_request_that_is_not_understood_is_refused(lab: LabClient) -> None:
    refused: list[tuple[str, Any]] = [
        ("/lab/faults", {"name": "no-such-fault", "on": True}),
        ("/lab/faults", {"name": "api-429"}),
        ("/lab/quiet", {"trunk": "other", "on": True}),
        ("/lab/quiet", {"trunk": "cxone", "on": "yes"}),
        ("/lab/metrics", {"trunk": "cxone", "speed": 1}),
        ("/lab/quiet", []),
    ]
    for path, body in refused:
        answer = await lab.http.post(f"{lab.facts['control']}{path}", json=body)
        assert (answer.status_code, set(answer.json())) == (400, {"error"})
    assert (await lab.http.get(f"{lab.facts['control']}/lab/nothing")).status_code == 404
    assert (await lab.http.get(f"{lab.facts['control']}/lab/state?all=1")).status_code == 400


# The command


async def test_the_command_starts_everything_and_sigterm_ends_everything(tmp_path: Path) -> None:
    directory = tmp_path / "a lab with spaces"
    command = [sys.executable, "-W", "error", "-m", "lab", "run", "--directory", str(directory), "--speed", "test"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        ready = await asyncio.wait_for(process.stdout.readline(), 60)
        facts = json.loads((directory / "lab.json").read_text())
        assert facts["control"] in ready.decode()
        assert facts["pid"] == process.pid
        for pid in (process.pid, facts["bao_pid"]):
            os.kill(pid, 0)
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, errors) == (0, b"")
    with pytest.raises(ProcessLookupError):
        os.kill(facts["bao_pid"], 0)
    assert not (directory / "lab.json").exists()


async def test_the_command_lists_the_faults(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lab", "faults", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    listed, _ = await asyncio.wait_for(process.communicate(), 30)
    assert [line.split()[0] for line in listed.decode().splitlines()] == list(FAULTS)
