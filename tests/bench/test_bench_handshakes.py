"""Handshakes as `bench` makes them: with a real TLS server, and as lines of a file."""

from __future__ import annotations

import hashlib
import io
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.handshakes import Handshake, Target, cause_of, handshake, keep_on, read
from tests.adapters.trunk_leaves import TrunkLeaf, root, trunk_leaf

FQDN = "trunk.example.com"


@contextmanager
def tls_server(leaf: TrunkLeaf, folder: Path) -> Iterator[tuple[str, int]]:
    """Finishes every handshake, and says nothing more."""
    pem = folder / "server.pem"
    pem.touch(0o600)
    pem.write_text(leaf.chain_pem + leaf.private_key.get_secret_value())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with plain:
                try:
                    with context.wrap_socket(plain, server_side=True) as secured:
                        secured.recv(1)
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def target(folder: Path, address: tuple[str, int], *, fqdn: str = FQDN, version: str = "1.3") -> Target:
    anchor = folder / "root.pem"
    anchor.write_text(root().pem)
    return Target(address, fqdn, anchor, version)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_handshake_names_the_leaf_that_was_served(tmp_path: Path, version: str) -> None:
    leaf = trunk_leaf("A")
    with tls_server(leaf, tmp_path) as address:
        wanted = target(tmp_path, address, version=version)
        context = wanted.context()
        first, second = handshake(wanted, context), handshake(wanted, context)
    assert (first.leaf, first.cause) == (leaf.sha256, None)
    assert second.leaf == leaf.sha256  # nothing is resumed: a resumed session has no certificate to read
    assert first.leaf != hashlib.sha256(b"").hexdigest()
    assert first.ms > 0


def test_a_certificate_for_another_name_is_a_failed_handshake(tmp_path: Path) -> None:
    with tls_server(trunk_leaf("A"), tmp_path) as address:
        wanted = target(tmp_path, address, fqdn="other.example.net")
        seen = handshake(wanted, wanted.context())
    assert seen.leaf is None
    assert seen.cause is not None
    assert seen.cause.startswith("not verified: ")
    assert "," not in seen.cause


def test_nobody_there_is_a_failed_handshake(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = gone.getsockname()
    wanted = target(tmp_path, address)
    seen = handshake(wanted, wanted.context())
    assert (seen.leaf, seen.cause) == (None, "connection refused")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionResetError(), "connection closed in the handshake"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "connection closed in the handshake"),
        (TimeoutError(), "no end within 2 s"),
        (OSError(101, "Network is unreachable"), "Network is unreachable"),
    ],
)
def test_a_cause_is_a_few_words(error: OSError, expected: str) -> None:
    assert cause_of(error) == expected


def test_what_is_written_is_read_back_and_a_cut_line_left_out(tmp_path: Path) -> None:
    seen = [Handshake(1700000000.1235, 2.5, "ab" * 32, None), Handshake(1700000001.0, 0.25, None, "connection refused")]
    file = tmp_path / "handshakes.csv"
    file.write_text("".join(f"{one.line()}\n" for one in seen) + seen[0].line()[:20])
    assert read(file) == seen


def test_it_keeps_on_until_it_is_told_to_stop(tmp_path: Path) -> None:
    stop, output = threading.Event(), io.StringIO()
    with tls_server(trunk_leaf("A"), tmp_path) as address:
        going = threading.Thread(target=keep_on, args=(target(tmp_path, address), 500.0, output, stop))
        going.start()
        for _ in range(2000):
            if output.getvalue().count("\n") >= 5 or stop.wait(0.01):
                break
        stop.set()
        going.join(10)
    lines = output.getvalue().splitlines()
    assert not going.is_alive()
    assert len(lines) >= 5
    assert all(line.endswith(f"{trunk_leaf('A').sha256},") for line in lines)
