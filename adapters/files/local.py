"""A directory on the worker's own host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from adapters.fence import ensure_in_time
from adapters.files.failures import not_a_file, of_system, overtaken, too_long
from adapters.files.naming import LONGEST_CONTENT, NEW_MODE, checked, is_leftover, mode_for, temporary_of

T = TypeVar("T")


class LocalFiles:
    """`directory` is absolute; it has to be on a local file system, where a rename is one instant."""

    def __init__(self, directory: Path) -> None:
        self.where = f"local:{directory}"
        self._directory = directory
        self._one_writer = asyncio.Lock()

    async def names(self) -> tuple[str, ...]:
        """See `Files`."""
        return await asyncio.to_thread(self._within, self.where, _names)

    async def read(self, name: str) -> bytes | None:
        """See `Files`."""
        where = self._place(name)
        return await asyncio.to_thread(self._within, where, lambda directory: _read(directory, name, where))

    async def write(self, name: str, content: bytes) -> None:
        """See `Files`."""
        where = self._place(name)
        if len(content) > LONGEST_CONTENT:
            raise too_long(where, len(content))
        async with self._one_writer:
            await asyncio.to_thread(self._within, where, lambda directory: _write(directory, name, content, where))

    async def remove(self, name: str) -> bool:
        """See `Files`."""
        where = self._place(name)
        async with self._one_writer:
            return await asyncio.to_thread(self._within, where, lambda directory: _remove(directory, name, where))

    async def close(self) -> None:
        """Nothing is open."""

    def _within(self, where: str, work: Callable[[int], T]) -> T:
        """The work in this very directory, by its descriptor, whatever it is renamed to meanwhile."""
        try:
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return work(directory)
            finally:
                os.close(directory)
        except OSError as error:
            failure = of_system(error, where=where)
        raise failure

    def _place(self, name: str) -> str:
        return f"{self.where.rstrip('/')}/{checked(name)}"


def _names(directory: int) -> tuple[str, ...]:
    with os.scandir(directory) as entries:
        files = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    return tuple(sorted(name for name in files if not name.startswith(".")))


def _read(directory: int, name: str, where: str) -> bytes | None:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        there = os.fstat(descriptor)
        if not stat.S_ISREG(there.st_mode):
            raise not_a_file(where)
        if there.st_size > LONGEST_CONTENT:
            raise too_long(where, there.st_size)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def _write(directory: int, name: str, content: bytes, where: str) -> None:
    existing = _regular(directory, name, where)
    ensure_in_time(where)
    for entry in _leftovers(directory, name):
        _unlink(directory, entry)
    temporary = temporary_of(name)
    try:
        _fill(directory, temporary, content, existing)
        ensure_in_time(where)
        _rename(directory, temporary, name, where)
    except BaseException:
        _unlink(directory, temporary)
        raise
    os.fsync(directory)


def _rename(directory: int, temporary: str, name: str, where: str) -> None:
    try:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except FileNotFoundError:
        raise overtaken(where) from None


def _remove(directory: int, name: str, where: str) -> bool:
    there = _regular(directory, name, where) is not None
    for entry in [*_leftovers(directory, name), *([name] if there else [])]:
        ensure_in_time(where)
        _unlink(directory, entry)
    os.fsync(directory)
    return there


def _regular(directory: int, name: str, where: str) -> os.stat_result | None:
    """The file's status, None when it is not there. Raises `RequestRefused` for a link or a directory."""
    try:
        there = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(there.st_mode):
        raise not_a_file(where)
    return there


def _fill(directory: int, temporary: str, content: bytes, existing: os.stat_result | None) -> None:
    """A new file that only we can read, then its owner, then its content, then its mode: safe in this order alone."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, NEW_MODE, dir_fd=directory)
    try:
        os.fchmod(descriptor, NEW_MODE)
        _give(descriptor, existing, os.fstat(directory))
        remaining = memoryview(content)
        while remaining:
            remaining = remaining[os.write(descriptor, remaining) :]
        os.fchmod(descriptor, mode_for(content, None if existing is None else existing.st_mode))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _give(descriptor: int, existing: os.stat_result | None, directory: os.stat_result) -> None:
    """Owner and group of the existing file; a new one belongs to the directory's owner."""
    fresh = os.fstat(descriptor)
    if existing is None:
        if fresh.st_uid != directory.st_uid:
            os.fchown(descriptor, directory.st_uid, directory.st_gid)
    elif (fresh.st_uid, fresh.st_gid) != (existing.st_uid, existing.st_gid):
        os.fchown(descriptor, existing.st_uid, existing.st_gid)


def _leftovers(directory: int, name: str) -> list[str]:
    return [entry for entry in os.listdir(directory) if is_leftover(entry, name)]


def _unlink(directory: int, entry: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(entry, dir_fd=directory)
