"""The lab's TLS stream: both sides name the cause of a failed handshake alike."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from lab.tls_contexts import client_context, note_peer_leaf, server_context
from lab.tls_stream import TlsFailure, TlsStream
from tests.lab.small_ca import CLIENT, SERVER, Authority

NAME = "trunk.example.com"
ROOT = Authority("root")
LEAF = ROOT.issue(NAME)
STRANGER = Authority("stranger")


@dataclass
class Outcome:
    """What one side learnt: the cause, or None when it has a stream."""

    cause: str | None
    shown: str | None


async def outcome(
    handshake: Callable[[asyncio.StreamReader, asyncio.StreamWriter], AsyncIterator[TlsStream]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> Outcome:
    try:
        async for stream in handshake(reader, writer):
            try:
                await stream.read()  # a TLS 1.3 client learns here that the server refused its certificate
                return Outcome(None, stream.peer_leaf)
            finally:
                await stream.close()
    except TlsFailure as failure:
        return Outcome(failure.cause, failure.peer_leaf)
    raise AssertionError("a handshake ends in a stream or a failure")


async def meet(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[Outcome, Outcome]:
    """The outcomes of client and server."""
    note_peer_leaf(client)
    note_peer_leaf(server)
    served: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[TlsStream]:
        stream = await TlsStream.accept(reader, writer, server)
        with contextlib.suppress(ConnectionResetError):
            stream.send(b"welcome")
        yield stream

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[TlsStream]:
        yield await TlsStream.connect(reader, writer, client, server_name=NAME)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.set_result(await outcome(accept, reader, writer))

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        outcomes = await outcome(connect, reader, writer), await served
    listener.close()
    await listener.wait_closed()
    return outcomes


@pytest.fixture(params=["TLSv1.2", "TLSv1.3"])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    return ssl.TLSVersion.TLSv1_2 if request.param == "TLSv1.2" else ssl.TLSVersion.TLSv1_3


async def test_a_good_handshake_has_no_cause(version: ssl.TLSVersion) -> None:
    server = server_context(LEAF.identity, client_trust_pem=ROOT.pem)
    server.maximum_version = version
    client, served = await meet(client_context(ROOT.pem, identity=LEAF.identity), server)
    assert (client.cause, served.cause) == (None, None)
    assert client.shown == served.shown == LEAF.sha256


PAST = datetime.now(UTC) - timedelta(minutes=1)
FUTURE = datetime.now(UTC) + timedelta(hours=1)
BAD_LEAVES = {
    "unknown_ca": STRANGER.issue(NAME),
    "certificate_expired": ROOT.issue(NAME, not_after=PAST),
    "bad_certificate": ROOT.issue(NAME, not_before=FUTURE),
}


@pytest.mark.parametrize("cause", BAD_LEAVES)
async def test_both_sides_name_a_refused_server_certificate(cause: str, version: ssl.TLSVersion) -> None:
    server = server_context(BAD_LEAVES[cause].identity)
    server.maximum_version = version
    client, served = await meet(client_context(ROOT.pem), server)
    assert (client.cause, served.cause) == (cause, cause)
    assert client.shown == BAD_LEAVES[cause].sha256


async def test_a_wrong_name_is_bad_certificate(version: ssl.TLSVersion) -> None:
    server = server_context(ROOT.issue("other.example.com").identity)
    server.maximum_version = version
    client, served = await meet(client_context(ROOT.pem), server)
    assert (client.cause, served.cause) == ("bad_certificate", "bad_certificate")


async def test_a_certificate_for_the_wrong_role_is_unsupported(version: ssl.TLSVersion) -> None:
    server = server_context(ROOT.issue(NAME, usages=[CLIENT]).identity)
    server.maximum_version = version
    client, served = await meet(client_context(ROOT.pem), server)
    assert (client.cause, served.cause) == ("unsupported_certificate", "unsupported_certificate")

    server = server_context(LEAF.identity, client_trust_pem=ROOT.pem)
    server.maximum_version = version
    identity = ROOT.issue(NAME, usages=[SERVER]).identity
    client, served = await meet(client_context(ROOT.pem, identity=identity), server)
    assert (client.cause, served.cause) == ("unsupported_certificate", "unsupported_certificate")


@pytest.mark.parametrize("cause", BAD_LEAVES)
async def test_both_sides_name_a_refused_client_certificate(cause: str, version: ssl.TLSVersion) -> None:
    server = server_context(LEAF.identity, client_trust_pem=ROOT.pem)
    server.maximum_version = version
    client, served = await meet(client_context(ROOT.pem, identity=BAD_LEAVES[cause].identity), server)
    assert (client.cause, served.cause) == (cause, cause)
    assert served.shown == BAD_LEAVES[cause].sha256


async def test_a_missing_client_certificate_is_named_as_the_version_names_it(version: ssl.TLSVersion) -> None:
    server = server_context(LEAF.identity, client_trust_pem=ROOT.pem)
    server.maximum_version = version
    client, served = await meet(client_context(ROOT.pem), server)
    cause = "handshake_failure" if version == ssl.TLSVersion.TLSv1_2 else "certificate_required"
    assert (client.cause, served.cause) == (cause, cause)


async def test_versions_without_overlap_are_protocol_version() -> None:
    server, client = server_context(LEAF.identity), client_context(ROOT.pem)
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    outcomes = await meet(client, server)
    assert [one.cause for one in outcomes] == ["protocol_version", "protocol_version"]


async def test_cipher_suites_without_overlap_are_handshake_failure() -> None:
    server, client = server_context(LEAF.identity), client_context(ROOT.pem)
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    server.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    client.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    outcomes = await meet(client, server)
    assert [one.cause for one in outcomes] == ["handshake_failure", "handshake_failure"]


async def test_a_silent_peer_is_a_timeout() -> None:
    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        writer.close()

    listener = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    with pytest.raises(TlsFailure) as failure:
        await TlsStream.connect(reader, writer, client_context(ROOT.pem), server_name=NAME, timeout_s=0.1)
    assert failure.value.cause == "timeout"
    listener.close()
    await listener.wait_closed()


async def test_a_peer_that_closes_is_a_connection_reset() -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    listener = await asyncio.start_server(close, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    with pytest.raises(TlsFailure) as failure:
        await TlsStream.connect(reader, writer, client_context(ROOT.pem), server_name=NAME)
    assert failure.value.cause == "connection_reset"
    listener.close()
    await listener.wait_closed()
