"""Everything that the demo starts: Temporal with its Web UI, the lab, the codec server and a worker; and their end."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from desk.lab_client import LabFile
from desk.processes import Child, ChildFailed, Children
from lab.temporal_server import TemporalServer, pick_port

ROOT = Path(__file__).resolve().parent.parent

CALLS_PER_S = 8
"""On each trunk: enough for the gates' samples within seconds, and little work for a laptop."""

LAB_WITHIN_S = 60.0
CODEC_WITHIN_S = 30.0
WORKER_WITHIN_S = 60.0


@dataclass(frozen=True)
class StageOptions:
    """What to start. `directory` exists and is ours."""

    directory: Path
    fault: str | None = None
    approvals: bool = False


class Stage:
    """Start it with `open()`; `close()` ends everything, also what has only half begun."""

    def __init__(self, options: StageOptions) -> None:
        self._options = options
        self._children = Children(options.directory)
        self._ui_port, self._codec_port = pick_port(), pick_port()
        self._temporal = TemporalServer(
            options.directory, ui_port=self._ui_port, codec_endpoint=f"http://127.0.0.1:{self._codec_port}"
        )
        self._starting: asyncio.Task[None] | None = None

    @property
    def web_ui(self) -> str:
        """Base URL of the Web UI."""
        return f"http://127.0.0.1:{self._ui_port}"

    @property
    def temporal(self) -> str:
        """host:port of Temporal's frontend, for other programs."""
        return self._temporal.address

    async def open(self, told: Callable[[str], None]) -> LabFile:
        """Starts everything, in parallel where it can; each is ready when this returns. Raises `ChildFailed`."""
        began = time.monotonic()

        def ready(what: str) -> None:
            told(f"{what} ({time.monotonic() - began:.1f} s)")

        self._temporal.log.unlink(missing_ok=True)
        (self._options.directory / "temporal.toml").touch(mode=0o600)
        self._starting = asyncio.create_task(asyncio.to_thread(self._temporal.start))
        lab = await self._lab()
        ready(f"lab: OpenBao, two platforms, a carrier that calls, DNS – {lab.control}/lab/state")
        await asyncio.shield(self._starting)
        self._take_environment()
        codec, worker = self._codec(lab), self._worker(lab)
        await codec.ready(lambda: _first_json(codec), CODEC_WITHIN_S)
        ready(f"Temporal, Web UI {self.web_ui}")
        await worker.ready(lambda: "worker ready" in worker.output() or None, WORKER_WITHIN_S)
        ready("worker")
        return lab

    def check(self) -> None:
        """Raises `ChildFailed` when something has ended on its own."""
        self._children.check()
        if not self._temporal.running:
            raise ChildFailed(f"Temporal ended on its own; its log is {self._temporal.log}")

    def tails(self) -> str:
        """The end of every log."""
        temporal = self._temporal.log
        tail = temporal.read_text(encoding="utf-8", errors="replace").splitlines()[-15:] if temporal.exists() else []
        return f"{self._children.tails()}\n\n--- {temporal} ---\n" + "\n".join(tail)

    async def close(self) -> list[str]:
        """Ends everything; returns what had to be killed."""
        killed = await asyncio.to_thread(self._children.stop)
        if self._starting is not None:
            await asyncio.wait([self._starting])  # it runs in a thread, which nobody can stop half-way
            if not self._starting.cancelled():
                self._starting.exception()
        await asyncio.to_thread(self._temporal.stop)
        return killed

    async def _lab(self) -> LabFile:
        directory, lab_file = self._options.directory, self._options.directory / "lab.json"
        command = [sys.executable, "-m", "lab", "run", "--directory", str(directory), "--web-ui", self.web_ui]
        command += ["--call-rate", str(CALLS_PER_S)]
        command += ["--fault", self._options.fault] if self._options.fault else []
        command += ["--approvals"] if self._options.approvals else []
        child = self._children.start("lab", command, env=self._environment(), cwd=ROOT)

        def written() -> LabFile | None:
            text = lab_file.read_text(encoding="utf-8") if lab_file.exists() else None
            return LabFile.model_validate_json(text) if text and json.loads(text).get("pid") == child.pid else None

        return await child.ready(written, LAB_WITHIN_S)

    def _codec(self, lab: LabFile) -> Child:
        command = [sys.executable, "-m", "codec.server", "--port", str(self._codec_port)]
        command += ["--settings", str(lab.settings), "--origin", self.web_ui, "--encode"]
        command += ["--origin", f"http://localhost:{self._ui_port}"]
        return self._children.start("codec", command, env=self._environment(), cwd=ROOT)

    def _worker(self, lab: LabFile) -> Child:
        command = [sys.executable, "-m", "worker", "--settings", str(lab.settings)]
        return self._children.start("worker", command, env=self._environment(), cwd=ROOT)

    def _environment(self) -> dict[str, str]:
        """Ours, without any Temporal profile or setting of another installation; loopback never through a proxy."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TEMPORAL_", "SIP_ROTATE"))}
        direct = ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1", "localhost"]))
        return {
            **kept,
            "NO_PROXY": direct,
            "no_proxy": direct,
            "PYTHONUNBUFFERED": "1",
            "TEMPORAL_ADDRESS": self._temporal.address,
            "TEMPORAL_NAMESPACE": "default",
            "TEMPORAL_CONFIG_FILE": str(self._options.directory / "temporal.toml"),
        }

    def _take_environment(self) -> None:
        """The demo's own client finds Temporal as everyone does: by the environment."""
        wanted = self._environment()
        for name in set(os.environ) - set(wanted):
            del os.environ[name]
        os.environ.update(wanted)


def _first_json(child: Child) -> dict[str, object] | None:
    for line in child.output().splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return None
