"""The plan that a rotation in this world needs, as TOML text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal

from lab.lab_names import (
    CERTIFICATE_ADDRESSES,
    CERTIFICATE_DNS_NAMES,
    CXONE_FQDN,
    CXONE_TARGET_A,
    CXONE_TARGET_B,
    CXONE_TRUNK,
    EDGE_ID,
    GENESYS_FQDN,
    GENESYS_TRUNK,
    SRV_NAMES,
)

Speed = Literal["demo", "test"]

_BOTH = {
    "soak": "8s",
    "overlap": "45s",
    "hold": "8s",
    "guard_hot": "1s",
    "guard_overlap": "2s",
    "guard_window": "5s",
    "guard_window_limit": "20s",
    "gate_interval": "1s",
    "stale_after": "5s",
    "adopt_window": "10s",
    "drain_spacing": "2s",
    "late_request": "3s",
    "action_deadline": "20s",
    "expiry_margin": "1h",
}
_DEMO = {**_BOTH, "readiness_deadline": "20s", "verify_deadline": "60s"}
"""Nobody who watches waits longer for what is not decided."""
_TEST = {
    **_BOTH,
    "soak": "2s",
    "overlap": "8s",
    "hold": "1s",
    "guard_hot": "500ms",
    "guard_overlap": "1s",
    "gate_interval": "500ms",
    "adopt_window": "5s",
    "drain_spacing": "500ms",
    "late_request": "1s",
}
_TIMINGS: Mapping[Speed, Mapping[str, str]] = {"demo": _DEMO, "test": _TEST}
_MINIMUM_SAMPLE: Mapping[Speed, int] = {"demo": 20, "test": 8}


def plan_text(
    *,
    speed: Speed,
    approvals: bool,
    genesys_peers: Sequence[str],
    cxone_peers: Sequence[str],
    genesys_ports: Sequence[int],
    cxone_ports: tuple[int, int],
    observed: str | None = None,
) -> str:
    """One certificate on both trunks.

    The peers are the carriers' addresses; `genesys_ports` has one port for each node, `cxone_ports` primary and
    secondary. `observed` is the Genesys trunk's id for its observer, if there is one.
    """
    nodes = ", ".join(f'{{ address = "127.0.0.1", port = {port} }}' for port in genesys_ports)
    wait = json.dumps(approvals)
    timings = "\n".join(f'{name} = "{value}"' for name, value in _TIMINGS[speed].items())
    return f"""\
name = "lab"

[certificate]
common_name = "{GENESYS_FQDN}"
dns_names = {json.dumps(list(CERTIFICATE_DNS_NAMES))}
ip_addresses = {json.dumps(list(CERTIFICATE_ADDRESSES))}
key_type = "rsa-2048"
ca = "vault-lab"
custody = "vault-kv-lab"

[[endpoints]]
name = "genesys"
platform = "genesys-lab"
trunk = "{EDGE_ID}/{GENESYS_TRUNK}"
fqdn = "{GENESYS_FQDN}"
role = "mutual"
topology = "same_listener"
nodes = [{nodes}]
peers = {json.dumps(list(genesys_peers))}
probe_addresses = ["127.0.0.1"]
carrier = "carrier-lab"
carrier_trunk = "genesys"
test_call = "sip:test@{GENESYS_FQDN}"
{_observer(observed)}
[[endpoints]]
name = "cxone"
platform = "cxone-lab"
trunk = "{CXONE_TRUNK}"
fqdn = "{CXONE_FQDN}"
role = "server"
topology = "separate_srv_targets"
nodes = [
  {{ address = "127.0.0.1", port = {cxone_ports[0]}, target = "{CXONE_TARGET_A}" }},
  {{ address = "127.0.0.1", port = {cxone_ports[1]}, target = "{CXONE_TARGET_B}" }},
]
peers = {json.dumps(list(cxone_peers))}
probe_addresses = ["127.0.0.1"]
carrier = "carrier-lab"
carrier_trunk = "cxone"
test_call = "sip:test@{CXONE_FQDN}"

[endpoints.srv]
dns = "dns-lab"
name = "{SRV_NAMES["cxone"]}"
target_a = "{CXONE_TARGET_A}"
target_b = "{CXONE_TARGET_B}"

[thresholds]
minimum_sample = {_MINIMUM_SAMPLE[speed]}
guard_sample = 20
consecutive_alerts = 5

[timings]
{timings}

[approvals]
prefer = {wait}
remove = {wait}

[notifications]
operations = "ops-lab"
carrier = "carrier-desk-lab"
"""


def _observer(trunk: str | None) -> str:
    if trunk is None:
        return ""
    return f"""
[endpoints.observer]
profile = "genesys-byoc-lab"
trunk = "{trunk}"
down_for = "2s"
stale_after = "5s"
"""
