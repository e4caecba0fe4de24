"""A plan endpoint for the tests of adapters that read figures."""

from __future__ import annotations

from typing import Any

from domain.plan import Endpoint


def endpoint(**changes: Any) -> Endpoint:
    """An endpoint on trunk-1 of edge-1, whose prober calls from 198.51.100.7."""
    return Endpoint.model_validate(
        {
            "name": "eu-1",
            "platform": "eu",
            "trunk": "edge-1/trunk-1",
            "fqdn": "trunk.example.com",
            "nodes": [{"address": "192.0.2.1"}],
            "peers": ["192.0.2.10"],
            "probe_addresses": ["198.51.100.7"],
            "carrier": "acme",
            "carrier_trunk": "acme-eu/1",
            **changes,
        }
    )
