"""Answers of the PKI secrets engine, as far as they are read; unknown fields are ignored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel


class Role(BaseModel):
    """`roles/{role}`; durations in seconds."""

    not_before_duration: int


class SignedCertificate(BaseModel):
    """`sign/{role}`; PEM. `ca_chain` may hold the root and may be missing."""

    certificate: str
    issuing_ca: str = ""
    ca_chain: tuple[str, ...] = ()


class StoredCertificate(BaseModel):
    """`cert/{serial}`; `revocation_time` in seconds since 1970, 0 when not revoked."""

    certificate: str
    revocation_time: int = 0


class IssuerInfo(BaseModel):
    """One entry of `key_info` in `issuers`."""

    key_id: str | None = None


class IssuerList(BaseModel):
    """`issuers`."""

    keys: tuple[str, ...]
    key_info: Mapping[str, IssuerInfo] = {}

    @property
    def with_key(self) -> tuple[str, ...]:
        """References of the issuers whose key lies in the mount; a server that does not tell counts as having it."""
        return tuple(ref for ref in self.keys if self.key_info.get(ref, IssuerInfo()).key_id != "")


class Issuer(BaseModel):
    """`issuer/{ref}/json`; PEM."""

    certificate: str
    ca_chain: tuple[str, ...] = ()


class CertificateInfo(BaseModel):
    """One entry of `key_info` in `certs/detailed`."""

    common_name: str
    not_after: datetime


class CertificateList(BaseModel):
    """`certs` (serial numbers alone) or OpenBao's `certs/detailed`."""

    keys: tuple[str, ...]
    key_info: Mapping[str, CertificateInfo] = {}

    def extended(self, page: CertificateList) -> CertificateList:
        """This list with another page of it; serial numbers once."""
        keys = tuple(dict.fromkeys((*self.keys, *page.keys)))
        return CertificateList(keys=keys, key_info={**self.key_info, **page.key_info})

    def may_be(self, serial: str, common_name: str, now: datetime) -> bool:
        """False when the listing shows another name or an expired certificate."""
        info = self.key_info.get(serial)
        return info is None or (info.common_name.casefold() == common_name.casefold() and info.not_after > now)
