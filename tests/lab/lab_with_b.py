"""A whole lab in which a test arms a fault, has B bound and preferred, and sees what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import hvac
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lab import vault_setup
from lab.bao import Bao
from lab.lab_names import CERTIFICATE_ADDRESSES, CERTIFICATE_DNS_NAMES, GENESYS_FQDN
from lab.ledger import Counts, Direction, Group
from lab.vault_setup import SIGNING_MOUNT, IssuedCertificate
from lab.world import WorldOptions
from tests.lab.lab_client import LabClient, lab_client
from tests.lab.one_trunk import EPOCH, FOREVER

RATE = 10.0


def fresh_vault(bao: Bao) -> tuple[str, str]:
    """Address and root token of the server, without the mounts of an earlier lab."""
    client = hvac.Client(url=bao.address, token=bao.root_token)
    for mount in ("mounts/pki_root", "mounts/pki_int_a", "mounts/pki_int_b", "mounts/siptls", "mounts/transit"):
        client.adapter.delete(f"/v1/sys/{mount}")
    client.adapter.delete("/v1/sys/auth/approle")
    client.adapter.close()
    return bao.address, bao.root_token


@dataclass
class LabWithB:
    """One lab for many faults: each gets a B of its own, is armed, and is over before the next one."""

    lab: LabClient
    vault: tuple[str, str]
    a_ids: tuple[str, str]
    b: IssuedCertificate
    b_ids: tuple[str, str] = ("", "")
    since: datetime = EPOCH

    @property
    def leaf_b(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.b.chain_pem.encode())

    @property
    def sha256_a(self) -> str:
        return self.lab.world.certificate_a

    @property
    def sha256_b(self) -> str:
        return hashlib.sha256(self.leaf_b.public_bytes(Encoding.DER)).hexdigest()

    @contextlib.asynccontextmanager
    async def fault(self, name: str, *, prefer_b: bool = True) -> AsyncIterator[None]:
        """The fault is armed, B is bound and as a rule preferred inside; A alone and no fault afterwards."""
        self.b = await issue_b(self.vault)
        self.b_ids = await self.lab.upload(self.b, f"CERT-B-{self.sha256_b[:12]}")
        self.lab.world.faults.switch(name, on=True)
        self.since = datetime.now(UTC)
        try:
            await self._pools((self.a_ids[0], self.b_ids[0]), (self.a_ids[1], self.b_ids[1]))
            if prefer_b:
                await self._pools((self.b_ids[0], self.a_ids[0]), (self.a_ids[1], self.b_ids[1]))
                await self.lab.prefer_b_in_dns()
            yield
        finally:
            await self._pools((self.a_ids[0],), (self.a_ids[1], None))
            await self.lab.prefer_b_in_dns(prefer=False)
            self.lab.world.faults.switch(name, on=False)

    async def _pools(self, genesys: tuple[str, ...], cxone: tuple[str, str | None]) -> None:
        for answer in (await self.lab.bind_genesys(*genesys), await self.lab.bind_cxone(*cxone)):
            assert answer.status_code == 200, answer.text

    def failures(self, trunk: str, side: str, direction: Direction, leaf: str | None) -> dict[str, int]:
        """Failed handshakes by cause and failed calls by status, on one leaf, since the fault was armed."""
        found: dict[str, int] = {}
        for group, counts in self._counts(trunk, side).items():
            if group.direction == direction and group.sha256 == leaf:
                every = {**counts.handshakes.failures, **{str(s): n for s, n in counts.call_setups.failures.items()}}
                for cause, number in every.items():
                    found[cause] = found.get(cause, 0) + number
        return found

    def successes(self, trunk: str, side: str, direction: Direction, leaf: str | None) -> int:
        """Good handshakes on one leaf since the fault was armed."""
        counted = self._counts(trunk, side).items()
        return sum(c.handshakes.successes for g, c in counted if g.direction == direction and g.sha256 == leaf)

    def losses(self, trunk: str) -> set[str]:
        """How the carrier's calls were lost since the fault was armed; the last twenty."""
        return {loss.cause for loss in self.lab.world.carrier.stats()[trunk].losses if loss.at >= self.since}

    def _counts(self, trunk: str, side: str) -> Mapping[Group, Counts]:
        world = self.lab.world
        ledger = world.carrier.ledger(trunk) if side == "carrier" else world.trunks[trunk].ledger
        return ledger.counts(self.since + ledger.skew, FOREVER)


async def issue_b(vault: tuple[str, str]) -> IssuedCertificate:
    """A certificate of the other intermediate, dated as the PKI dates what it issues now."""
    client = hvac.Client(url=vault[0], token=vault[1])
    try:
        return await asyncio.to_thread(
            vault_setup.issue,
            client,
            SIGNING_MOUNT,
            common_name=GENESYS_FQDN,
            dns_names=CERTIFICATE_DNS_NAMES,
            ip_addresses=CERTIFICATE_ADDRESSES,
            in_use_since=vault_setup.NEW_SINCE,
            remains=vault_setup.NEW_FOR,
        )
    finally:
        client.adapter.close()


@contextlib.asynccontextmanager
async def lab_for_faults(directory: Path, bao: Bao) -> AsyncIterator[LabWithB]:
    """A quick lab with many calls."""
    vault = fresh_vault(bao)
    options = WorldOptions(directory, vault=vault, speed="test", call_rate=RATE)
    async with lab_client(options) as lab:
        yield LabWithB(lab, vault, await lab.a_ids(), await issue_b(vault))
