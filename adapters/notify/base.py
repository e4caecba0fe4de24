"""The role `Notifier`: takes a notice to people, or an alert. Sending the same id twice delivers one where it can."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from domain.handshakes import Record


class Severity(StrEnum):
    """How much it matters."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Notice(Record):
    """What people are told: which rotation and trunks, what happened, and what to do next."""

    id: str
    severity: Severity
    kind: str
    rotation: str
    phase: str
    trunks: tuple[str, ...]
    summary: str
    details: Mapping[str, str] = {}
    action: str = ""
    sent_at: datetime


class Notifier(Protocol):
    """One notification profile. Methods raise `domain.errors.RotatorError`s only."""

    profile: str

    async def send(self, notice: Notice, link: str | None = None) -> None:
        """Delivers the notice, with the rotation's page in the Web UI; its id is the idempotency key."""
        ...

    async def close(self) -> None:
        """Closes the connections."""
        ...


def facts_of(notice: Notice) -> list[tuple[str, str]]:
    """What stands below the summary, by name, for those who read and do not parse."""
    about = [("Trunks", ", ".join(notice.trunks)), ("Rotation", notice.rotation), ("Phase", notice.phase)]
    return [*about, *notice.details.items()]
