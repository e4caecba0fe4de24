"""Notices and alerts to a chat room: an incoming webhook of Slack, or of what understands its messages.

Slack knows no idempotency: a notice whose answer got lost stands in the room twice.
"""

from __future__ import annotations

import httpx

from adapters.http import Http
from adapters.notify.base import Notice, Severity, facts_of
from settings import SlackProfile

COLOURS = {Severity.INFO: "#2e7d32", Severity.WARNING: "#f9a825", Severity.CRITICAL: "#c62828"}

SHORT = 40
"""Characters of a fact that stands beside another one in a line."""


class SlackNotifier:
    """One room. Implements `adapters.notify.base.Notifier`."""

    def __init__(
        self, profile_name: str, profile: SlackProfile, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.profile = profile_name
        self._settings = profile
        self._http = Http(f"[notify.{profile_name}]", profile, transport=transport)

    async def send(self, notice: Notice, link: str | None = None) -> None:
        """Posts the notice; any 2xx is a delivery. The path is a secret, which no failure shows."""
        path = self._settings.path.read(f"notify.{self.profile}.path").get_secret_value()
        url = f"{self._settings.base_url.rstrip('/')}/{path.lstrip('/')}"
        await self._http.send("POST", url, json=message_of(notice, link), secret_path=True)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.close()


def message_of(notice: Notice, link: str | None) -> dict[str, object]:
    """A line for everybody who shows no attachments, and one attachment with the rest."""
    attachment: dict[str, object] = {
        "color": COLOURS[notice.severity],
        "title": escaped(f"{notice.kind} – {notice.rotation}"),
        "text": escaped(f"What to do: {notice.action}") if notice.action else "",
        "fields": [
            {"title": escaped(name), "value": escaped(value), "short": len(value) <= SHORT}
            for name, value in facts_of(notice)
        ],
        "ts": int(notice.sent_at.timestamp()),
    }
    if link is not None:
        attachment["title_link"] = link
    return {"text": escaped(f"{notice.severity.value.upper()}: {notice.summary}"), "attachments": [attachment]}


def escaped(text: str) -> str:
    """Nothing in it is markup: no link, no @channel (Slack, "Formatting text for app surfaces")."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
