"""A small valid plan, and ways to change one thing in it."""

from __future__ import annotations

from domain.plan import Plan, parse_plan

PLAN = """\
name = "east-2026"

[certificate]
lifetime = "90d"
common_name = "trunk.example.com"
dns_names = ["trunk.example.com"]
ca = "corp"
custody = "vault"

[[endpoints]]
name = "east"
platform = "genesys-eu"
trunk = "edge-1/trunk-1"
fqdn = "trunk.example.com"
peers = ["192.0.2.10"]
carrier = "acme"
carrier_trunk = "acme-east"

[[endpoints.nodes]]
address = "198.51.100.1"

[[endpoints.nodes]]
address = "198.51.100.2"

[thresholds]
success = 0.995

[timings]
overlap = "72h"

[notifications]
operations = "ops"
"""

SRV = """\

[endpoints.srv]
dns = "corp-dns"
name = "_sips._tcp.trunk.example.com"
target_a = "a.trunk.example.com"
target_b = "b.trunk.example.com"
"""


def plan_text(*changes: tuple[str, str]) -> str:
    """The plan's text with each `(old, new)` replaced; every `old` stands in it exactly once."""
    text = PLAN
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the plan"
        text = text.replace(old, new)
    return text


def plan(*changes: tuple[str, str]) -> Plan:
    """The plan with each `(old, new)` replaced in its text."""
    return parse_plan(plan_text(*changes))


SEPARATE_TARGETS: tuple[tuple[str, str], ...] = (
    ('carrier = "acme"', 'carrier = "acme"\ntopology = "separate_srv_targets"'),
    ('address = "198.51.100.1"', 'address = "198.51.100.1"\ntarget = "a.trunk.example.com"'),
    ('address = "198.51.100.2"\n', 'address = "198.51.100.2"\ntarget = "b.trunk.example.com"\n' + SRV),
)
"""The changes that give the trunk two SRV targets."""
