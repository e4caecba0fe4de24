"""A real Prometheus that scrapes the edges every half second."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from lab.ports import LOOPBACK, free_port
from tests.sip.programs import Program, until


@dataclass(frozen=True, slots=True)
class Target:
    """One exporter: `host:port`, its path `/metrics`, and the bearer token that it demands, if any."""

    address: str
    token: str | None = None


class Prometheus:
    """Keeps what it scrapes in a folder of its own. `url` has no trailing slash."""

    def __init__(self, directory: Path, targets: Sequence[Target]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._targets = tuple(targets)
        self._address = f"{LOOPBACK}:{free_port()}"
        self.url = f"http://{self._address}"
        configuration = directory / "prometheus.yml"
        configuration.touch(0o600)
        configuration.write_text(json.dumps(self._configuration()))  # JSON is YAML
        command = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={directory / 'data'}"]
        self._program = Program("prometheus", [*command, f"--web.listen-address={self._address}"], directory)

    async def start(self) -> None:
        """Returns when every target has been scraped."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=5) as http:
            await self._program.start(lambda: self._all_up(http))

    async def stop(self) -> None:
        """Ends it in order."""
        await self._program.stop()

    async def sum(self, selector: str) -> float:
        """The sum over the newest samples of a selector; 0 when there are none."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=5) as http:
            found = await self._query(http, f"sum({selector})")
        return float(found[0]["value"][1]) if found else 0.0

    async def reaches(self, selector: str, value: float) -> None:
        """Waits until the sum has grown to a value."""

        async def grown() -> bool:
            return await self.sum(selector) >= value

        await until(grown, f"sum({selector}) to reach {value}")

    async def _all_up(self, http: httpx.AsyncClient) -> bool:
        try:
            up = await self._query(http, "up == 1")
        except (httpx.HTTPError, KeyError):
            return False
        return {one["metric"]["instance"] for one in up} >= {target.address for target in self._targets}

    async def _query(self, http: httpx.AsyncClient, query: str) -> list[dict[str, Any]]:
        answer = await http.get("/api/v1/query", params={"query": query})
        answer.raise_for_status()
        result: list[dict[str, Any]] = answer.json()["data"]["result"]
        return result

    def _configuration(self) -> dict[str, Any]:
        jobs = []
        for number, target in enumerate(self._targets, 1):
            job: dict[str, Any] = {"job_name": f"edge-{number}", "static_configs": [{"targets": [target.address]}]}
            if target.token is not None:
                job["authorization"] = {"credentials": target.token}
            jobs.append(job)
        return {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
            "scrape_configs": jobs,
        }
