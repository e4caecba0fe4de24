"""SIP over a stream: messages are cut by Content-Length, however the bytes arrive."""

from __future__ import annotations

import pytest
from aiosipua import SipRequest, SipResponse

from lab.sip import SipFraming, SipFramingError

INVITE = b"INVITE sip:a@b.c SIP/2.0\r\nv: SIP/2.0/TLS h;branch=z9hG4bK1\r\nl: 5\r\nCall-ID: 1\r\n\r\nv=0\r\n"
OK = b"SIP/2.0 200 OK\r\nContent-Length:0\r\nCall-ID: 1\r\n\r\n"


def test_a_message_may_arrive_byte_by_byte() -> None:
    framing = SipFraming()
    messages = [message for byte in INVITE + OK for message in framing.feed(bytes([byte]))]
    assert [type(message) for message in messages] == [SipRequest, SipResponse]
    assert messages[0].body == b"v=0\r\n"


def test_several_messages_may_arrive_at_once_with_keepalives_between() -> None:
    messages = SipFraming().feed(b"\r\n\r\n" + INVITE + b"\r\n\r\n" + OK + b"\r\n")
    assert [message.call_id for message in messages] == ["1", "1"]


@pytest.mark.parametrize(
    "data",
    [
        b"OPTIONS sip:a SIP/2.0\r\nCall-ID: 1\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\nContent-Length: -1\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 2000000\r\n\r\n",
        b"OPTIONS\r\nContent-Length: 0\r\n\r\n",
        b"x" * 100_000,
    ],
)
def test_what_cannot_be_framed_is_refused(data: bytes) -> None:
    with pytest.raises(SipFramingError):
        SipFraming().feed(data)
