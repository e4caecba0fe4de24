"""Custody in Vault or OpenBao: the key is made here, encrypted by transit, and kept in a KV v2 engine.

Two entries per run, `{prefix}/{run}/key` and `{prefix}/{run}/cert`, each written with check-and-set 0: of concurrent
writers one wins and the others read what it wrote. No associated data is given to transit, because ciphertexts with it
cannot be rewrapped when the transit key rotates (FACTS.md, PKI).
"""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
from collections.abc import Sequence
from typing import Final, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError

from adapters.access_check import access_problems
from adapters.keys import key_material
from adapters.vault_session import VaultSession
from domain.errors import NotAsWritten, RequestRefused, UnexpectedAnswer
from domain.plan import KeyType
from settings import VaultKvProfile

_RUN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


class KeyEntry(BaseModel):
    """What lies under `{prefix}/{run}/key`: the encrypted key and the fingerprint of its public half."""

    ciphertext: str
    spki_sha256: str


class ChainEntry(BaseModel):
    """What lies under `{prefix}/{run}/cert`: leaf + intermediates as PEM."""

    chain: str


class _ProbeEntry(BaseModel):
    probe: str


E = TypeVar("E", KeyEntry, ChainEntry, _ProbeEntry)


class _Stored(BaseModel):
    """`data` of a KV v2 read."""

    data: dict[str, str]


class _Written(BaseModel):
    """`data` of a KV v2 write; a KV v1 engine, which knows no check-and-set, answers nothing."""

    version: int


class _Metadata(BaseModel):
    current_version: int


class _Listed(BaseModel):
    keys: tuple[str, ...]


class _Encrypted(BaseModel):
    ciphertext: str


class _Decrypted(BaseModel):
    plaintext: SecretStr


