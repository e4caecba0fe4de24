"""Times and durations as people read them; all times are UTC."""

from __future__ import annotations

from datetime import datetime, timedelta


def clock(moment: datetime, *, day: bool = True) -> str:
    """`2026-11-23 18:40:00`, or the time of day alone."""
    return f"{moment:%Y-%m-%d %H:%M:%S}" if day else f"{moment:%H:%M:%S}"


def span(duration: timedelta) -> str:
    """`1.2 s`, `45 s`, `12 min 5 s`, `3 h 2 min`, `2 d 23 h`."""
    seconds = max(0.0, duration.total_seconds())
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    parts = []
    for unit, size in units:
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])
