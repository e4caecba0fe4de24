"""The worker's settings and the plan for rotations on real edges, made from those of the lab that runs beside them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from tests.sip.kamailio_node import CANARY_NAME, TOKEN, TRUNK
from tests.sip.trunk_path import CALLERS_ADDRESS, LAB_CARRIER_ADDRESS, TrunkPath

PEERS = (LAB_CARRIER_ADDRESS, CALLERS_ADDRESS)
RAMP = (20, 60)
CLOSE_AFTER = "3s"
"""Because the SIP server keeps its connection to the carrier for as long as it can."""


def platform_settings(name: str, path: TrunkPath, prometheus_url: str) -> str:
    """The profile `[platforms.<name>]` of a path's edge."""
    root = path.parties.root
    common = f'trust_anchor_file = "{root}"\nlab = true\n'
    metrics = f'metrics = {{ base_url = "{prometheus_url}", lab = true }}\n'
    return "\n" + (_haproxy(name, path) if path.haproxies else _kamailio(name, path)) + common + metrics


def endpoint_text(
    name: str,
    path: TrunkPath,
    *,
    peers: Sequence[str] = PEERS,
    ramp: Sequence[int] = RAMP,
) -> str:
    """The plan's endpoint on the platform `<name>`; the carrier calls the trunk by the same name."""
    nodes = ", ".join(f'{{ address = "{host}", port = {port} }}' for host, port in path.nodes)
    ours = "ramp = [{}]\n".format(", ".join(map(str, ramp))) if path.haproxies else ""
    return f"""
[[endpoints]]
name = "{name}"
platform = "{name}"
trunk = "{TRUNK}"
fqdn = "{path.parties.fqdn}"
role = "{"mutual" if path.parties.outbound else "server"}"
topology = "same_listener"
nodes = [{nodes}]
peers = {json.dumps(list(peers))}
probe_addresses = ["127.0.0.1"]
carrier = "carrier-lab"
carrier_trunk = "{name}"
test_call = "sip:test@{path.parties.fqdn}"
{ours}{_substitutes(path)}"""


def plan_text(
    lab_plan: str,
    a_pem: str,
    endpoints: Sequence[str],
    *,
    with_lab: Sequence[str] = (),
    close_after: str | None = CLOSE_AFTER,
) -> str:
    """The lab's plan for these endpoints, and for those of its own that are named in `with_lab`."""
    head, *own = lab_plan[: lab_plan.index("[thresholds]")].split("[[endpoints]]")
    kept = [f"[[endpoints]]{text}" for text in own if tomllib.loads(text)["name"] in with_lab]
    names = x509.load_pem_x509_certificate(a_pem.encode()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    before = tomllib.loads(head)["certificate"]["dns_names"]
    now = names.value.get_values_for_type(x509.DNSName)
    assert json.dumps(before) in head
    tail = lab_plan[lab_plan.index("[thresholds]") :]
    timings = 'ramp_step = "2s"\n' + (f'close_connections_after = "{close_after}"\n' if close_after else "")
    tail = tail.replace("[timings]\n", f"[timings]\n{timings}", 1)
    return "".join([head.replace(json.dumps(before), json.dumps(now)), *kept, *endpoints, "\n", tail])


def _substitutes(path: TrunkPath) -> str:
    """What stands in for what the edge cannot tell; behind HAProxy nobody knows the certificate of an outbound call."""
    if path.kamailios:
        return '\n[endpoints.substitutes]\nhandshakes = "carrier"\npool = "switch"\n'
    return '\n[endpoints.substitutes]\ncall_setups = "carrier"\n' if path.parties.outbound else ""


def _haproxy(name: str, path: TrunkPath) -> str:
    nodes = "\n".join(
        f'  {{ name = "edge{n}", runtime = "{node.runtime}", files = {_local(node.sip)} }},'
        for n, node in enumerate(path.haproxies, 1)
    )
    return f"""\
[platforms.{name}]
kind = "haproxy"
listener = "{TRUNK}"
canary_port = {path.haproxies[0].ports["canary"]}
call_setups = {json.dumps(not path.parties.outbound)}
mutual_tls = {json.dumps(path.parties.mutual)}
nodes = [
{nodes}
]
"""


def _kamailio(name: str, path: TrunkPath) -> str:
    nodes = "\n".join(
        f'  {{ name = "edge{n}", base_url = "{node.control_url}", '
        f'listener = "{node.address}:{node.ports["sips"]}", files = {_local(node.tls_directory)} }},'
        for n, node in enumerate(path.kamailios, 1)
    )
    return f"""\
[platforms.{name}]
kind = "kamailio"
trunk = "{TRUNK}"
token = {{ file = "{_token(path.folder)}" }}
canary = {{ kind = "sni", server_name = "{CANARY_NAME}" }}
client = "client:default"
nodes = [
{nodes}
]
"""


def _local(directory: Path) -> str:
    return f'{{ kind = "local", directory = "{directory}" }}'


def _token(folder: Path) -> Path:
    file = folder / "control.token"
    file.touch(0o600)
    file.write_text(TOKEN)
    return file
