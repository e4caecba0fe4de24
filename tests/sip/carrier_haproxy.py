"""HAProxy as the carrier's TLS stack: SIPp's TCP goes in, TLS that verifies chain and name comes out, and back."""

from __future__ import annotations

import asyncio
import csv
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.ports import LOOPBACK, free_port
from tests.sip.programs import Program, listens

CALLERS_ADDRESS = "127.0.0.4"
"""Where the SIPp callers' TLS connections come from: a peer of its own beside the lab's carrier and the prober."""


@dataclass(frozen=True, slots=True)
class CarrierCounters:
    """HAProxy's figures of its connections to the edge, all nodes together, since its start.

    `connection_errors` are TCP connects and TLS handshakes that failed (nothing is tried twice, and nothing resumed),
    `aborts` connections that the edge cut off.
    """

    sessions: int
    connection_errors: int
    aborts: int


class CarrierHaproxy:
    """The carrier's side of a trunk: `callers` is where SIPp sends (TCP), `contact` what leads back to SIPp.

    `edges` are the nodes behind the name `fqdn`; connections take turns. With `identity` (PEM: chain and key) it shows
    a client certificate, and accepts calls and callees' requests on a TLS port of its own, where with `mutual` it
    demands a certificate that `root` verifies. Without `verify` it takes any certificate.
    """

    def __init__(
        self,
        directory: Path,
        *,
        fqdn: str,
        edges: Sequence[tuple[str, int]],
        root: Path,
        identity_pem: str | None = None,
        mutual: bool = False,
        address: str = CALLERS_ADDRESS,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.callers = (LOOPBACK, free_port())
        self.sipp_port = free_port()
        self.inbound = (address, free_port(address)) if identity_pem else None
        self._socket = Path(tempfile.mkdtemp(prefix="hc")) / "admin.sock"
        identity = directory / "carrier-identity.pem"
        if identity_pem:
            identity.touch(0o600)
            identity.write_text(identity_pem)
        configuration = directory / "carrier.cfg"
        configuration.write_text(self._configuration(fqdn, edges, root, identity if identity_pem else None, mutual))
        self._program = Program("carrier-haproxy", ["haproxy", "-db", "-f", str(configuration)], directory)
        self._address = address

    @property
    def contact(self) -> str | None:
        """The URI at which callees reach SIPp (RFC 3261 section 8.1.1.8), by TLS."""
        return f"sip:caller@{self.inbound[0]}:{self.inbound[1]};transport=tls" if self.inbound else None

    async def start(self) -> None:
        """Returns when it takes calls."""
        await self._program.start(lambda: listens(*self.callers))

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

    async def _ask(self, command: str) -> str:
        reader, writer = await asyncio.open_unix_connection(self._socket)
        try:
            writer.write(f"{command}\n".encode())
            await writer.drain()
            return (await reader.read()).decode()
        finally:
            writer.close()

    def _configuration(
        self, fqdn: str, edges: Sequence[tuple[str, int]], root: Path, identity: Path | None, mutual: bool
    ) -> str:
        own = f" crt {identity}" if identity else ""
        tls = f"ssl verify required ca-file {root} verifyhost {fqdn} sni str({fqdn}) no-ssl-reuse{own}"
        nodes = "\n".join(
            f"    server node{n} {host}:{port} source {CALLERS_ADDRESS if not self.inbound else self.inbound[0]} {tls}"
            for n, (host, port) in enumerate(edges, 1)
        )
        demanded = f" ca-file {root} verify required" if mutual else ""
        inbound = (
            f"""
frontend contact
    bind {self.inbound[0]}:{self.inbound[1]} ssl crt {identity}{demanded}
    default_backend sipp
backend sipp
    server sipp {LOOPBACK}:{self.sipp_port}
"""
            if self.inbound
            else ""
        )
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
{inbound}"""
