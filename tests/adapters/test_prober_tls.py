"""The prober and TLS: alerts of the server, our own verdict on its certificate, mutual TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
)

from adapters.probe.base import Layer
from adapters.probe.sip_tls import SipTlsProber
from adapters.probe.tls_causes import alert_name
from lab.edge import Edge
from lab.ports import LOOPBACK
from lab.served_certificate import ServedCertificate
from tests.adapters.probing import (
    CA,
    ECHO,
    FQDN,
    LEAF,
    ROOT,
    STRANGER,
    STRANGERS_CA,
    TLS12,
    TLS13,
    alone,
    client_files,
    failed,
    patient,
    target,
    tcp,
)
from tests.adapters.sip_responder import Responder, serving
from tests.lab.small_ca import CLIENT, DAY, Authority

# TLS: what the server does


async def test_a_server_that_resets_during_the_handshake_fails_at_tls(prober: SipTlsProber) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async with tcp(reset) as port:
        layer, cause = failed(await prober.probe(target(port)))
    assert layer is Layer.TLS
    assert cause in {"connection reset by peer", "connection closed by the peer without an alert"}


async def test_a_server_that_is_silent_in_the_handshake_fails_at_tls(anchors: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as silent:
        result = await patient(anchors).probe(target(silent.getsockname()[1]))
    assert failed(result) == (Layer.TLS, "timeout after 0.2 s: the end of the handshake")
    assert result.leaf_sha256 is None


async def test_a_server_that_speaks_no_tls_fails_at_tls(prober: SipTlsProber) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SIP/2.0 400 Bad Request\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            await reader.read()
        writer.close()

    async with tcp(plain) as port:
        layer, cause = failed(await prober.probe(target(port)))
    assert layer is Layer.TLS
    assert cause.startswith("not a TLS answer")


async def test_the_alert_of_a_server_that_has_no_certificate_for_us_is_named(
    sip_edge: Edge, prober: SipTlsProber
) -> None:
    sip_edge.serve([])
    assert failed(await prober.probe(target(sip_edge.primary_port))) == (Layer.TLS, "handshake_failure")


# TLS: what we think of its certificate


@pytest.mark.parametrize(
    ("certificate", "cause", "alert"),
    [
        (alone(LEAF), "incomplete chain: the leaf came alone, and its issuer CN=probe issuer", "unknown_ca"),
        (STRANGERS_CA.issue(FQDN), "unknown issuer: CN=stranger is neither in the chain", "unknown_ca"),
        (CA.issue(FQDN, not_after=datetime.now(UTC) - timedelta(hours=1)), "expired: the leaf", "certificate_expired"),
        (
            CA.issue(FQDN, not_before=datetime.now(UTC) + timedelta(hours=1)),
            "not yet valid: the leaf",
            "bad_certificate",
        ),
        (CA.issue(FQDN, usages=[CLIENT]), "wrong purpose: not for a TLS server", "unsupported_certificate"),
    ],
)
@pytest.mark.parametrize("maximum", [TLS12, TLS13])
async def test_a_certificate_that_is_refused_is_recorded_and_the_server_is_told_by_alert(
    prober: SipTlsProber, certificate: ServedCertificate, cause: str, alert: str, maximum: ssl.TLSVersion
) -> None:
    async with serving(Responder(), certificate.identity, maximum=maximum) as responder:
        result = await prober.probe(target(responder.port))
        await responder.until_idle()
    assert result.failed_layer is Layer.TLS
    assert result.cause is not None
    assert result.cause.startswith(cause)
    assert (result.leaf_sha256, result.chain_verified) == (certificate.sha256, False)
    assert result.identity_matches is True
    assert responder.failures == [alert]
    assert responder.requests == []


async def test_an_expired_intermediate_is_named(prober: SipTlsProber) -> None:
    old = Authority("old issuer", ROOT)
    certificate = old.issue(FQDN)
    expired = _reissued(old, not_after=datetime.now(UTC) - DAY)
    served = replace(certificate, chain_pem=alone(certificate).chain_pem + expired)
    async with serving(Responder(), served.identity) as responder:
        result = await prober.probe(target(responder.port))
    assert failed(result) == (Layer.TLS, "expired: CN=old issuer")
    assert result.leaf_sha256 == certificate.sha256


async def test_a_self_signed_certificate_is_an_unknown_issuers(prober: SipTlsProber) -> None:
    certificate = STRANGER.issue(FQDN)
    with_root = replace(certificate, chain_pem=certificate.chain_pem + STRANGER.pem)
    async with serving(Responder(), with_root.identity) as responder:
        layer, cause = failed(await prober.probe(target(responder.port)))
    assert (layer, cause) == (Layer.TLS, "unknown issuer: CN=stranger is self-signed and no trust anchor")


async def test_an_intermediate_among_the_anchors_does_not_hide_that_it_was_not_sent(
    anchors: Path, prober: SipTlsProber
) -> None:
    """The anchors are the roots that carriers have; the chain must come over the wire."""
    async with serving(Responder(), LEAF.identity) as responder:
        assert (await prober.probe(target(responder.port))).chain_verified is True
    async with serving(Responder(), alone(LEAF).identity) as responder:
        assert (await prober.probe(target(responder.port))).chain_verified is False


# Mutual TLS


@pytest.mark.parametrize("maximum", [TLS12, TLS13])
async def test_a_trunk_that_demands_a_certificate_gets_ours(
    anchors: Path, tmp_path: Path, maximum: ssl.TLSVersion
) -> None:
    prober = patient(anchors, "20s", **client_files(tmp_path, CA.issue("sbc.example.com")))
    async with serving(Responder(), LEAF.identity, client_trust_pem=ROOT.pem, maximum=maximum) as responder:
        assert (await prober.probe(target(responder.port))).good


@pytest.mark.parametrize(("maximum", "cause"), [(TLS12, "handshake_failure"), (TLS13, "certificate_required")])
async def test_a_trunk_that_demands_a_certificate_and_gets_none_refuses_with_its_alert(
    prober: SipTlsProber, maximum: ssl.TLSVersion, cause: str
) -> None:
    async with serving(Responder(), LEAF.identity, client_trust_pem=ROOT.pem, maximum=maximum) as responder:
        result = await prober.probe(target(responder.port))
    assert failed(result) == (Layer.TLS, cause)
    assert (result.leaf_sha256, result.chain_verified) == (LEAF.sha256, True)


@pytest.mark.parametrize("maximum", [TLS12, TLS13])
@pytest.mark.parametrize(
    ("certificate", "cause"),
    [
        (STRANGERS_CA.issue("sbc.example.com"), "unknown_ca"),
        (CA.issue("sbc.example.com", not_after=datetime.now(UTC) - timedelta(hours=1)), "certificate_expired"),
    ],
)
async def test_a_client_certificate_that_is_refused_is_a_failure_of_tls_with_the_alert(
    anchors: Path, tmp_path: Path, certificate: ServedCertificate, cause: str, maximum: ssl.TLSVersion
) -> None:
    prober = patient(anchors, "20s", **client_files(tmp_path, certificate))
    async with serving(Responder(), LEAF.identity, client_trust_pem=ROOT.pem, maximum=maximum) as responder:
        results = [await prober.probe(target(responder.port, test_call=ECHO)) for _ in range(5)]
    assert [failed(result) for result in results] == [(Layer.TLS, cause)] * 5
    assert responder.requests == []


def test_an_alert_that_no_rfc_names_keeps_its_number() -> None:
    assert (alert_name(48), alert_name(255)) == ("unknown_ca", "alert_255")


def _reissued(ca: Authority, *, not_after: datetime) -> str:
    """The CA's certificate with another end, as PEM."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(ca.name)
        .issuer_name(ROOT.name)
        .public_key(ca.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_after - 30 * DAY)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return builder.sign(ROOT.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
