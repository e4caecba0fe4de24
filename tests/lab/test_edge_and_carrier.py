"""Real handshakes and calls between the lab's edge and its carrier, on loopback."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from lab.call_mix import CallMix, CallShape
from lab.calls import CallResult, UserAgent
from lab.carrier import Carrier, CarrierTrunk
from lab.edge import Edge, ServedCertificate
from lab.ledger import Direction, Group, Ledger
from lab.tls_contexts import Identity, client_context
from lab.tls_stream import TlsFailure, TlsStream
from tests.lab.one_trunk import (
    CANARY,
    FQDN,
    INBOUND,
    OUTBOUND,
    SBC,
    Pki,
    Trunk,
    call_setups,
    counted,
    handshakes,
    running,
    until,
)
from tests.lab.small_ca import DAY, Authority

UNTIL_HUNG_UP = 60.0


@pytest.fixture(autouse=True)
def nothing_is_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No warning in any log: no exception that nobody retrieved, no transport that nobody closed."""
    yield
    gc.collect()
    records = [*caplog.get_records("call"), *caplog.get_records("teardown")]
    assert [record.getMessage() for record in records if record.levelno >= logging.WARNING] == []


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


@pytest_asyncio.fixture
async def plain(pki: Pki) -> AsyncIterator[Trunk]:
    """A trunk on which only the platform shows a certificate, with a quiet carrier."""
    async with running(pki, mutual=False) as trunk:
        yield trunk


@pytest_asyncio.fixture
async def mutual(pki: Pki) -> AsyncIterator[Trunk]:
    """A trunk with mutual TLS, with a quiet carrier."""
    async with running(pki, mutual=True) as trunk:
        yield trunk


async def open_tls(
    pki: Pki,
    port: int,
    *,
    sni: str = FQDN,
    identity: Identity | None = None,
    context: ssl.SSLContext | None = None,
    session: ssl.SSLSession | None = None,
) -> TlsStream:
    """A prober's TLS connection: it verifies the chain, but not the name, which a canary's SNI is not."""
    if context is None:
        context = client_context(pki.root.pem, identity=identity)
        context.check_hostname = False
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    return await TlsStream.connect(reader, writer, context, server_name=sni, session=session)


async def leaf_served(pki: Pki, port: int, *, sni: str = FQDN) -> str | None:
    stream = await open_tls(pki, port, sni=sni)
    await stream.close()
    return stream.peer_leaf


# What the edge serves.


async def test_the_first_valid_certificate_of_the_pool_is_served(plain: Trunk) -> None:
    pki, edge = plain.pki, plain.edge
    expired = pki.intermediate_a.issue(FQDN, not_after=datetime.now(UTC) - timedelta(seconds=1))
    early = pki.intermediate_a.issue(FQDN, not_before=datetime.now(UTC) + timedelta(hours=1))
    for pool, first in (
        ([pki.a, pki.b], pki.a),
        ([pki.b, pki.a], pki.b),
        ([expired, early, pki.b, pki.a], pki.b),
    ):
        edge.serve(pool)
        assert await leaf_served(pki, edge.primary_port) == first.sha256


async def test_the_secondary_port_serves_the_secondary_certificate_or_the_pool(plain: Trunk) -> None:
    pki, edge = plain.pki, plain.edge
    assert edge.secondary_port is not None
    assert await leaf_served(pki, edge.secondary_port) == pki.a.sha256
    edge.serve([pki.a], secondary=pki.b)
    assert await leaf_served(pki, edge.secondary_port) == pki.b.sha256
    assert await leaf_served(pki, edge.primary_port) == pki.a.sha256


async def test_the_canary_name_gets_the_canary_certificate_on_the_primary_port_only(plain: Trunk) -> None:
    pki, edge = plain.pki, plain.edge
    assert edge.secondary_port is not None
    edge.serve([pki.a], canary=(CANARY, pki.b))
    assert await leaf_served(pki, edge.primary_port, sni=CANARY.upper()) == pki.b.sha256
    assert await leaf_served(pki, edge.primary_port) == pki.a.sha256
    assert await leaf_served(pki, edge.secondary_port, sni=CANARY) == pki.a.sha256
    edge.serve([pki.a])
    assert await leaf_served(pki, edge.primary_port, sni=CANARY) == pki.a.sha256


