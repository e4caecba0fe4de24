"""The two sides of an edge under test, small and blocking: a carrier over TLS, and the SIP server in the core over UDP.

Only what the tests need of RFC 3261: one transaction at a time per caller, no retransmissions (the carrier's side is
TLS, the core's is loopback), routes taken from Record-Route.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import ssl
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

TIMEOUT_S = 10.0
DOMAIN = "trunk.example.com"


@dataclass(frozen=True)
class Message:
    """One SIP message, headers in order."""

    first: str
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        first, *lines = text.split("\r\n\r\n", 1)[0].split("\r\n")
        return cls(
            first, tuple((name.strip(), value.strip()) for name, _, value in (li.partition(":") for li in lines))
        )

    @property
    def status(self) -> int:
        """0 for a request."""
        return int(self.first.split()[1]) if self.first.startswith("SIP/2.0") else 0

    @property
    def method(self) -> str:
        return self.header("CSeq").split()[1]

    def header(self, name: str) -> str:
        return next(iter(self.all(name)), "")

    def all(self, name: str) -> list[str]:
        return [value for found, value in self.headers if found.lower() == name.lower()]

    def reply(self, status: int, contact: str, tag: str) -> str:
        to = self.header("To")
        to = to if "tag=" in to or status == 100 else f"{to};tag={tag}"
        kept = [f"{name}: {value}" for name, value in self.headers if name.lower() in {"via", "record-route"}]
        rest = [f"{name}: {self.header(name)}" for name in ("From", "Call-ID", "CSeq")]
        lines = [f"SIP/2.0 {status} Because", *kept, *rest, f"To: {to}", f"Contact: <{contact}>", "Content-Length: 0"]
        return "\r\n".join([*lines, "", ""])


@dataclass
class Dialog:
    """One side of a call: what its next request needs."""

    call_id: str
    local: str
    remote: str
    target: str
    routes: Sequence[str]
    cseq: int = 1

    def request(self, method: str, via: str, contact: str) -> str:
        if method != "ACK":
            self.cseq += 1
        lines = [
            f"{method} {self.target} SIP/2.0",
            f"Via: {via};branch=z9hG4bK{uuid.uuid4().hex}",
            *(f"Route: {route}" for route in self.routes),
            f"From: {self.local}",
            f"To: {self.remote}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {self.cseq} {method}",
            f"Contact: <{contact}>",
            "Max-Forwards: 70",
            "Content-Length: 0",
        ]
        return "\r\n".join([*lines, "", ""])


class Stream:
    """Cuts a TLS stream into messages; every message of the tests has an empty body."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self._tls, self._buffer = tls, b""

    def receive(self) -> Message | None:
        """The next message; None when the other side has closed in order (close_notify)."""
        while b"\r\n\r\n" not in self._buffer:
            data = self._tls.recv(65536)
            if not data:
                return None
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return Message.parse(head.decode())


