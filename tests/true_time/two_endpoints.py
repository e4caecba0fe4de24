"""The plan of these tests: two endpoints, and every timing and threshold that it does not name at its default."""

from __future__ import annotations

import json

from domain.plan import Plan, parse_plan

PLAN = """\
name = "true-time"

[certificate]
common_name = "east.example.com"
dns_names = ["east.example.com", "west.example.com", "a.west.example.com", "b.west.example.com"]
ip_addresses = ["198.51.100.1", "198.51.100.2"]
key_type = "ec-p256"
lifetime = "90d"
ca = "corp"
custody = "vault"

[[endpoints]]
name = "east"
platform = "genesys"
trunk = "edge-1/trunk-1"
fqdn = "east.example.com"
role = "mutual"
nodes = [{ address = "198.51.100.1" }]
peers = ["192.0.2.10"]
probe_addresses = ["203.0.113.9"]
carrier = "acme"
carrier_trunk = "acme-east"
test_call = "sip:test@east.example.com"

[[endpoints]]
name = "west"
platform = "cxone"
trunk = "trunk-2"
fqdn = "west.example.com"
topology = "separate_srv_targets"
nodes = [
  { address = "198.51.100.2", port = 5061, target = "a.west.example.com" },
  { address = "198.51.100.2", port = 5062, target = "b.west.example.com" },
]
peers = ["192.0.2.20"]
probe_addresses = ["203.0.113.9"]
carrier = "acme"
carrier_trunk = "acme-west"
test_call = "sip:test@west.example.com"

[endpoints.srv]
dns = "corp-dns"
name = "_sips._tcp.west.example.com"
target_a = "a.west.example.com"
target_b = "b.west.example.com"

[notifications]
operations = {operations}
carrier = "acme-desk"

[approvals]
prefer = {prefer}
remove = {remove}
"""


def plan_of_two(
    *,
    prefer: bool = False,
    remove: bool = False,
    ramp: tuple[int, ...] = (),
    operations: str | list[str] = "ops",
    **timings: str,
) -> Plan:
    """The plan; `prefer` and `remove` ask for approvals, `ramp` is of the first endpoint, `timings` are a table."""
    text = PLAN.replace("{operations}", json.dumps(operations))
    text = text.replace("{prefer}", str(prefer).lower()).replace("{remove}", str(remove).lower())
    text = text.replace('role = "mutual"\n', f'role = "mutual"\nramp = {list(ramp)}\n', 1)
    if timings:
        text += "\n[timings]\n" + "".join(f'{name} = "{value}"\n' for name, value in timings.items())
    return parse_plan(text)
