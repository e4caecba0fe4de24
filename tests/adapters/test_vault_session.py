"""One login at a Vault-API server: renewal, a new login when refused, and failures told as what they are."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from adapters.vault_failures import of_status
from adapters.vault_login import Login
from adapters.vault_session import VaultSession
from domain.errors import (
    CredentialsRefused,
    PermissionMissing,
    RequestRefused,
    RotatorError,
    ServerFailed,
    SettingsInvalid,
    Throttled,
    TlsUntrusted,
    UnexpectedAnswer,
    Unreachable,
)
from lab import vault_setup
from lab.bao import Bao
from lab.ports import LOOPBACK, free_port
from settings import SecretSource, VaultAddress
from tests.adapters.real_bao import RealBao, tls_bao

READABLE = f"{vault_setup.SIGNING_MOUNT}/roles/{vault_setup.PKI_ROLE}"


class Anything(BaseModel, extra="allow"):
    pass


class HasVersion(BaseModel):
    version: int


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def session_on(address: VaultAddress | dict[str, Any], clock: Clock | None = None) -> Iterator[VaultSession]:
    settings = address if isinstance(address, VaultAddress) else VaultAddress(**{"lab": True, **address})
    session = VaultSession("[pki.test]", settings, clock=clock or Clock())
    try:
        yield session
    finally:
        session.close()


@contextmanager
def silent_server() -> Iterator[str]:
    """Accepts connections and says nothing."""
    with socket.create_server((LOOPBACK, 0)) as listening:
        yield f"http://{LOOPBACK}:{listening.getsockname()[1]}"


@contextmanager
def canned_server(*answers: bytes) -> Iterator[str]:
    """Gives one answer to each connection, in this order."""
    with socket.create_server((LOOPBACK, 0)) as listening:

        def serve() -> None:
            for answer in answers:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{listening.getsockname()[1]}"
        finally:
            thread.join()


def http(status: str, body: str, *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers)
    return ("\r\n".join((*lines, "Connection: close", "", "")) + body).encode()


LOOKUP = http("200 OK", '{"data": {"ttl": 0, "renewable": false}}')


def token(tmp_path: Path, value: str = "s.some-token") -> SecretSource:
    path = tmp_path / "token"
    path.write_text(value)
    return SecretSource(file=path)


def approle_logins(vault: RealBao) -> int:
    """Tokens that AppRole logins have made and that still live."""
    accessors = vault.request("list", "auth/token/accessors")["data"]["keys"]
    found = (vault.request("post", "auth/token/lookup-accessor", {"accessor": one}) for one in accessors)
    return sum(one["data"]["path"] == "auth/approle/login" for one in found)


async def test_one_login_serves_many_concurrent_reads(vault: RealBao) -> None:
    before = approle_logins(vault)
    with session_on(vault.approle) as session:
        await asyncio.gather(*(session.read(READABLE, Anything) for _ in range(12)))
    assert approle_logins(vault) == before + 1


async def test_a_token_is_renewed_when_two_thirds_of_its_lease_have_passed(vault: RealBao) -> None:
    clock, before = Clock(), approle_logins(vault)
    with session_on(vault.approle, clock) as session:
        for elapsed in (0, 1800, 2500, 2500, 2500):
            clock.now += elapsed
            await session.read(READABLE, Anything)
        renewed = session._login
    assert approle_logins(vault) == before + 1
    assert renewed is not None
    assert renewed.renew_at == pytest.approx(clock.now + 2400, abs=1)


async def test_a_token_that_cannot_be_renewed_is_replaced_before_it_expires(vault: RealBao) -> None:
    vault.request(
        "post",
        "auth/approle/role/short",
        {"token_policies": f"sip-{vault_setup.APPROLE}", "token_ttl": "60s", "token_max_ttl": "61s"},
    )
    role_id = vault.request("get", "auth/approle/role/short/role-id")["data"]["role_id"]
    secret = vault.request("post", "auth/approle/role/short/secret-id", {})["data"]["secret_id"]
    clock = Clock()
    login = {"address": vault.address, "role_id": role_id, "secret_id": vault.secret("short-secret", secret)}
    with session_on(login, clock) as session:
        await session.read(READABLE, Anything)
        first = session._login
        assert first is not None
        vault.request("post", "auth/token/revoke", {"token": first.token.get_secret_value()})
        clock.now += 41
        await session.read(READABLE, Anything)
        assert session._login is not None
        assert session._login.token != first.token


def test_a_renewal_that_gives_less_than_a_third_of_the_lease_is_not_kept() -> None:
    login = Login.at(0.0, token=SecretSource(env="HOME").read("x"), lease_s=90, renewable=True)
    assert not login.due(59.9)
    assert login.due(60.0)
    assert login.renewed(60.0, 29) is None
    kept = login.renewed(60.0, 30)
    assert kept is not None
    assert kept.renew_at == 80.0
    assert kept.renewed(80.0, 29) is None


async def test_a_token_that_was_revoked_is_replaced_by_one_new_login(vault: RealBao) -> None:
    with session_on(vault.approle) as session:
        await session.read(READABLE, Anything)
        assert session._login is not None
        vault.request("post", "auth/token/revoke", {"token": session._login.token.get_secret_value()})
        before = approle_logins(vault)
        await asyncio.gather(*(session.read(READABLE, Anything) for _ in range(6)))
        assert approle_logins(vault) == before + 1


async def test_a_renewed_token_file_is_read_again_when_the_old_token_is_refused(vault: RealBao, tmp_path: Path) -> None:
    source = token(tmp_path, vault.token_for(""))
    with session_on({"address": vault.address, "token": source}) as session:
        await session.log_in()
        vault.request("post", "auth/token/revoke", {"token": source.read("token").get_secret_value()})
        token(tmp_path, vault.root_token)
        assert await session.read(READABLE, Anything) is not None


async def test_a_wrong_token_is_a_refused_credential_and_not_repeated_in_words(vault: RealBao, tmp_path: Path) -> None:
    login = {"address": vault.address, "token": token(tmp_path, "s.guessed")}
    with session_on(login) as session, pytest.raises(CredentialsRefused, match="is refused; seen: 403") as raised:
        await session.read(READABLE, Anything)
    assert "guessed" not in str(raised.value)


@pytest.mark.parametrize("wrong", ["role_id", "secret_id"])
async def test_a_wrong_approle_is_a_refused_credential(vault: RealBao, wrong: str) -> None:
    login = vault.approle
    login[wrong] = "nobody" if wrong == "role_id" else vault.secret("wrong-secret", "guessed")
    with session_on(login) as session, pytest.raises(CredentialsRefused, match="AppRole login is refused") as raised:
        await session.log_in()
    assert "guessed" not in str(raised.value)


async def test_a_denied_path_names_profile_address_path_and_capability(vault: RealBao) -> None:
    with session_on(vault.approle) as session, pytest.raises(PermissionMissing) as raised:
        await session.read("siptls/data/other/key", Anything)
    text = str(raised.value)
    for part in ("[pki.test]", vault.address, 'capability "read" on "siptls/data/other/key"'):
        assert part in text


async def test_nothing_there_is_none_and_a_wrong_mount_is_refused(vault: RealBao) -> None:
    with session_on(vault.root) as session:
        assert await session.read("siptls/data/rot/absent/key", Anything) is None
        assert await session.list("siptls/metadata/absent", Anything) is None
        with pytest.raises(RequestRefused, match="no handler for route"):
            await session.read("nowhere/data/rot/x", Anything)


async def test_an_answer_of_another_shape_is_told_without_its_content(vault: RealBao) -> None:
    vault.request("post", "siptls/data/rot/shape", {"data": {"version": "secret-content"}})
    with session_on(vault.root) as session, pytest.raises(UnexpectedAnswer, match="version") as raised:
        await session.read("siptls/data/rot/shape", HasVersion)
    assert "secret-content" not in str(raised.value)


async def test_a_closed_port_is_unreachable(tmp_path: Path) -> None:
    address = f"http://{LOOPBACK}:{free_port()}"
    login = {"address": address, "token": token(tmp_path)}
    with session_on(login) as session, pytest.raises(Unreachable, match="Connection refused"):
        await session.read(READABLE, Anything)


async def test_an_unknown_host_is_unreachable_and_credentials_in_the_address_are_hidden(tmp_path: Path) -> None:
    address = "http://somebody:hush@no-such-host.invalid:8200"
    login, shown = {"address": address, "token": token(tmp_path)}, r"at http://no-such-host\.invalid:8200"
    with session_on(login) as session, pytest.raises(Unreachable, match=shown) as raised:
        await session.read(READABLE, Anything)
    assert "hush" not in str(raised.value)


async def test_a_silent_server_is_unreachable_after_the_timeout(tmp_path: Path) -> None:
    with silent_server() as address:
        settings = VaultAddress(lab=True, address=address, token=token(tmp_path), timeout="200ms")  # type: ignore[arg-type]
        with session_on(settings) as session, pytest.raises(Unreachable, match="timeout"):
            await session.read(READABLE, Anything)


async def test_a_broken_connection_is_unreachable_and_the_request_is_not_repeated(tmp_path: Path) -> None:
    with (
        canned_server(LOOKUP, b"") as address,
        session_on({"address": address, "token": token(tmp_path)}) as session,
        pytest.raises(Unreachable) as raised,
    ):
        await session.send("pki/sign/x", {"csr": "PRIVATE"})
    assert raised.value.__context__ is None
    assert raised.value.__cause__ is None


async def test_a_sealed_server_asks_to_be_unsealed(tmp_path: Path) -> None:
    with Bao(tmp_path) as bao:
        settings = {"address": bao.address, "token": token(tmp_path, bao.root_token)}
        with session_on(settings) as session:
            await session.send("sys/seal", {})
            with pytest.raises(ServerFailed, match=r"sealed.*do: unseal it"):
                await session.read(READABLE, Anything)
        with session_on(settings) as session, pytest.raises(ServerFailed, match="sealed"):
            await session.log_in()


async def test_the_servers_own_certificate_must_be_trusted(tmp_path: Path) -> None:
    with tls_bao(tmp_path) as (address, ca_file):
        login = {"address": address, "token": token(tmp_path, "root")}
        with session_on({**login, "ca_file": ca_file}) as session:
            assert await session.read("sys/mounts", Anything) is not None
        with session_on(login) as session, pytest.raises(TlsUntrusted, match="check ca_file") as raised:
            await session.read("sys/mounts", Anything)
        assert "certificate" in raised.value.seen
        plain = {**login, "address": address.replace("https", "http")}
        with session_on(plain) as session, pytest.raises(RotatorError):
            await session.read("sys/mounts", Anything)


async def test_a_ca_file_that_is_not_there_is_named(vault: RealBao, tmp_path: Path) -> None:
    login = {"address": "https://127.0.0.1:1", "token": token(tmp_path), "ca_file": tmp_path / "absent.pem"}
    with session_on(login) as session, pytest.raises(SettingsInvalid, match=r"absent\.pem"):
        await session.log_in()


async def test_a_token_with_a_line_break_is_refused_without_showing_it(
    vault: RealBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKEN_TOKEN", "s.abc\ns.def")
    login = {"address": vault.address, "token": SecretSource(env="BROKEN_TOKEN")}
    with session_on(login) as session, pytest.raises(SettingsInvalid, match=r"\[pki.test\] token") as raised:
        await session.log_in()
    assert "abc" not in str(raised.value)


async def test_neither_proxy_nor_stray_token_of_the_environment_is_used(
    vault: RealBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{LOOPBACK}:1")
    monkeypatch.setenv("VAULT_TOKEN", "s.stray")
    monkeypatch.setenv("VAULT_ADDR", f"http://{LOOPBACK}:1")
    with session_on(vault.approle) as session:
        assert await session.read(READABLE, Anything) is not None


async def test_a_namespace_is_a_world_of_its_own(vault: RealBao) -> None:
    vault.request("post", "sys/namespaces/team", {})
    vault.request("post", "sys/mounts/kv", {"type": "kv", "options": {"version": "2"}}, namespace="team")
    with session_on({**vault.root, "namespace": "team"}) as session:
        written = await session.write("kv/data/x", {"data": {"a": "b"}}, HasVersion)
        assert written.version == 1
    with session_on(vault.root) as session, pytest.raises(RequestRefused, match="no handler"):
        await session.read("kv/data/x", Anything)


async def test_throttling_keeps_the_time_that_the_server_asks_for(tmp_path: Path) -> None:
    busy = http(
        "429 Too Many Requests", '{"errors": ["request path \\"x\\": rate limit quota exceeded"]}', "Retry-After: 7"
    )
    with (
        canned_server(LOOKUP, busy) as address,
        session_on({"address": address, "token": token(tmp_path)}) as session,
        pytest.raises(Throttled, match="rate limit quota") as raised,
    ):
        await session.read("x", Anything)
    assert raised.value.retry_after_s == 7.0


@pytest.mark.parametrize(
    ("status", "kind", "word"),
    [
        (400, RequestRefused, "refused"),
        (403, PermissionMissing, "permission"),
        (404, RequestRefused, "nothing answers"),
        (405, RequestRefused, "refused"),
        (412, ServerFailed, "failed"),
        (429, Throttled, "too many"),
        (500, ServerFailed, "failed"),
        (501, ServerFailed, "not initialised"),
        (502, ServerFailed, "failed"),
        (503, ServerFailed, "not available"),
        (302, UnexpectedAnswer, "not what"),
    ],
)
def test_every_status_has_its_failure(status: int, kind: type[RotatorError], word: str) -> None:
    failure = of_status(status, ["some\n\twords"], where="here", path="p", capability="read")
    assert type(failure) is kind
    assert word in failure.what
    assert f"{status} some words" in failure.seen


async def test_no_token_and_no_secret_reaches_log_or_repr(vault: RealBao, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), session_on(vault.approle) as session:
        await session.read(READABLE, Anything)
        with pytest.raises(PermissionMissing):
            await session.read("siptls/data/other/key", Anything)
        assert session._login is not None
        secrets = (session._login.token.get_secret_value(), vault.lab.secret_id)
        shown = f"{caplog.text}{session!r}{session._login!r}{vars(session)!r}"
    for secret in secrets:
        assert secret not in shown