class Caller:
    """A carrier's connection to the edge, and the calls on it."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        server_name: str | None = DOMAIN,
        source: str = "127.0.0.1",
        contact: str = "",
    ) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(address, TIMEOUT_S, source_address=(source, 0))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or a request waits for the ACK of the one before
        self.tls = context.wrap_socket(plain, server_hostname=server_name)
        self._stream = Stream(self.tls)
        host, port = self.tls.getsockname()
        self.contact = contact or f"sip:carrier@{host}:{port};transport=tls"
        self._via = f"SIP/2.0/TLS {host}:{port}"

    @property
    def served(self) -> str:
        """SHA-256 of the leaf that the edge presented."""
        certificate = self.tls.getpeercert(binary_form=True)
        assert certificate is not None
        return hashlib.sha256(certificate).hexdigest()

    def options(self) -> int:
        return self._ask(f"OPTIONS sip:{DOMAIN} SIP/2.0", "OPTIONS").status

    def send_invite(self, user: str = "echo") -> str:
        """An INVITE on its way; its Call-ID."""
        call_id = uuid.uuid4().hex
        self._send(f"INVITE sip:{user}@{DOMAIN} SIP/2.0", "INVITE", call_id)
        return call_id

    def final(self) -> Message:
        """The next final answer."""
        while True:
            message = self._stream.receive()
            assert message is not None, "the edge closed the connection"
            if message.status >= 200:
                return message

    def call(self, user: str = "echo") -> Dialog:
        """A call that was answered and acknowledged."""
        self.send_invite(user)
        return self.acknowledged(self.final())

    def acknowledged(self, answer: Message) -> Dialog:
        """The dialog of a 2xx, its ACK sent."""
        assert answer.status == 200, answer.first
        target = answer.header("Contact").strip("<>")
        routes = list(reversed(answer.all("Record-Route")))
        dialog = Dialog(answer.header("Call-ID"), answer.header("From"), answer.header("To"), target, routes)
        self.tls.sendall(dialog.request("ACK", self._via, self.contact).encode())
        return dialog

    def in_dialog(self, dialog: Dialog, method: str) -> int:
        """The final answer to a request inside a call."""
        self.tls.sendall(dialog.request(method, self._via, self.contact).encode())
        answer = self.final()
        if method == "INVITE":
            self.tls.sendall(dialog.request("ACK", self._via, self.contact).encode())
        return answer.status

    def closed_in_order(self) -> bool:
        """True when the edge says goodbye (close_notify) within the timeout; messages until then are dropped."""
        with contextlib.suppress(TimeoutError):
            while self._stream.receive() is not None:
                pass
            return True
        return False

    def still_open(self, seconds: float = 0.5) -> bool:
        """True when the edge does not close within so long."""
        self.tls.settimeout(seconds)
        try:
            return self._stream.receive() is not None
        except TimeoutError:
            return True
        finally:
            self.tls.settimeout(TIMEOUT_S)

    def close(self) -> None:
        self.tls.close()

    def _ask(self, first: str, method: str) -> Message:
        self._send(first, method, uuid.uuid4().hex)
        return self.final()

    def _send(self, first: str, method: str, call_id: str) -> None:
        lines = [
            first,
            f"Via: {self._via};branch=z9hG4bK{uuid.uuid4().hex}",
            f"From: <sip:carrier@{DOMAIN}>;tag={uuid.uuid4().hex}",
            f"To: <sip:echo@{DOMAIN}>",
            f"Call-ID: {call_id}",
            f"CSeq: 1 {method}",
            f"Contact: <{self.contact}>",
            "Max-Forwards: 70",
            "Content-Length: 0",
        ]
        self.tls.sendall("\r\n".join([*lines, "", ""]).encode())


@dataclass
class Core:
    """The SIP server in the core: answers by the called user – `echo` 200, digits that status, `late` when told."""

    edge: tuple[str, int] | None = None
    dialogs: dict[str, Dialog] = field(default_factory=dict)
    bye_seen: list[str] = field(default_factory=list)
    answers: list[Message] = field(default_factory=list)
    _ringing: dict[str, tuple[Message, tuple[str, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    @property
    def uri(self) -> str:
        return f"sip:127.0.0.1:{self.port};transport=udp"

    def answer_late(self, call_id: str, status: int = 200) -> None:
        """Answers the INVITE that rings under that Call-ID."""
        self.wait_for(lambda: call_id in self._ringing, "the INVITE arrives")
        request, source = self._ringing.pop(call_id)
        self._answer(request, source, status)

    def hang_up(self, call_id: str) -> int:
        """BYE from our side; its final answer."""
        before = len(self.answers)
        self.start_hang_up(call_id)
        return self._answer_to(call_id, before).status

    def start_hang_up(self, call_id: str) -> None:
        """BYE from our side, on its way."""
        self.wait_for(lambda: call_id in self.dialogs, "the call is answered")
        self._send(self.dialogs[call_id].request("BYE", self._via, self.uri))

    def call_out(self) -> Message:
        """An INVITE to the carrier through the edge; its final answer, acknowledged."""
        before = len(self.answers)
        call_id = self.start_call_out()
        answer = self._answer_to(call_id, before)
        if answer.status == 200:
            target = answer.header("Contact").strip("<>")
            routes = list(reversed(answer.all("Record-Route")))
            dialog = Dialog(call_id, answer.header("From"), answer.header("To"), target, routes)
            self.dialogs[call_id] = dialog
            self._send(dialog.request("ACK", self._via, self.uri))
        return answer

    def start_call_out(self) -> str:
        """An INVITE to the carrier through the edge, on its way; its Call-ID."""
        call_id = uuid.uuid4().hex
        lines = [
            f"INVITE sip:carrier@{DOMAIN} SIP/2.0",
            f"Via: {self._via};branch=z9hG4bK{uuid.uuid4().hex}",
            f"From: <sip:core@{DOMAIN}>;tag={uuid.uuid4().hex}",
            f"To: <sip:carrier@{DOMAIN}>",
            f"Call-ID: {call_id}",
            "CSeq: 1 INVITE",
            f"Contact: <{self.uri}>",
            "Max-Forwards: 70",
            "Content-Length: 0",
        ]
        self._send("\r\n".join([*lines, "", ""]))
        return call_id

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        with self._news:
            assert self._news.wait_for(condition, TIMEOUT_S), f"{what}: not within {TIMEOUT_S:.0f} s"

    def close(self) -> None:
        self._socket.close()

    @property
    def _via(self) -> str:
        return f"SIP/2.0/UDP 127.0.0.1:{self.port}"

    def _send(self, text: str) -> None:
        assert self.edge is not None, "set `edge` to the edge's core listener"
        self._socket.sendto(text.encode(), self.edge)

    def _answer_to(self, call_id: str, before: int) -> Message:
        """The first final answer of that call after those that there were."""
        self.wait_for(lambda: any(m.header("Call-ID") == call_id for m in self.answers[before:]), "an answer arrives")
        return next(m for m in self.answers[before:] if m.header("Call-ID") == call_id)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, source = self._socket.recvfrom(65536)
                with self._news:
                    self._take(Message.parse(data.decode()), source)
                    self._news.notify_all()

    def _take(self, message: Message, source: tuple[str, int]) -> None:
        if message.status:
            if message.status >= 200:
                self.answers.append(message)
        elif message.method == "BYE":
            self.bye_seen.append(message.header("Call-ID"))
            self._socket.sendto(message.reply(200, self.uri, "core").encode(), source)
        elif message.method == "INVITE":
            user = re.split("[:@]", message.first.split()[1])[1]
            if user == "late":
                self._ringing[message.header("Call-ID")] = (message, source)
                self._socket.sendto(message.reply(180, self.uri, "core").encode(), source)
            else:
                self._answer(message, source, int(user) if user.isdigit() else 200)

    def _answer(self, request: Message, source: tuple[str, int], status: int) -> None:
        tag = "core"
        self._socket.sendto(request.reply(status, self.uri, tag).encode(), source)
        if status == 200:
            self.dialogs[request.header("Call-ID")] = Dialog(
                request.header("Call-ID"),
                f"{request.header('To')};tag={tag}",
                request.header("From"),
                request.header("Contact").strip("<>"),
                request.all("Record-Route"),
                cseq=100,
            )
