"""Certificates and keys in the directory of one Kamailio node, found by what is in the files and not by their names.

The chain is written before its key and outlives it: so every key on the disk has a chain beside it by which it is found
and removed, whenever a worker dies in between.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from pydantic import SecretStr

from adapters.edges.servable import key_spki_sha256
from adapters.files.base import Files
from domain.certificates import public_key_sha256
from domain.errors import NotAsWritten, RequestRefused

CHAIN_SUFFIX: Final = ".chain.pem"
KEY_SUFFIX: Final = ".key"

_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.S)
_CHAIN_SUFFIXES: Final = (CHAIN_SUFFIX, ".pem", ".crt", ".cer")


@dataclass(frozen=True)
class Kept:
    """One chain file, its leaf first."""

    file: str
    chain: tuple[x509.Certificate, ...]

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the leaf."""
        return self.chain[0].fingerprint(SHA256()).hex()

    @property
    def spki(self) -> str:
        """Hex SHA-256 of the leaf's public key."""
        return public_key_sha256(self.chain[0].public_key())

    @property
    def serials(self) -> frozenset[str]:
        """As Kamailio may write the leaf's serial (`$tls_my_serial`): in decimal, or in hex as other versions do."""
        number = self.chain[0].serial_number
        return frozenset({str(number), f"{number:x}", f"{number:X}", f"0{number:X}", f"0{number:x}"})

    @property
    def name(self) -> str:
        """The name of the upload."""
        suffix = next((suffix for suffix in _CHAIN_SUFFIXES if self.file.endswith(suffix)), "")
        return self.file.removesuffix(suffix)


def chain_in(content: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM file, whatever else is in it; none when one of them cannot be read."""
    try:
        return tuple(x509.load_pem_x509_certificate(block[0]) for block in _CERTIFICATE.finditer(content))
    except ValueError:
        return ()


class KamailioStore:
    """The directory of one node. Methods raise what `adapters.files.base.Files` raises."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def kept(self, named: Sequence[str] = ()) -> tuple[Kept, ...]:
        """Every chain of a leaf: files with a usual suffix, and those `named` by tls.cfg. CA bundles are none."""
        found = []
        for file in await self._files.names():
            if file.endswith(_CHAIN_SUFFIXES) or file in named:
                chain = chain_in(await self._files.read(file) or b"")
                if chain and not _is_ca(chain[0]):
                    found.append(Kept(file, chain))
        return tuple(found)

    async def key_file(self, kept: Kept, noted: str | None = None) -> str | None:
        """The file with the key of that leaf: the one `noted` in tls.cfg, the one of its name, or any that fits."""
        for file in dict.fromkeys(filter(None, (noted, kept.name + KEY_SUFFIX, kept.file))):
            if await self._holds_key(file, kept.spki):
                return file
        return next(iter(await self._keys_of(kept.spki)), None)

    async def write(self, name: str, chain_pem: str, private_key: SecretStr) -> Kept:
        """Both files, read back. What is there already is not written again.

        Raises `RequestRefused` when the name belongs to another leaf, `NotAsWritten` when the files are not as sent.
        """
        file, content = name + CHAIN_SUFFIX, chain_pem.encode()
        there = await self._files.read(file)
        wanted = Kept(file, chain_in(content))
        if there is not None and chain_in(there)[:1] != wanted.chain[:1]:
            other = Kept(file, chain_in(there)).sha256 if chain_in(there) else "none that can be read"
            raise RequestRefused(
                f"the name {name} is taken by another certificate",
                where=self._files.where,
                seen=f"{file}: leaf {other}, ours is {wanted.sha256}",
                action="delete that certificate from the edge if nothing uses it",
            )
        if there != content:
            await self._files.write(file, content)
        if await self.key_file(wanted) is None:
            await self._files.write(name + KEY_SUFFIX, private_key.get_secret_value().encode())
        if await self._files.read(file) != content or await self.key_file(wanted) is None:
            raise NotAsWritten(
                "the certificate or its key is not as it was written",
                where=self._files.where,
                seen=f"{file}, {name}{KEY_SUFFIX}",
                action="find out who else writes this directory",
            )
        return wanted

    async def remove(self, sha256: str, in_use: Sequence[str]) -> bool:
        """Removes every key of that leaf, then every chain of it; a key file that tls.cfg uses stays.

        Also removes what an interrupted write of these files left behind. False when there was nothing of it. A file
        with both goes as the chain that it is.
        """
        removed = False
        for kept in [kept for kept in await self.kept() if kept.sha256 == sha256]:
            keys = await self._keys_of(kept.spki)
            for file in dict.fromkeys((*keys, kept.name + KEY_SUFFIX)):
                ours = file in keys or await self._files.read(file) is None
                if ours and file not in in_use and file != kept.file:
                    await self._files.remove(file)
            await self._files.remove(kept.file)
            removed = True
        return removed

    async def _keys_of(self, spki: str) -> list[str]:
        return [file for file in await self._files.names() if await self._holds_key(file, spki)]

    async def _holds_key(self, file: str, spki: str) -> bool:
        content = await self._files.read(file)
        return content is not None and key_spki_sha256(content) == spki


def leaf_by_serial(kept: Sequence[Kept]) -> Mapping[str, str]:
    """Leaf SHA-256 by serial in every notation; a serial that two leaves share tells nothing and is left out."""
    leaves: dict[str, set[str]] = {}
    for one in kept:
        for serial in one.serials:
            leaves.setdefault(serial, set()).add(one.sha256)
    return {serial: next(iter(found)) for serial, found in leaves.items() if len(found) == 1}


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, ValueError):
        return False
