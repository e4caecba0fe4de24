"""The certificate authorities of a Genesys Cloud organisation, which its trunks trust; a change moves `version` on."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lab.wire_time import now


class NotAnAuthority(ValueError):
    """The PEM holds something else than certificates of CAs; the text may be shown."""


class VersionConflict(ValueError):
    """Somebody else has changed the entry since it was read."""


class Managed(ValueError):
    """The vendor's own entry, which clients only read."""


@dataclass(frozen=True)
class Authority:
    """One entry: one or more CA certificates under a name."""

    id: str
    name: str
    version: int
    certificates: tuple[x509.Certificate, ...]
    services: tuple[str, ...]
    managed: bool
    created: datetime
    modified: datetime

    @property
    def pem(self) -> str:
        """The certificates."""
        return "".join(one.public_bytes(Encoding.PEM).decode() for one in self.certificates)


class Authorities:
    """All entries, oldest first."""

    def __init__(self) -> None:
        self._entries: dict[str, Authority] = {}

    @property
    def all(self) -> tuple[Authority, ...]:
        """Every entry."""
        return tuple(self._entries.values())

    @property
    def pem(self) -> str:
        """Everything that is trusted, as one PEM text."""
        return "".join(one.pem for one in self._entries.values())

    def find(self, authority_id: str) -> Authority | None:
        """The entry of that id."""
        return self._entries.get(authority_id)

    def add(self, name: str, pem: str, *, services: tuple[str, ...] = ("SIP",), managed: bool = False) -> Authority:
        """A new entry. Raises `NotAnAuthority`."""
        at = now()
        entry = Authority(str(uuid.uuid4()), name, 1, _parsed(pem), services, managed, at, at)
        self._entries[entry.id] = entry
        return entry

    def change(self, entry: Authority, version: int, name: str, pem: str, services: tuple[str, ...]) -> Authority:
        """Replaces what the entry holds. Raises `VersionConflict`, `Managed` or `NotAnAuthority`."""
        if entry.managed:
            raise Managed(entry.name)
        if version != entry.version:
            raise VersionConflict(f"the certificate authority is at version {entry.version}")
        changed = replace(
            entry, name=name, version=version + 1, certificates=_parsed(pem), services=services, modified=now()
        )
        self._entries[entry.id] = changed
        return changed

    def remove(self, entry: Authority) -> None:
        """Trusts it no more. Raises `Managed`."""
        if entry.managed:
            raise Managed(entry.name)
        del self._entries[entry.id]


def _parsed(pem: str) -> tuple[x509.Certificate, ...]:
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise NotAnAuthority("the certificate cannot be parsed") from None
    for one in found:
        try:
            constraints = one.extensions.get_extension_for_class(x509.BasicConstraints).value
        except x509.ExtensionNotFound:
            raise NotAnAuthority("the certificate is no CA's") from None
        if not constraints.ca:
            raise NotAnAuthority("the certificate is no CA's")
    return tuple(found)
