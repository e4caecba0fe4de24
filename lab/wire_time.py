"""Times as the contract writes them: UTC, RFC 3339, milliseconds, for example `2026-11-23T18:40:00.000Z`."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_PATTERN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def time_text(moment: datetime) -> str:
    """An aware datetime as the contract writes it; microseconds are cut off."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"


def parse_time(text: str) -> datetime:
    """The time that `text` names. Raises `ValueError` unless it is written exactly as the contract does."""
    if not _PATTERN.fullmatch(text):
        raise ValueError(f"{text!r} is not a UTC time with milliseconds such as 2026-11-23T18:40:00.000Z")
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def now() -> datetime:
    """The lab's clock, UTC."""
    return datetime.now(UTC)
