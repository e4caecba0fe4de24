"""Wrong plans, wrong credentials, unreachable systems: a clear error that names it, and nothing left behind."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from domain.gates import GateResult, Verdict
from domain.phases import Phase
from tests.e2e.stage import LabProcess, Stage, staged


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("what", ["genesys", "cxone", "carrier", "pki", "dns"])
async def test_an_unreachable_system_is_named_and_nothing_is_left_behind(
    temporal: str, lab: LabProcess, tmp_path: Path, what: str
) -> None:
    settings = tmp_path / "settings.toml"
    text = (lab.directory / "settings.toml").read_text()
    address = {
        "genesys": f'"{lab.facts["genesys"]}"',
        "cxone": f'"{lab.facts["cxone"]}"',
        "carrier": f'"{lab.facts["carrier"]}"',
        "pki": f'"{lab.facts["vault"]}"',
        "dns": f"port = {lab.facts['dns']['port']}",
    }[what]
    assert address in text
    closed = _closed_port()
    settings.write_text(text.replace(address, f"port = {closed}" if what == "dns" else f'"http://127.0.0.1:{closed}"'))
    async with staged(temporal, lab, settings) as stage:
        await _assert_aborts_naming(stage, str(closed) if what != "dns" else "dns-lab")


async def test_wrong_credentials_of_every_system_are_all_named_at_once(
    temporal: str, lab: LabProcess, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.toml"
    text = (lab.directory / "settings.toml").read_text()
    for name in ("genesys.secret", "cxone.secret", "carrier.token", "tsig.key"):
        (tmp_path / name).write_text("d3Jvbmc=" if name == "tsig.key" else "wrong")
        assert str(lab.directory / name) in text
        text = text.replace(str(lab.directory / name), str(tmp_path / name))
    settings.write_text(text)
    async with staged(temporal, lab, settings) as stage:
        preflight = await _assert_aborts_naming(stage, "genesys")
        failed = " ".join(f.text() for f in preflight.findings if f.verdict is not Verdict.PASS)
        for where in ("[platforms.genesys-lab]", "[platforms.cxone-lab]", "[carriers.carrier-lab]", "[dns.dns-lab]"):
            assert where in failed


async def test_a_limit_that_only_a_lab_may_undercut_is_refused_by_the_worker(
    temporal: str, lab: LabProcess, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.toml"
    text = (lab.directory / "settings.toml").read_text()
    part = text.index("[platforms.cxone-lab]")
    # https is demanded as soon as a profile is not a lab's
    live = text[:part] + text[part:].replace("lab = true\n", "", 1).replace("http://", "https://", 2)
    settings.write_text(live)
    async with staged(temporal, lab, settings) as stage:
        reason = (await _assert_aborts_naming(stage, "timings.overlap")).reason
        assert "at least 72h" in reason
        assert "cxone is not marked lab = true" in reason


async def _assert_aborts_naming(stage: Stage, named: str) -> GateResult:
    before = stage.lab.get("/lab/state")["trunks"]
    rotation = await stage.start()
    error = await rotation.fails()
    assert error.type == "Aborted"
    assert named in error.message, error.message
    status = await rotation.status()
    assert status.phase is Phase.ABORTED
    assert status.effects == ()
    preflight = next(gate for gate in status.gates if gate.gate == "preflight")
    assert preflight.verdict in (Verdict.FAIL, Verdict.ERROR)
    after = stage.lab.get("/lab/state")["trunks"]
    assert {n: t["pool"] for n, t in before.items()} == {n: t["pool"] for n, t in after.items()}
    return preflight
