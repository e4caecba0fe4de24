"""The carrier's own TLS listener, where an edge under test calls out with its certificate."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.sip.sip_peers import Message, Stream


class CarrierServer:
    """The carrier's listener for calls from us: TLS that demands a certificate of ours, every call answered 200.

    `presented` are the SHA-256 of the leaves that clients proved, in order; `served` counts its INVITEs.
    """

    def __init__(self, chain: Path, key: Path, roots: Path, *, address: str = "127.0.0.2") -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        context.load_verify_locations(roots)
        context.verify_mode = ssl.CERT_REQUIRED
        self._context = context
        self._listener = socket.create_server((address, 0))
        self.address, self.port = self._listener.getsockname()
        self.presented: list[str] = []
        self.refused = 0
        self.served = 0
        self._open: list[ssl.SSLSocket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"sip:{self.address}:{self.port};transport=tls"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # the thread that accepts holds it too
        self._listener.close()
        for tls in self._open:
            tls.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        plain.settimeout(60)
        try:
            tls = self._context.wrap_socket(plain, server_side=True)
        except OSError:
            self.refused += 1
            return
        self._open.append(tls)
        self.presented.append(hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest())
        with contextlib.suppress(OSError):
            for message in _messages(Stream(tls)):
                if message.method == "INVITE":
                    self.served += 1
                if message.method != "ACK":
                    tls.sendall(message.reply(200, self.uri, "carrier").encode())


def _messages(stream: Stream) -> Iterator[Message]:
    while (message := stream.receive()) is not None:
        if not message.status:
            yield message
