"""The shipped SIP server behind HAProxy: which slot and carrier a call came from, and the way back to the carrier."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.sip.kamailio_node import TOKEN, KamailioNode, kamailio_behind_haproxy
from tests.sip.sip_peers import DOMAIN, Core, Dialog, Message

pytestmark = pytest.mark.sip

CARRIER, STRANGER = "198.51.100.10", "203.0.113.9"
PUBLIC = "192.0.2.10:5061"


class HaproxyOut:
    """HAProxy's listener for what goes to the carrier: answers every request 200, keeps them."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    def serve_one(self) -> Message:
        """The next request, answered."""
        self._listener.settimeout(10)
        connection, _ = self._listener.accept()
        with connection:
            request = Message.parse(connection.recv(65536).decode())
            connection.sendall(request.reply(200, f"sip:carrier@{CARRIER}:5061;transport=tls", "carrier").encode())
        return request

    def lose_one(self) -> Message:
        """The next request, and the connection closed below it."""
        self._listener.settimeout(10)
        connection, _ = self._listener.accept()
        with connection:
            return Message.parse(connection.recv(65536).decode())

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def core() -> Iterator[Core]:
    """The SIP server in the core."""
    with closing(Core()) as one:
        yield one


@pytest.fixture
def out() -> Iterator[HaproxyOut]:
    """Where outbound calls leave."""
    with closing(HaproxyOut()) as one:
        yield one


@pytest.fixture
def node(tmp_path: Path, core: Core, out: HaproxyOut) -> Iterator[KamailioNode]:
    """The server, its control listener open."""
    one = kamailio_behind_haproxy(
        tmp_path,
        public=PUBLIC,
        core_uri=core.uri,
        carrier_uri=f"sip:127.0.0.1:{out.port};transport=tcp",
        peers=f"{CARRIER}/32",
    ).start()
    core.edge = (one.address, one.ports["core"])
    yield one
    one.kill()


class Slot:
    """A connection as HAProxy's terminator of a slot opens it: the carrier's address first (PROXY protocol v1)."""

    def __init__(self, node: KamailioNode, slot: str, carrier: str = CARRIER) -> None:
        self._socket = socket.create_connection((node.address, node.ports[slot]), 10)
        self._socket.sendall(f"PROXY TCP4 {carrier} 192.0.2.10 40000 5061\r\n".encode())

    def invite(self, user: str = "echo") -> Message:
        """The final answer to an INVITE."""
        lines = [
            f"INVITE sip:{user}@{DOMAIN} SIP/2.0",
            f"Via: SIP/2.0/TLS {CARRIER}:40000;branch=z9hG4bK{uuid.uuid4().hex}",
            f"From: <sip:carrier@{DOMAIN}>;tag=1",
            f"To: <sip:{user}@{DOMAIN}>",
            f"Call-ID: {uuid.uuid4().hex}",
            "CSeq: 1 INVITE",
            f"Contact: <sip:carrier@{CARRIER}:5061;transport=tls>",
            "Max-Forwards: 70",
            "Content-Length: 0",
        ]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        return self._final()

    def bye(self, answer: Message) -> int:
        """The final answer to a BYE of the carrier, along the routes that it was told."""
        routes = list(reversed(answer.all("Record-Route")))
        dialog = Dialog(
            answer.header("Call-ID"), answer.header("From"), answer.header("To"), answer.header("Contact")[1:-1], routes
        )
        via = f"SIP/2.0/TLS {CARRIER}:40000"
        self._socket.sendall(dialog.request("BYE", via, f"sip:carrier@{CARRIER}:5061;transport=tls").encode())
        return self._final().status

    def close(self) -> None:
        self._socket.close()

    def _final(self) -> Message:
        buffer = b""
        while True:
            head, separator, buffer = buffer.partition(b"\r\n\r\n")
            if not separator:
                buffer = head + self._socket.recv(65536)
            elif (message := Message.parse(head.decode())).status >= 200:
                return message


def counted(node: KamailioNode) -> set[str]:
    """The lines of the calls, without the metric's name and the trunk."""
    answer = httpx.get(
        f"{node.control_url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False, timeout=10
    )
    prefix = 'sip_edge_calls_total{trunk="carrier-x",'
    return {line.removeprefix(prefix) for line in answer.text.splitlines() if line.startswith(prefix)}


def test_calls_are_counted_by_slot_carrier_and_outcome(node: KamailioNode) -> None:
    with closing(Slot(node, "one")) as one, closing(Slot(node, "two")) as two:
        assert [one.invite().status, one.invite("486").status, two.invite().status] == [200, 486, 200]
        assert two.invite("404").status == 404
    labels = 'direction="inbound",peer="198.51.100.10"'
    assert counted(node) == {
        f'certificate="one",{labels},result="ok"}} 2',
        f'certificate="two",{labels},result="ok"}} 1',
        f'certificate="two",{labels},result="404"}} 1',
    }


def test_who_is_no_carrier_does_not_call_and_is_not_counted(node: KamailioNode) -> None:
    with closing(Slot(node, "one", STRANGER)) as stranger:
        assert stranger.invite().status == 403
    assert counted(node) == set()


def test_both_sides_can_hang_up_through_haproxy(node: KamailioNode, core: Core, out: HaproxyOut) -> None:
    with closing(Slot(node, "one")) as one:
        answer = one.invite()
        assert answer.all("Record-Route")[-1].startswith(f"<sip:{PUBLIC};transport=tls"), "the carrier's way back"
        assert one.bye(answer) == 200
        assert core.bye_seen == [answer.header("Call-ID")]
        second = one.invite()
        core.start_hang_up(second.header("Call-ID"))
        bye = out.serve_one()
    assert (bye.method, bye.first.split()[1]) == ("BYE", f"sip:carrier@{CARRIER}:5061;transport=tls")
    assert bye.header("Via").startswith(f"SIP/2.0/TCP {PUBLIC}"), "the listener that the carrier knows"
    core.wait_for(lambda: any(answer.method == "BYE" for answer in core.answers), "the answer to the BYE")


def test_a_call_to_the_carrier_leaves_through_haproxy_and_has_no_slot(
    node: KamailioNode, core: Core, out: HaproxyOut
) -> None:
    core.start_call_out()
    invite = out.serve_one()
    assert invite.method == "INVITE"
    core.wait_for(lambda: any(answer.status == 200 for answer in core.answers), "the carrier's answer")
    assert counted(node) == {'certificate="none",direction="outbound",peer="",result="ok"} 1'}


def test_a_call_whose_connection_haproxy_closed_below_it_is_sent_once_more(
    node: KamailioNode, core: Core, out: HaproxyOut
) -> None:
    with ThreadPoolExecutor() as side:
        answer = side.submit(core.call_out)
        lost = out.lose_one()
        again = out.serve_one()
        assert answer.result(20).status == 200
    assert (lost.header("Call-ID"), lost.header("CSeq")) == (again.header("Call-ID"), again.header("CSeq"))
    assert lost.all("Via")[0] != again.all("Via")[0], "another transaction (RFC 3263, section 4.3)"
    assert counted(node) == {'certificate="none",direction="outbound",peer="",result="ok"} 1'}


def test_it_is_not_sent_a_third_time(node: KamailioNode, core: Core, out: HaproxyOut) -> None:
    with ThreadPoolExecutor() as side:
        answer = side.submit(core.call_out)
        out.lose_one()
        out.lose_one()
        assert answer.result(20).status == 408
    assert counted(node) == {'certificate="none",direction="outbound",peer="",result="408"} 1'}
