"""Ports for programs that open them themselves: no two get the same, whichever process asks."""

from __future__ import annotations

import socket
import subprocess
import sys

from lab.ports import LOOPBACK, free_port

ASK = "from lab.ports import free_port; print(*(free_port() for _ in range(50)))"


def test_processes_that_ask_at_the_same_time_get_different_ports() -> None:
    asking = [subprocess.Popen([sys.executable, "-c", ASK], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [process.communicate()[0].split() for process in asking]
    ports = [port for answer in answers for port in answer]
    assert len(ports) == 150
    assert len(set(ports)) == 150


def test_a_port_is_free_and_lies_below_those_of_outgoing_connections() -> None:
    port = free_port()
    assert 10_000 <= port < 32_768
    with socket.create_server((LOOPBACK, port)):
        assert free_port() != port
