"""A strict in-memory Genesys Cloud organisation, after docs/platform-contract.md."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx

from adapters.edges.genesys import GenesysEdge
from settings import GenesysProfile
from tests.adapters.platform_double import PlatformDouble
from tests.adapters.trunk_leaves import TrunkLeaf

CERTIFICATES = "/api/v2/platform/certificates"
EDGE = "/api/v2/telephony/providers/edge/edge/edge-1"
TRUNK = f"{EDGE}/siptrunks/trunk-1"
SCOPES = "telephony:trunk:edit platform:certificate:manage admin:api telephony:health:read"
UPLOAD_FIELDS = ["name", "type", "certificate", "privateKey", "passphrase"]


class GenesysDouble(PlatformDouble):
    """One edge with one trunk. Certificates are known by the labels of their leaves."""

    def __init__(self, page_size: int = 100) -> None:
        super().__init__()
        self.page_size = page_size
        self.known: tuple[TrunkLeaf, ...] = ()
        """Whose keys match: the organisation takes no others."""
        self.scope = SCOPES
        self.expires_in: float = 86400
        self.show_fingerprint = True
        self.certificates: dict[str, dict[str, Any]] = {}
        self.trunk: dict[str, Any] = {
            "id": "trunk-1",
            "version": 7,
            "name": "PROD-CARRIER-TRUNK-A",
            "enabled": True,
            "certificateIds": [],
            "transport": "TLS",
            "sipsUri": "sip:trunk.example.com:5061",
            "retransmissionTimeoutSeconds": None,
            "tlsCipherSuites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
            "tlsSessionTicketLifetimeSeconds": 7200,
            "tlsCanary": None,
            "mutualTls": False,
            "inboundSite": "frankfurt",
            "maxConcurrentCalls": 480,
        }
        self.health: dict[str, Any] = {}
        self.metrics: dict[str, Any] = {}
        self.flushes = 0
        self.ignore_fields: set[str] = set()

    def edge(self, **paths: str) -> GenesysEdge:
        """The adapter, speaking to this organisation."""
        profile = GenesysProfile.model_validate(
            {
                "kind": "genesys",
                "base_url": "https://api.example.com",
                "login_url": "https://login.example.com",
                "client_id": "id-1",
                "client_secret": {"env": "TEST_GENESYS_SECRET"},
                "paths": paths,
            }
        )
        return GenesysEdge("eu", profile, transport=self.transport())

    def hold(self, leaf: TrunkLeaf, name: str, *, bound: bool = False) -> str:
        """Stores a certificate; its id."""
        certificate_id = f"id-of-{name}"
        self.certificates[certificate_id] = {
            "id": certificate_id,
            "name": name,
            "type": "TLS_SERVER",
            "certificate": leaf.chain_pem,
            "sha256Fingerprint": leaf.sha256,
            "serialNumber": f"{leaf.certificate.serial_number:x}",
            "notBefore": "2026-11-22T18:40:00.000Z",
            "notAfter": "2027-02-22T18:40:00.000Z",
            "state": "VALID",
            "stateReason": None,
            "dateCreated": "2026-11-23T18:40:00.000Z",
            "selfUri": f"{CERTIFICATES}/{certificate_id}",
        }
        if bound:
            self.trunk["certificateIds"].append(certificate_id)
        return certificate_id

    def token_path(self) -> str:
        return "/oauth/token"

    def log_in(self, request: httpx.Request) -> httpx.Response:
        expected = "Basic " + base64.b64encode(b"id-1:s3cret").decode()
        if request.headers.get("Authorization") != expected or request.content != b"grant_type=client_credentials":
            return httpx.Response(400, json={"error": "invalid_client", "description": "client not known"})
        assert request.url.host == "login.example.com"
        token = f"token-{self.logins}"
        self.tokens.add(token)
        return httpx.Response(
            200,
            json={
                "access_token": token,
                "token_type": "bearer",
                "expires_in": self.expires_in,
                "scope": self.scope,
            },
        )

    def refuse(self, status: int, code: str, message: str = "no") -> httpx.Response:
        return httpx.Response(
            status,
            json={
                "message": message,
                "code": code,
                "status": status,
                "contextId": "context-1",
                "details": [],
                "errors": [],
            },
        )

    def answer(self, request: httpx.Request) -> httpx.Response:
        method, path = request.method, request.url.path
        if path == CERTIFICATES:
            return self._list(request) if method == "GET" else self._upload(request)
        if path.startswith(f"{CERTIFICATES}/"):
            return self._certificate(method, path.rpartition("/")[2])
        match method, path.removeprefix(EDGE):
            case "GET", "/siptrunks":
                return httpx.Response(200, json={"entities": [self.trunk], "total": 1})
            case "GET", "/siptrunks/trunk-1":
                return httpx.Response(200, json=self.trunk)
            case "PUT", "/siptrunks/trunk-1":
                return self._put_trunk(json.loads(request.content))
            case "POST", "/siptrunks/trunk-1/tlsconnections/close":
                return httpx.Response(200, json={"closedConnections": 3, "closedAt": "2026-11-23T18:40:00.000Z"})
            case "POST", "/siptrunks/trunk-1/tlsticketcache/flush":
                assert json.loads(request.content) == {}
                self.flushes += 1
                return httpx.Response(200, json={"flushedAt": "2026-11-23T18:40:00.000Z"})
            case "GET", "/health":
                return httpx.Response(200, json=self.health)
            case "GET", "/siptrunks/trunk-1/tlsmetrics":
                assert set(request.url.params) == {"interval"}
                return httpx.Response(200, json={"interval": request.url.params["interval"], **self.metrics})
        return self.refuse(404, "not.found", f"no {method} {path}")

    def _shown(self, certificate: dict[str, Any]) -> dict[str, Any]:
        return certificate if self.show_fingerprint else {**certificate, "sha256Fingerprint": None}

    def _list(self, request: httpx.Request) -> httpx.Response:
        assert set(request.url.params) <= {"pageSize", "pageNumber", "name"}
        number = int(request.url.params["pageNumber"])
        held = [self._shown(certificate) for certificate in self.certificates.values()]
        return httpx.Response(
            200,
            json={
                "entities": held[(number - 1) * self.page_size : number * self.page_size],
                "pageSize": self.page_size,
                "pageNumber": number,
                "total": len(held),
                "pageCount": -(-len(held) // self.page_size),
            },
        )

    def _upload(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if list(body) != UPLOAD_FIELDS or body["type"] != "TLS_SERVER" or body["passphrase"] is not None:
            return self.refuse(400, "bad.request", "unknown field")
        leaf = next((leaf for leaf in self.known if leaf.chain_pem == body["certificate"]), None)
        if leaf is None or body["privateKey"] != leaf.private_key.get_secret_value():
            return self.refuse(400, "certificate.key.mismatch")
        for certificate in self.certificates.values():
            if certificate["name"] == body["name"]:
                if certificate["sha256Fingerprint"] == leaf.sha256:
                    return httpx.Response(200, json=self._shown(certificate))
                return self.refuse(409, "certificate.name.conflict", "the name is taken")
        return httpx.Response(200, json=self._shown(self.certificates[self.hold(leaf, body["name"])]))

    def _certificate(self, method: str, certificate_id: str) -> httpx.Response:
        if certificate_id not in self.certificates:
            return self.refuse(404, "not.found")
        if method == "GET":
            return httpx.Response(200, json=self._shown(self.certificates[certificate_id]))
        assert method == "DELETE"
        if certificate_id in self.trunk["certificateIds"]:
            return self.refuse(409, "certificate.in.use", "trunk-1 names it")
        del self.certificates[certificate_id]
        return httpx.Response(204)

    def _put_trunk(self, body: dict[str, Any]) -> httpx.Response:
        if set(body) != set(self.trunk):
            return self.refuse(400, "bad.request", f"fields {sorted(set(body) ^ set(self.trunk))}")
        if body["version"] != self.trunk["version"]:
            return self.refuse(409, "general.conflict", f"version is {self.trunk['version']}")
        if not body["certificateIds"] or not set(body["certificateIds"]) <= set(self.certificates):
            return self.refuse(400, "bad.request", "certificateIds")
        kept = {name: self.trunk[name] for name in self.ignore_fields}
        self.trunk = {**body, **kept, "version": body["version"] + 1}
        return httpx.Response(200, json=self.trunk)