async def test_a_client_without_sni_is_served_the_pool(plain: Trunk) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=plain.pki.root.pem)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing)
    reader, writer = await asyncio.open_connection("127.0.0.1", plain.edge.primary_port)
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            writer.write(outgoing.read())
            incoming.write(await reader.read(65536))
        else:
            break
    writer.write(outgoing.read())
    await until(lambda: handshakes(plain.edge.ledger, "INBOUND", plain.pki.a.sha256) == (1, {}))
    writer.close()
    await writer.wait_closed()


async def test_a_pool_without_a_valid_certificate_refuses_handshakes(plain: Trunk) -> None:
    plain.edge.serve([plain.pki.intermediate_a.issue(FQDN, not_after=datetime.now(UTC) - DAY / 2)])
    result = await plain.call(INBOUND)
    assert result == CallResult(None, "tls handshake_failure")
    await until(lambda: handshakes(plain.edge.ledger, "INBOUND", None) == (0, {"handshake_failure": 1}))
    assert handshakes(plain.carrier_ledger, "INBOUND", None) == (0, {"handshake_failure": 1})


async def test_a_chain_that_cannot_be_used_changes_nothing(plain: Trunk) -> None:
    pki = plain.pki
    mixed = ServedCertificate(pki.b.chain_pem, pki.a.key_pem, "0" * 64, pki.b.not_before, pki.b.not_after)
    with pytest.raises(ssl.SSLError):
        plain.edge.serve([mixed])
    assert await leaf_served(pki, plain.edge.primary_port) == pki.a.sha256


async def test_the_same_leaf_with_another_chain_is_served_with_that_chain(plain: Trunk) -> None:
    pki, edge = plain.pki, plain.edge
    bare = ServedCertificate.from_pem(pki.a.chain_pem.replace(pki.intermediate_a.pem, ""), pki.a.key_pem)
    edge.serve([bare])
    assert await plain.call(INBOUND) == CallResult(None, "tls unknown_ca")
    edge.serve([pki.a])
    assert await plain.call(INBOUND) == CallResult(200)


def test_a_private_key_is_in_no_text(pki: Pki) -> None:
    secret = pki.a.key_pem.splitlines()[1]
    assert secret not in f"{pki.a!r} {pki.a} {pki.sbc!r} {pki.sbc} {pki.a.identity!r}"


# Calls.


@pytest.mark.parametrize("bye_from", ["caller", "callee"])
@pytest.mark.parametrize("reinvite", [False, True])
@pytest.mark.parametrize("direction", ["INBOUND", "OUTBOUND"])
async def test_a_call_is_set_up_and_ended_from_either_side(
    mutual: Trunk, direction: Direction, reinvite: bool, bye_from: str
) -> None:
    side: CallShape = CallShape(
        direction, 0.05, reinvite, "callee" if bye_from == "callee" else "caller", new_connection=True
    )
    assert await mutual.call(side) == CallResult(200)
    for ledger in (mutual.edge.ledger, mutual.carrier_ledger):
        assert handshakes(ledger, direction, mutual.pki.a.sha256) == (1, {})
        assert call_setups(ledger, direction, mutual.pki.a.sha256) == (1, {})
    await until(lambda: mutual.edge.active_calls() == {})


@pytest.mark.parametrize("direction", ["INBOUND", "OUTBOUND"])
@pytest.mark.parametrize("ended_by", ["carrier", "callee's clock"])
async def test_a_long_call_survives_a_change_of_the_pool(
    mutual: Trunk,
    direction: Direction,
    ended_by: str,
) -> None:
    pki, edge = mutual.pki, mutual.edge
    by_clock = ended_by != "carrier"
    hold_s = 1.5 if by_clock else UNTIL_HUNG_UP
    shape = CallShape(direction, hold_s, by_clock, "callee" if by_clock else "caller", new_connection=True)
    call = asyncio.create_task(mutual.call(shape))
    await until(lambda: edge.active_calls() == {pki.a.sha256: 1})
    await until(lambda: call_setups(edge.ledger, direction, pki.a.sha256) == (1, {}))
    edge.serve([pki.b])
    edge.flush_tickets()
    assert await mutual.call(INBOUND) == CallResult(200)
    assert handshakes(edge.ledger, "INBOUND", pki.b.sha256) == (1, {})
    assert edge.active_calls() == {pki.a.sha256: 1}
    assert not call.done()
    if not by_clock:
        assert await mutual.carrier.drain(2)
    assert await call == CallResult(200)
    await until(lambda: edge.active_calls() == {})


