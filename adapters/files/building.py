"""From settings to `Files`."""

from __future__ import annotations

from typing import assert_never

from adapters.files.base import Files
from adapters.files.local import LocalFiles
from adapters.files.sftp import SftpFiles
from settings import FilesSource, LocalDirectory, SftpDirectory


def files_of(source: FilesSource) -> Files:
    """The directory that a profile names. Nothing is opened before the first use."""
    match source:
        case LocalDirectory():
            return LocalFiles(source.directory)
        case SftpDirectory():
            return SftpFiles(source)
        case _:
            assert_never(source)
