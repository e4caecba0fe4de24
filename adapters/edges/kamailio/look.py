"""What one node's files and its running process say together, and what a change makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from adapters.edges.base import TrunkChange
from adapters.edges.kamailio.sections import Owned
from adapters.edges.kamailio.store import Kept
from adapters.edges.kamailio.tls import CERTIFICATE, Note, Section, TlsConfig, file_name
from adapters.edges.kamailio.wire import State

PENDING: Final = "pending"
"""Noted in Kamailio while tls.cfg may be newer than what it has loaded."""


@dataclass(frozen=True)
class Look:
    """One node at one moment. `served` and `canary_served` are leaves by SHA-256; None where nobody answers."""

    where: str
    state: State
    tls: TlsConfig
    owned: Owned
    kept: tuple[Kept, ...]
    served: str | None
    canary_served: str | None

    def leaf_in(self, section: Section | None) -> str | None:
        """The leaf that a section names; None for a file that is not in the directory."""
        file = None if section is None else file_name(section.value(CERTIFICATE))
        return next((kept.sha256 for kept in self.kept if kept.file == file), None)

    def uses(self, sha256: str) -> tuple[str, ...]:
        """The sections that name the leaf."""
        return tuple(section.name for section in self.tls.sections if self.leaf_in(section) == sha256)

    @property
    def note(self) -> Note:
        """The note in tls.cfg, unless somebody has put another certificate there since: then it tells nothing."""
        note, written = self.tls.note, self.leaf_in(self.owned.server)
        return note if written in note.pool else Note(note.version)

    @property
    def pool(self) -> tuple[str, ...]:
        """What runs first, then what is written and noted."""
        leaves = (self.served, self.leaf_in(self.owned.server), *self.note.pool)
        return tuple(dict.fromkeys(leaf for leaf in leaves if leaf is not None))

    @property
    def canary(self) -> str | None:
        """What the canary path serves, if it was set or differs from what everybody is served."""
        unset = self.note.canary is None and self.canary_served == self.served
        return None if unset else self.canary_served

    @property
    def in_force(self) -> bool:
        """Whether Kamailio has loaded tls.cfg as it is: it was noted so, and the listeners serve what is written."""
        written = (self.leaf_in(self.owned.server), self.leaf_in(self.owned.canary))
        return self.state.loaded in ("", self.tls.digest) and written == (self.served, self.canary_served)

    def wanted(self, change: TrunkChange) -> Note:
        """The note after the change: the pool and the canary as they are to be, at the next version."""
        pool = self.pool if change.pool is None else tuple(dict.fromkeys(change.pool))
        canary = self.canary if change.canary is None else change.canary or None
        return Note(self.tls.note.version + 1, pool, None if self.owned.canary is None else canary)

    def to_switch(self, wanted: Note) -> tuple[tuple[Section, str], ...]:
        """The sections that name another leaf than they are to, with the leaf that they are to name."""
        preferred = wanted.pool[0]
        leaves = (
            (self.owned.server, preferred),
            (self.owned.canary, wanted.canary or preferred),
            (self.owned.client, preferred),
        )
        return tuple(
            (section, leaf) for section, leaf in leaves if section is not None and self.leaf_in(section) != leaf
        )