async def test_outbound_calls_without_mutual_tls_use_no_certificate(plain: Trunk) -> None:
    call = asyncio.create_task(plain.call(CallShape("OUTBOUND", UNTIL_HUNG_UP, False, "caller", True)))
    await until(lambda: plain.edge.active_calls() == {"none": 1})
    await until(lambda: call_setups(plain.edge.ledger, "OUTBOUND", None) == (1, {}))
    assert await plain.carrier.drain(2)
    assert await call == CallResult(200)
    for ledger in (plain.edge.ledger, plain.carrier_ledger):
        assert {group.sha256 for group in counted(ledger)} == {None}
        assert handshakes(ledger, "OUTBOUND", None) == (0, {})
        assert call_setups(ledger, "OUTBOUND", None) == (1, {})


@pytest.mark.parametrize("direction", ["INBOUND", "OUTBOUND"])
async def test_a_shared_connection_has_one_handshake_for_several_calls(
    mutual: Trunk,
    direction: Direction,
) -> None:
    shape = CallShape(direction, 0.1, False, "caller", new_connection=False)
    assert await mutual.call(shape) == CallResult(200)
    mutual.edge.serve([mutual.pki.b])
    results = await asyncio.gather(*(mutual.call(shape) for _ in range(4)))
    assert results == [CallResult(200)] * 4
    for ledger in (mutual.edge.ledger, mutual.carrier_ledger):
        assert handshakes(ledger, direction, mutual.pki.a.sha256) == (1, {})
        assert call_setups(ledger, direction, mutual.pki.a.sha256) == (5, {})


async def test_the_platform_can_tell_the_carrier_from_a_prober(plain: Trunk) -> None:
    assert await plain.call(INBOUND) == CallResult(200)
    await leaf_served(plain.pki, plain.edge.primary_port)
    await until(lambda: len(counted(plain.edge.ledger)) == 2)
    assert {group.peer for group in counted(plain.edge.ledger)} == {plain.carrier.address, "127.0.0.1"}
    assert plain.carrier.address == "127.0.0.2"


async def test_options_is_answered(plain: Trunk) -> None:
    stream = await open_tls(plain.pki, plain.edge.primary_port)
    options = [
        f"OPTIONS sip:{FQDN} SIP/2.0",
        "Via: SIP/2.0/TLS 127.0.0.1;branch=z9hG4bKprobe",
        "From: <sip:probe@example.com>;tag=1",
        f"To: <sip:{FQDN}>",
        "Call-ID: probe",
        "CSeq: 1 OPTIONS",
        "Max-Forwards: 0",
        "Content-Length: 0",
    ]
    stream.send(b"\r\n\r\n")
    stream.send("\r\n".join([*options, "", ""]).encode())
    answer = (await stream.read()).decode()
    assert answer.startswith("SIP/2.0 200 OK\r\n")
    assert "Allow: INVITE, ACK, BYE, OPTIONS\r\n" in answer
    await stream.close()


# Who trusts whom.


