"""What the tests of the prober share: a small PKI, a target, probers, and servers that are no SIP edge."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapters.probe.base import Layer, ProbeResult, ProbeTarget
from adapters.probe.sip_tls import SipTlsProber
from lab.ports import LOOPBACK
from lab.served_certificate import ServedCertificate
from settings import ProbeSettings
from tests.lab.small_ca import Authority

FQDN = "trunk.example.com"
ECHO = f"sip:echo@{FQDN}"
ROOT = Authority("probe root")
CA = Authority("probe issuer", ROOT)
STRANGER = Authority("stranger")
STRANGERS_CA = Authority("stranger issuer", STRANGER)
LEAF = CA.issue(FQDN)
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def target(port: int, **changes: Any) -> ProbeTarget:
    usual: dict[str, Any] = {"address": LOOPBACK, "port": port, "server_name": FQDN, "identity": FQDN}
    return ProbeTarget(**{**usual, **changes})


def patient(anchors: Path, timeout: str = "200ms", **files: Path) -> SipTlsProber:
    """A prober with another timeout, or a client certificate."""
    return SipTlsProber(ProbeSettings(timeout=timeout, **files), anchors)  # type: ignore[arg-type]


def client_files(tmp_path: Path, certificate: ServedCertificate) -> dict[str, Path]:
    chain, key = tmp_path / "client.pem", tmp_path / "client.key"
    chain.write_text(certificate.chain_pem)
    key.write_text(certificate.key_pem)
    return {"client_certificate_file": chain, "client_key_file": key}


def alone(certificate: ServedCertificate) -> ServedCertificate:
    """The leaf without its intermediate."""
    end = "-----END CERTIFICATE-----\n"
    return replace(certificate, chain_pem=certificate.chain_pem.split(end)[0] + end)


def failed(result: ProbeResult) -> tuple[Layer | None, str]:
    return result.failed_layer, result.cause or ""


@asynccontextmanager
async def tcp(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any],
) -> AsyncIterator[int]:
    server = await asyncio.start_server(handler, LOOPBACK, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
