"""The world's counts as monitoring systems have them: Datadog, and a Prometheus that may come and scrape."""

from __future__ import annotations

from dataclasses import dataclass

from lab.datadog_api import DatadogApi
from lab.exposition import Exposition
from lab.world_files import WorldSecrets
from lab.world_parts import World


@dataclass(frozen=True)
class Monitoring:
    """Both of the same ledgers: those of the trunks' platforms."""

    datadog: DatadogApi
    exposition: Exposition


def monitoring_of(world: World, secrets: WorldSecrets) -> Monitoring:
    """Trunks go by the lab's names, which the plan gives to its endpoints."""
    ledgers = {name: (trunk.ledger, trunk.directions) for name, trunk in world.trunks.items()}
    datadog = DatadogApi(
        ledgers,
        api_key=secrets.datadog_api_key,
        application_key=secrets.datadog_application_key,
        log=world.log,
        faults=world.faults,
    )
    return Monitoring(datadog, Exposition(ledgers))
