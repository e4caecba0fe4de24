"""A platform's certificate store as listed: platform ids on one side, leaf SHA-256 fingerprints on the other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from adapters.edges.base import PlatformCertificate
from domain.errors import RequestRefused, UnexpectedAnswer

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Stored:
    """One entry of the store. `sha256` is None when the platform shows neither a fingerprint nor a readable PEM."""

    id: str
    name: str
    sha256: str | None
    valid: bool
    reason: str | None

    def certificate(self) -> PlatformCertificate | None:
        """The entry as the role's record; None when its leaf is not known."""
        if self.sha256 is None:
            return None
        return PlatformCertificate(id=self.id, name=self.name, sha256=self.sha256, valid=self.valid, reason=self.reason)


class Store:
    """All entries of one listing. The same leaf may be stored under several names, and so under several ids."""

    def __init__(self, where: str, entries: Iterable[Stored]) -> None:
        self._where = where
        self._by_id = {entry.id: entry for entry in entries}

    def sha256(self, certificate_id: str) -> str | None:
        """The leaf behind an id; None when the store does not have it."""
        entry = self._by_id.get(certificate_id)
        return None if entry is None else entry.sha256

    def ids(self, sha256: str) -> list[str]:
        """The ids under which a leaf is stored."""
        return [entry.id for entry in self._by_id.values() if entry.sha256 == sha256]

    def find(self, sha256: str) -> PlatformCertificate | None:
        """The entry with that leaf, a valid one first."""
        found = [entry for entry in self._by_id.values() if entry.sha256 == sha256]
        found.sort(key=lambda entry: not entry.valid)
        return found[0].certificate() if found else None

    def certificates(self) -> tuple[PlatformCertificate, ...]:
        """All entries whose leaf is known."""
        return tuple(shown for entry in self._by_id.values() if (shown := entry.certificate()) is not None)

    def named(self, name: str) -> Stored | None:
        """The entry of that name."""
        return next((entry for entry in self._by_id.values() if entry.name == name), None)

    def pool(self, ids: Sequence[str]) -> tuple[str, ...]:
        """The leaves behind a pool's ids, in order, each once. Raises `UnexpectedAnswer` for an id without a leaf."""
        leaves: dict[str, None] = {}
        for certificate_id in ids:
            leaf = self.sha256(certificate_id)
            if leaf is None:
                raise UnexpectedAnswer(
                    "a pool names a certificate that the platform's store does not show",
                    where=self._where,
                    seen=certificate_id,
                    action="look at the certificate in the platform's store",
                )
            leaves[leaf] = None
        return tuple(leaves)

    def pool_ids(self, wanted: Sequence[str], bound: Sequence[str]) -> tuple[str, ...]:
        """The ids that make a pool of these leaves; an id that is bound now is kept before another of the same leaf.

        Raises `RequestRefused` for an empty pool and for a leaf that is not uploaded.
        """
        if not wanted:
            raise RequestRefused(
                "an empty pool is never written: the trunk would stand without a certificate", where=self._where
            )
        chosen = []
        for sha256 in dict.fromkeys(wanted):
            ids = self.ids(sha256)
            if not ids:
                raise RequestRefused(
                    "a certificate is not uploaded to the platform",
                    where=self._where,
                    seen=f"no certificate with leaf SHA-256 {sha256}",
                    action="upload it before it is bound",
                )
            chosen.append(next((certificate_id for certificate_id in bound if certificate_id in ids), ids[0]))
        return tuple(chosen)


def leaf_sha256(chain_pem: str) -> str | None:
    """Hex SHA-256 over the DER of the first certificate of a PEM chain; None when there is none to read."""
    try:
        chain = x509.load_pem_x509_certificates(chain_pem.encode())
    except ValueError:
        return None
    return chain[0].fingerprint(SHA256()).hex()


def shown_leaf(fingerprint: str | None, chain_pem: str | None) -> str | None:
    """The leaf's SHA-256 as the platform states it, or computed from the chain that it shows."""
    plain = (fingerprint or "").replace(":", "").strip().lower()
    if _FINGERPRINT.fullmatch(plain):
        return plain
    return leaf_sha256(chain_pem) if chain_pem else None
