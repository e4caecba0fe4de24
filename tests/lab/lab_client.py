"""A running lab as an outsider sees it: its directory, its control API, and both platforms with the worker's login."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.tsig
import dns.update
import httpx

from lab.lab_names import CXONE, CXONE_TARGET_A, CXONE_TARGET_B, EDGE_ID, GENESYS_TRUNK, SRV_NAMES
from lab.vault_setup import IssuedCertificate
from lab.world import WorldOptions, running_world
from lab.world_parts import World

_TRUNK = f"/api/v2/telephony/providers/edge/edge/{EDGE_ID}/siptrunks/{GENESYS_TRUNK}"
_PROFILE = "/restapi/v1.0/sip/trunks/trunk-2/profile"


@dataclass
class LabClient:
    """One running lab."""

    directory: Path
    facts: dict[str, Any]
    world: World
    http: httpx.AsyncClient = field(repr=False)
    _tokens: dict[str, str] = field(default_factory=dict, repr=False)

    async def state(self) -> dict[str, Any]:
        """GET /lab/state."""
        answer = await self.http.get(f"{self.facts['control']}/lab/state")
        assert answer.status_code == 200
        found: dict[str, Any] = answer.json()
        return found

    async def control(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A POST to the control API."""
        answer = await self.http.post(f"{self.facts['control']}{path}", json=body or {})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def secret(self, name: str) -> str:
        """The content of a file in the directory."""
        return (self.directory / name).read_text(encoding="utf-8").strip()

    async def log_in(self) -> None:
        """Tokens for both platforms, by the secrets in the directory."""
        basic = base64.b64encode(f"rotator:{self.secret('genesys.secret')}".encode()).decode()
        genesys = await self.http.post(
            f"{self.facts['genesys']}/oauth/token",
            content="grant_type=client_credentials",
            headers={"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"},
        )
        cxone = await self.http.post(
            f"{self.facts['cxone']}/authentication/v1/token/access-key",
            json={"accessKeyId": "rotator", "accessKeySecret": self.secret("cxone.secret")},
        )
        self._tokens = {"genesys": genesys.json()["access_token"], "cxone": cxone.json()["access_token"]}

    async def send(
        self, platform: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """A request to a platform with a good token."""
        if not self._tokens:
            await self.log_in()
        sent = {"Authorization": f"Bearer {self._tokens[platform]}", **(headers or {})}
        return await self.http.request(method, f"{self.facts[platform]}{path}", json=body, headers=sent)

    async def upload(self, certificate: IssuedCertificate, name: str = "CERT-B") -> tuple[str, str]:
        """Register a certificate on both platforms; its ids on Genesys and CXone."""
        genesys = await self.send(
            "genesys",
            "PUT",
            "/api/v2/platform/certificates",
            {
                "name": name,
                "type": "TLS_SERVER",
                "certificate": certificate.chain_pem,
                "privateKey": certificate.key_pem,
                "passphrase": None,
            },
        )
        cxone = await self.send(
            "cxone",
            "POST",
            "/restapi/v1.0/security/certificates",
            {
                "name": name,
                "certificateData": certificate.chain_pem,
                "privateKeyData": certificate.key_pem,
                "certificateType": "SIP_TLS",
            },
        )
        return genesys.json()["id"], cxone.json()["certificateId"]

    async def bind_genesys(self, *ids: str) -> httpx.Response:
        """Another pool on the Genesys trunk."""
        trunk = (await self.send("genesys", "GET", _TRUNK)).json()
        return await self.send("genesys", "PUT", _TRUNK, {**trunk, "certificateIds": list(ids)})

    async def bind_cxone(self, primary: str, secondary: str | None) -> httpx.Response:
        """Another pool on the CXone trunk."""
        profile = (await self.send("cxone", "GET", _PROFILE)).json()
        body = {**profile, "primaryCertificateId": primary, "secondaryCertificateId": secondary}
        return await self.send("cxone", "PUT", _PROFILE, body, {"If-Match": f'"{profile["version"]}"'})

    async def a_ids(self) -> tuple[str, str]:
        """A's ids on both platforms, while it is first in the pools."""
        trunk = (await self.send("genesys", "GET", _TRUNK)).json()
        profile = (await self.send("cxone", "GET", _PROFILE)).json()
        return trunk["certificateIds"][0], profile["primaryCertificateId"]

    async def prefer_b_in_dns(self, *, prefer: bool = True) -> None:
        """A signed update that lets the carrier prefer CXone's second target, or its first again."""
        first, second = (20, 10) if prefer else (10, 20)
        ports = self.facts["trunks"][CXONE]
        message = dns.update.UpdateMessage("lab.example")
        message.use_tsig(dns.tsig.Key("rotator", self.secret("tsig.key"), dns.tsig.HMAC_SHA256))
        name = f"{SRV_NAMES[CXONE]}."
        message.delete(name, "SRV")
        message.add(name, 1, "SRV", f"{first} 100 {ports['primary_port']} {CXONE_TARGET_A}.")
        message.add(name, 1, "SRV", f"{second} 100 {ports['secondary_port']} {CXONE_TARGET_B}.")
        where = self.facts["dns"]
        answer = await dns.asyncquery.udp(message, where["address"], port=where["port"], timeout=5)
        assert answer.rcode() == 0


@contextlib.asynccontextmanager
async def lab_client(options: WorldOptions) -> AsyncIterator[LabClient]:
    """Start a lab in this process, and stop it."""
    async with running_world(options) as world, httpx.AsyncClient(trust_env=False, timeout=20) as http:
        yield LabClient(options.directory, world.facts, world, http)
