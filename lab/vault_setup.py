"""The lab's enterprise PKI on a fresh OpenBao: a root, two intermediates, custody, and the worker's AppRole.

Certificate A comes from `pki_int_a` and looks as if it had been in use for two months; B will come from
`pki_int_b`. Everything is back-dated, because a leaf is useless before its issuer is valid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hvac

ROOT_MOUNT = "pki_root"
RETIRING_MOUNT = "pki_int_a"
SIGNING_MOUNT = "pki_int_b"
PKI_ROLE = "sip-trunk"
KV_MOUNT = "siptls"
TRANSIT_KEY = "sip-keys"
APPROLE = "rotator"
DOMAIN = "lab.example"
POLICY_FILE = Path(__file__).resolve().parent.parent / "deploy" / "vault-policy.hcl"

NOT_BEFORE_BACKDATE = "24h10m"
"""Guide section 1 asks for notBefore 24 h before the rotation, edge case 1 for a 10-minute buffer on top."""
DEFAULT_TTL = "2160h10m"
"""90 days and the guide's 10-minute buffer at the end."""
MAX_TTL = "8760h10m"

_ROOT_BACKDATE = "17520h"
_INTERMEDIATE_BACKDATE = "8760h"
_A_IN_USE_SINCE = timedelta(days=60)
_A_REMAINS = timedelta(days=30)
NEW_SINCE = timedelta(hours=24, minutes=10)
NEW_FOR = timedelta(days=90, minutes=10)
"""How the PKI dates a certificate that it issues now, by the role."""


class VaultNotFresh(RuntimeError):
    """The server already holds the lab's mounts; the lab sets up fresh servers only."""


@dataclass(frozen=True)
class IssuedCertificate:
    """A leaf with its chain (leaf first, no root) and its PKCS#8 key, as PEM."""

    chain_pem: str
    key_pem: str = field(repr=False)


@dataclass(frozen=True)
class VaultLab:
    """What the setup made: CAs as PEM, A, and how the worker logs in."""

    address: str
    root_pem: str
    intermediate_a_pem: str
    intermediate_b_pem: str
    certificate_a: IssuedCertificate
    role_id: str
    secret_id: str = field(repr=False)


def set_up(
    address: str,
    root_token: str,
    *,
    common_name: str,
    dns_names: Sequence[str],
    ip_addresses: Sequence[str],
) -> VaultLab:
    """Set up a fresh server (blocking, ~0.2 s). Raises `VaultNotFresh`, or hvac's errors when it refuses."""
    client = hvac.Client(url=address, token=root_token, timeout=10)
    client.session.trust_env = False  # loopback never goes through a proxy
    try:
        _refuse_used_server(client, address)
        root_pem = _make_root(client, address)
        intermediate_a = _make_intermediate(client, address, RETIRING_MOUNT, "Lab SIP CA A", root_pem)
        intermediate_b = _make_intermediate(client, address, SIGNING_MOUNT, "Lab SIP CA B", root_pem)
        _make_custody(client)
        role_id, secret_id = _make_approle(client)
        return VaultLab(
            address=address,
            root_pem=root_pem,
            intermediate_a_pem=intermediate_a,
            intermediate_b_pem=intermediate_b,
            certificate_a=issue(
                client,
                RETIRING_MOUNT,
                common_name=common_name,
                dns_names=dns_names,
                ip_addresses=ip_addresses,
            ),
            role_id=role_id,
            secret_id=secret_id,
        )
    finally:
        client.adapter.close()


def issue(
    client: hvac.Client,
    mount: str,
    *,
    common_name: str,
    dns_names: Sequence[str],
    ip_addresses: Sequence[str],
    in_use_since: timedelta = _A_IN_USE_SINCE,
    remains: timedelta = _A_REMAINS,
) -> IssuedCertificate:
    """An RSA-2048 leaf for server and client use: valid since `in_use_since` ago, and for `remains` more."""
    since = datetime.now(UTC) - in_use_since
    pki: Any = client.secrets.pki
    data = _data(
        pki.generate_certificate(
            name=PKI_ROLE,
            common_name=common_name,
            mount_point=mount,
            extra_params={
                "alt_names": ",".join(dns_names),
                "ip_sans": ",".join(ip_addresses),
                "not_before": since.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "ttl": f"{int(remains.total_seconds())}s",
                "key_type": "rsa",
                "key_bits": 2048,
                "private_key_format": "pkcs8",
            },
        )
    )
    return IssuedCertificate(_joined(data["certificate"], data["issuing_ca"]), _joined(data["private_key"]))


