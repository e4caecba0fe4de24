"""The lab's PKI on a running OpenBao, as tests use it: certificates to upload, and the worker's login."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import hvac

from lab import vault_setup
from lab.bao import Bao
from lab.lab_names import CERTIFICATE_ADDRESSES, CERTIFICATE_DNS_NAMES, GENESYS_FQDN
from lab.vault_setup import IssuedCertificate, VaultLab


@dataclass(frozen=True)
class LabPki:
    """One server with the lab's setup on it."""

    address: str
    lab: VaultLab
    root_token: str = field(repr=False)

    @classmethod
    def on(cls, bao: Bao) -> LabPki:
        """Sets up a fresh server."""
        lab = vault_setup.set_up(
            bao.address,
            bao.root_token,
            common_name=GENESYS_FQDN,
            dns_names=CERTIFICATE_DNS_NAMES,
            ip_addresses=CERTIFICATE_ADDRESSES,
        )
        return cls(bao.address, lab, bao.root_token)

    @contextmanager
    def root(self) -> Iterator[hvac.Client]:
        """A client that may do everything."""
        with self._client(self.root_token) as client:
            yield client

    @contextmanager
    def rotator(self) -> Iterator[hvac.Client]:
        """The worker's client: AppRole, least privilege."""
        with self._client("") as client:
            login: dict[str, Any] = client.auth.approle.login(self.lab.role_id, self.lab.secret_id, use_token=False)
            client.token = login["auth"]["client_token"]
            yield client

    def issue(
        self,
        mount: str = vault_setup.SIGNING_MOUNT,
        *,
        in_use_since: timedelta = timedelta(days=1),
        remains: timedelta = timedelta(days=90),
    ) -> IssuedCertificate:
        """Another certificate with A's names."""
        with self.root() as client:
            return vault_setup.issue(
                client,
                mount,
                common_name=GENESYS_FQDN,
                dns_names=CERTIFICATE_DNS_NAMES,
                ip_addresses=CERTIFICATE_ADDRESSES,
                in_use_since=in_use_since,
                remains=remains,
            )

    @contextmanager
    def _client(self, token: str) -> Iterator[hvac.Client]:
        client = hvac.Client(url=self.address, token=token, timeout=10)
        client.session.trust_env = False
        try:
            yield client
        finally:
            client.adapter.close()
