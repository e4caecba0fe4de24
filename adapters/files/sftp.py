"""A directory on another host, through SFTP (draft-ietf-secsh-filexfer-02 with OpenSSH's extensions)."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import asyncssh
from asyncssh import FXF_CREAT, FXF_EXCL, FXF_WRITE, SFTPAttrs, SFTPClient

from adapters.fence import ensure_in_time
from adapters.files.failures import cut_short, no_permission, not_a_file, of_ssh, overtaken, too_long
from adapters.files.naming import LONGEST_CONTENT, NEW_MODE, checked, is_leftover, mode_for, temporary_of
from adapters.files.ssh_session import SshSession
from domain.errors import RotatorError, Unreachable
from settings import SftpDirectory

T = TypeVar("T")

_CLEANUP_S: Final = 1.0
"""Seconds that a failed write gives the host to take the temporary file away; else the next write of the name does."""


class SftpFiles:
    """One connection, kept open; a method is complete within the source's timeout (plus `_CLEANUP_S` after failures).

    The host's SFTP server has to know `posix-rename@openssh.com`, without which no file is replaced in one instant.
    """

    def __init__(self, source: SftpDirectory) -> None:
        port = "" if source.port == 22 else f":{source.port}"
        self.where = f"sftp://{source.host}{port}{source.directory}"
        self._source = source
        self._session = SshSession(source)
        self._one_writer = asyncio.Lock()

    async def names(self) -> tuple[str, ...]:
        """See `Files`."""

        async def listed(sftp: SFTPClient) -> tuple[str, ...]:
            entries = await sftp.readdir(self._source.directory)
            files = [str(entry.filename) for entry in entries if _is_regular(entry.attrs)]
            return tuple(sorted(name for name in files if not name.startswith(".")))

        return await self._within(self.where, listed)

    async def read(self, name: str) -> bytes | None:
        """See `Files`."""
        where = self._place(name)

        async def read_whole(sftp: SFTPClient) -> bytes | None:
            try:
                there = await sftp.stat(self._path(name))
            except asyncssh.SFTPNoSuchFile:
                await sftp.stat(self._source.directory)
                return None
            if not _is_regular(there):
                raise not_a_file(where)
            if (there.size or 0) > LONGEST_CONTENT:
                raise too_long(where, there.size or 0)
            async with sftp.open(self._path(name), "rb") as file:
                content: bytes = await file.read()
            return content

        return await self._within(where, read_whole)

    async def write(self, name: str, content: bytes) -> None:
        """See `Files`."""
        where = self._place(name)
        if len(content) > LONGEST_CONTENT:
            raise too_long(where, len(content))
        begun: list[str] = []

        async def replace(sftp: SFTPClient) -> None:
            await self._replace(sftp, name, content, where, begun)

        async with self._one_writer:
            try:
                await self._within(where, replace)
            except BaseException:
                await self._take_away(begun)
                raise

    async def remove(self, name: str) -> bool:
        """See `Files`."""
        where = self._place(name)

        async def removed(sftp: SFTPClient) -> bool:
            there = await self._regular(sftp, name, where) is not None
            for entry in [*await self._leftovers(sftp, name), *([name] if there else [])]:
                ensure_in_time(where)
                await _unlink(sftp, self._path(entry))
            return there

        async with self._one_writer:
            return await self._within(where, removed)

    async def close(self) -> None:
        """See `Files`."""
        await self._session.close()

    async def _within(self, where: str, work: Callable[[SFTPClient], Awaitable[T]]) -> T:
        """The work on the open connection, within the timeout. After a timeout the connection is not used again."""
        failure: RotatorError
        timeout_s = self._source.timeout.total_seconds()
        try:
            async with asyncio.timeout(timeout_s):
                return await work(await self._session.sftp())
        except TimeoutError:
            self._session.drop()
            seen, action = f"timeout after {timeout_s:g} s", "check route, firewall and load"
            failure = Unreachable(f"no answer from {self._source.host} in time", where=where, seen=seen, action=action)
        except (asyncssh.Error, OSError) as error:
            source = self._source
            failure = of_ssh(error, where=where, user=source.user, known_hosts=source.known_hosts_file)
        raise failure

    async def _replace(self, sftp: SFTPClient, name: str, content: bytes, where: str, begun: list[str]) -> None:
        """Adds the temporary file's path to `begun` right before it makes it."""
        existing = await self._regular(sftp, name, where)
        ensure_in_time(where)
        for entry in await self._leftovers(sftp, name):
            await _unlink(sftp, self._path(entry))
        temporary = self._path(temporary_of(name))
        begun.append(temporary)
        await self._fill(sftp, temporary, content, existing, where)
        ensure_in_time(where)
        try:
            await sftp.posix_rename(temporary, self._path(name))
        except asyncssh.SFTPNoSuchFile:
            raise overtaken(where) from None

    async def _take_away(self, begun: list[str]) -> None:
        """What a failed write left: over a new connection after a timeout, since the old one may wait for ever.

        A rename that the host still makes afterwards then finds nothing to rename.
        """
        with contextlib.suppress(asyncssh.Error, OSError, RotatorError):
            async with asyncio.timeout(_CLEANUP_S):
                for temporary in begun:
                    await _unlink(await self._session.sftp(), temporary)

    async def _fill(
        self, sftp: SFTPClient, temporary: str, content: bytes, existing: SFTPAttrs | None, where: str
    ) -> None:
        """A new file that only we can read, then its owner, then its content, then its mode: safe in this order alone.

        The size is asked for because a server with a full disk may confirm a write of which it kept a part. One without
        `fsync@openssh.com` is trusted to write in order.
        """
        ours = SFTPAttrs(permissions=NEW_MODE)
        async with sftp.open(temporary, FXF_WRITE | FXF_CREAT | FXF_EXCL, ours, encoding=None) as file:
            await file.setstat(ours)
            await self._give(sftp, file, existing, where)
            await file.write(content)
            kept = (await file.stat()).size
            if kept != len(content):
                raise cut_short(where, f"{kept} of {len(content)} bytes")
            mode = mode_for(content, None if existing is None else existing.permissions)
            await file.setstat(SFTPAttrs(permissions=mode))
            with contextlib.suppress(asyncssh.SFTPOpUnsupported):
                await file.fsync()

    async def _give(
        self, sftp: SFTPClient, file: asyncssh.SFTPClientFile, existing: SFTPAttrs | None, where: str
    ) -> None:
        """Owner and group of the existing file; a new one belongs to the directory's owner.

        Not every server tells a refusal of this from other failures.
        """
        fresh = await file.stat()
        wanted = existing or await sftp.stat(self._source.directory)
        same = fresh.uid == wanted.uid and (existing is None or fresh.gid == wanted.gid)
        if same:
            return
        try:
            await file.setstat(SFTPAttrs(uid=wanted.uid, gid=wanted.gid))
        except asyncssh.SFTPFailure as error:
            raise no_permission(where, error.reason, f"user {self._source.user}") from None

    async def _regular(self, sftp: SFTPClient, name: str, where: str) -> SFTPAttrs | None:
        """The file's attributes, None when it is not there. Raises `RequestRefused` for a link or a directory."""
        try:
            there = await sftp.lstat(self._path(name))
        except asyncssh.SFTPNoSuchFile:
            return None
        if not _is_regular(there):
            raise not_a_file(where)
        return there

    async def _leftovers(self, sftp: SFTPClient, name: str) -> list[str]:
        return [entry for entry in map(str, await sftp.listdir(self._source.directory)) if is_leftover(entry, name)]

    def _path(self, entry: str) -> str:
        return f"{self._source.directory.rstrip('/')}/{entry}"

    def _place(self, name: str) -> str:
        return f"{self.where.rstrip('/')}/{checked(name)}"


def _is_regular(attrs: SFTPAttrs) -> bool:
    """Version 3 has the file's kind in its mode only."""
    return attrs.permissions is not None and stat.S_ISREG(attrs.permissions)


async def _unlink(sftp: SFTPClient, path: str) -> None:
    with contextlib.suppress(asyncssh.SFTPNoSuchFile):
        await sftp.remove(path)
