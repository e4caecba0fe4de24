"""What happens to the temporary file in a directory of this process: seen at the very moment, before it happens.

Python's audit events (PEP 578) come from `os` itself, whoever calls it: an adapter, or an SFTP server beside it.
"""

from __future__ import annotations

import contextlib
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Moment:
    """The temporary file right before `event` (os.chmod, os.chown, os.rename)."""

    event: str
    mode: int
    uid: int
    size: int


@dataclass
class DiskWatch:
    """The moments of one directory; `before` is called at each and may raise, which prevents what was to happen."""

    directory: Path
    before: Callable[[str, Path], None] = lambda event, temporary: None
    moments: list[Moment] = field(default_factory=list)

    def see(self, event: str) -> None:
        for temporary in self.directory.glob(".*.new"):
            there = temporary.lstat()
            self.moments.append(Moment(event, stat.S_IMODE(there.st_mode), there.st_uid, there.st_size))
            self.before(event, temporary)


_EVENTS = frozenset({"os.chmod", "os.chown", "os.rename"})
_watches: list[DiskWatch] = []


def _hook(event: str, _: tuple[object, ...]) -> None:
    if _watches and event in _EVENTS:
        _watches[-1].see(event)


sys.addaudithook(_hook)


@contextlib.contextmanager
def watched(directory: Path) -> Iterator[DiskWatch]:
    """Watches a directory, in all threads."""
    watch = DiskWatch(directory)
    _watches.append(watch)
    try:
        yield watch
    finally:
        _watches.remove(watch)
