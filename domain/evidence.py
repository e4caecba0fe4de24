"""The evidence: entries chained by SHA-256, so that an edit is found offline (DESIGN.md, promise 8).

Every entry's hash covers the entry before it. The chain finds edits, insertions, removals and exchanges; that its end
was not cut off shows only against the last hash (`head`), which is therefore published where the file is not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pydantic import AwareDatetime, JsonValue
from pydantic_core import to_jsonable_python

from domain.handshakes import Record
from domain.phases import Phase

GENESIS = "0" * 64
"""What the first entry has for `previous`."""

LONGEST_TEXT = 500
"""Characters of one text value; longer ones are cut and marked. Certificates are named by SHA-256, not kept."""

_REFUSED = "a private key was about to enter the evidence; the entry is refused"
_PRIVATE_KEY = re.compile(r"-----\s*BEGIN[A-Z0-9 ]*PRIVATE KEY", re.IGNORECASE)


class EvidenceEntry(Record):
    """One entry. `sha256` is the hex hash of the canonical JSON of all other fields; `at` is UTC."""

    sequence: int
    at: AwareDatetime
    kind: str
    phase: Phase | None
    data: Mapping[str, JsonValue]
    previous: str
    sha256: str


def append(
    chain: Sequence[EvidenceEntry], *, at: datetime, kind: str, phase: Phase | None, data: Mapping[str, object]
) -> tuple[EvidenceEntry, ...]:
    """The chain with one more entry. `data` may hold records, times and enumerations: they are written as JSON.

    Raises `ValueError` on a private key, on numbers that JSON does not have (NaN, infinities), on anything that is not
    JSON, and on a time without zone. No message repeats the data.
    """
    if _PRIVATE_KEY.search(kind):
        raise ValueError(_REFUSED)
    if at.tzinfo is None:
        raise ValueError("evidence needs times with a time zone")
    try:
        plain = to_jsonable_python(dict(data))
        canonical(plain)
    except (TypeError, ValueError) as error:
        raise ValueError(f"evidence {kind!r} cannot be written as JSON ({type(error).__name__})") from None
    if _holds_private_key(plain):
        raise ValueError(_REFUSED)
    fields: dict[str, JsonValue] = {key: _cut(value) for key, value in plain.items()}
    sequence, previous = len(chain), head(chain)
    moment = at.astimezone(UTC)
    digest = _digest(sequence, moment, kind, phase, fields, previous)
    entry = EvidenceEntry(
        sequence=sequence, at=moment, kind=kind, phase=phase, data=fields, previous=previous, sha256=digest
    )
    return (*chain, entry)


def head(chain: Sequence[EvidenceEntry]) -> str:
    """The hash that stands for the whole chain: its last entry's, `GENESIS` when it is empty."""
    return chain[-1].sha256 if chain else GENESIS


def verify(chain: Sequence[EvidenceEntry]) -> int | None:
    """The index of the first entry that was edited, moved, inserted or follows a removed one; None when all hold."""
    previous = GENESIS
    for index, entry in enumerate(chain):
        if entry.sequence != index or entry.previous != previous or entry.sha256 != entry_digest(entry):
            return index
        previous = entry.sha256
    return None


def entry_digest(entry: EvidenceEntry) -> str:
    """The hash that the entry's content should have."""
    return _digest(entry.sequence, entry.at, entry.kind, entry.phase, dict(entry.data), entry.previous)


def canonical(value: JsonValue) -> str:
    """The one JSON text of a value: keys sorted, no spaces, ASCII, 1.0 written as 1 as in RFC 8785.

    Raises `ValueError` on NaN and infinities.
    """
    return json.dumps(_whole(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _digest(
    sequence: int, at: datetime, kind: str, phase: Phase | None, data: dict[str, JsonValue], previous: str
) -> str:
    content: dict[str, JsonValue] = {
        "sequence": sequence,
        "at": at.astimezone(UTC).isoformat(timespec="microseconds"),
        "kind": kind,
        "phase": str(phase) if phase is not None else None,
        "data": data,
        "previous": previous,
    }
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def _whole(value: JsonValue) -> JsonValue:
    """Whole floats as integers: tools that re-write a JSON file turn 1.0 into 1, and that is no edit."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value


def _cut(value: JsonValue) -> JsonValue:
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        mark = f"… [cut from {len(value)} characters]"
        return value[: LONGEST_TEXT - len(mark)] + mark
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cut(item) for item in value]
    return value


def _holds_private_key(value: JsonValue) -> bool:
    if isinstance(value, str):
        return _PRIVATE_KEY.search(value) is not None
    if isinstance(value, dict):
        return any(_holds_private_key(key) or _holds_private_key(item) for key, item in value.items())
    return isinstance(value, list) and any(_holds_private_key(item) for item in value)
