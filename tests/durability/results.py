"""What the durability tests found, kept from run to run: the rows of docs/durability.md.

A full matrix may be run in parts, on another day each; a row is replaced when its test is run again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS_FILE = Path(".pytest_cache", "durability.json")
"""Below the repository's root."""


@dataclass(frozen=True)
class Row:
    """One test or one case of the matrix. `found` says what the world was like, or how the test failed."""

    name: str
    group: str
    what: str
    moment: str
    found: str
    seconds: float


class Results:
    """A JSON file of rows, by name."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def add(self, row: Row) -> None:
        """Writes one row, in place of an earlier one of that name."""
        with self._alone():
            self._write({**self._read(), row.name: row}.values())

    def keep_only(self, group: str, names: Iterable[str]) -> None:
        """Forgets rows of a group that is ordered so, and has no others any more."""
        with self._alone():
            rows, ordered = self._read(), list(names)
            others = [row for row in rows.values() if row.group != group]
            self._write([*others, *(rows[name] for name in ordered if name in rows)])

    def rows(self) -> list[Row]:
        """All of them."""
        return list(self._read().values())

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Two processes run tests at a time."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self) -> dict[str, Row]:
        if not self._file.exists():
            return {}
        return {one["name"]: Row(**one) for one in json.loads(self._file.read_text(encoding="utf-8"))}

    def _write(self, rows: Iterable[Row]) -> None:
        text = json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False)
        self._file.write_text(text, encoding="utf-8")
