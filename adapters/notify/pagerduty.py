"""Alerts as incidents and notices as change events of a PagerDuty service (Events API v2)."""

from __future__ import annotations

import httpx

from adapters.http import Http
from adapters.notify.base import Notice, Severity
from adapters.wire_time import utc_text
from settings import PagerDutyProfile

LONGEST_SUMMARY = 1024
CLIENT = "SIP TLS certificate rotator"


class PagerDutyNotifier:
    """One service. Implements `adapters.notify.base.Notifier`."""

    def __init__(
        self, profile_name: str, profile: PagerDutyProfile, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.profile = profile_name
        self._settings = profile
        self._http = Http(f"[notify.{profile_name}]", profile, transport=transport)

    async def send(self, notice: Notice, link: str | None = None) -> None:
        """What somebody has to look at wakes people; what is good to know stands beside it."""
        key = self._settings.routing_key.read(f"notify.{self.profile}.routing_key").get_secret_value()
        alert = notice.severity is not Severity.INFO
        path = "/v2/enqueue" if alert else "/v2/change/enqueue"
        body = {"routing_key": key, **(alert_of(notice, link) if alert else change_of(notice, link))}
        await self._http.send("POST", self._settings.base_url.rstrip("/") + path, json=body)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.close()


def alert_of(notice: Notice, link: str | None) -> dict[str, object]:
    """An event that opens an incident; the same id again finds it open (`dedup_key`)."""
    return {
        "event_action": "trigger",
        "dedup_key": notice.id,
        "client": CLIENT,
        "payload": {
            **_told(notice),
            "severity": notice.severity.value,
            "component": ", ".join(notice.trunks),
            "group": notice.rotation,
            "class": notice.kind,
        },
        "links": _links(link),
    }


def change_of(notice: Notice, link: str | None) -> dict[str, object]:
    """An event that opens nothing."""
    return {"payload": _told(notice), "links": _links(link)}


def _told(notice: Notice) -> dict[str, object]:
    facts = {"kind": notice.kind, "phase": notice.phase, "trunks": ", ".join(notice.trunks), **notice.details}
    return {
        "summary": notice.summary[:LONGEST_SUMMARY],
        "source": notice.rotation,
        "timestamp": utc_text(notice.sent_at),
        "custom_details": {**facts, **({"what to do": notice.action} if notice.action else {})},
    }


def _links(link: str | None) -> list[dict[str, str]]:
    return [] if link is None else [{"href": link, "text": "the rotation in Temporal"}]
