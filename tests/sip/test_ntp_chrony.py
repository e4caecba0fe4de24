"""The worker's clock against a real NTP server: chrony on loopback, which never touches this machine's clock (`-x`)."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from adapters.probe.ntp import NtpServers
from domain.clocks import Clocks, NtpTime, ToldClock, Whose
from domain.errors import Unreachable
from domain.gates import Verdict
from lab.ntp_server import Manners, NtpServer
from lab.ports import LOOPBACK, free_port
from settings import NtpSettings
from tests.sip.programs import Program

CHRONYD = shutil.which("chronyd", path="/usr/sbin:/sbin:/usr/bin")

pytestmark = [
    pytest.mark.sip,
    pytest.mark.skipif(CHRONYD is None, reason="no chrony: it would replace this host's own time service"),
]

Chrony = Callable[[str], AbstractAsyncContextManager[str]]


@pytest.fixture
def chrony(tmp_path: Path) -> Chrony:
    """Starts a server with further lines of configuration; `host:port`."""

    @asynccontextmanager
    async def started(lines: str) -> AsyncIterator[str]:
        port = free_port()
        directory = tmp_path / f"chrony-{port}"
        directory.mkdir()
        config = directory / "chrony.conf"
        places = f"pidfile {directory / 'pid'}\ndriftfile {directory / 'drift'}\nbindcmdaddress /\ncmdport 0\n"
        config.write_text(f"port {port}\nbindaddress {LOOPBACK}\n{places}{lines}\n")
        assert CHRONYD is not None
        program = Program("chronyd", [CHRONYD, "-x", "-d", "-u", "root", "-f", str(config)], directory)

        async def listening() -> bool:
            return udp_port_is_open(port)

        try:
            await program.start(listening)
            yield f"{LOOPBACK}:{port}"
        finally:
            await program.stop()

    return started


def udp_port_is_open(port: int) -> bool:
    return f" 0100007F:{port:04X} " in Path("/proc/net/udp").read_text()


async def asked(*servers: str, timeout: str = "4s") -> NtpTime:
    return await NtpServers(NtpSettings(servers=servers, timeout=timeout)).time()  # type: ignore[arg-type]


async def test_a_synchronised_chrony_says_that_the_worker_is_on_time(chrony: Chrony) -> None:
    async with chrony("local stratum 3\nallow 127.0.0.1") as server:
        found = await asked(server)
    assert found.ahead_s is not None
    assert abs(found.ahead_s) <= found.uncertainty_s < 0.5
    [one] = found.answered
    assert (one.server, one.stratum) == (server, 3)
    worker = ToldClock(whose=Whose.WORKER, beside_worker_s=0.0)
    [finding] = Clocks(told=(worker,), ntp=found).findings()
    assert finding.verdict is Verdict.PASS


async def test_a_chrony_without_a_source_says_that_it_is_not_synchronised(chrony: Chrony) -> None:
    async with chrony("allow 127.0.0.1") as server:
        with pytest.raises(Unreachable, match="is not synchronised itself: leap 3, stratum 0"):
            await asked(server)


async def test_a_chrony_that_serves_others_only_is_silence(chrony: Chrony) -> None:
    async with chrony("local stratum 3\nallow 192.0.2.0/24") as server:
        with pytest.raises(Unreachable, match="no answer within 1 s"):
            await asked(server, timeout="1s")


async def test_a_chrony_that_another_server_contradicts_decides_nothing(chrony: Chrony) -> None:
    other = NtpServer()
    other.manners = Manners(ahead_s=30.0)
    await other.start()
    async with chrony("local stratum 3\nallow 127.0.0.1") as server:
        found = await asked(server, f"{other.address}:{other.port}")
    await other.stop()
    assert found.ahead_s is None
    assert found.spread_s == pytest.approx(30.0, abs=0.5)
