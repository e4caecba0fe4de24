"""The role `KeyCustodian`: makes a key, gives a CSR, hands the key to an upload, destroys it.

`run` is the identity of one run of a rotation, so that keys of two runs never meet. A private key leaves custody as a
`SecretStr` inside one activity and goes nowhere else (DESIGN.md, promise 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pydantic import SecretStr

from domain.plan import KeyType


class KeyCustodian(Protocol):
    """One custody profile. Methods raise `domain.errors.RotatorError`s only."""

    profile: str
    exportable: bool

    async def check_access(self) -> tuple[str, ...]:
        """Logs in and tries what custody needs; returns what is missing, in words."""
        ...

    async def csr(
        self, run: str, *, key_type: KeyType, common_name: str, dns_names: Sequence[str], ip_addresses: Sequence[str]
    ) -> str:
        """A CSR (PEM) over the run's key, which is made when there is none; of concurrent makers one wins."""
        ...

    async def runs(self) -> tuple[str, ...]:
        """The identities of all runs that have a key here, in order."""
        ...

    async def keep_chain(self, run: str, chain_pem: str) -> str:
        """Records the signed chain beside the key; returns the chain that is kept: the first writer's."""
        ...

    async def chain(self, run: str) -> str | None:
        """The chain kept for the run, if any."""
        ...

    async def public_key_sha256(self, run: str) -> str | None:
        """SPKI SHA-256 of the run's key, None when there is no key."""
        ...

    async def private_key(self, run: str) -> SecretStr:
        """The key as unencrypted PKCS#8 PEM. Raises `RequestRefused` when there is none."""
        ...

    async def destroy(self, run: str) -> bool:
        """Destroys key and chain of the run beyond recovery; False when there was nothing."""
        ...
