"""The prober: what a good probe tells, and failures of DNS, TCP, identity and settings, each on its layer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from adapters.probe.base import Layer
from adapters.probe.sip_tls import SipTlsProber
from domain.errors import SettingsInvalid
from lab.edge import Edge
from lab.ports import LOOPBACK, free_port
from settings import ProbeSettings
from tests.adapters.probing import (
    CA,
    ECHO,
    FQDN,
    LEAF,
    ROOT,
    STRANGER,
    STRANGERS_CA,
    TLS12,
    client_files,
    failed,
    patient,
    target,
)
from tests.adapters.sip_responder import Responder, serving

# Everything well


async def test_a_good_probe_tells_leaf_version_cipher_time_and_answer(sip_edge: Edge, prober: SipTlsProber) -> None:
    before = datetime.now(UTC)
    result = await prober.probe(target(sip_edge.primary_port))
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


async def test_a_test_call_is_set_up_and_hung_up_on_the_same_connection(sip_edge: Edge, prober: SipTlsProber) -> None:
    result = await prober.probe(target(sip_edge.primary_port, test_call=ECHO))
    assert (result.good, result.options_status, result.call_status) == (True, 200, 200)
    assert sip_edge.active_calls() == {}


async def test_the_canary_is_chosen_by_sni_and_checked_against_the_trunks_identity(
    sip_edge: Edge, prober: SipTlsProber
) -> None:
    b = CA.issue(FQDN)
    sip_edge.serve([LEAF], canary=("canary.trunk.example.com", b))
    served = await prober.probe(target(sip_edge.primary_port, server_name="canary.trunk.example.com"))
    assert (served.good, served.leaf_sha256) == (True, b.sha256)
    assert (await prober.probe(target(sip_edge.primary_port))).leaf_sha256 == LEAF.sha256


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


# Identity


async def test_another_identity_fails_at_identity_and_nothing_is_asked(prober: SipTlsProber) -> None:
    async with serving(Responder(), LEAF.identity) as responder:
        result = await prober.probe(target(responder.port, identity="other.example.com"))
    layer, cause = failed(result)
    assert layer is Layer.IDENTITY
    assert cause == f"the certificate is not for other.example.com but for {FQDN}"
    assert (result.chain_verified, result.identity_matches) == (True, False)
    assert responder.requests == []


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
