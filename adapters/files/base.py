"""The role `Files`: the files of one directory on one host, an edge's certificates and its configuration.

The edge's process reads these files whenever it likes – at a reload, or at a restart in the middle of a rotation – so a
file is replaced at one instant or not at all. Some of them hold private keys: nothing of them is ever readable by
others, on a command line, in a log or in an error.
"""

from __future__ import annotations

from typing import Protocol


class Files(Protocol):
    """One directory on one host. Methods raise `domain.errors.RotatorError`s, and `ValueError` for a name that is none.

    A name is a plain file name, at most 200 bytes, that does not begin with a dot. All methods raise `Unreachable`,
    `CredentialsRefused` (our key is refused, or the host's is not the known one), `PermissionMissing`,
    `RequestRefused` (no such directory; or not a file but a link, directory, …), `ServerFailed` (a full disk) and
    `SettingsInvalid` (an SSH key or known_hosts file that cannot be used).
    """

    where: str
    """For messages: `local:/etc/haproxy/sip` or `sftp://edge1.example.com/etc/haproxy/sip`."""

    async def names(self) -> tuple[str, ...]:
        """The names of the regular files in the directory, sorted, without hidden and temporary ones."""
        ...

    async def read(self, name: str) -> bytes | None:
        """The content, or None when there is no such file. A link is followed."""
        ...

    async def write(self, name: str, content: bytes) -> None:
        """Makes the file hold that content, in one instant: a reader sees the old content or the new, never a part.

        A temporary file in the same directory has mode 0600 and its owner before it gets any content; it is synced to
        the disk and renamed over the old one. Owner, group and mode of an existing file are kept; a new one is 0600 and
        belongs to the directory's owner. A file that holds a private key loses its permissions for others. What an
        interrupted write of this name left behind is removed; raises `ConcurrentEdit` when somebody else did that to
        this one, and `TooLate` (adapters/fence.py).
        """
        ...

    async def remove(self, name: str) -> bool:
        """Removes the file and what interrupted writes of it left behind; False when there is no such file."""
        ...

    async def close(self) -> None:
        """Closes the connection."""
        ...