@pytest.mark.parametrize("direction", ["INBOUND", "OUTBOUND"])
async def test_a_carrier_that_trusts_one_intermediate_refuses_the_other_with_unknown_ca(
    mutual: Trunk, direction: Direction
) -> None:
    pki, edge, carrier = mutual.pki, mutual.edge, mutual.carrier
    shape = INBOUND if direction == "INBOUND" else OUTBOUND
    carrier.set_trust(pki.intermediate_a.pem, partial_chain=True)
    assert await mutual.call(shape) == CallResult(200)
    edge.serve([pki.b, pki.a])
    assert await mutual.call(shape) == CallResult(None, "tls unknown_ca")
    await until(lambda: handshakes(edge.ledger, direction, pki.b.sha256) == (0, {"unknown_ca": 1}))
    await until(lambda: handshakes(mutual.carrier_ledger, direction, pki.b.sha256) == (0, {"unknown_ca": 1}))
    assert call_setups(edge.ledger, direction, pki.b.sha256) == (0, {})
    assert handshakes(edge.ledger, direction, pki.a.sha256) == (1, {})
    stats = carrier.stats()["pstn"]
    assert (stats.placed, stats.completed, stats.lost) == (2, 1, 1)
    assert [(loss.direction, loss.cause) for loss in stats.losses] == [(direction, "tls unknown_ca")]

    carrier.set_trust(pki.root.pem)
    assert await mutual.call(shape) == CallResult(200)


@pytest.mark.parametrize("direction", ["INBOUND", "OUTBOUND"])
async def test_a_share_of_handshakes_on_the_new_certificate_is_refused_exactly(
    mutual: Trunk, direction: Direction
) -> None:
    pki, edge, carrier = mutual.pki, mutual.edge, mutual.carrier
    shape = INBOUND if direction == "INBOUND" else OUTBOUND
    assert await mutual.call(shape) == CallResult(200)
    carrier.refuse_share("pstn", 0.25)
    for certificate, refused in ((pki.a, 0), (pki.b, 3), (pki.a, 0)):
        edge.serve([certificate])
        results = [await mutual.call(shape) for _ in range(12)]
        assert results.count(CallResult(None, "tls unknown_ca")) == refused
        assert results.count(CallResult(200)) == 12 - refused
    await until(lambda: handshakes(edge.ledger, direction, pki.b.sha256) == (9, {"unknown_ca": 3}))
    await until(lambda: handshakes(mutual.carrier_ledger, direction, pki.b.sha256) == (9, {"unknown_ca": 3}))

    carrier.refuse_share("pstn", 0)
    edge.serve([pki.b])
    assert [await mutual.call(shape) for _ in range(4)] == [CallResult(200)] * 4


async def test_a_share_may_spare_what_an_issuer_signed(plain: Trunk) -> None:
    pki = plain.pki
    plain.carrier.refuse_share("pstn", 1, spared_pem=pki.intermediate_a.pem)
    assert await plain.call(INBOUND) == CallResult(200)
    plain.edge.serve([pki.b])
    assert await plain.call(INBOUND) == CallResult(None, "tls unknown_ca")


async def test_concurrent_handshakes_are_refused_in_the_same_share(plain: Trunk) -> None:
    plain.carrier.refuse_share("pstn", 0.5, spared_pem=plain.pki.a.chain_pem)
    plain.edge.serve([plain.pki.b])
    results = await asyncio.gather(*(plain.call(INBOUND) for _ in range(20)))
    assert results.count(CallResult(200)) == 10


async def test_a_mutual_edge_demands_a_client_certificate_that_it_trusts(mutual: Trunk) -> None:
    pki, edge = mutual.pki, mutual.edge
    stranger = Authority("stranger").identity(SBC)
    for identity, cause in ((None, "certificate_required"), (stranger, "unknown_ca")):
        stream = await open_tls(pki, edge.primary_port, identity=identity)
        with pytest.raises(TlsFailure, match=cause):  # TLS 1.3: learnt after the client's handshake
            await stream.read()
        await stream.close()
    failures = {"certificate_required": 1, "unknown_ca": 1}
    await until(lambda: handshakes(edge.ledger, "INBOUND", pki.a.sha256) == (0, failures))


async def test_a_carrier_whose_certificate_the_edge_refuses_counts_no_good_handshake(pki: Pki) -> None:
    async with running(pki, mutual=True) as trunk:
        distrusting = Edge("pstn", FQDN, mutual=True, peer_trust_pem=pki.intermediate_b.pem, ledger=Ledger())
        distrusting.serve([pki.a])
        await distrusting.start()
        trunk.targets[:] = [("127.0.0.1", distrusting.primary_port)]
        assert await trunk.call(INBOUND) == CallResult(None, "tls unknown_ca")
        assert handshakes(trunk.carrier_ledger, "INBOUND", pki.a.sha256) == (0, {"unknown_ca": 1})
        expected = (0, {"unknown_ca": 1})
        await until(lambda: handshakes(distrusting.ledger, "INBOUND", pki.a.sha256) == expected)
        await distrusting.stop()