class VaultKvCustodian:
    """One `[keys.…]` profile of kind `vault-kv`. All methods raise `domain.errors.RotatorError`s only."""

    exportable = True

    def __init__(self, profile: str, settings: VaultKvProfile, session: VaultSession | None = None) -> None:
        self.profile = profile
        self._settings = settings
        self._session = session or VaultSession(f"[keys.{profile}]", settings)

    async def check_access(self) -> tuple[str, ...]:
        """Logs in, then encrypts, decrypts, writes twice, reads and deletes a random text that is no key.

        Returns what is missing in words. Raises what passes by itself: `Unreachable`, `ServerFailed`, `Throttled`.
        """
        return await access_problems(self._session.log_in, self._try_transit, self._try_kv)

    async def csr(
        self, run: str, *, key_type: KeyType, common_name: str, dns_names: Sequence[str], ip_addresses: Sequence[str]
    ) -> str:
        """A CSR (PEM) over the run's key, made when there is none; concurrent makers all get the winner's.

        Raises `RequestRefused` when the run already has a key of another type, or a name cannot stand in a certificate.
        """
        entry = await self._read(self._path(run, "key"), KeyEntry)
        if entry is None:
            made = await asyncio.to_thread(key_material.new_key, key_type)
            fresh = KeyEntry(ciphertext=await self._encrypt(made), spki_sha256=key_material.spki_of(made))
            entry = await self._write_first(self._path(run, "key"), fresh)
        key = await self._decrypt(entry)
        kept = key_material.type_of(key)
        if kept is not key_type:
            raise RequestRefused(
                "the run has a key of another type",
                where=self._session.where(self._path(run, "key")),
                seen=f"{kept}, asked for {key_type}",
                action="start a new run, or destroy this run's key",
            )
        return key_material.signing_request(
            key, common_name=common_name, dns_names=dns_names, ip_addresses=ip_addresses
        )

    async def runs(self) -> tuple[str, ...]:
        """All runs below the prefix, whatever entries they have; runs whose identity is a path are not among them."""
        path = f"{self._settings.kv_mount}/metadata/{self._settings.prefix}"
        listed = await self._session.list(path, _Listed)
        return tuple(sorted(name.removesuffix("/") for name in listed.keys if name.endswith("/"))) if listed else ()

    async def keep_chain(self, run: str, chain_pem: str) -> str:
        """Records the chain and returns the one that is kept: the first writer's."""
        return (await self._write_first(self._path(run, "cert"), ChainEntry(chain=chain_pem))).chain

    async def chain(self, run: str) -> str | None:
        """The chain kept for the run, if any."""
        entry = await self._read(self._path(run, "cert"), ChainEntry)
        return entry.chain if entry else None

    async def public_key_sha256(self, run: str) -> str | None:
        """SPKI SHA-256 of the run's key as it was kept beside it; None when there is no key. Nothing is decrypted."""
        entry = await self._read(self._path(run, "key"), KeyEntry)
        return entry.spki_sha256 if entry else None

    async def private_key(self, run: str) -> SecretStr:
        """The key as unencrypted PKCS#8 PEM. Raises `RequestRefused` when there is none."""
        entry = await self._read(self._path(run, "key"), KeyEntry)
        if entry is None:
            raise RequestRefused(
                "custody holds no key for this run",
                where=self._session.where(self._path(run, "key")),
                action="it was destroyed or never made; a new run makes its own",
            )
        return await self._decrypt(entry)

    async def destroy(self, run: str) -> bool:
        """Deletes all versions and metadata of key and chain, the key first, and looks again.

        False when there was nothing. Raises `NotAsWritten` when an entry is still there afterwards.
        """
        paths = [self._path(run, name, "metadata") for name in ("key", "cert")]
        there = [path for path in paths if await self._session.read(path, _Metadata)]
        for path in there:
            await self._session.delete(path)
        for path in there:
            if await self._session.read(path, _Metadata):
                raise NotAsWritten("the entry is still there after it was deleted", where=self._session.where(path))
        return bool(there)

    async def close(self) -> None:
        """Closes idle connections."""
        self._session.close()

    def _path(self, run: str, name: str, kind: str = "data") -> str:
        if not _RUN.fullmatch(run):
            raise RequestRefused("a run's identity cannot be a path", where=f"[keys.{self.profile}]", seen=repr(run))
        return f"{self._settings.kv_mount}/{kind}/{self._settings.prefix}/{run}/{name}"

    async def _read(self, path: str, entry: type[E]) -> E | None:
        stored = await self._session.read(path, _Stored)
        if stored is None:
            return None
        try:
            return entry.model_validate(stored.data)
        except ValidationError:
            pass
        raise UnexpectedAnswer(
            "somebody else's entry lies here",
            where=self._session.where(path),
            seen=f"fields {', '.join(sorted(stored.data)) or 'none'}",
            action="give custody a prefix of its own",
        )

    async def _write_first(self, path: str, entry: E) -> E:
        """Writes when nothing is there, and returns what is there then."""
        body = {"options": {"cas": 0}, "data": entry.model_dump()}
        try:
            await self._session.write(path, body, _Written, capability="create")
        except RequestRefused as refused:
            if "check-and-set" not in refused.seen:
                raise
        else:
            return entry
        winner = await self._read(path, type(entry))
        if winner is None:
            raise RequestRefused(
                "the entry was deleted but not destroyed: nothing can be written in its place",
                where=self._session.where(path),
                action="undelete it, or delete its metadata",
            )
        return winner

    async def _encrypt(self, secret: SecretStr) -> str:
        path = f"{self._settings.transit_mount}/encrypt/{self._settings.transit_key}"
        plaintext = base64.b64encode(secret.get_secret_value().encode()).decode()
        return (await self._session.write(path, {"plaintext": plaintext}, _Encrypted)).ciphertext

    async def _decrypt(self, entry: KeyEntry) -> SecretStr:
        """The key, compared with the fingerprint that was kept beside it."""
        key = await self._decrypted(entry.ciphertext)
        if key_material.spki_of(key) != entry.spki_sha256:
            raise UnexpectedAnswer(
                "custody gave another key than the one that was kept", where=f"[keys.{self.profile}]"
            )
        return key

    async def _decrypted(self, ciphertext: str) -> SecretStr:
        path = f"{self._settings.transit_mount}/decrypt/{self._settings.transit_key}"
        answer = await self._session.write(path, {"ciphertext": ciphertext}, _Decrypted)
        try:
            return SecretStr(base64.b64decode(answer.plaintext.get_secret_value()).decode())
        except ValueError:
            pass  # the exception would hold the plaintext
        raise UnexpectedAnswer("transit gave back what custody never encrypted", where=self._session.where(path))

    async def _try_transit(self) -> None:
        text = SecretStr(secrets.token_hex(16))
        if await self._decrypted(await self._encrypt(text)) != text:
            raise UnexpectedAnswer("transit does not give back what it encrypted", where=f"[keys.{self.profile}]")

    async def _try_kv(self) -> None:
        run = f"access-check/{secrets.token_hex(8)}"
        path, entry = self._path(run, "key"), _ProbeEntry(probe=secrets.token_hex(8))
        await self._write_first(path, entry)
        kept = await self._write_first(path, _ProbeEntry(probe=secrets.token_hex(8)))
        await self.destroy(run)
        if kept != entry:
            raise UnexpectedAnswer("the engine does not honour check-and-set", where=self._session.where(path))
