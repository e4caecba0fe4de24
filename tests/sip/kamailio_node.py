"""A real Kamailio in a folder of its own, started from the shipped configuration (deploy/kamailio) on free ports.

Only site.cfg and tls.cfg differ from what is shipped, and only where an operator writes his own values; a value that
the shipped file does not have is an error here, so that the two cannot drift apart.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from lab.ports import free_port

SHIPPED = Path(__file__).parents[2] / "deploy" / "kamailio"
PATIENCE_S = 20.0
TOKEN = "lab-control-token"
TRUNK = "carrier-x"
CANARY_NAME = "canary.trunk.example.com"


@dataclass
class KamailioNode:
    """One Kamailio. `start` returns when it answers; `stop`, `kill` and `restart` work on its own process group."""

    directory: Path
    main: str
    address: str
    ports: Mapping[str, int]
    control_host: str | None = None
    """The name in the certificate of the control listener, where that speaks TLS."""
    shared_memory_mb: int = 128
    user: str | None = None
    """The user that it runs as and that owns its files; None: the one that started it."""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def control_url(self) -> str:
        """Where the rotator and Prometheus ask, with `TOKEN` as bearer."""
        if self.control_host is not None:
            return f"https://{self.control_host}:{self.ports['control']}"
        return f"http://{self.address}:{self.ports['control']}"

    @property
    def tls_directory(self) -> Path:
        """Certificates, keys and tls.cfg."""
        return self.directory / "tls"

    @property
    def tls_cfg(self) -> Path:
        return self.tls_directory / "tls.cfg"

    @property
    def log(self) -> str:
        """What it has logged so far, over all starts."""
        path = self.directory / "kamailio.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Starts it, and waits until its control port is open. Fails with the end of its log."""
        memory = ["-m", str(self.shared_memory_mb), "-M", "8"]
        command = ["kamailio", "-f", self.main, "-DD", "-E", *memory, "-w", ".", "-Y", "run"]
        if self.user is not None:
            command += ["-u", self.user]
            for path in (self.directory, *self.directory.rglob("*")):
                shutil.chown(path, self.user)
        with (self.directory / "kamailio.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.directory, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        process = self._process
        wait_for(lambda: process.poll() is not None or self._answers(), "Kamailio opens its ports", lambda: self.log)
        assert process.poll() is None, f"Kamailio ended with {process.returncode}:\n{self.log[-3000:]}"
        return self

    def stop(self) -> None:
        """As the service manager stops it."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """All its processes at once, as when the host loses power."""
        self._end(signal.SIGKILL)

    def restart(self, *, killed: bool = False) -> None:
        """Down and up again, on the same ports with the files as they are."""
        if killed:
            self.kill()
        else:
            self.stop()
        self.start()

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        process.wait(PATIENCE_S)
        wait_for(lambda: not _group_lives(process.pid), "Kamailio's processes end", lambda: self.log)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.address, self.ports["control"])) == 0


def kamailio_edge(
    directory: Path,
    *,
    chain_pem: str,
    key_pem: str,
    core_uri: str,
    carrier_uri: str,
    address: str = "127.0.0.1",
    carrier_roots_pem: str | None = None,
    canary: str | None = "sni",
    peers: str = "127.0.0.0/8",
    longest_call_s: int = 14400,
    control: tuple[str, str, str] | None = None,
    changes: Callable[[str], str] = lambda text: text,
) -> KamailioNode:
    """A TLS edge that serves this chain, not started yet. `canary` is "sni", "port" or None.

    With `carrier_roots_pem` calls go out with mutual TLS; without, [client:default] has no certificate and trusts all.
    With `control` – a name that leads here, chain and key – the control listener speaks TLS, otherwise plain HTTP.
    `changes` edits kamailio.cfg, for what an operator may have done to it.
    """
    ports = {name: free_port(address) for name in ("sips", "canary", "core", "control")}
    site = _shipped("site.cfg")
    site = _defined(site, "TLS_LISTENER", f"tls:{address}:{ports['sips']}")
    site = _defined(site, "CORE_LISTENER", f"udp:{address}:{ports['core']}")
    site = _defined(site, "CONTROL_LISTENER", f"{'tls' if control else 'tcp'}:{address}:{ports['control']}")
    site = _defined(site, "CONTROL_PORT", str(ports["control"]))
    site = _defined(site, "LONGEST_CALL", str(longest_call_s))
    if canary == "port":
        site = site.replace("##!define CANARY_LISTENER", "#!define CANARY_LISTENER")
        site = _defined(site, "CANARY_LISTENER", f"tls:{address}:{ports['canary']}")
    for name, value in {
        "CORE_URI": core_uri,
        "CARRIER_URI": carrier_uri,
        "PEERS": peers,
        "CONTROL_TOKEN": TOKEN,
        "TRUNK_NAME": TRUNK,
        "TLS_CONFIG": "tls/tls.cfg",
    }.items():
        site = _substituted(site, name, value)
    _prepare(directory, "kamailio.cfg", site, changes)
    node = KamailioNode(directory, "kamailio.cfg", address, ports, control_host=control[0] if control else None)
    node.tls_directory.mkdir(mode=0o700)
    node.tls_cfg.write_text(_tls_cfg(node, canary=canary, mutual=carrier_roots_pem is not None))
    if control is not None:
        (node.tls_directory / "control.chain.pem").write_text(control[1])
        _write_secret(node.tls_directory / "control.key", control[2])
    (node.tls_directory / "trunk.chain.pem").write_text(chain_pem)
    _write_secret(node.tls_directory / "trunk.key", key_pem)
    (node.tls_directory / "carrier-roots.pem").write_text(carrier_roots_pem or "")
    return node


def kamailio_behind_haproxy(
    directory: Path,
    *,
    public: str,
    core_uri: str,
    carrier_uri: str,
    address: str = "127.0.0.1",
    peers: str = "127.0.0.0/8",
    changes: Callable[[str], str] = lambda text: text,
) -> KamailioNode:
    """The SIP server behind HAProxy, not started yet: `one` and `two` are its ports for the two slots, `core` is UDP.

    `public` is HAProxy's listener as carriers reach it, `host:port`; `carrier_uri` is HAProxy's listener for outbound
    calls (`sip:127.0.0.1:5072;transport=tcp`).
    """
    ports = {name: free_port(address) for name in ("one", "two", "core", "control")}
    site = _shipped("behind-site.cfg")
    site = _defined(site, "SLOT_ONE_LISTENER", f"tcp:{address}:{ports['one']} advertise {public}")
    site = _defined(site, "SLOT_ONE_PORT", str(ports["one"]))
    site = _defined(site, "SLOT_TWO_LISTENER", f"tcp:{address}:{ports['two']} advertise {public}")
    site = _defined(site, "SLOT_TWO_PORT", str(ports["two"]))
    site = _defined(site, "CORE_LISTENER", f"udp:{address}:{ports['core']}")
    site = _defined(site, "CONTROL_LISTENER", f"tcp:{address}:{ports['control']}")
    site = _defined(site, "CONTROL_PORT", str(ports["control"]))
    for name, value in {
        "SLOT_ONE_SOCKET": f"tcp:{address}:{ports['one']}",
        "PUBLIC_ADDRESS": public,
        "CORE_ADDRESS": f"{address}:{ports['core']}",
        "CORE_URI": core_uri,
        "CARRIER_URI": carrier_uri,
        "PEERS": peers,
        "CONTROL_TOKEN": TOKEN,
        "TRUNK_NAME": TRUNK,
    }.items():
        site = _substituted(site, name, value)
    _prepare(directory, "behind.cfg", site, changes, site_name="behind-site.cfg")
    return KamailioNode(directory, "behind.cfg", address, ports)


def wait_for(condition: Callable[[], bool], what: str, context: Callable[[], str] = lambda: "") -> None:
    """Returns when the condition holds; after `PATIENCE_S` it fails with what was waited for."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_S:.0f} s\n{context()[-3000:]}"
        time.sleep(0.02)


def _prepare(directory: Path, main: str, site: str, changes: Callable[[str], str], site_name: str = "site.cfg") -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "run").mkdir()
    shutil.copy(SHIPPED / "rotation.cfg", directory)
    (directory / main).write_text(changes(_shipped(main)))
    _write_secret(directory / site_name, site)


