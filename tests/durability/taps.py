"""The lab's taps as a test uses them: name a request, hold it, and say what becomes of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.e2e.stage import LabProcess

_POLL_S = 5.0


@dataclass(frozen=True)
class Passage:
    """One request that a service answered; `number` counts the requests of its service and operation."""

    service: str
    operation: str
    number: int
    side_effect: bool
    at: datetime

    def __str__(self) -> str:
        again = f" (no. {self.number})" if self.number > 1 else ""
        return f"{self.service}: {self.operation}{again}"


class Rule:
    """One rule, armed from the moment it was made."""

    def __init__(self, lab: LabProcess, rule: dict[str, Any]) -> None:
        self._lab = lab
        self._where = f"/lab/taps/rules/{rule['id']}"
        self.name = f"{rule['service']}: {rule['operation']}, {rule['action']}"

    async def reached(self, patience_s: float = 90.0) -> None:
        """Returns when its request is here; for an answer that is lost, when that has happened."""
        async with asyncio.timeout(patience_s):
            while not await self.is_reached(_POLL_S):
                pass

    async def is_reached(self, within_s: float = 0.0) -> bool:
        """Whether its request is here, or was."""
        rule = await asyncio.to_thread(self._lab.get, f"{self._where}?left=armed&wait_s={within_s}")
        return bool(rule["state"] != "armed")

    async def deliver(self) -> bool:
        """Releases what is held, however long ago its client gave up; whether the service took it."""
        return bool((await asyncio.to_thread(self._lab.post, self._where, {"decision": "release"}))["delivered"])

    async def drop(self) -> None:
        """The request, or its answer, is never seen again."""
        await asyncio.to_thread(self._lab.post, self._where, {"decision": "drop"})


class Taps:
    """The taps of one lab that runs with `--tap`."""

    def __init__(self, lab: LabProcess) -> None:
        self._lab = lab

    def forget(self) -> None:
        """Counts from 1 again; drops what is held."""
        self._lab.post("/lab/taps/forget")

    def rule(self, action: str, service: str, operation: str, occurrence: int = 1) -> Rule:
        """`hold-before`, `hold-after`, `never-answer` or `lose-answer` for the occurrence-th request from now on."""
        wanted = {"service": service, "operation": operation, "occurrence": occurrence, "action": action}
        return Rule(self._lab, self._lab.post("/lab/taps/rules", wanted))

    def journal(self) -> list[Passage]:
        """The side effects since the last `forget`."""
        return [one for one in self.passages() if one.side_effect]

    def passages(self) -> list[Passage]:
        """Everything that was answered since the last `forget`, reads too."""
        found = self._lab.get("/lab/taps/passages")["passages"]
        return [
            Passage(
                one["service"],
                one["operation"],
                one["number"],
                one["side_effect"],
                datetime.fromisoformat(one["at"]),
            )
            for one in found
        ]
