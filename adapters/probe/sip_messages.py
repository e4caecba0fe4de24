"""SIP messages of a probe (RFC 3261), built with aiosipua, and their framing on a stream."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from aiosipua import Dialog, SipMessage, SipRequest, SipResponse, generate_call_id, generate_tag, stringify_uri

USER_AGENT: Final = "sip-tls-rotation-probe"
_HEAD_LIMIT: Final = 65536
_BODY_LIMIT: Final = 1 << 20
_CONTENT_LENGTH: Final = re.compile(rb"^(?:content-length|l)[ \t]*:[ \t]*(\d+)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


class NotSip(Exception):
    """What came is no SIP message, or none of a size that a proxy sends."""


class SipFraming:
    """Cuts a stream into messages by Content-Length, which is mandatory there (RFC 3261 section 20.14)."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[SipRequest | SipResponse]:
        """The messages that are complete with this data. Raises `NotSip`."""
        self._buffer += data
        while message := self._cut():
            try:
                yield SipMessage.parse(message)
            except (ValueError, IndexError) as error:
                raise NotSip(f"not a SIP message ({error})") from None

    def _cut(self) -> bytes | None:
        """The first whole message; CRLFs before it are keepalives (RFC 5626 section 3.5.1)."""
        del self._buffer[: len(self._buffer) - len(self._buffer.lstrip(b"\r\n"))]
        end = self._buffer.find(b"\r\n\r\n")
        if max(end, 0 if end >= 0 else len(self._buffer)) > _HEAD_LIMIT:
            raise NotSip(f"a header section of more than {_HEAD_LIMIT} bytes")
        if end < 0:
            return None
        length = _CONTENT_LENGTH.search(self._buffer[: end + 2])
        if length is None:
            raise NotSip("a message without Content-Length")
        size = int(length[1])
        if size > _BODY_LIMIT:
            raise NotSip(f"a body of {size} bytes")
        if len(self._buffer) < end + 4 + size:
            return None
        message = bytes(self._buffer[: end + 4 + size])
        del self._buffer[: end + 4 + size]
        return message


class ProbeDialog:
    """What the prober sends towards one URI, from `sip:probe@<identity>`, under one Call-ID."""

    def __init__(self, uri: str, identity: str, local_address: tuple[str, int]) -> None:
        host, self._port = local_address
        self._host = bracketed(host)
        self._dialog = Dialog(
            call_id=generate_call_id(bracketed(identity)),
            local_tag=generate_tag(),
            local_uri=f"sip:probe@{bracketed(identity)}",
            remote_uri=uri,
            remote_target=uri,
        )

    def options(self) -> SipRequest:
        """OPTIONS (section 11)."""
        request = self._request("OPTIONS")
        request.headers.set_single("Accept", "application/sdp")
        return request

    def invite(self) -> SipRequest:
        """INVITE with an offer of inactive audio: no media will flow (RFC 3264 section 5.1)."""
        request = self._request("INVITE")
        family = "IP6" if self._host.startswith("[") else "IP4"
        host = self._host.strip("[]")
        offer = ("v=0", f"o=- 1 1 IN {family} {host}", "s=-", f"c=IN {family} {host}", "t=0 0")
        media = ("m=audio 9 RTP/AVP 8 0", "a=rtpmap:8 PCMA/8000", "a=rtpmap:0 PCMU/8000", "a=inactive", "")
        request.headers.set_single("Content-Type", "application/sdp")
        request.headers.set_single("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS")
        request.body = "\r\n".join((*offer, *media)).encode()
        return request

    def acknowledge(self, invite: SipRequest, answer: SipResponse) -> SipRequest:
        """The ACK of a 2xx, in the new dialog (13.2.2.4), or of a refusal, in the INVITE's transaction (17.1.1.3)."""
        if answer.status_code >= 300:
            ack = self._within(invite, "ACK")
            ack.headers.set_single("To", answer.headers.get_first("to") or "")
            return ack
        self._dialog.remote_tag = (answer.to_addr.tag if answer.to_addr else None) or ""
        if answer.contact:
            self._dialog.remote_target = stringify_uri(answer.contact[0].uri)
        self._dialog.route_set = list(reversed(answer.headers.get("record-route")))
        self._dialog.confirm()
        ack = self._request("ACK")
        self._dialog.local_cseq -= 1
        ack.headers.set_single("CSeq", f"{self._dialog.local_cseq} ACK")
        return ack

    def bye(self) -> SipRequest:
        """BYE of the confirmed dialog (section 15.1.1)."""
        return self._request("BYE")

    def cancel(self, invite: SipRequest) -> SipRequest:
        """CANCEL of an INVITE that is not answered (section 9.1)."""
        cancel = self._within(invite, "CANCEL")
        cancel.headers.set_single("To", invite.headers.get_first("to") or "")
        return cancel

    def _request(self, method: str) -> SipRequest:
        request = self._dialog.create_request(method, via_host=self._host, via_port=self._port, via_transport="TLS")
        request.headers.set_single("Contact", f"<sip:probe@{self._host}:{self._port};transport=tls>")
        request.headers.set_single("User-Agent", USER_AGENT)
        return request

    def _within(self, invite: SipRequest, method: str) -> SipRequest:
        """A request of the INVITE's own transaction: same branch, Request-URI and CSeq number."""
        request = SipRequest(method=method, uri=invite.uri)
        request.headers.append("Via", invite.headers.get("via")[0])
        for name in ("From", "Call-ID", "Max-Forwards"):
            request.headers.set_single(name, invite.headers.get_first(name) or "")
        request.headers.set_single("CSeq", f"{invite.cseq.seq if invite.cseq else 1} {method}")
        return request


def reply(request: SipRequest, status: int, reason: str) -> SipResponse:
    """The final answer to a request that the other side sends on our connection (section 8.2.6)."""
    response = SipResponse(status_code=status, reason_phrase=reason)
    for via in request.headers.get("via"):
        response.headers.append("Via", via)
    for name in ("From", "To", "Call-ID", "CSeq"):
        response.headers.set_single(name, request.headers.get_first(name) or "")
    return response


def answers(response: SipResponse, request: SipRequest) -> bool:
    """True when the response belongs to the request's transaction (section 17.1.3)."""
    vias, cseq = response.via, response.cseq
    return bool(vias) and cseq is not None and vias[0].branch == request.via[0].branch and cseq.method == request.method


def bracketed(host: str) -> str:
    """An IPv6 address in brackets, as URIs and Via want it; everything else as it is."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
