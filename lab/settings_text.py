"""The worker's settings for this world, as TOML text. Secrets are named by file, never written here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lab.lab_names import API_CLIENT, DOMAIN, TSIG_KEY
from lab.vault_setup import KV_MOUNT, PKI_ROLE, RETIRING_MOUNT, SIGNING_MOUNT, TRANSIT_KEY


@dataclass(frozen=True)
class Addresses:
    """Where everything of the world listens. URLs have no trailing slash."""

    vault: str
    genesys: str
    cxone: str
    carrier: str
    datadog: str
    dns: tuple[str, int]
    ntp: tuple[str, int]
    web_ui: str
    observer: str | None = None


def settings_text(directory: Path, addresses: Addresses, role_id: str) -> str:
    """Settings whose files lie in `directory`, which may contain spaces."""

    def file(name: str) -> str:
        return json.dumps(str(directory / name), ensure_ascii=False)

    dns_server, dns_port = addresses.dns
    ntp_server, ntp_port = addresses.ntp
    return f"""\
identity = "demo"
web_ui = {json.dumps(addresses.web_ui)}

[codec]
current = "demo-1"
keys.demo-1 = {{ file = {file("codec.key")} }}

[platforms.genesys-lab]
kind = "genesys"
lab = true
base_url = "{addresses.genesys}"
login_url = "{addresses.genesys}"
client_id = "{API_CLIENT}"
client_secret = {{ file = {file("genesys.secret")} }}

[platforms.cxone-lab]
kind = "cxone"
lab = true
base_url = "{addresses.cxone}"
auth_url = "{addresses.cxone}"
access_key_id = "{API_CLIENT}"
access_key_secret = {{ file = {file("cxone.secret")} }}

[pki.vault-lab]
kind = "vault"
lab = true
address = "{addresses.vault}"
role_id = "{role_id}"
secret_id = {{ file = {file("secret-id")} }}
mount = "{SIGNING_MOUNT}"
role = "{PKI_ROLE}"
issuing_mounts = {json.dumps([RETIRING_MOUNT, SIGNING_MOUNT])}
trust_anchor_file = {file("root.pem")}

[keys.vault-kv-lab]
kind = "vault-kv"
lab = true
address = "{addresses.vault}"
role_id = "{role_id}"
secret_id = {{ file = {file("secret-id")} }}
kv_mount = "{KV_MOUNT}"
transit_key = "{TRANSIT_KEY}"

[dns.dns-lab]
kind = "rfc2136"
lab = true
server = "{dns_server}"
port = {dns_port}
zone = "{DOMAIN}"
key_name = "{TSIG_KEY}"
key_secret = {{ file = {file("tsig.key")} }}

[carriers.carrier-lab]
kind = "http-health"
lab = true
base_url = "{addresses.carrier}"
token = {{ file = {file("carrier.token")} }}

{_datadog(addresses.datadog, file("datadog-api.key"), file("datadog-application.key"))}
{_observer(addresses.observer, file("observer.secret"))}[notify.ops-lab]
kind = "webhook"
lab = true
base_url = "{addresses.carrier}/v1/alerts"
token = {{ file = {file("ops.token")} }}

[notify.carrier-desk-lab]
kind = "webhook"
lab = true
base_url = "{addresses.carrier}/v1/notices"
token = {{ file = {file("carrier.token")} }}

[probe]
timeout = "2s"
client_certificate_file = {file("prober.pem")}
client_key_file = {file("prober.key")}
rate_per_endpoint = 10.0

[ntp]
servers = ["{ntp_server}:{ntp_port}"]
"""


def _datadog(url: str, api_key_file: str, application_key_file: str) -> str:
    """The trunks' counts. A counter that has not counted yet is not there; the start time tells that all is well."""
    by = "by {direction,certificate,peer,cause}.as_count()"
    return f"""\
[metrics.datadog-lab]
kind = "datadog"
lab = true
base_url = "{url}"
api_key = {{ file = {api_key_file} }}
application_key = {{ file = {application_key_file} }}
interval = "1s"

[metrics.datadog-lab.queries]
handshakes_ok = "sum:sip.handshakes.ok{{trunk:{{endpoint}}}} {by}"
handshakes_failed = "sum:sip.handshakes.failed{{trunk:{{endpoint}}}} {by}"
calls_ok = "sum:sip.calls.ok{{trunk:{{endpoint}}}} {by}"
calls_failed = "sum:sip.calls.failed{{trunk:{{endpoint}}}} {by}"
started = "max:sip.start_time{{trunk:{{endpoint}}}} by {{host}}"
may_be_absent = ["handshakes_ok", "handshakes_failed", "calls_ok", "calls_failed"]
"""


def _observer(url: str | None, secret_file: str) -> str:
    """The section of the published API; nothing without one."""
    if url is None:
        return ""
    return f"""\
[observers.genesys-byoc-lab]
kind = "genesys"
lab = true
base_url = "{url}"
login_url = "{url}"
client_id = "{API_CLIENT}"
client_secret = {{ file = {secret_file} }}

"""
