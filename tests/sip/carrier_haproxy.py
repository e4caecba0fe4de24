"""HAProxy as the carrier's TLS stack: SIPp's TCP goes in, TLS that verifies chain and name comes out, and back."""

from __future__ import annotations

import asyncio
import csv
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.ports import LOOPBACK, free_port
from tests.sip.programs import Program

CALLERS_ADDRESS = "127.0.0.4"
"""Where the SIPp callers' TLS connections come from: a peer of its own beside the lab's carrier and the prober."""


@dataclass(frozen=True, slots=True)
class CarrierCounters:
    """HAProxy's figures of its connections to the edge, all nodes together, since its start.

    `connection_errors` are TCP connects and TLS handshakes that failed, `aborts` connections that the edge cut off.
    """

    sessions: int
    connection_errors: int
    aborts: int


class CarrierHaproxy:
    """The carrier's side of a trunk: `callers` is where SIPp sends (TCP), `contact` what leads back to SIPp.

    `identity_pem` holds its certificate and key. It shows the certificate to who demands one, and serves it at
    `inbound`, where callees' requests arrive; with `mutual` it demands a certificate there that `root` verifies.
    Nothing is tried twice and no session is resumed.
    """

    def __init__(
        self,
        directory: Path,
        *,
        fqdn: str,
        root: Path,
        identity_pem: str,
        mutual: bool = False,
        address: str = CALLERS_ADDRESS,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.callers = (LOOPBACK, free_port())
        self.sipp_port = free_port()
        self.inbound = (address, free_port(address))
        self._socket = Path(tempfile.mkdtemp(prefix="hc")) / "admin.sock"
        self._fqdn, self._root, self._mutual = fqdn, root, mutual
        self._identity, self._file = directory / "carrier-identity.pem", directory / "carrier.cfg"
        self._identity.touch(0o600)
        self._identity.write_text(identity_pem)
        self._program = Program("carrier-haproxy", ["haproxy", "-db", "-f", str(self._file)], directory)

    @property
    def contact(self) -> str:
        """The URI at which callees reach SIPp (RFC 3261 section 8.1.1.8), by TLS."""
        return f"sip:caller@{self.inbound[0]}:{self.inbound[1]};transport=tls"

    async def start(self, edges: Sequence[tuple[str, int]]) -> None:
        """Returns when it takes calls. `edges` are the nodes behind the trunk's name; connections take turns."""
        self._file.write_text(self._configuration(edges))
        await self._program.start(self._answers)

    async def stop(self) -> None:
        """Cuts off what is left."""
        await self._program.kill()

    async def counters(self) -> CarrierCounters:
        """Its figures now."""
        shown = await self._ask("show stat")
        rows = list(csv.DictReader(shown.removeprefix("# ").splitlines()))
        servers = [row for row in rows if row["pxname"] == "edge" and row["svname"].startswith("node")]
        return CarrierCounters(
            sessions=sum(int(row["stot"]) for row in servers),
            connection_errors=sum(int(row["econ"]) for row in servers),
            aborts=sum(int(row["srv_abrt"]) for row in servers),
        )

    async def _answers(self) -> bool:
        """Its sockets are open; asked without a connection that it would hand on to the edge."""
        try:
            return bool(await self._ask("show info"))
        except OSError:
            return False

    async def _ask(self, command: str) -> str:
        reader, writer = await asyncio.open_unix_connection(self._socket)
        try:
            writer.write(f"{command}\n".encode())
            await writer.drain()
            return (await reader.read()).decode()
        finally:
            writer.close()

    def _configuration(self, edges: Sequence[tuple[str, int]]) -> str:
        name, own = self._fqdn, self._identity
        tls = f"ssl crt {own} verify required ca-file {self._root} verifyhost {name} sni str({name}) no-ssl-reuse"
        source = self.inbound[0]
        nodes = "\n".join(
            f"    server node{n} {host}:{port} source {source} {tls}" for n, (host, port) in enumerate(edges, 1)
        )
        demanded = f" ca-file {self._root} verify required" if self._mutual else ""
        return f"""\
global
    stats socket {self._socket} mode 600 level admin
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    retries 0
frontend callers
    bind {self.callers[0]}:{self.callers[1]}
    default_backend edge
backend edge
    balance roundrobin
{nodes}
frontend contact
    bind {self.inbound[0]}:{self.inbound[1]} ssl crt {own}{demanded}
    default_backend sipp
backend sipp
    server sipp {LOOPBACK}:{self.sipp_port}
"""
