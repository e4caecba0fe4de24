"""The prober against real TLS servers: every layer fails on its own, and says which one it was."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from adapters.probe.base import Layer, ProbeResult, ProbeTarget
from adapters.probe.sip_tls import SipTlsProber
from adapters.probe.tls_causes import alert_name
from domain.errors import SettingsInvalid
from lab.edge import Edge
from lab.ledger import Ledger
from lab.ports import LOOPBACK, free_port
from lab.served_certificate import ServedCertificate
from settings import ProbeSettings
from tests.adapters.sip_responder import CLOSE, Responder, serving
from tests.lab.small_ca import CLIENT, DAY, Authority

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


@pytest.fixture
def anchors(tmp_path: Path) -> Path:
    path = tmp_path / "anchors.pem"
    path.write_text(ROOT.pem)
    return path


@pytest.fixture
def prober(anchors: Path) -> SipTlsProber:
    return SipTlsProber(ProbeSettings(timeout="20s"), anchors)  # type: ignore[arg-type]


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


@dataclass
class LabEdge:
    edge: Edge
    ledger: Ledger


@pytest.fixture
async def lab() -> AsyncIterator[LabEdge]:
    """The lab's own edge, which knows nothing of the prober."""
    ledger = Ledger()
    edge = Edge("edge", FQDN, mutual=False, peer_trust_pem=ROOT.pem, ledger=ledger)
    edge.serve([LEAF])
    await edge.start()
    yield LabEdge(edge, ledger)
    await edge.stop()


# Everything well


async def test_a_good_probe_tells_leaf_version_cipher_time_and_answer(lab: LabEdge, prober: SipTlsProber) -> None:
    before = datetime.now(UTC)
    result = await prober.probe(target(lab.edge.primary_port))
    assert result.good
    assert result.leaf_sha256 == LEAF.sha256
    assert result.leaf_pem is not None
    assert LEAF.chain_pem.startswith(result.leaf_pem)
    assert (result.version, result.cipher) == ("TLSv1.3", "TLS_AES_256_GCM_SHA384")
    assert (result.chain_verified, result.identity_matches, result.options_status) == (True, True, 200)
    assert result.call_status is None
    assert result.handshake_ms is not None
    assert 0 < result.handshake_ms < 2000
    assert before <= result.at <= datetime.now(UTC)


async def test_a_test_call_is_set_up_and_hung_up_on_the_same_connection(lab: LabEdge, prober: SipTlsProber) -> None:
    result = await prober.probe(target(lab.edge.primary_port, test_call=ECHO))
    assert (result.good, result.options_status, result.call_status) == (True, 200, 200)
    assert lab.edge.active_calls() == {}


async def test_the_canary_is_chosen_by_sni_and_checked_against_the_trunks_identity(
    lab: LabEdge, prober: SipTlsProber
) -> None:
    b = CA.issue(FQDN)
    lab.edge.serve([LEAF], canary=("canary.trunk.example.com", b))
    served = await prober.probe(target(lab.edge.primary_port, server_name="canary.trunk.example.com"))
    assert (served.good, served.leaf_sha256) == (True, b.sha256)
    assert (await prober.probe(target(lab.edge.primary_port))).leaf_sha256 == LEAF.sha256


async def test_tls_1_2_is_spoken_too(prober: SipTlsProber) -> None:
    async with serving(Responder(), LEAF.identity, maximum=TLS12) as responder:
        result = await prober.probe(target(responder.port))
    assert (result.good, result.version) == (True, "TLSv1.2")
    assert result.cipher is not None
    assert result.cipher.startswith("ECDHE-ECDSA-AES")


async def test_no_handshake_is_ever_resumed(prober: SipTlsProber) -> None:
    async with serving(Responder(), LEAF.identity) as responder:
        for _ in range(4):
            assert (await prober.probe(target(responder.port))).good
    assert responder.resumed == [False] * 4