def policy_text() -> str:
    """The worker's policy, as it is delivered in `deploy/`."""
    return POLICY_FILE.read_text(encoding="utf-8")


def _refuse_used_server(client: hvac.Client, address: str) -> None:
    system: Any = client.sys
    mounted = {path.rstrip("/") for path in _data(system.list_mounted_secrets_engines())}
    taken = mounted & {ROOT_MOUNT, RETIRING_MOUNT, SIGNING_MOUNT, KV_MOUNT}
    if taken:
        raise VaultNotFresh(f"{address} has mounts {', '.join(sorted(taken))} already; the lab needs a fresh server")


def _make_root(client: hvac.Client, address: str) -> str:
    _mount_pki(client, address, ROOT_MOUNT)
    pki: Any = client.secrets.pki
    data = _data(
        pki.generate_root(
            type="internal",
            common_name="Lab SIP Root",
            mount_point=ROOT_MOUNT,
            extra_params={"ttl": "87600h", "not_before_duration": _ROOT_BACKDATE, **_ca_key()},
        )
    )
    return _joined(data["certificate"])


def _make_intermediate(client: hvac.Client, address: str, mount: str, name: str, root_pem: str) -> str:
    _mount_pki(client, address, mount)
    pki: Any = client.secrets.pki
    request = _data(
        pki.generate_intermediate(type="internal", common_name=name, mount_point=mount, extra_params=_ca_key())
    )
    signed = _data(
        pki.sign_intermediate(
            csr=request["csr"],
            common_name=name,
            mount_point=ROOT_MOUNT,
            extra_params={
                "ttl": "43800h",
                "not_before_duration": _INTERMEDIATE_BACKDATE,
                "max_path_length": 0,
            },
        )
    )
    pem = _joined(signed["certificate"])
    # With the root in the bundle, as is usual: `ca_chain` then holds a root, which no upload may.
    pki.set_signed_intermediate(certificate=pem + root_pem, mount_point=mount)
    pki.create_or_update_role(
        PKI_ROLE,
        mount_point=mount,
        extra_params={
            "allowed_domains": [DOMAIN],
            "allow_subdomains": True,
            "allow_bare_domains": True,
            "allow_wildcard_certificates": False,
            "allow_localhost": False,
            "allow_ip_sans": True,
            "server_flag": True,
            "client_flag": True,
            "key_type": "any",
            "key_usage": ["DigitalSignature", "KeyEncipherment"],
            "not_before_duration": NOT_BEFORE_BACKDATE,
            "ttl": DEFAULT_TTL,
            "max_ttl": MAX_TTL,
        },
    )
    return pem


def _mount_pki(client: hvac.Client, address: str, mount: str) -> None:
    pki: Any = client.secrets.pki
    client.sys.enable_secrets_engine("pki", path=mount, config={"max_lease_ttl": "87600h"})
    pki.set_urls(
        {
            "issuing_certificates": [f"{address}/v1/{mount}/ca"],
            "crl_distribution_points": [f"{address}/v1/{mount}/crl"],
            "ocsp_servers": [f"{address}/v1/{mount}/ocsp"],
        },
        mount_point=mount,
    )


def _make_custody(client: hvac.Client) -> None:
    client.sys.enable_secrets_engine("kv", path=KV_MOUNT, options={"version": "2"})
    client.sys.enable_secrets_engine("transit", path="transit")
    transit: Any = client.secrets.transit
    transit.create_key(name=TRANSIT_KEY)


def _make_approle(client: hvac.Client) -> tuple[str, str]:
    client.sys.create_or_update_policy(f"sip-{APPROLE}", policy_text())
    client.sys.enable_auth_method("approle")
    client.auth.approle.create_or_update_approle(
        APPROLE,
        token_policies=[f"sip-{APPROLE}"],
        token_no_default_policy=True,
        token_ttl="1h",
        token_max_ttl="24h",
    )
    role_id = _data(client.auth.approle.read_role_id(APPROLE))["role_id"]
    secret_id = _data(client.auth.approle.generate_secret_id(APPROLE))["secret_id"]
    return str(role_id), str(secret_id)


def _ca_key() -> dict[str, Any]:
    """A new dict each time: hvac changes what it is given."""
    return {"key_type": "ec", "key_bits": 256}


def _data(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `data` of one of hvac's untyped answers."""
    data: Mapping[str, Any] = answer["data"]
    return data


def _joined(*pems: str) -> str:
    return "".join(pem.strip() + "\n" for pem in pems)
