"""Fresh, verified TLS handshakes at a steady pace, in a process of its own: `python -m bench.handshakes --help`.

It knows a root, a name and an address, and shares nothing with the product. Every handshake is a line of its file, as
soon as it has ended. Nothing is resumed: a resumed session would show no certificate.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

TIMEOUT_S = 2.0
"""A handshake that takes longer has failed; no SIP client waits much longer for a connection."""
_CATCH_UP_S = 1.0
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True)
class Handshake:
    """One attempt: `at` is the Unix time of its end in seconds, `ms` its time from the TCP connect on.

    `leaf` is the SHA-256 of the certificate that was served and verified; a failed one has a `cause` instead.
    """

    at: float
    ms: float
    leaf: str | None
    cause: str | None

    def line(self) -> str:
        """As it stands in the file; the cause has no comma."""
        return f"{self.at:.4f},{self.ms:.3f},{self.leaf or ''},{self.cause or ''}"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to, and how: `version` is the only TLS version that is offered."""

    address: tuple[str, int]
    fqdn: str
    root: Path
    version: str

    def context(self) -> ssl.SSLContext:
        """Chain and name are verified by OpenSSL."""
        context = ssl.create_default_context(cafile=str(self.root))
        context.minimum_version = context.maximum_version = _VERSIONS[self.version]
        return context


def read(path: Path) -> list[Handshake]:
    """The handshakes of a file; a last line that was cut off is left out. Raises FileNotFoundError."""
    with path.open(newline="") as file:
        return list(_parsed(file))


def _parsed(file: TextIO) -> Iterator[Handshake]:
    for row in csv.reader(line for line in file if line.endswith("\n")):
        at, ms, leaf, cause = row
        yield Handshake(float(at), float(ms), leaf or None, cause or None)


def handshake(target: Target, context: ssl.SSLContext) -> Handshake:
    """One handshake on a connection of its own."""
    begun, leaf, cause = time.perf_counter(), None, None
    try:
        with (
            socket.create_connection(target.address, TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=target.fqdn) as secured,
        ):
            ms = (time.perf_counter() - begun) * 1000
            leaf = hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()
    except OSError as error:  # ssl's errors are among them
        ms, cause = (time.perf_counter() - begun) * 1000, cause_of(error)
    return Handshake(time.time(), ms, leaf, cause)


def cause_of(error: OSError) -> str:
    """In a few words, the same for the same cause."""
    match error:
        case ssl.SSLCertVerificationError():
            text = f"not verified: {error.verify_message}"
        case TimeoutError():
            text = f"no end within {TIMEOUT_S:.0f} s"
        case ConnectionRefusedError():
            text = "connection refused"
        case ssl.SSLEOFError() | ConnectionError():
            text = "connection closed in the handshake"
        case ssl.SSLError():
            text = f"TLS: {error.reason or error}"
        case _:
            text = error.strerror or type(error).__name__
    return text.replace(",", ";").replace("\n", " ")


def keep_on(target: Target, pace: float, output: TextIO, stop: threading.Event) -> None:
    """So many a second until told to stop; what a stall has cost is made up for, at most a second's worth."""
    context, due = target.context(), time.monotonic()
    while not stop.wait(max(0.0, due - time.monotonic())):
        output.write(handshake(target, context).line() + "\n")
        due = max(due + 1 / pace, time.monotonic() - _CATCH_UP_S)


def main() -> None:
    """Until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m bench.handshakes", description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fqdn", required=True, help="the name that is asked for and verified")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--version", choices=tuple(_VERSIONS), required=True)
    parser.add_argument("--pace", type=float, required=True, help="handshakes per second")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with given.output.open("w", buffering=1) as output:
        keep_on(Target((given.host, given.port), given.fqdn, given.root, given.version), given.pace, output, stop)


if __name__ == "__main__":
    main()
