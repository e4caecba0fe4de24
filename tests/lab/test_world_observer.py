"""The world's observer: real pings to every node, a trust store that an operator keeps, and switches for both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from domain.plan import parse_plan
from lab.lab_names import OBSERVED_TRUNK
from lab.world import WorldOptions
from settings import load_settings
from tests.lab.lab_client import LabClient, lab_client
from tests.lab.waiting import until


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[LabClient]:
    """A quick lab whose Genesys trunk has two nodes and an observer."""
    options = WorldOptions(tmp_path / "a lab", speed="test", call_rate=5.0, nodes=2, observed=True)
    async with lab_client(options) as client:
        yield client


async def seen(lab: LabClient, condition: Any) -> list[str | None]:
    """Why each ping fails, None for those that are answered, as soon as that fulfils a condition."""
    assert lab.world.observer is not None
    trunk = lab.world.observer.trunk

    async def look() -> list[str | None] | None:
        errors = [ping.error for ping in trunk.pings.values()]
        return errors if condition(errors, trunk.connected[0]) else None

    return await until(look)


async def test_the_files_name_the_observer_and_its_pings_follow_what_happens_to_the_trunk(lab: LabClient) -> None:
    observed = parse_plan(lab.secret("plan.toml")).endpoint("genesys").observer
    assert observed is not None
    assert observed.trunk == OBSERVED_TRUNK
    settings = load_settings(lab.directory / "settings.toml")
    assert settings.observers[observed.profile].base_url == lab.facts["observer"]
    ports = lab.facts["trunks"]["genesys"]["node_ports"]
    assert lab.world.observer is not None
    assert lab.world.observer.trunk.proxies == tuple(f"127.0.0.1:{port}" for port in ports)

    await seen(lab, lambda errors, connected: errors == [None, None] and connected)
    await lab.control("/lab/node", {"trunk": "genesys", "node": "genesys-2", "up": False})
    errors = await seen(lab, lambda errors, connected: errors[1] is not None)
    assert errors == [None, "tcp refused"]
    assert lab.world.observer.trunk.connected[0]
    await lab.control("/lab/node", {"trunk": "genesys", "node": "genesys-2", "up": True, "resync": True})

    await lab.control("/lab/observer", {"trusts": False})
    await seen(lab, lambda errors, connected: errors == ["tls unknown_ca"] * 2 and not connected)
    await lab.control("/lab/observer", {"trusts": True})
    await seen(lab, lambda errors, connected: errors == [None, None] and connected)

    await lab.control("/lab/observer", {"connected": False, "reports": False})
    assert not lab.world.observer.trunk.connected[0]
    frozen = lab.world.observer.trunk.reported_at
    assert lab.world.observer.trunk.reported_at == frozen

    async def calls() -> bool:
        assert lab.world.observer is not None
        return lab.world.observer.trunk.calls()[0] > 0

    await until(calls)
    assert not (await lab.state())["violations"]


async def test_without_an_observer_there_is_none_to_switch(tmp_path: Path) -> None:
    async with lab_client(WorldOptions(tmp_path, speed="test", call_rate=1.0)) as lab:
        answer = await lab.http.post(f"{lab.facts['control']}/lab/observer", json={"connected": False})
        assert answer.status_code == 400
        assert "--observed" in answer.json()["error"]
        assert parse_plan(lab.secret("plan.toml")).endpoint("genesys").observer is None
        assert load_settings(lab.directory / "settings.toml").observers == {}
