"""Times as the wire contract writes them: UTC, RFC 3339, milliseconds (docs/platform-contract.md)."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_text(moment: datetime) -> str:
    """For example `2026-11-23T18:40:00.000Z`; microseconds are cut off, so that neighbouring windows still meet."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def same_moment(text: str, moment: datetime) -> bool:
    """True when an answer's time is the one that was sent as `utc_text(moment)`."""
    try:
        answered = datetime.fromisoformat(text)
    except ValueError:
        return False
    return answered.tzinfo is not None and utc_text(answered) == utc_text(moment)