async def test_an_edge_that_distrusts_the_carrier_counts_its_own_alert(pki: Pki) -> None:
    async with running(pki, mutual=True) as trunk:
        distrusting = Edge("pstn", FQDN, mutual=True, peer_trust_pem=pki.intermediate_b.pem, ledger=Ledger())
        distrusting.serve([pki.a])
        await distrusting.start()
        host, port = trunk.carrier.outbound_target("pstn")
        result = await distrusting.place_call(
            host, port, server_name=SBC, hold_s=0.1, reinvite=False, bye_from="caller", new_connection=True
        )
        assert result == CallResult(None, "tls unknown_ca")
        assert handshakes(distrusting.ledger, "OUTBOUND", pki.a.sha256) == (0, {"unknown_ca": 1})
        await distrusting.stop()


async def test_a_client_certificate_for_another_name_passes_tls_and_gets_403(pki: Pki) -> None:
    async with running(pki, mutual=True, allowed_names=frozenset({"other.example.com"})) as trunk:
        assert await trunk.call(OUTBOUND) == CallResult(403, "sip 403")
        assert handshakes(trunk.edge.ledger, "OUTBOUND", pki.a.sha256) == (1, {})
        assert call_setups(trunk.edge.ledger, "OUTBOUND", pki.a.sha256) == (0, {403: 1})
        assert await trunk.call(INBOUND) == CallResult(200)


async def test_a_certificate_for_another_name_is_refused_by_the_carrier(plain: Trunk) -> None:
    other = plain.pki.intermediate_a.issue("other.example.com")
    plain.edge.serve([other])
    assert await plain.call(INBOUND) == CallResult(None, "tls bad_certificate")
    await until(lambda: handshakes(plain.edge.ledger, "INBOUND", other.sha256) == (0, {"bad_certificate": 1}))


# Faults.


@pytest.mark.parametrize("direction", ["INBOUND", "OUTBOUND"])
async def test_invites_are_rejected_on_a_certificate_but_not_re_invites(
    mutual: Trunk,
    direction: Direction,
) -> None:
    pki, edge = mutual.pki, mutual.edge
    rejecting = edge.reject_invites_on if direction == "INBOUND" else mutual.carrier.reject_invites_on
    early = asyncio.create_task(mutual.call(CallShape(direction, 0.6, True, "caller", True)))
    await until(lambda: call_setups(edge.ledger, direction, pki.a.sha256) == (1, {}))
    rejecting.add(pki.a.sha256)
    shape = INBOUND if direction == "INBOUND" else OUTBOUND
    assert await mutual.call(shape) == CallResult(403, "sip 403")
    edge.serve([pki.b])
    assert await mutual.call(shape) == CallResult(200)
    assert await early == CallResult(200)
    for ledger in (edge.ledger, mutual.carrier_ledger):
        assert handshakes(ledger, direction, pki.a.sha256) == (2, {})
        assert call_setups(ledger, direction, pki.a.sha256) == (1, {403: 1})
        assert call_setups(ledger, direction, pki.b.sha256) == (1, {})


async def test_an_edge_that_does_not_listen_refuses_new_connections_and_keeps_open_ones(plain: Trunk) -> None:
    edge, port = plain.edge, plain.edge.primary_port
    call = asyncio.create_task(plain.call(CallShape("INBOUND", 0.5, False, "caller", True)))
    await until(lambda: edge.active_calls() == {plain.pki.a.sha256: 1})
    await edge.set_listening(False)
    assert not edge.up()
    assert await plain.call(INBOUND) == CallResult(None, "tcp refused")
    assert await call == CallResult(200)
    await edge.set_listening(True)
    assert edge.up()
    assert edge.primary_port == port
    assert await plain.call(INBOUND) == CallResult(200)


