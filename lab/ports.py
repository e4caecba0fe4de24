"""Free loopback ports. The lab never assumes a port number, so that several labs run side by side."""

from __future__ import annotations

import socket

LOOPBACK = "127.0.0.1"


def free_port(address: str = LOOPBACK) -> int:
    """A TCP port that was free a moment ago, for programs that must open it themselves."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def listening_socket(address: str = LOOPBACK) -> socket.socket:
    """A bound, not yet listening TCP socket on a free port; the caller owns and closes it."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((address, 0))
    return bound
