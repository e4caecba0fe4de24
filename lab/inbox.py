"""Notices and alerts that arrived by webhook, once per idempotency key."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lab.wire_time import now


@dataclass(frozen=True)
class Received:
    """One message: `body` as it was sent first."""

    id: str
    key: str
    at: datetime
    body: dict[str, Any]


class Inbox:
    """Keeps every message in order of arrival."""

    def __init__(self) -> None:
        self._by_key: dict[str, Received] = {}

    @property
    def messages(self) -> tuple[Received, ...]:
        """All messages, oldest first."""
        return tuple(self._by_key.values())

    def take(self, key: str, body: dict[str, Any]) -> tuple[Received, bool]:
        """Keep a message, or find the one that came under the same key; and whether it is new."""
        known = self._by_key.get(key)
        if known is not None:
            return known, False
        received = Received(str(uuid.uuid4()), key, now(), body)
        self._by_key[key] = received
        return received, True
