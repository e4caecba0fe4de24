"""The cloud's OPTIONS pings to a BYOC trunk's SBC: real TLS, chain and name verified, and a real answer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

from aiosipua import SipRequest

from lab.byoc_trunk import ByocTrunk
from lab.dialing import DialFailure, connect_tcp
from lab.sip import ConnectionLost, SipConnection
from lab.tls_contexts import Identity, client_context
from lab.tls_stream import TlsFailure, TlsStream

ANSWER_S = 2.0
_UNAVAILABLE = 503


class Pinger:
    """Pings every address of `trunk` each `interval_s` seconds, from the address `source`.

    `trust` is asked at every ping for the PEM that the SBC's chain must lead to, and the certificate must be for
    `fqdn`. Any answer but 503 is one (RFC 3261 section 11). `identity` is shown to an SBC that demands a certificate.
    """

    def __init__(
        self,
        trunk: ByocTrunk,
        *,
        fqdn: str,
        trust: Callable[[], str],
        source: str,
        identity: Identity | None = None,
        interval_s: float = 1.0,
    ) -> None:
        self._trunk, self._fqdn, self._trust = trunk, fqdn, trust
        self._source, self._identity, self._interval_s = source, identity, interval_s

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self.ping_all()
            await asyncio.sleep(self._interval_s)

    async def ping_all(self) -> None:
        """Every address once, side by side."""
        await asyncio.gather(*(self._ping(proxy) for proxy in self._trunk.proxies))

    async def _ping(self, proxy: str) -> None:
        host, _, port = proxy.rpartition(":")
        try:
            status = await self._ask(host, int(port))
        except DialFailure as failure:
            self._trunk.ping(proxy, failure.cause)
        except TlsFailure as failure:
            self._trunk.ping(proxy, f"tls {failure.cause}")
        except ConnectionLost as lost:
            self._trunk.ping(proxy, f"connection lost: {lost.cause}")
        except TimeoutError:
            self._trunk.ping(proxy, "no answer to OPTIONS")
        else:
            self._trunk.ping(proxy, f"sip {status}" if status == _UNAVAILABLE else None)

    async def _ask(self, host: str, port: int) -> int:
        context = client_context(self._trust(), identity=self._identity)
        tcp = await connect_tcp(host, port, source=self._source)
        stream = await TlsStream.connect(*tcp, context, server_name=self._fqdn)
        connection = SipConnection(stream, on_request=lambda request: None)
        try:
            answer = await connection.request(self._options(*connection.local_address), timeout_s=ANSWER_S)
        finally:
            await connection.close()
        return answer.status_code

    def _options(self, host: str, port: int) -> SipRequest:
        local = f"{host}:{port}"
        request = SipRequest(method="OPTIONS", uri=f"sip:{self._fqdn}")
        token = uuid.uuid4().hex
        request.headers.append("Via", f"SIP/2.0/TLS {local};branch=z9hG4bK{token}")
        for name, value in (
            ("Max-Forwards", "70"),
            ("From", f"<sip:ping@{local}>;tag={token[:8]}"),
            ("To", f"<sip:{self._fqdn}>"),
            ("Call-ID", f"{token}@{local}"),
            ("CSeq", "1 OPTIONS"),
        ):
            request.headers.set_single(name, value)
        return request
