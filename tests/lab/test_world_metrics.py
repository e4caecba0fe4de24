"""The running lab's monitoring: Datadog's stand-in by the settings that the lab writes, and the page for Prometheus."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.registry import Adapters
from domain.plan import parse_plan
from lab.lab_names import CXONE, GENESYS
from lab.world import WorldOptions
from settings import load_settings
from tests.adapters.counting_lab import counted, told
from tests.lab.lab_client import lab_client
from tests.lab.waiting import until


async def test_monitoring_counts_what_the_platforms_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIP_ROTATE_SETTINGS", "")
    async with lab_client(WorldOptions(tmp_path / "lab", speed="test", call_rate=20.0, tap=True)) as lab:
        adapters = Adapters(load_settings(lab.directory / "settings.toml"))
        source = adapters.metric_source("datadog-lab")
        assert adapters.is_lab("metrics", "datadog-lab")
        endpoints = {one.name: one for one in parse_plan((lab.directory / "plan.toml").read_text()).endpoints}
        ledgers = {name: lab.world.trunks[name].ledger for name in (GENESYS, CXONE)}
        since = datetime.now(UTC).replace(microsecond=0)

        async def enough() -> datetime | None:
            """The last whole second, once ten calls were set up on each trunk by then."""
            end = datetime.now(UTC).replace(microsecond=0)
            calls = [
                sum(one.call_setups.attempts for one in ledger.counts(since, end).values())
                for ledger in ledgers.values()
            ]
            return end if min(calls) >= 10 else None

        end = await until(enough)
        for name, ledger in ledgers.items():
            reading = await source.samples(endpoints[name], since, end)
            expected = {
                key: figures
                for key, figures in counted(ledger, since, end).items()
                if key[1].upper() in lab.world.trunks[name].directions
            }
            assert told(reading) == expected
            assert end - reading.read_at <= timedelta(seconds=1)
        page = await lab.http.get(lab.facts["exposition"])
        assert page.status_code == 200
        assert f'sip_edge_start_time_seconds{{trunk="{CXONE}"}}' in page.text
        assert f'sip_edge_calls_total{{trunk="{GENESYS}",certificate="{lab.world.certificate_a}"' in page.text
        for key in ("datadog-api.key", "datadog-application.key"):
            assert (lab.directory / key).stat().st_mode & 0o077 == 0
        await adapters.close()
    assert ("datadog", 200) in lab.world.log.counts
