"""A real Prometheus on loopback, and a small exporter for it to scrape."""

from __future__ import annotations

import http.server
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from lab.ports import LOOPBACK, free_port

PROGRAM = "/usr/bin/prometheus"
PATIENCE_S = 30.0


@contextmanager
def prometheus(directory: Path, targets: Mapping[str, str], scrape_interval: str = "200ms") -> Iterator[str]:
    """A server that scrapes each job's `host:port`; its base URL. Raises `RuntimeError` when it does not come up."""
    config = directory / "prometheus.yml"
    config.write_text(_configuration(targets, scrape_interval))
    address = f"{LOOPBACK}:{free_port()}"
    log = directory / "prometheus.log"
    command = [
        PROGRAM,
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        _wait_until_ready(process, f"http://{address}/-/ready", log)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _configuration(targets: Mapping[str, str], scrape_interval: str) -> str:
    jobs = "".join(
        f"  - job_name: {job}\n    static_configs: [{{targets: ['{target}']}}]\n" for job, target in targets.items()
    )
    interval = f"scrape_interval: {scrape_interval}, scrape_timeout: {scrape_interval}"
    return f"global: {{{interval}}}\nscrape_configs:\n{jobs}"


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(url, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.02)
    raise RuntimeError(f"Prometheus did not start: {log.read_text()[-2000:]}")


class Exporter:
    """Serves `text` at /metrics while it is up, always on the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.text = ""
        self.scrapes = 0
        self._server: http.server.ThreadingHTTPServer | None = None

    @property
    def target(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def start(self) -> None:
        exporter = self

        class Metrics(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = exporter.text.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                exporter.scrapes += 1

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer((LOOPBACK, self.port), Metrics)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
