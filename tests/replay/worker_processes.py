"""Workers as processes of their own, from any source tree: as they run in production, and as they die there."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from desk.processes import Child

READY_WITHIN_S = 60.0


@dataclass
class Workers:
    """Starts worker processes, of the sources in a directory; `stop` ends what a test left running."""

    temporal: str
    settings: Path
    logs: Path

    def __post_init__(self) -> None:
        self._started: list[Child] = []

    async def start(self, sources: Path, *, build_id: str | None = None) -> Child:
        """A worker that the server has heard of."""
        name = f"worker-{len(self._started) + 1}"
        direct = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TEMPORAL_", "SIP_ROTATE", "PYTHON"))}
        child = Child(
            name,
            [
                sys.executable,
                "-m",
                "worker",
                "--settings",
                str(self.settings),
                *(["--build-id", build_id] if build_id else []),
            ],
            self.logs / f"{name}.log",
            env={**kept, **direct, "TEMPORAL_ADDRESS": self.temporal, "PYTHONUNBUFFERED": "1"},
            cwd=sources,
        )
        self._started.append(child)
        await child.ready(lambda: "worker ready" in child.output() or None, READY_WITHIN_S)
        return child

    def stop(self) -> None:
        """Ends all, also those that were killed and have to be reaped. Blocks."""
        for child in self._started:
            child.stop()
