"""A tap on the lab's DNS server: dynamic updates pass it, questions do not."""

from __future__ import annotations

import dns.exception
import dns.message
import dns.opcode
import dns.rcode
import dns.update

from lab.dns_server import Reply
from lab.tap import Lost, Taps
from lab.tap_names import dns_operation

SERVICE = "dns"


class DnsTap:
    """Before `DnsServer`: what the rules say about an update happens to it."""

    def __init__(self, taps: Taps) -> None:
        self._taps = taps

    async def __call__(self, wire: bytes, reply: Reply) -> dns.message.Message | None:
        """The server's reply; None when the client gets none."""
        update = _update(wire)
        if update is None:
            return reply(wire)

        async def forward() -> tuple[bool, dns.message.Message | None]:
            answer = reply(wire)
            return answer is not None and answer.rcode() == dns.rcode.NOERROR, answer

        try:
            return await self._taps.passed(SERVICE, dns_operation(update), forward)
        except Lost:
            return None


def _update(wire: bytes) -> dns.update.UpdateMessage | None:
    """The message as an update, its signature unchecked: that is the server's part."""
    try:
        message = dns.message.from_wire(wire, keyring=False)
    except dns.exception.DNSException:
        return None
    return message if isinstance(message, dns.update.UpdateMessage) else None