async def test_connections_that_die_before_a_client_hello_are_not_counted(plain: Trunk) -> None:
    for first_bytes in (b"", b"\x16\x03", b"GET / HTTP/1.1\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", plain.edge.primary_port)
        writer.write(first_bytes)
        writer.write_eof()
        await reader.read()
        writer.close()
        await writer.wait_closed()
    await leaf_served(plain.pki, plain.edge.primary_port)
    await until(lambda: bool(counted(plain.edge.ledger)))
    assert list(counted(plain.edge.ledger)) == [Group(plain.pki.a.sha256, "INBOUND", "127.0.0.1")]
    assert handshakes(plain.edge.ledger, "INBOUND", plain.pki.a.sha256) == (1, {})


async def test_a_client_that_leaves_after_its_hello_is_a_connection_reset(plain: Trunk) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context(plain.pki.root.pem).wrap_bio(incoming, outgoing, server_hostname=FQDN)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    reader, writer = await asyncio.open_connection("127.0.0.1", plain.edge.primary_port)
    writer.write(outgoing.read())
    await reader.read(1)
    writer.close()
    await writer.wait_closed()
    expected = (0, {"connection_reset": 1})
    await until(lambda: handshakes(plain.edge.ledger, "INBOUND", plain.pki.a.sha256) == expected)


# Resumption.


