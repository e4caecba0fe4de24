"""SFTP alone: who the host is, who we are, and a host that is slow, silent or gone."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asyncssh.sftp import SFTPServerHandler

from adapters.files.sftp import SftpFiles
from domain.errors import (
    CredentialsRefused,
    RequestRefused,
    RotatorError,
    ServerFailed,
    SettingsInvalid,
    Unreachable,
)
from lab.ports import LOOPBACK, free_port
from tests.adapters.sftp_host import Hold, SftpHost, agent_with, new_key

NAME = "trunk-one.pem"


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[SftpHost]:
    directory, settings_folder = tmp_path / "edge", tmp_path / "settings"
    directory.mkdir()
    settings_folder.mkdir()
    host = SftpHost(directory, settings_folder)
    await host.start()
    yield host
    await host.stop()


async def failure_of(sftp_host: SftpHost, **changes: Any) -> RotatorError:
    """How a first write ends with these settings; nothing is ever written."""
    files = SftpFiles(sftp_host.source(**changes))
    with pytest.raises(RotatorError) as raised:
        await files.write(NAME, b"content")
    await files.close()
    assert os.listdir(sftp_host.directory) == []
    assert raised.value.__context__ is None, "what asyncssh raised may quote more than it should"
    return raised.value


# -- who the host is, and who we are -----------------------------------------------------------------------------------


async def test_a_host_that_proves_another_key_than_the_known_one_gets_nothing_from_us(host: SftpHost) -> None:
    known_hosts = host.known_hosts(new_key())
    failure = await failure_of(host, known_hosts_file=known_hosts)
    assert isinstance(failure, CredentialsRefused)
    assert "Host key is not trusted" in failure.seen
    assert str(known_hosts) in failure.action
    assert host.logins == 0


async def test_a_host_of_which_no_key_is_known_gets_nothing_from_us(host: SftpHost) -> None:
    assert isinstance(await failure_of(host, known_hosts_file=host.known_hosts()), CredentialsRefused)
    assert host.logins == 0


async def test_a_key_that_the_host_does_not_know_is_refused(host: SftpHost) -> None:
    failure = await failure_of(host, key_file=host.key_file("stranger", new_key()))
    assert isinstance(failure, CredentialsRefused)
    assert "does not accept the key of user rotator" in str(failure)
    assert host.logins == 0


async def test_a_key_file_that_cannot_be_used_is_told_by_its_path_and_never_by_its_content(host: SftpHost) -> None:
    key = new_key()
    secret = key.export_private_key().decode()
    cut = host.key_file("cut", key)
    cut.write_text(secret[: len(secret) // 2])
    paths = {
        host.settings_folder / "missing": "No such file",
        cut: "no private key, or it is encrypted",
        host.key_file("encrypted", key, passphrase="hush"): "no private key, or it is encrypted",
        host.key_file("public", key, mode=0o644): "read by everybody",
    }
    for path, seen in paths.items():
        failure = await failure_of(host, key_file=path)
        assert isinstance(failure, SettingsInvalid)
        assert str(path) in failure.where
        assert seen in failure.seen
        told = "".join(traceback.format_exception(failure)) + repr(failure)
        assert not any(line in told for line in secret.splitlines())


async def test_known_hosts_that_cannot_be_used_are_told(host: SftpHost) -> None:
    garbage = host.settings_folder / "garbage"
    garbage.write_text("just-a-word\n")
    for path in (garbage, host.settings_folder / "missing"):
        failure = await failure_of(host, known_hosts_file=path)
        assert isinstance(failure, SettingsInvalid)
        assert str(path) in failure.where


# -- an agent ----------------------------------------------------------------------------------------------------------


async def test_without_a_key_file_the_agents_keys_are_used(host: SftpHost, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = host.settings_folder / "agent"
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    files = SftpFiles(host.source(key_file=None))
    async with agent_with(socket, new_key(), host.user_key):
        await files.write(NAME, b"content")
    assert await files.read(NAME) == b"content"
    await files.close()


async def test_with_a_key_file_the_agent_is_not_asked(host: SftpHost, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = host.settings_folder / "agent"
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    async with agent_with(socket, host.user_key):
        failure = await failure_of(host, key_file=host.key_file("stranger", new_key()))
    assert isinstance(failure, CredentialsRefused)


async def test_without_key_file_and_agent_nothing_of_the_users_own_keys_is_tried(
    host: SftpHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket, home = host.settings_folder / "agent", host.settings_folder / "home"
    (home / ".ssh").mkdir(parents=True)
    host.user_key.write_private_key(str(home / ".ssh" / "id_ed25519"))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert (await failure_of(host, key_file=None)).seen == "not set"
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    assert (await failure_of(host, key_file=None)).seen == str(socket)
    async with agent_with(socket):
        failure = await failure_of(host, key_file=None)
    assert isinstance(failure, SettingsInvalid)
    assert failure.seen == "no keys"
    assert host.logins == 0


# -- slow, silent, gone ------------------------------------------------------------------------------------------------


async def test_a_port_where_nobody_listens_is_unreachable(host: SftpHost) -> None:
    assert isinstance(await failure_of(host, port=free_port()), Unreachable)


async def test_a_host_name_that_is_not_found_is_unreachable(host: SftpHost) -> None:
    assert isinstance(await failure_of(host, host="no-such-host.invalid"), Unreachable)


async def test_a_host_that_never_speaks_is_unreachable_in_time(host: SftpHost) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, LOOPBACK, 0)
    async with server:
        failure = await failure_of(host, port=server.sockets[0].getsockname()[1], timeout="300ms")
    assert isinstance(failure, Unreachable)
    assert failure.seen == "timeout after 0.3 s"


async def test_after_a_timeout_a_new_connection_is_used(host: SftpHost) -> None:
    files = SftpFiles(host.source(timeout="3s"))
    await files.write(NAME, b"old")
    host.hold = Hold("lstat")
    with pytest.raises(Unreachable, match="timeout after 3 s"):
        await files.write(NAME, b"new")
    assert host.hold.reached.is_set()
    host.hold.go.set()
    assert (host.logins, await files.read(NAME), host.logins) == (1, b"old", 2)
    await files.close()


async def test_a_rename_that_the_host_makes_after_our_timeout_changes_nothing_any_more(host: SftpHost) -> None:
    files = SftpFiles(host.source(timeout="3s"))
    await files.write(NAME, b"old")
    host.hold = Hold("rename")
    with pytest.raises(Unreachable):
        await files.write(NAME, b"new")
    assert host.hold.reached.is_set()
    assert os.listdir(host.directory) == [NAME], "the temporary file, which may hold a key, is gone"
    host.hold.go.set()
    assert host.rename is not None
    with pytest.raises(FileNotFoundError):
        await host.rename
    assert await files.read(NAME) == b"old"
    await files.close()


async def test_a_connection_that_breaks_is_unreachable_and_the_next_call_opens_another(host: SftpHost) -> None:
    files = SftpFiles(host.source())
    await files.write(NAME, b"old")
    host.hold = Hold("lstat")
    write = asyncio.create_task(files.write(NAME, b"new"))
    await host.hold.reached.wait()
    host.drop_connections()
    with pytest.raises(Unreachable, match="connection"):
        await write
    host.hold = None
    assert await files.read(NAME) == b"old"
    await files.close()


async def test_a_host_that_was_restarted_is_logged_in_to_again(host: SftpHost) -> None:
    files = SftpFiles(host.source())
    await files.write(NAME, b"old")
    await host.stop()
    with pytest.raises(Unreachable):
        await files.read(NAME)
    await host.start()
    assert await files.read(NAME) == b"old"
    assert host.logins == 2
    await files.close()


async def test_many_calls_at_once_share_one_login(host: SftpHost) -> None:
    files = SftpFiles(host.source())
    await asyncio.gather(*(files.write(f"{number}.pem", b"x") for number in range(8)), files.names())
    assert await files.names() == tuple(f"{number}.pem" for number in range(8))
    assert host.logins == 1
    await files.close()


# -- servers that are not OpenSSH's ------------------------------------------------------------------------------------


async def test_a_server_that_cannot_replace_in_one_instant_is_refused(
    host: SftpHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    extensions = [item for item in SFTPServerHandler._extensions if not item[0].startswith(b"posix-rename")]
    monkeypatch.setattr(SFTPServerHandler, "_extensions", extensions)
    failure = await failure_of(host)
    assert isinstance(failure, RequestRefused)
    assert "cannot replace a file in one instant" in str(failure)


async def test_a_server_without_fsync_is_written_to_all_the_same(
    host: SftpHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    extensions = [item for item in SFTPServerHandler._extensions if not item[0].startswith(b"fsync")]
    monkeypatch.setattr(SFTPServerHandler, "_extensions", extensions)
    files = SftpFiles(host.source())
    await files.write(NAME, b"content")
    assert await files.read(NAME) == b"content"
    await files.close()


async def test_a_host_without_sftp_is_refused(host: SftpHost) -> None:
    host.sftp = False
    await host.stop()
    await host.start()
    failure = await failure_of(host)
    assert isinstance(failure, RequestRefused)
    assert "offers no SFTP" in str(failure)


async def test_a_server_that_confirms_a_write_of_which_it_kept_a_part_is_found_out(host: SftpHost) -> None:
    host.keep = 3
    failure = await failure_of(host)
    assert isinstance(failure, ServerFailed)
    assert failure.seen == "3 of 7 bytes"
