"""The person in the demo: approves gates that wait, and turns back what nobody can decide. It says what it does."""

from __future__ import annotations

import time
from collections.abc import Callable

from desk.failures import Refused
from desk.report import Report
from desk.rotations import Rotations

BY = "demo operator"
THINKS_S = 3.0
"""How long a waiting gate is shown before it is approved."""

PATIENCE_S = 10.0
"""How long the demo lets a rotation stand undecided under a fault that does not pass by itself."""

PASSING_S = 40.0
"""The same under a fault that passes."""

PASSING = frozenset({"api-429", "api-500"})


class Operator:
    """Looks at every report and answers when it is time."""

    def __init__(self, rotations: Rotations, told: Callable[[str], None], *, fault: str | None) -> None:
        self._rotations, self._told, self._fault = rotations, told, fault
        self._since: dict[str, float] = {}
        self._turned_back = False

    async def look(self, report: Report) -> None:
        """Approves a gate that was waited for, or asks for a rollback."""
        status = report.status
        if status is None or report.final:
            return
        gate = status.waiting.gate if status.waiting else None
        if gate in ("prefer", "remove"):
            if self._lasts(f"gate {gate}", THINKS_S):
                await self._approve(report, gate)
            return
        undecided = _undecided(report)
        if undecided is None or self._fault is None:
            self._since.pop("undecided", None)
        elif not self._turned_back and self._lasts("undecided", PASSING_S if self._fault in PASSING else PATIENCE_S):
            self._turned_back = True
            await self._roll_back(report, undecided)

    def _lasts(self, what: str, seconds: float) -> bool:
        return time.monotonic() - self._since.setdefault(what, time.monotonic()) >= seconds

    async def _approve(self, report: Report, gate: str) -> None:
        self._told(f"the demo acts as the operator: approves gate {gate}")
        try:
            await self._rotations.approve(report.row.id, gate, BY, "the figures were looked at")
        except Refused as refused:
            self._told(f"refused: {refused.what}")

    async def _roll_back(self, report: Report, why: str) -> None:
        self._told(f"nothing decides by itself ({why}): the demo acts as the operator and rolls back")
        try:
            await self._rotations.roll_back(
                report.row.id, BY, f"undecided for {PATIENCE_S:.0f} s and more: {why}"[:400]
            )
        except Refused as refused:
            self._told(f"refused: {refused.what}")


def _undecided(report: Report) -> str | None:
    """Why the rotation stands still and waits for a person; None while it does not."""
    status = report.status
    if status is None or status.rollback is not None:
        return None
    if status.frozen:
        return status.frozen
    waits = status.waiting is not None and status.waiting.what.startswith("the gate")
    return status.waiting.what if waits and status.waiting else None
