"""`Http` over real sockets: closed ports, silence, broken connections, certificates that are not trusted."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.http import Http
from domain.errors import (
    SettingsInvalid,
    TlsUntrusted,
    Unreachable,
)
from settings import HttpProfile
from tests.adapters.trunk_leaves import root, trunk_leaf


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any], tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A real server on a free loopback port."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


def loopback(port: int, scheme: str = "http", **profile: Any) -> tuple[Http, str]:
    """`Http` over the real network towards a loopback port, and the URL."""
    url = f"{scheme}://127.0.0.1:{port}"
    return Http("[platforms.lab]", HttpProfile.model_validate({"base_url": url, "lab": True, **profile})), url


async def test_a_refused_connection_names_the_host() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        client, url = loopback(closed.getsockname()[1])
        with pytest.raises(Unreachable, match=r"no connection to 127\.0\.0\.1.*check that the server runs"):
            await client.send("GET", url)
    await client.close()


async def test_a_server_that_does_not_answer_in_time_is_unreachable() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent) as port:
        client, url = loopback(port, timeout="50ms")
        with pytest.raises(Unreachable, match=r"no answer from 127\.0\.0\.1 in time"):
            await client.send("GET", url)
        await client.close()


async def test_the_timeout_bounds_the_whole_answer_not_each_byte() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not reader.at_eof():
            writer.write(b"x")
            await asyncio.wait([asyncio.ensure_future(reader.read(1))], timeout=0.01)

    async with listening(trickle) as port:
        client, url = loopback(port, timeout="100ms")
        with pytest.raises(Unreachable, match="in time"):
            await client.send("GET", url)
        await client.close()


async def test_a_connection_that_breaks_is_unreachable() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with listening(hang_up) as port:
        client, url = loopback(port)
        with pytest.raises(Unreachable, match="it broke"):
            await client.send("GET", url)
        await client.close()


@pytest.fixture
def server_tls(tmp_path: Path) -> ssl.SSLContext:
    """TLS with a certificate that no public CA signed."""
    leaf = trunk_leaf("api server")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_text(leaf.chain_pem)
    key.write_text(leaf.private_key.get_secret_value())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return context


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


@pytest.mark.parametrize("ca_file", [None, "other.pem"])
async def test_an_untrusted_server_certificate_names_the_ca_file(
    ca_file: str | None, server_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    profile = {}
    if ca_file is not None:
        (tmp_path / ca_file).write_text(trunk_leaf("unrelated").chain_pem)
        profile = {"ca_file": tmp_path / ca_file}
    async with listening(_hang_up, server_tls) as port:
        client, url = loopback(port, "https", **profile)
        with pytest.raises(TlsUntrusted) as raised:
            await client.send("GET", url)
        await client.close()
    assert (ca_file or "not set") in raised.value.action
    assert "certificate" in raised.value.seen


async def test_a_trusted_certificate_for_another_name_is_untrusted_too(
    server_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    (tmp_path / "root.pem").write_text(root().pem)
    async with listening(_hang_up, server_tls) as port:
        client, url = loopback(port, "https", ca_file=tmp_path / "root.pem")
        with pytest.raises(TlsUntrusted, match=r"not valid for '127\.0\.0\.1'"):
            await client.send("GET", url)
        await client.close()


async def test_plain_http_behind_an_https_url_is_unreachable_and_not_a_matter_of_trust() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listening(plain) as port:
        client, url = loopback(port, "https")
        with pytest.raises(Unreachable, match="TLS: "):
            await client.send("GET", url)
        await client.close()


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_a_ca_file_that_cannot_be_used_is_named(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsInvalid, match=r"\[platforms\.lab\] ca_file: .*ca\.pem"):
        loopback(1, "https", ca_file=path)


async def test_a_lab_is_never_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")

    async def ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()

    async with listening(ok) as port:
        client, url = loopback(port)
        assert (await client.send("GET", url)).status_code == 204
        await client.close()


@pytest.mark.parametrize("token", ["to\nken", "tökén–"])
async def test_a_secret_that_no_header_can_carry_is_a_matter_of_settings_and_is_not_shown(token: str) -> None:
    async with listening(_hang_up) as port:
        client, url = loopback(port)
        with pytest.raises(SettingsInvalid) as raised:
            await client.send("GET", url, headers={"Authorization": f"Bearer {token}"})
        await client.close()
    assert "ken" not in str(raised.value).replace("token", "")
    assert raised.value.__context__ is None
