"""What both kinds of directory agree on: which names are files of ours, and which mode a file gets."""

from __future__ import annotations

import re
import secrets
import stat
from typing import Final

LONGEST_NAME: Final = 200
"""Bytes; a temporary name is 22 longer, and file systems end at 255."""

LONGEST_CONTENT: Final = 4 * 1024 * 1024
"""Bytes of a file that is read or written: certificates and configurations have some kilobytes."""

NEW_MODE: Final = 0o600
FOR_OTHERS: Final = 0o007

_TEMPORARY: Final = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}\.new", re.DOTALL)


def checked(name: str) -> str:
    """The name itself. Raises `ValueError` for a path, a hidden file and what no file can be called."""
    plain = name and not name.startswith(".") and "/" not in name and name.isprintable()
    if not plain or len(name.encode()) > LONGEST_NAME:
        raise ValueError(f"not a plain file name: {name!r}")
    return name


def temporary_of(name: str) -> str:
    """A name that nobody else uses, for the file that becomes `name`."""
    return f".{name}.{secrets.token_hex(8)}.new"


def is_leftover(entry: str, name: str) -> bool:
    """Whether an entry of the directory is a temporary file of that name."""
    match = _TEMPORARY.fullmatch(entry)
    return match is not None and match["name"] == name


def mode_for(content: bytes, existing: int | None) -> int:
    """The permission bits for that content: as they were, 0600 for a new file; a private key is never for others."""
    mode = NEW_MODE if existing is None else stat.S_IMODE(existing)
    return mode & ~FOR_OTHERS if b"PRIVATE KEY-----" in content else mode