def _tls_cfg(node: KamailioNode, *, canary: str | None, mutual: bool) -> str:
    text = _shipped("tls.cfg").replace("/etc/kamailio/tls/", f"{node.tls_directory}/")
    if node.control_host is None:
        text = _without_section(text, "[server:10.0.0.10:8443]")
    else:
        text = _replaced(text, "[server:10.0.0.10:8443]", f"[server:{node.address}:{node.ports['control']}]")
    if canary == "port":
        text = _replaced(text, "[server:any]", f"[server:{node.address}:{node.ports['canary']}]")
        text = _replaced(text, "server_name = canary.trunk.example.com\n", "")
    elif canary is None:
        text = _without_section(text, "[server:any]")
    if not mutual:
        text = _without_section(text, "[client:default]")
        text += "\n[client:default]\nmethod = TLSv1.2+\nverify_certificate = no\nrequire_certificate = no\n"
    return text


def _without_section(text: str, header: str) -> str:
    start = text.index(header)
    end = text.find("\n[", start)
    return text[:start] + ("" if end < 0 else text[end + 1 :])


def _shipped(name: str) -> str:
    return (SHIPPED / name).read_text()


def _replaced(text: str, old: str, new: str) -> str:
    assert old in text, f"the shipped file has no {old!r}"
    return text.replace(old, new)


def _defined(text: str, name: str, value: str) -> str:
    changed, count = re.subn(rf"(?m)^#!define {name} .*$", f"#!define {name} {value}", text)
    assert count == 1, f"site.cfg has {count} definitions of {name}"
    return changed


def _substituted(text: str, name: str, value: str) -> str:
    line = f'#!substdef "!{name}!{value}!g"'
    changed, count = re.subn(rf'(?m)^#!substdef "!{name}!.*$', lambda _: line, text)
    assert count == 1, f"site.cfg has {count} substitutions of {name}"
    return changed


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _group_lives(group: int) -> bool:
    """Whether a process of the group runs; one that has ended and was not waited for holds nothing any more."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, of_group, *_ = status.read_text().rpartition(")")[2].split()
            if int(of_group) == group and state not in "ZX":
                return True
    return False
