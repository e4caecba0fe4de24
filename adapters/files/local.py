"""A directory on the worker's own host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from adapters.fence import ensure_in_time
from adapters.files.failures import not_a_file, of_system, overtaken, too_long
from adapters.files.naming import LONGEST_CONTENT, NEW_MODE, checked, is_leftover, mode_for, temporary_of


class LocalFiles:
    """`directory` is absolute; it has to be on a local file system, where a rename is one instant."""

    def __init__(self, directory: Path) -> None:
        self.where = f"local:{directory}"
        self._directory = directory
        self._one_writer = asyncio.Lock()

    async def names(self) -> tuple[str, ...]:
        """See `Files`."""
        return await asyncio.to_thread(self._names)

    async def read(self, name: str) -> bytes | None:
        """See `Files`."""
        return await asyncio.to_thread(self._read, checked(name))

    async def write(self, name: str, content: bytes) -> None:
        """See `Files`."""
        if len(content) > LONGEST_CONTENT:
            raise too_long(f"{self.where}/{checked(name)}", len(content))
        async with self._one_writer:
            await asyncio.to_thread(self._write, checked(name), content)

    async def remove(self, name: str) -> bool:
        """See `Files`."""
        async with self._one_writer:
            return await asyncio.to_thread(self._remove, checked(name))

    async def close(self) -> None:
        """Nothing is open."""

    def _names(self) -> tuple[str, ...]:
        with self._opened(self.where) as directory, os.scandir(directory) as entries:
            files = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        return tuple(sorted(name for name in files if not name.startswith(".")))

    def _read(self, name: str) -> bytes | None:
        where = f"{self.where}/{name}"
        with self._opened(where) as directory:
            try:
                descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
            except FileNotFoundError:
                return None
            with os.fdopen(descriptor, "rb") as file:
                there = os.fstat(file.fileno())
                if not stat.S_ISREG(there.st_mode):
                    raise not_a_file(where)
                if there.st_size > LONGEST_CONTENT:
                    raise too_long(where, there.st_size)
                return file.read()

    def _write(self, name: str, content: bytes) -> None:
        where = f"{self.where}/{name}"
        with self._opened(where) as directory:
            existing = _regular(directory, name, where)
            ensure_in_time(where)
            for entry in _leftovers(directory, name):
                _unlink(directory, entry)
            temporary = temporary_of(name)
            try:
                _fill(directory, temporary, content, existing)
                ensure_in_time(where)
                try:
                    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
                except FileNotFoundError:
                    raise overtaken(where) from None
            except BaseException:
                _unlink(directory, temporary)
                raise
            os.fsync(directory)

    def _remove(self, name: str) -> bool:
        where = f"{self.where}/{name}"
        with self._opened(where) as directory:
            there = _regular(directory, name, where) is not None
            for entry in [*_leftovers(directory, name), *([name] if there else [])]:
                ensure_in_time(where)
                _unlink(directory, entry)
            os.fsync(directory)
            return there

    @contextlib.contextmanager
    def _opened(self, where: str) -> Iterator[int]:
        """The directory's descriptor: everything inside happens in this very directory, whatever it is renamed to."""
        try:
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield descriptor
            finally:
                os.close(descriptor)
        except OSError as error:
            failure = of_system(error, where=where)
        else:
            return
        raise failure


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
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        os.fchmod(descriptor, NEW_MODE)
        _give(descriptor, existing, os.fstat(directory))
        remaining = memoryview(content)
        while remaining:
            remaining = remaining[os.write(descriptor, remaining) :]
        os.fchmod(descriptor, mode_for(content, None if existing is None else existing.st_mode))
        os.fsync(file.fileno())


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
