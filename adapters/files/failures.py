"""What the operating system's refusals and SSH's mean, as `domain.errors`. None of them quotes a file's content."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

import asyncssh

from domain.errors import (
    ConcurrentEdit,
    CredentialsRefused,
    PermissionMissing,
    RequestRefused,
    RotatorError,
    ServerFailed,
    Unreachable,
)

_NO_PERMISSION: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_DIRECTORY: Final = frozenset({errno.ENOENT, errno.ENOTDIR})


def no_directory(where: str, seen: str) -> RequestRefused:
    """The directory of the settings is not there."""
    return RequestRefused(
        "there is no such directory", where=where, seen=seen, action="create it, or correct directory"
    )


def no_permission(where: str, seen: str, who: str) -> PermissionMissing:
    """`who` may not do this."""
    return PermissionMissing(
        "not permitted",
        where=where,
        seen=seen,
        action=f"let {who} write the directory, and own the files in it (or be root) so that owners can be kept",
    )


def not_a_file(where: str) -> RequestRefused:
    """Something else has the name: to replace it would break what somebody set up."""
    return RequestRefused(
        "this is not a regular file",
        where=where,
        seen="a link, directory or device",
        action="put a regular file in its place, or name another directory",
    )


def too_long(where: str, size: int) -> RequestRefused:
    """No certificate and no configuration is that long."""
    return RequestRefused("the file is too long", where=where, seen=f"{size} bytes", action="correct directory")


def cut_short(where: str, seen: str) -> ServerFailed:
    """The host confirmed a write of which it kept a part."""
    return ServerFailed("the host kept a part of the content only", where=where, seen=seen, action="look at its disk")


def overtaken(where: str) -> ConcurrentEdit:
    """Our temporary file is gone: another writer of this name took it for a leftover."""
    return ConcurrentEdit(
        "another writer removed the temporary file", where=where, action="look who else writes it, then read it again"
    )


def of_system(error: OSError, *, where: str) -> RotatorError:
    """The failure behind an error of the local file system."""
    seen = os.strerror(error.errno) if error.errno else type(error).__name__
    if error.errno in _NO_DIRECTORY:
        return no_directory(where, seen)
    if error.errno in _NO_PERMISSION:
        return no_permission(where, seen, "the worker's user")
    return ServerFailed("the file system failed", where=where, seen=seen, action="look at the disk and its mounts")


def of_ssh(error: asyncssh.Error | OSError, *, where: str, user: str, known_hosts: Path) -> RotatorError:
    """The failure behind an exception of asyncssh on the way to a host and back."""
    if isinstance(error, asyncssh.SFTPError):
        return _of_sftp(error, where=where, user=user)
    if isinstance(error, asyncssh.HostKeyNotVerifiable | asyncssh.KeyExchangeFailed):
        return CredentialsRefused(
            "the host does not prove to be the known one",
            where=where,
            seen=error.reason,
            action=f"compare its key with {known_hosts}; if it was changed on purpose, correct that file",
        )
    if isinstance(error, asyncssh.PermissionDenied):
        return CredentialsRefused(
            f"the host does not accept the key of user {user}",
            where=where,
            seen=error.reason,
            action="check user and key_file, and the host's authorized_keys",
        )
    if isinstance(error, asyncssh.ChannelOpenError):
        return RequestRefused(
            "the host offers no SFTP", where=where, seen=error.reason, action=f"allow the SFTP subsystem for {user}"
        )
    return Unreachable(
        "no connection, or it broke",
        where=where,
        seen=_words(error),
        action="check that the SSH server runs there and that the route is open",
    )


def _of_sftp(error: asyncssh.SFTPError, *, where: str, user: str) -> RotatorError:
    """RFC draft-ietf-secsh-filexfer-02 section 7: what version 3 knows, and what later ones add."""
    seen = error.reason or type(error).__name__
    if isinstance(error, asyncssh.SFTPNoSuchFile | asyncssh.SFTPNoSuchPath | asyncssh.SFTPNotADirectory):
        return no_directory(where, seen)
    if isinstance(error, asyncssh.SFTPPermissionDenied | asyncssh.SFTPWriteProtect):
        return no_permission(where, seen, f"user {user}")
    if isinstance(error, asyncssh.SFTPConnectionLost | asyncssh.SFTPNoConnection):
        return Unreachable("the connection broke", where=where, seen=seen, action="check the SSH server and the route")
    if isinstance(error, asyncssh.SFTPOpUnsupported):
        return RequestRefused(
            "the host's SFTP server cannot replace a file in one instant",
            where=where,
            seen=seen,
            action="use one with posix-rename@openssh.com, as OpenSSH's",
        )
    return ServerFailed("the host's SFTP server failed", where=where, seen=seen, action="look at its disk and its log")


def _words(error: asyncssh.Error | OSError) -> str:
    if isinstance(error, asyncssh.Error):
        return str(getattr(error, "reason", "")) or type(error).__name__
    return error.strerror or type(error).__name__