async def test_a_session_resumes_uncounted_until_the_tickets_are_flushed(plain: Trunk) -> None:
    pki, edge = plain.pki, plain.edge
    context = client_context(pki.root.pem)

    async def visit(session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
        stream = await open_tls(pki, edge.primary_port, context=context, session=session)
        agent = UserAgent(stream, domain=SBC)
        assert await agent.call(to_domain=FQDN, hold_s=0) == CallResult(200)
        await agent.close()
        return stream.resumed, stream.session

    resumed, session = await visit(None)
    assert not resumed
    resumed, session = await visit(session)
    assert resumed
    assert handshakes(edge.ledger, "INBOUND", pki.a.sha256) == (1, {})
    edge.flush_tickets()
    resumed, session = await visit(session)
    assert not resumed
    assert handshakes(edge.ledger, "INBOUND", pki.a.sha256) == (2, {})
    edge.serve([pki.a], ticket_lifetime_s=0)
    resumed, _ = await visit(session)
    assert not resumed


# Where the carrier calls.


async def test_the_most_preferred_target_that_connects_is_called(plain: Trunk) -> None:
    pki, edge = plain.pki, plain.edge
    assert edge.secondary_port is not None
    edge.serve([pki.a], secondary=pki.b)
    primary, secondary = ("127.0.0.1", edge.primary_port), ("127.0.0.1", edge.secondary_port)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        closed: tuple[str, int] = gone.getsockname()
    for targets, leaf in (
        ([primary, secondary], pki.a.sha256),
        ([secondary, primary], pki.b.sha256),
        ([closed, secondary, primary], pki.b.sha256),
    ):
        plain.edge.ledger.reset()
        plain.targets[:] = targets
        assert await plain.call(INBOUND) == CallResult(200)
        assert handshakes(edge.ledger, "INBOUND", leaf) == (1, {})
    plain.targets[:] = [closed]
    assert await plain.call(INBOUND) == CallResult(None, "tcp refused")
    plain.targets.clear()
    assert await plain.call(INBOUND) == CallResult(None, "dns no target")


async def test_a_target_that_refuses_tls_is_not_passed_over(plain: Trunk) -> None:
    pki, edge = plain.pki, plain.edge
    edge.serve([pki.a], secondary=pki.b)
    plain.targets[:] = [("127.0.0.1", edge.secondary_port or 0), ("127.0.0.1", edge.primary_port)]
    plain.carrier.set_trust(pki.intermediate_a.pem, partial_chain=True)
    assert await plain.call(INBOUND) == CallResult(None, "tls unknown_ca")


# The load.


@pytest.mark.parametrize("mutual_tls", [False, True])
async def test_under_load_no_call_is_lost_by_a_change_of_the_pool(pki: Pki, mutual_tls: bool) -> None:
    mix = CallMix(long_s=UNTIL_HUNG_UP, long_every_s=0.5)
    async with running(pki, mutual=mutual_tls, calls_per_s=40, mix=mix, placing=True) as trunk:
        edge, carrier = trunk.edge, trunk.carrier
        await until(lambda: handshakes(edge.ledger, "INBOUND", pki.a.sha256)[0] >= 10)
        edge.serve([pki.b, pki.a])
        await until(lambda: handshakes(edge.ledger, "INBOUND", pki.b.sha256)[0] >= 10)
        edge.serve([pki.b])
        edge.flush_tickets()
        assert edge.active_calls()[pki.a.sha256] > 0
        carrier.stop_placing()
        assert await carrier.drain(5)
        stats = carrier.stats()["pstn"]
        assert stats.placed == stats.completed
        assert (stats.lost, stats.active, stats.losses) == (0, 0, ())
        await until(lambda: edge.active_calls() == {})
        for direction in ("INBOUND", "OUTBOUND") if mutual_tls else ("INBOUND",):
            for leaf in (pki.a.sha256, pki.b.sha256):
                seen = handshakes(edge.ledger, direction, leaf), call_setups(edge.ledger, direction, leaf)
                assert seen == (
                    handshakes(trunk.carrier_ledger, direction, leaf),
                    call_setups(trunk.carrier_ledger, direction, leaf),
                )


async def test_lost_calls_do_not_stop_the_load(pki: Pki) -> None:
    async with running(pki, mutual=False, calls_per_s=40, placing=True) as trunk:
        carrier = trunk.carrier
        await until(lambda: carrier.stats()["pstn"].completed >= 2)
        await trunk.edge.stop()
        await until(lambda: carrier.stats()["pstn"].lost >= 25)
        await trunk.edge.start()
        before = carrier.stats()["pstn"].completed
        await until(lambda: carrier.stats()["pstn"].completed >= before + 5)
        carrier.stop_placing()
        assert await carrier.drain(5)
        stats = carrier.stats()["pstn"]
        assert stats.placed == stats.completed + stats.lost
        assert len(stats.losses) == 20
        assert {loss.cause for loss in stats.losses} <= {
            "tcp refused",
            "edge stopped",
            "stopped",
            "dropped connection_reset",
            "dropped tcp refused",
            "dropped edge stopped",
            "BYE sip 481",  # the edge that came back knows no dialogs
            "dropped stopped",
            "dropped connection_reset before an answer",
            "tls connection_reset",
        }


async def test_a_quiet_trunk_places_no_calls(pki: Pki) -> None:
    mix = CallMix(long_s=0.1)
    async with running(pki, mutual=False, calls_per_s=40, mix=mix, placing=True) as trunk:
        await until(lambda: trunk.carrier.stats()["pstn"].placed > 0)
        trunk.carrier.set_quiet("pstn", True)
        await until(lambda: trunk.carrier.stats()["pstn"].active == 0)
        placed = trunk.carrier.stats()["pstn"].placed
        trunk.carrier.set_quiet("pstn", False)
        await until(lambda: trunk.carrier.stats()["pstn"].placed > placed)


async def test_stopping_cuts_calls_off_and_counts_them_as_lost(pki: Pki) -> None:
    async with running(pki, mutual=False, mix=CallMix(long_s=UNTIL_HUNG_UP), placing=True) as trunk:
        await until(lambda: bool(trunk.edge.active_calls()))
        started = time.monotonic()
        await trunk.carrier.stop()
        assert time.monotonic() - started < 2
        stats = trunk.carrier.stats()["pstn"]
        assert stats.active == 0
        assert stats.lost > 0
        assert stats.placed == stats.completed + stats.lost
        await until(lambda: trunk.edge.active_calls() == {})


async def test_an_error_in_a_call_is_a_lost_call(pki: Pki) -> None:
    async def resolve(trunk: str) -> list[tuple[str, int]]:
        raise OSError("no name server")

    settings = CarrierTrunk("pstn", FQDN, mutual=False)
    carrier = Carrier(pki.sbc, name=SBC, trust_pem=pki.root.pem, trunks=[settings], resolve=resolve)
    await carrier.start(placing=False)
    assert await carrier.place_call("pstn", INBOUND) == CallResult(None, "dns OSError")
    assert carrier.stats()["pstn"].lost == 1
    await carrier.stop()
