"""A real HAProxy in a folder of its own, started from the shipped configuration (deploy/haproxy) on free ports.

Only values that an operator sets differ from what is shipped; one that the shipped file does not have is an error here,
so that the two cannot drift apart.

    async with haproxy_node(folder, a=trunk_leaf("A"), sip=("127.0.0.1:5071", "127.0.0.1:5072")) as node:
        connect(node.address, node.ports["public"])
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lab.ports import LOOPBACK, free_port
from tests.adapters.trunk_leaves import TrunkLeaf
from tests.lab.waiting import until

SHIPPED = Path(__file__).parents[2] / "deploy" / "haproxy"
LISTENER = "trunk"
PORTS = ("public", "canary", "metrics", "out")


@dataclass
class HaproxyNode:
    """One HAProxy, master and worker. `sip` holds certificates, sip-pool.cfg and sip-edge.lua; `ports` see `PORTS`."""

    folder: Path
    sip: Path
    run: Path
    address: str
    listener: str
    ports: Mapping[str, int]
    level: str = "admin"
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)

    @property
    def runtime(self) -> str:
        """The master's command line, as the settings write it."""
        return f"unix:{self.master}"

    @property
    def master(self) -> Path:
        return self.run / "master.sock"

    @property
    def metrics_target(self) -> str:
        """What Prometheus scrapes, path /metrics."""
        return f"{self.address}:{self.ports['metrics']}"

    @property
    def log(self) -> str:
        """What it has logged so far, over all starts."""
        path = self.folder / "haproxy.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def slot(self, name: str) -> Path:
        """The file of the slot `one` or `two`."""
        return self.sip / f"{self.listener}-{name}.pem"

    @property
    def pool_file(self) -> Path:
        return self.sip / "sip-pool.cfg"

    async def start(self) -> None:
        """Starts it and waits until its worker answers. Fails with the end of its log."""
        command = ["haproxy", "-W", "-db", "-S", f"{self.master},mode,600,level,{self.level}"]
        command += ["-f", str(self.folder / "haproxy.cfg"), "-f", str(self.pool_file)]
        with (self.folder / "haproxy.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={"PATH": os.environ["PATH"]},
            )
        process = self._process

        async def up() -> bool:
            assert process.returncode is None, f"HAProxy ended with {process.returncode}:\n{self.log[-3000:]}"
            return await self._serves()

        await until(up)

    async def stop(self) -> None:
        """As the service manager stops it."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """All its processes at once, as when the host loses power."""
        await self._end(signal.SIGKILL)

    async def restart(self, *, killed: bool = False) -> None:
        """Down and up again, on the same ports with the files as they are."""
        await (self.kill() if killed else self.stop())
        await self.start()

    async def reload(self) -> None:
        """As `systemctl reload`: a new worker with the files as they are; old ones stay while they have connections."""
        assert self._process is not None
        before = await self.workers()
        self._process.send_signal(signal.SIGUSR2)

        async def reloaded() -> bool:
            now = await self.workers()
            return bool(now) and now[0] not in before and await self._serves()

        await until(reloaded)

    async def workers(self) -> list[int]:
        """The process ids of the workers, the current one first; empty while the master does not answer."""
        try:
            shown = await self.command("show proc")
        except OSError:
            return []
        return [int(pid) for pid in re.findall(r"(?m)^(\d+)\s+worker\s", shown)]

    async def command(self, text: str) -> str:
        """One command to the master, for example `@1 show stat`, and what it answers."""
        reader, writer = await asyncio.open_unix_connection(self.master)
        try:
            writer.write(f"{text}\n".encode())
            writer.write_eof()
            async with asyncio.timeout(10):
                return (await reader.read()).decode()
        finally:
            writer.close()

    async def weights(self, pool: str = "pool") -> dict[str, int]:
        """Slot → weight of the servers that are in that pool now."""
        shown = await self.command(f"@1 show servers state {self.listener}-{pool}")
        rows = [line.split() for line in shown.splitlines() if line[:1].isdigit() and len(line.split()) > 7]
        return {row[3]: int(row[7]) for row in rows if not int(row[6]) & 0x23}

    async def _serves(self) -> bool:
        if not await self.workers():
            return False
        try:
            if "Uptime_sec" not in await self.command("@1 show info"):
                return False
            _, writer = await asyncio.open_connection(self.address, self.ports["metrics"])
        except OSError:
            return False
        writer.close()
        return True

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        await process.wait()

        async def gone() -> bool:
            return not _group_lives(process.pid)

        await until(gone)


@asynccontextmanager
async def haproxy_node(
    folder: Path,
    *,
    a: TrunkLeaf,
    sip: Sequence[str] | None = None,
    proxy_to_sip: bool = True,
    carrier: str | None = None,
    carrier_name: str = "carrier.example.com",
    carrier_roots_pem: str = "",
    mutual: bool = False,
    peers: str = LOOPBACK,
    address: str = LOOPBACK,
    listener: str = LISTENER,
    ports: Mapping[str, int] | None = None,
    level: str = "admin",
    prepare: Callable[[Path], None] = lambda sip: None,
    changes: Mapping[str, str] | None = None,
) -> AsyncIterator[HaproxyNode]:
    """A running node whose slot `one` holds `a`, alone in the pool, while `two` is empty.

    `sip` are the SIP server's addresses behind the slots (nobody by default), which speak PROXY unless `proxy_to_sip`
    is False. With `carrier` (host:port) it calls out, too, trusting `carrier_roots_pem`; with `mutual` it demands
    client certificates of those roots. `ports` are those of `free_ports`, for who must know them before.
    `level` is that of the command line. For what an operator may have done, `changes` replaces texts of haproxy.cfg,
    and `prepare` does things in the directory of certificates.
    """
    os.makedirs(folder, exist_ok=True)
    run = Path(tempfile.mkdtemp(prefix="hx"))  # a socket's path has room for 107 characters, with HAProxy's suffixes
    ports = ports or free_ports(address)
    node = HaproxyNode(folder, folder / "sip", run, address, listener, ports, level)
    one, two = sip or (f"{address}:{free_port(address)}", f"{address}:{free_port(address)}")
    values = {
        "SIP_DIRECTORY": str(node.sip),
        "SIP_RUN": str(run),
        "SIP_PUBLIC": f"{address}:{ports['public']}",
        "SIP_CANARY": f"{address}:{ports['canary']}",
        "SIP_METRICS": f"{address}:{ports['metrics']}",
        "SIP_OUT": f"{address}:{ports['out']}",
        "SIP_SERVER_ONE": one,
        "SIP_SERVER_TWO": two,
        "SIP_PEERS": f'"{peers}"',
        "SIP_CARRIER": carrier or f"{address}:1",
        "SIP_CARRIER_NAME": carrier_name,
        "SIP_CARRIER_CA": str(folder / "roots.pem"),
    }
    configuration, pool = _shipped("haproxy.cfg"), _shipped("sip-pool.cfg")
    for name, value in values.items():
        configuration = _set(configuration, name, value)
    if carrier is None:
        configuration = _cut(configuration, "# --- outbound:", "# --- end of outbound")
        pool = pool[: pool.index("# The client certificate of outbound calls")]
    if not proxy_to_sip:
        configuration = re.sub(r'(?m)^(    server sip "\$\{SIP_SERVER_\w+\}") send-proxy-v2$', r"\1", configuration)
    if mutual:
        configuration = re.sub(
            r"(?m)^(    bind .* accept-proxy ssl crt .*)$",
            r'\1 ca-file "${SIP_CARRIER_CA}" verify required',
            configuration,
        )
    if os.geteuid() == 0:  # another user could not look into our folders
        configuration = configuration.replace("    user haproxy\n    group haproxy\n", "")
        configuration = configuration.replace(" user haproxy mode 600", " mode 600")
    for old, new in (changes or {}).items():
        assert old in configuration, f"the shipped file has no {old!r}"
        configuration = configuration.replace(old, new)
    node.sip.mkdir(mode=0o700)
    (folder / "roots.pem").write_text(carrier_roots_pem)
    (folder / "haproxy.cfg").write_text(_named(configuration, listener))
    node.pool_file.write_text(_named(pool, listener))
    shutil.copy(SHIPPED / "sip-edge.lua", node.sip)
    write_secret(node.slot("one"), a.chain_pem + a.private_key.get_secret_value())
    write_secret(node.slot("two"), empty_slot_pem())
    prepare(node.sip)
    try:
        await node.start()
        yield node
    finally:
        await node.stop()
        shutil.rmtree(run, ignore_errors=True)


def free_ports(address: str = LOOPBACK) -> dict[str, int]:
    """A port for each of a node's listeners."""
    return {name: free_port(address) for name in PORTS}


def empty_slot_pem() -> str:
    """What the README's openssl command makes for a slot without a certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "empty slot")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (certificate.public_bytes(Encoding.PEM) + private).decode()


def write_secret(path: Path, text: str) -> None:
    """A file that only we can read, before it has any content."""
    path.touch(mode=0o600)
    path.write_text(text)


def _shipped(name: str) -> str:
    return (SHIPPED / name).read_text()


def _set(text: str, name: str, value: str) -> str:
    changed, count = re.subn(rf"(?m)^    setenv {name} +\S.*?(?=$|  +#)", lambda _: f"    setenv {name} {value}", text)
    assert count == 1, f"the shipped file sets {name} {count} times"
    return changed


def _cut(text: str, begin: str, end: str) -> str:
    return text[: text.index(begin)] + text[text.index(end) :]


def _named(text: str, listener: str) -> str:
    """The sections under another name than the shipped one."""
    return text if listener == LISTENER else re.sub(rf"\b{LISTENER}(?=[-\s]|$)", listener, text)


def _group_lives(group: int) -> bool:
    """Whether a process of the group runs; one that nobody has waited for yet has ended all the same."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, of_group = status.read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == group and state not in "ZX":
                return True
    return False