async def test_a_server_without_tickets_is_probed_as_well(prober: SipTlsProber) -> None:
    async with serving(Responder(), LEAF.identity, tickets=0) as responder:
        assert (await prober.probe(target(responder.port))).good


@pytest.mark.parametrize("server_name", [None, "192.0.2.7"])
async def test_no_sni_is_sent_without_a_name_or_for_an_address(prober: SipTlsProber, server_name: str | None) -> None:
    async with serving(Responder(), LEAF.identity) as responder:
        assert (await prober.probe(target(responder.port, server_name=server_name))).good
    assert responder.server_names == [None]


async def test_answers_that_come_byte_by_byte_and_keepalives_are_understood(prober: SipTlsProber) -> None:
    answers = {"OPTIONS": (100, 200), "INVITE": (100, 180, 200), "BYE": 200}
    async with serving(Responder(answers, asks=b"\r\n\r\n", drip=True), LEAF.identity) as responder:
        result = await prober.probe(target(responder.port, test_call=ECHO))
    assert (result.good, result.call_status) == (True, 200)


async def test_many_probes_at_once_keep_to_the_bound(anchors: Path) -> None:
    prober = SipTlsProber(ProbeSettings(timeout="20s"), anchors, concurrency=3)  # type: ignore[arg-type]
    async with serving(Responder(), LEAF.identity) as responder:
        results = await asyncio.gather(*(prober.probe(target(responder.port)) for _ in range(12)))
        await responder.until_idle()
    assert all(result.good for result in results)
    assert responder.busiest <= 6  # a place is given on before the server has seen the goodbye


# DNS and TCP


async def test_a_name_that_nobody_knows_fails_at_dns(prober: SipTlsProber) -> None:
    layer, cause = failed(await prober.probe(target(5061, address="no-such-node.invalid")))
    assert layer is Layer.DNS
    assert "no-such-node.invalid" in cause


async def test_a_closed_port_fails_at_tcp(prober: SipTlsProber) -> None:
    assert failed(await prober.probe(target(free_port()))) == (Layer.TCP, "connection refused")


async def test_a_full_backlog_fails_at_tcp_by_timeout(anchors: Path) -> None:
    """A listener that accepts nobody: once its backlog is full, a SYN gets no answer."""
    with socket.socket() as listening, contextlib.ExitStack() as waiting:
        listening.bind((LOOPBACK, 0))
        listening.listen(0)
        for _ in range(8):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listening.getsockname())
        result = await patient(anchors).probe(target(listening.getsockname()[1]))
    assert result.failed_layer in (Layer.TCP, Layer.TLS)  # some systems shake hands for a full backlog, too
    assert result.cause is not None
    assert result.cause.startswith("timeout after 0.2 s: the ")


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
    lab: LabEdge, prober: SipTlsProber
) -> None:
    lab.edge.serve([])
    assert failed(await prober.probe(target(lab.edge.primary_port))) == (Layer.TLS, "handshake_failure")


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


# Identity


async def test_another_identity_fails_at_identity_and_nothing_is_asked(prober: SipTlsProber) -> None:
    async with serving(Responder(), LEAF.identity) as responder:
        result = await prober.probe(target(responder.port, identity="other.example.com"))
    layer, cause = failed(result)
    assert layer is Layer.IDENTITY
    assert cause == f"the certificate is not for other.example.com but for {FQDN}"
    assert (result.chain_verified, result.identity_matches) == (True, False)
    assert responder.requests == []


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


# SIP


@pytest.mark.parametrize("status", [200, 401, 403, 404, 405, 483, 500, 603])
async def test_any_answer_to_options_but_503_is_reachable(prober: SipTlsProber, status: int) -> None:
    async with serving(Responder({"OPTIONS": status}), LEAF.identity) as responder:
        result = await prober.probe(target(responder.port))
    assert (result.good, result.options_status) == (True, status)


