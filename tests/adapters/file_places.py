"""A directory and the adapter on it, of each kind, for the conformance of `Files`."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.files.base import Files
from adapters.files.building import files_of
from settings import LocalDirectory
from tests.adapters.sftp_host import SftpHost
from tests.adapters.trunk_leaves import trunk_leaf

KINDS = ["local", "sftp"]
NAME = "trunk-one.pem"
OLD, NEW = b"old\n" * 40_000, b"new content\n" * 40_000
KEY_PEM = trunk_leaf("files").private_key.get_secret_value().encode()
NOBODY = 65534

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@dataclass
class Place:
    """A directory that others may enter, and the adapter on it."""

    kind: str
    directory: Path
    files: Files

    @property
    def path(self) -> Path:
        return self.directory / NAME

    def entries(self) -> list[str]:
        return sorted(os.listdir(self.directory))


@contextlib.asynccontextmanager
async def place_of(kind: str, settings_folder: Path) -> AsyncIterator[Place]:
    """Logged in already, so that a test may take rights away from this process."""
    with tempfile.TemporaryDirectory() as below:
        directory = Path(below)
        os.chmod(directory, 0o755)
        async with _files(kind, directory, settings_folder) as files:
            assert await files.names() == ()
            yield Place(kind, directory, files)


@contextlib.asynccontextmanager
async def _files(kind: str, directory: Path, settings_folder: Path) -> AsyncIterator[Files]:
    host = SftpHost(directory, settings_folder)
    if kind == "sftp":
        await host.start()
    files = files_of(LocalDirectory(kind="local", directory=directory) if kind == "local" else host.source())
    try:
        yield files
    finally:
        await files.close()
        if kind == "sftp":
            await host.stop()


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """This process without root's rights, as adapter and SFTP server usually run."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
