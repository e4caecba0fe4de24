"""The prober and SIP: OPTIONS and the test call, with everything that can go wrong between two answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from adapters.probe.base import Layer
from adapters.probe.sip_tls import SipTlsProber
from lab.edge import Edge
from tests.adapters.probing import (
    ECHO,
    FQDN,
    LEAF,
    failed,
    patient,
    target,
)
from tests.adapters.sip_responder import CLOSE, Responder, serving


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


async def test_the_edge_that_answers_403_is_told_apart_from_tls(sip_edge: Edge, prober: SipTlsProber) -> None:
    sip_edge.reject_invites_on.add(LEAF.sha256)
    result = await prober.probe(target(sip_edge.primary_port, test_call=ECHO))
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