async def test_503_to_options_fails_at_sip(prober: SipTlsProber) -> None:
    async with serving(Responder({"OPTIONS": 503}), LEAF.identity) as responder:
        result = await prober.probe(target(responder.port, test_call=ECHO))
    assert failed(result) == (Layer.SIP, "OPTIONS answered 503")
    assert (result.options_status, responder.methods) == (503, ["OPTIONS"])


async def test_no_answer_to_options_fails_at_sip(anchors: Path) -> None:
    async with serving(Responder({"OPTIONS": 100}), LEAF.identity) as responder:
        result = await patient(anchors, "300ms").probe(target(responder.port))
    assert failed(result) == (Layer.SIP, "timeout after 0.3 s: the answer to OPTIONS")
    assert result.handshake_ms is not None


async def test_a_connection_that_ends_before_the_first_answer_is_a_failure_of_tls(prober: SipTlsProber) -> None:
    """The server may have refused our certificate in silence: only a SIP answer proves the handshake."""
    async with serving(Responder({"OPTIONS": CLOSE}), LEAF.identity) as responder:
        layer, cause = failed(await prober.probe(target(responder.port)))
    assert layer is Layer.TLS
    assert cause.startswith("connection closed by the peer")
    assert cause.endswith("before the first SIP answer")


async def test_a_connection_that_ends_after_an_answer_is_a_failure_of_sip(prober: SipTlsProber) -> None:
    async with serving(Responder({"OPTIONS": 200, "INVITE": CLOSE}), LEAF.identity) as responder:
        layer, cause = failed(await prober.probe(target(responder.port, test_call=ECHO)))
    assert layer is Layer.SIP
    assert cause.endswith("before the answer to INVITE")


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "timeout"),
        (b"SIP/2.0 OK\r\nContent-Length: 0\r\n\r\n", "not a SIP message"),
        (b"SIP/2.0 200 OK\r\n\r\n", "a message without Content-Length"),
        (b"SIP/2.0 200 OK\r\nContent-Length: 99999999\r\n\r\n", "a body of 99999999 bytes"),
        (b"x" * 70000, "a header section of more than"),
    ],
)
async def test_what_is_no_sip_fails_at_sip(anchors: Path, raw: bytes, cause: str) -> None:
    async with serving(Responder({"OPTIONS": raw}), LEAF.identity) as responder:
        layer, seen = failed(await patient(anchors, "400ms").probe(target(responder.port)))
    assert layer is Layer.SIP
    assert seen.startswith(cause)


