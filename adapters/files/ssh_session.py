"""One SSH connection to one host, opened when it is needed, and again after it broke.

The host has to prove a key of `known_hosts_file`, and we prove ours: a file, or one that the agent at `SSH_AUTH_SOCK`
keeps. Nothing of the user's own `~/.ssh` counts, so that every worker acts alike.
"""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Final

import asyncssh

from domain.errors import SettingsInvalid
from settings import SftpDirectory

_KEEPALIVE_S: Final = 15
"""Between two signs of life, so that a connection which a firewall forgot is found before it is needed."""


class SshSession:
    """Not for two event loops at once."""

    def __init__(self, source: SftpDirectory) -> None:
        self._source = source
        self._opening = asyncio.Lock()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._sftp: asyncssh.SFTPClient | None = None

    async def sftp(self) -> asyncssh.SFTPClient:
        """The SFTP client on the open connection. Raises `asyncssh.Error`, `OSError` and `SettingsInvalid`."""
        async with self._opening:
            if self._connection is None or self._sftp is None or self._connection.is_closed():
                self.drop()
                self._connection = await self._connected()
                self._sftp = await self._connection.start_sftp_client()
            return self._sftp

    async def unix_socket(self, path: str) -> tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]:
        """A connection to a socket on the host (`direct-streamlocal@openssh.com`). Raises as `sftp` does."""
        await self.sftp()
        assert self._connection is not None, "it was opened for SFTP"
        return await self._connection.open_unix_connection(path, encoding=None)

    def drop(self) -> None:
        """Gives the connection up at once: what it still had to say is not waited for."""
        connection, self._connection, self._sftp = self._connection, None, None
        if connection is not None:
            connection.abort()

    async def close(self) -> None:
        """Closes the connection and waits until it is gone."""
        connection, self._connection, self._sftp = self._connection, None, None
        if connection is not None:
            connection.close()
            await connection.wait_closed()

    async def _connected(self) -> asyncssh.SSHClientConnection:
        known_hosts = _known_hosts(self._source.known_hosts_file)
        if self._source.key_file is not None:
            return await self._authenticated(known_hosts, [_checked_key(self._source.key_file)])
        agent = await _agent()
        try:
            return await self._authenticated(known_hosts, await _keys_in(agent))
        finally:
            agent.close()
            await agent.wait_closed()

    async def _authenticated(
        self, known_hosts: asyncssh.SSHKnownHosts, keys: list[str] | list[asyncssh.SSHKeyPair]
    ) -> asyncssh.SSHClientConnection:
        source, timeout_s = self._source, self._source.timeout.total_seconds()
        return await asyncssh.connect(
            source.host,
            source.port,
            username=source.user,
            known_hosts=known_hosts,
            client_keys=keys,
            agent_path=None,
            config=None,
            preferred_auth="publickey",
            connect_timeout=timeout_s,
            login_timeout=timeout_s,
            keepalive_interval=_KEEPALIVE_S,
        )


def _known_hosts(path: Path) -> asyncssh.SSHKnownHosts:
    try:
        return asyncssh.read_known_hosts(str(path))
    except OSError as error:
        seen = error.strerror or type(error).__name__
    except ValueError as error:
        seen = str(error)
    raise SettingsInvalid(
        "the known_hosts file cannot be used",
        where=f"known_hosts_file {path}",
        seen=seen,
        action="write the host's public key into it, in the format of OpenSSH",
    )


def _checked_key(path: Path) -> str:
    """The path itself, for asyncssh, which also finds a certificate beside it (`<key_file>-cert.pub`)."""
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o007:
            seen = "it can be read by everybody on this machine"
        else:
            asyncssh.read_private_key(str(path))
            return str(path)
    except OSError as error:
        seen = error.strerror or type(error).__name__
    except ValueError:
        seen = "it is no private key, or it is encrypted"
    raise SettingsInvalid(
        "the SSH key cannot be used",
        where=f"key_file {path}",
        seen=seen,
        action="name an unencrypted private key of mode 0600, or leave key_file out and use an agent",
    )


async def _agent() -> asyncssh.SSHAgentClient:
    path = os.environ.get("SSH_AUTH_SOCK", "")
    try:
        return await asyncssh.connect_agent(path)
    except (OSError, asyncssh.Error):
        pass
    raise _no_agent("there is no SSH agent", path or "not set")


async def _keys_in(agent: asyncssh.SSHAgentClient) -> list[asyncssh.SSHKeyPair]:
    """At least one key: with none, asyncssh would look into `~/.ssh`."""
    try:
        keys, seen = list(await agent.get_keys()), "no keys"
    except ValueError:
        keys, seen = [], "no answer"
    if keys:
        return keys
    raise _no_agent("the SSH agent offers no key", seen)


def _no_agent(what: str, seen: str) -> SettingsInvalid:
    action = "start the worker with an agent that holds the key (ssh-add), or name a key_file"
    return SettingsInvalid(what, where="SSH_AUTH_SOCK", seen=seen, action=action)
