"""Free loopback ports. The lab never assumes a port number, so that several labs run side by side."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LOOPBACK = "127.0.0.1"

_RANGE = range(10_000, 32_768)
"""Below what the kernel gives to outgoing connections: one of those would hold the port when its program comes."""
_KEPT_S = 60.0
"""How long a port that was handed out is not handed out again: its program opens it in that time, or never."""
_TRIES = 1000


def free_port(address: str = LOOPBACK) -> int:
    """A TCP port that was free a moment ago, for programs that must open it themselves.

    No process of this user that asks here gets the same within a minute. Raises `RuntimeError` when none is free.
    """
    with _only_one_asks() as handed_out:
        for port in random.sample(_RANGE, _TRIES):
            note = handed_out / str(port)
            if _age_s(note) > _KEPT_S and _can_be_bound(address, port):
                note.touch()
                os.utime(note)
                return port
    raise RuntimeError(f"none of {_TRIES} ports between {_RANGE.start} and {_RANGE.stop - 1} is free on {address}")


def listening_socket(address: str = LOOPBACK) -> socket.socket:
    """A bound, not yet listening TCP socket on a free port; the caller owns and closes it."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((address, 0))
    return bound


@contextlib.contextmanager
def _only_one_asks() -> Iterator[Path]:
    """The folder of the ports that were handed out, while no other process looks into it."""
    folder = Path(tempfile.gettempdir()) / f"sip-tls-lab-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def _age_s(note: Path) -> float:
    try:
        return time.time() - note.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _can_be_bound(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no hindrance
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