async def test_an_answer_to_somebody_else_is_not_taken_for_ours(anchors: Path) -> None:
    foreign = (
        b"SIP/2.0 200 OK\r\nVia: SIP/2.0/TLS 192.0.2.1;branch=z9hG4bKother\r\nFrom: <sip:a@b>;tag=1\r\n"
        b"To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
    async with serving(Responder({"OPTIONS": foreign}), LEAF.identity) as responder:
        layer, cause = failed(await patient(anchors, "300ms").probe(target(responder.port)))
    assert (layer, cause) == (Layer.SIP, "timeout after 0.3 s: the answer to OPTIONS")


@pytest.mark.parametrize("status", [403, 407, 486, 500, 503, 603])
async def test_a_refused_test_call_fails_at_sip_and_is_acknowledged(prober: SipTlsProber, status: int) -> None:
    async with serving(Responder({"OPTIONS": 200, "INVITE": (100, status)}), LEAF.identity) as responder:
        result = await prober.probe(target(responder.port, test_call=ECHO))
        await responder.until_idle()
    assert failed(result) == (Layer.SIP, f"INVITE answered {status}")
    assert (result.options_status, result.call_status) == (200, status)
    invite, ack = responder.requests[1:]
    assert (ack.method, ack.uri, ack.via[0].branch) == ("ACK", invite.uri, invite.via[0].branch)
    assert ack.headers.get_first("to") == f"{invite.headers.get_first('to')};tag=remote"
    assert ack.cseq is not None
    assert invite.cseq is not None
    assert ack.cseq.seq == invite.cseq.seq


async def test_the_edge_that_answers_403_is_told_apart_from_tls(lab: LabEdge, prober: SipTlsProber) -> None:
    lab.edge.reject_invites_on.add(LEAF.sha256)
    result = await prober.probe(target(lab.edge.primary_port, test_call=ECHO))
    assert failed(result) == (Layer.SIP, "INVITE answered 403")
    assert result.chain_verified is True


async def test_a_test_call_keeps_to_the_dialog_that_it_made(prober: SipTlsProber) -> None:
    answers = {"OPTIONS": 200, "INVITE": (100, 180, 200), "BYE": 200}
    async with serving(Responder(answers), LEAF.identity) as responder:
        result = await prober.probe(target(responder.port, test_call=ECHO))
    options, invite, ack, bye = responder.requests
    assert result.good
    assert [r.method for r in responder.requests] == ["OPTIONS", "INVITE", "ACK", "BYE"]
    assert options.uri == f"sip:{FQDN}"
    assert invite.uri == ECHO
    assert b"a=inactive" in invite.body
    for request in (ack, bye):
        assert request.uri == "sip:echo@192.0.2.9:5061;transport=tls"
        assert request.headers.get("route") == ["<sip:edge2.example.com;lr>", "<sip:edge1.example.com;lr>"]
        assert request.call_id == invite.call_id
        assert request.to_addr is not None
        assert request.to_addr.tag == "remote"
    assert ack.cseq is not None
    assert bye.cseq is not None
    assert invite.cseq is not None
    assert (ack.cseq.seq, bye.cseq.seq) == (invite.cseq.seq, invite.cseq.seq + 1)
    assert len({r.via[0].branch for r in responder.requests}) == 4


async def test_a_bye_that_is_refused_fails_and_one_that_crosses_does_not(prober: SipTlsProber) -> None:
    for status, good in ((481, True), (500, False)):
        async with serving(Responder({"OPTIONS": 200, "INVITE": 200, "BYE": status}), LEAF.identity) as responder:
            result = await prober.probe(target(responder.port, test_call=ECHO))
        assert result.good is good
        assert result.call_status == 200
    assert failed(result) == (Layer.SIP, "BYE answered 500")


async def test_an_invite_that_nobody_answers_is_cancelled(anchors: Path) -> None:
    async with serving(Responder({"OPTIONS": 200, "INVITE": (100, 180), "CANCEL": 200}), LEAF.identity) as responder:
        result = await patient(anchors, "300ms").probe(target(responder.port, test_call=ECHO))
        await responder.until_idle()
    assert failed(result) == (Layer.SIP, "timeout after 0.3 s: the answer to INVITE")
    assert responder.methods[:3] == ["OPTIONS", "INVITE", "CANCEL"]
    invite, cancel = responder.requests[1:3]
    assert (cancel.uri, cancel.via[0].branch) == (invite.uri, invite.via[0].branch)


async def test_a_probe_that_is_cancelled_in_its_call_takes_the_call_back(anchors: Path) -> None:
    prober = patient(anchors, "30s")
    async with serving(Responder({"OPTIONS": 200, "INVITE": (100, 180)}), LEAF.identity) as responder:
        probing = asyncio.create_task(prober.probe(target(responder.port, test_call=ECHO)))
        await responder.until_asked("INVITE")
        probing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probing
        await responder.until_asked("CANCEL")
    async with serving(Responder({"OPTIONS": 200, "INVITE": 200}), LEAF.identity) as responder:
        probing = asyncio.create_task(prober.probe(target(responder.port, test_call=ECHO)))
        await responder.until_asked("BYE")
        probing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probing
        await responder.until_idle()


async def test_what_the_other_side_asks_meanwhile_is_answered(prober: SipTlsProber) -> None:
    def ask(method: str) -> bytes:
        return (
            f"{method} sip:probe@{FQDN} SIP/2.0\r\nVia: SIP/2.0/TLS 192.0.2.1;branch=z9hG4bK{method}\r\n"
            f"From: <sip:edge@{FQDN}>;tag=1\r\nTo: <sip:probe@{FQDN}>\r\nCall-ID: x\r\nCSeq: 1 {method}\r\n"
            "Content-Length: 0\r\n\r\n"
        ).encode()

    asks = ask("OPTIONS") + ask("MESSAGE") + ask("ACK")
    answers = {"OPTIONS": 200, "INVITE": 200, "BYE": 200}
    async with serving(Responder(answers, asks=asks), LEAF.identity) as responder:
        assert (await prober.probe(target(responder.port, test_call=ECHO))).good
    assert [(r.status_code, r.cseq and r.cseq.method) for r in responder.responses] == [
        (200, "OPTIONS"),
        (501, "MESSAGE"),
    ]


# Settings


@pytest.mark.parametrize("content", [None, "", "nothing"])
async def test_anchors_that_cannot_be_used_show_at_the_start(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "broken.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsInvalid, match=r"trust_anchor_file.*broken\.pem"):
        SipTlsProber(ProbeSettings(), path)


def _encrypted(key_pem: str) -> str:
    key = load_pem_private_key(key_pem.encode(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hush")).decode()


@pytest.mark.parametrize(
    ("chain", "key", "problem"),
    [
        (LEAF.chain_pem, CA.issue(FQDN).key_pem, "is not the certificate's key"),
        (LEAF.chain_pem, _encrypted(LEAF.key_pem), "the key unencrypted"),
        (LEAF.chain_pem, "nothing", "cannot be read"),
        ("nothing", LEAF.key_pem, "cannot be read"),
        (None, LEAF.key_pem, "cannot be read: No such file"),
    ],
)
async def test_a_client_certificate_that_cannot_be_used_shows_at_the_start_without_its_key(
    anchors: Path, tmp_path: Path, chain: str | None, key: str, problem: str
) -> None:
    files = client_files(tmp_path, replace(LEAF, chain_pem=chain or "", key_pem=key))
    if chain is None:
        files["client_certificate_file"].unlink()
    with pytest.raises(SettingsInvalid, match=problem) as raised:
        patient(anchors, **files)
    assert "PRIVATE KEY" not in "".join(traceback.format_exception(raised.value))
    assert not [line for line in key.splitlines()[1:-1] if line in str(raised.value)]


async def test_a_client_certificate_without_key_is_refused(anchors: Path, tmp_path: Path) -> None:
    files = client_files(tmp_path, LEAF)
    with pytest.raises(SettingsInvalid, match="both client_certificate_file and client_key_file"):
        patient(anchors, client_key_file=files["client_key_file"])


async def test_new_anchors_count_from_the_next_probe_on(anchors: Path, prober: SipTlsProber) -> None:
    other = STRANGERS_CA.issue(FQDN)
    async with serving(Responder(), other.identity) as responder:
        assert not (await prober.probe(target(responder.port))).good
        await asyncio.to_thread(anchors.write_text, ROOT.pem + STRANGER.pem)
        assert (await prober.probe(target(responder.port))).good


async def test_the_client_key_reaches_neither_log_nor_result(
    anchors: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = STRANGERS_CA.issue("sbc.example.com")
    prober = patient(anchors, "20s", **client_files(tmp_path, certificate))
    async with serving(Responder(), LEAF.identity, client_trust_pem=ROOT.pem) as responder:
        with caplog.at_level(logging.DEBUG):
            result = await prober.probe(target(responder.port))
    shown = caplog.text + repr(result) + repr(vars(prober))
    assert "PRIVATE KEY" not in shown
    assert not [line for line in certificate.key_pem.splitlines()[1:-1] if line in shown]


def test_an_alert_that_no_rfc_names_keeps_its_number() -> None:
    assert (alert_name(48), alert_name(255)) == ("unknown_ca", "alert_255")


def _reissued(ca: Authority, *, not_after: datetime) -> str:
    """The CA's certificate with another end, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

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
