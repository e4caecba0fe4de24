"""HAProxy's master command line (`haproxy -W -S …`): commands out, answers in; nothing of a key in any error.

The master's, not a worker's: it is there when workers change, and old workers, which keep their connections after a
reload, are reached through it alone (`@!<pid>`). Commands of one `ask` go over one connection, one after the other, and
each answer ends with an empty line (Management Guide, sections 9.3 and 9.4).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import asyncssh
from pydantic import SecretStr

from adapters.edges.haproxy.answers import old_workers
from adapters.fence import ensure_in_time
from adapters.files.failures import of_ssh
from adapters.files.ssh_session import SshSession
from domain.errors import (
    CredentialsRefused,
    PermissionMissing,
    RequestRefused,
    RotatorError,
    SettingsInvalid,
    TlsUntrusted,
    Unreachable,
)
from settings import HaproxyHost, SftpDirectory

LONGEST_LINE: Final = 1024 * 1024
LONGEST_PAYLOAD: Final = 15_000
"""Bytes: `tune.bufsize` is 16384, and what does not fit is dropped without a word."""

LOCKED: Final = "Operations on certificates are currently locked"
"""Two commands about certificates at once, `show ssl cert` among them: HAProxy turns the second one away."""

LOCK_PAUSE_S: Final = 0.02

_GONE: Final = "Can't find the target PID"
_OLD_TRIES: Final = 8
_OLD_APART_S: Final = 0.05
"""A worker that ends is listed for some milliseconds more."""

CURRENT: Final = "@1"
"""The worker that accepts connections now."""


def old_worker(pid: int) -> str:
    """A worker from before a reload."""
    return f"@!{pid}"


@dataclass(frozen=True)
class Command:
    """One command, for a worker (`CURRENT`, `old_worker`) or the master (""), with a payload that nobody sees."""

    text: str
    worker: str = CURRENT
    payload: SecretStr | None = None

    def wire(self) -> bytes:
        """The payload follows `<<`, without an empty line in it; the first empty line ends it."""
        line = f"{self.worker} {self.text}".strip()
        if self.payload is None:
            return f"{line}\n".encode()
        lines = [part for part in self.payload.get_secret_value().splitlines() if part.strip()]
        return "\n".join([f"{line} <<", *lines, "", ""]).encode()


class Writer(Protocol):
    """What asyncio's and asyncssh's writers share."""

    def write(self, data: bytes) -> object: ...

    async def drain(self) -> None: ...

    def close(self) -> object: ...


class Reader(Protocol):
    """What asyncio's and asyncssh's readers share."""

    async def readline(self) -> bytes: ...


class Runtime:
    """The command line of one node. Every method is complete within the timeout. `where` names the node in errors."""

    def __init__(self, host: HaproxyHost, timeout_s: float, where: str) -> None:
        self.where = where
        self._kind, _, self._address = host.runtime.partition(":")
        self._host = host
        self._timeout_s = timeout_s
        self._session = SshSession(host.files) if isinstance(host.files, SftpDirectory) else None

    async def ask(self, commands: Sequence[Command]) -> list[str]:
        """One answer for each command, without its final empty line.

        Raises `Unreachable` (refused, silent, broken off), `PermissionMissing` (the socket's mode), `TlsUntrusted`,
        `CredentialsRefused`, `SettingsInvalid`.
        """
        failure: RotatorError
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._asked(commands)
        except TimeoutError:
            self._drop()
            failure = self._unreachable(f"no answer within {self._timeout_s:.1f} s")
        except asyncio.IncompleteReadError:
            failure = self._unreachable("the connection ended before the answer")
        except ssl.SSLCertVerificationError as error:
            failure = TlsUntrusted(
                "the certificate in front of the command line is not trusted",
                where=self.where,
                seen=error.verify_message,
                action=f"compare it with ca_file {self._host.ca_file}",
            )
        except ssl.SSLError as error:
            failure = CredentialsRefused(
                "the TLS connection to the command line was refused",
                where=self.where,
                seen=error.reason or "no reason given",
                action="check client_certificate_file and client_key_file",
            )
        except asyncssh.Error as error:
            self._drop()
            failure = self._of_ssh(error)
        except PermissionError as error:
            failure = PermissionMissing(
                "the worker's user may not use HAProxy's command line",
                where=self.where,
                seen=error.strerror or "permission denied",
                action="give the socket of -S a group and mode 660 (deploy/haproxy/README.md)",
            )
        except OSError as error:
            failure = self._unreachable(error.strerror or type(error).__name__)
        raise failure

    async def ask_old(self, pid: int, texts: Sequence[str]) -> list[str] | None:
        """`ask` of a worker from before a reload; None when it has ended, which breaks off whatever it was asked.

        Raises `Unreachable` when it is still there and does not answer.
        """
        for attempt in range(_OLD_TRIES):
            try:
                said = await self.ask([Command(text, old_worker(pid)) for text in texts])
                return None if said and said[0].startswith(_GONE) else said
            except Unreachable:
                (listed,) = await self.ask([Command("show proc", worker="")])
                if pid not in old_workers(listed, self.where):
                    return None
                if attempt == _OLD_TRIES - 1:
                    raise
            await asyncio.sleep(_OLD_APART_S)
        return None

    async def change(self, commands: Sequence[Command]) -> list[str]:
        """`ask` with commands that change something. Raises `TooLate` besides (adapters/fence.py)."""
        ensure_in_time(self.where)
        return await self.ask(commands)

    async def set(self, commands: Sequence[Command]) -> None:
        """`change` with commands that answer nothing when they are carried out. Raises `RequestRefused` besides."""
        answers = await self.change(commands)
        for command, answer in zip(commands, answers, strict=True):
            if answer:
                raise RequestRefused("HAProxy refuses a command", where=self.where, seen=f"{command.text}: {answer}")

    async def close(self) -> None:
        """Closes what is kept open: the SSH connection, if there is one."""
        if self._session is not None:
            await self._session.close()

    async def _asked(self, commands: Sequence[Command]) -> list[str]:
        """While somebody else's command has the lock on certificates, ours is not carried out: from there once more."""
        said: list[str] = []
        while True:
            said += await self._exchanged(commands[len(said) :])
            locked = next((place for place, answer in enumerate(said) if LOCKED in answer), None)
            if locked is None:
                return said
            del said[locked:]
            await asyncio.sleep(LOCK_PAUSE_S)

    async def _exchanged(self, commands: Sequence[Command]) -> list[str]:
        reader, writer = await self._opened()
        try:
            writer.write(b"".join(command.wire() for command in commands))
            await writer.drain()
            return [await _answer(reader) for _ in commands]
        finally:
            with contextlib.suppress(OSError, asyncssh.Error):
                writer.close()

    async def _opened(self) -> tuple[Reader, Writer]:
        if self._kind == "unix":
            return await asyncio.open_unix_connection(self._address, limit=LONGEST_LINE)
        if self._kind == "ssh":
            assert self._session is not None, "the settings see to that"
            return await self._session.unix_socket(self._address)
        address, _, port = self._address.rpartition(":")
        context = None if self._host.ca_file is None else self._context()
        return await asyncio.open_connection(address.strip("[]"), int(port), ssl=context, limit=LONGEST_LINE)

    def _context(self) -> ssl.SSLContext:
        host = self._host
        try:
            context = ssl.create_default_context(cafile=host.ca_file)
            if host.client_certificate_file is not None:
                context.load_cert_chain(host.client_certificate_file, host.client_key_file)
        except (OSError, ssl.SSLError) as error:
            seen = error.strerror or type(error).__name__
        else:
            return context
        raise SettingsInvalid("the files for TLS to the command line cannot be used", where=self.where, seen=seen)

    def _drop(self) -> None:
        """Whatever is wrong with the SSH connection, the next use opens another."""
        if self._session is not None:
            self._session.drop()

    def _unreachable(self, seen: str) -> Unreachable:
        return Unreachable(
            "HAProxy's command line does not answer",
            where=self.where,
            seen=seen,
            action="check that HAProxy runs with -W and -S (deploy/haproxy/README.md)",
        )

    def _of_ssh(self, error: asyncssh.Error) -> RotatorError:
        source = self._host.files
        assert isinstance(source, SftpDirectory), "asyncssh is asked with such a source only"
        if isinstance(error, asyncssh.ChannelOpenError):
            return self._unreachable(f"the SSH server opens no way to {self._address}: {error.reason}")
        return of_ssh(error, where=self.where, user=source.user, known_hosts=source.known_hosts_file)


async def _answer(reader: Reader) -> str:
    lines: list[str] = []
    while True:
        line = await reader.readline()
        if not line.endswith(b"\n"):
            raise asyncio.IncompleteReadError(line, None)
        text = line.decode(errors="replace").rstrip("\r\n")
        if not text:
            return "\n".join(lines)
        lines.append(text)
