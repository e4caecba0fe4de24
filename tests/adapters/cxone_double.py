"""A strict in-memory NICE CXone tenant, after docs/platform-contract.md."""

from __future__ import annotations

import json
from typing import Any

import httpx

from adapters.edges.cxone import CxoneEdge
from settings import CxoneProfile
from tests.adapters.genesys_double import SCOPES
from tests.adapters.platform_double import PlatformDouble
from tests.adapters.trunk_leaves import TrunkLeaf

CERTIFICATES = "/restapi/v1.0/security/certificates"
PROFILE = "/restapi/v1.0/sip/trunks/4711/profile"
UPLOAD_FIELDS = ["name", "certificateData", "privateKeyData", "certificateType"]


class CxoneDouble(PlatformDouble):
    """One trunk, 4711."""

    def __init__(self) -> None:
        super().__init__()
        self.known: tuple[TrunkLeaf, ...] = ()
        """Whose keys match: the tenant takes no others."""
        self.expires_in: float = 3600
        self.scope = SCOPES
        self.show_fingerprint = True
        self.etag = True
        self.certificates: dict[str, dict[str, Any]] = {}
        self.profile: dict[str, Any] = {
            "trunkId": "4711",
            "version": 3,
            "name": "CARRIER-EU",
            "enabled": True,
            "transport": "TLS",
            "sipDomain": "trunk.example.com",
            "primaryCertificateId": "none",
            "secondaryCertificateId": None,
            "retransmissionTimeoutSeconds": None,
            "tlsCipherSuites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
            "tlsSessionTicketLifetimeSeconds": 7200,
            "mutualTls": True,
            "listeners": {"primaryPort": 5061, "secondaryPort": 5062, "comment": "kept too"},
            "routingProfile": "gold",
            "tags": ["eu", "sip"],
        }
        self.health: dict[str, Any] = {}
        self.metrics: dict[str, Any] = {}
        self.flushes = 0
        self.ignore_fields: set[str] = set()

    def edge(self, **paths: str) -> CxoneEdge:
        """The adapter, speaking to this tenant."""
        profile = CxoneProfile.model_validate(
            {
                "kind": "cxone",
                "base_url": "https://api.example.com",
                "auth_url": "https://auth.example.com",
                "access_key_id": "key-1",
                "access_key_secret": {"env": "TEST_CXONE_SECRET"},
                "paths": paths,
            }
        )
        return CxoneEdge("us", profile, transport=self.transport())

    def hold(self, leaf: TrunkLeaf, name: str, *, place: str | None = None) -> str:
        """Stores a certificate, bound at `place` (`primary`, `secondary`) or not at all; its id."""
        certificate_id = f"id-of-{name}"
        self.certificates[certificate_id] = {
            "certificateId": certificate_id,
            "name": name,
            "certificateType": "SIP_TLS",
            "certificateData": leaf.chain_pem,
            "sha256": leaf.sha256,
            "serialNumber": f"{leaf.certificate.serial_number:x}",
            "validFrom": "2026-11-22T18:40:00.000Z",
            "validTo": "2027-02-22T18:40:00.000Z",
            "status": "Active",
            "statusReason": None,
            "createdDate": "2026-11-23T18:40:00.000Z",
        }
        if place is not None:
            self.profile[f"{place}CertificateId"] = certificate_id
        return certificate_id

    def token_path(self) -> str:
        return "/authentication/v1/token/access-key"

    def log_in(self, request: httpx.Request) -> httpx.Response:
        assert request.url.host == "auth.example.com"
        if json.loads(request.content) != {"accessKeyId": "key-1", "accessKeySecret": "s3cret"}:
            return self.refuse(401, "invalid_access_key", "not known")
        token = f"token-{self.logins}"
        self.tokens.add(token)
        return httpx.Response(
            200,
            json={"access_token": token, "token_type": "Bearer", "expires_in": self.expires_in, "scope": self.scope},
        )

    def refuse(self, status: int, code: str, message: str = "no") -> httpx.Response:
        return httpx.Response(status, json={"error": code, "error_description": message, "traceId": "trace-1"})

    def answer(self, request: httpx.Request) -> httpx.Response:
        method, path = request.method, request.url.path
        if path == CERTIFICATES:
            return self._list() if method == "GET" else self._upload(request)
        if path.startswith(f"{CERTIFICATES}/"):
            return self._certificate(method, path.rpartition("/")[2])
        match method, path.removeprefix("/restapi/v1.0/"):
            case "GET", "sip/trunks":
                return httpx.Response(200, json={"trunks": [self.profile], "totalRecords": 1})
            case "GET", "sip/trunks/4711/profile":
                return self._shown_profile()
            case "PUT", "sip/trunks/4711/profile":
                return self._put_profile(request)
            case "POST", "sip/trunks/4711/tls-connections/close":
                return httpx.Response(200, json={"closedConnections": 3, "closedAt": "2026-11-23T18:40:00.000Z"})
            case "POST", "sip/trunks/4711/tls-session-cache/flush":
                assert json.loads(request.content) == {}
                self.flushes += 1
                return httpx.Response(200, json={"flushedAt": "2026-11-23T18:40:00.000Z"})
            case "GET", "system/health/sip-trunks/4711":
                return httpx.Response(200, json=self.health)
            case "GET", "system/metrics/sip-trunks/4711/tls":
                assert set(request.url.params) == {"startDate", "endDate"}
                return httpx.Response(200, json={**request.url.params, **self.metrics})
        return self.refuse(404, "NotFound", f"no {method} {path}")

    def _shown_profile(self) -> httpx.Response:
        headers = {"ETag": f'"{self.profile["version"]}"'} if self.etag else {}
        return httpx.Response(200, json=self.profile, headers=headers)

    def _shown(self, certificate: dict[str, Any]) -> dict[str, Any]:
        return certificate if self.show_fingerprint else {**certificate, "sha256": None}

    def _list(self) -> httpx.Response:
        held = [self._shown(certificate) for certificate in self.certificates.values()]
        return httpx.Response(200, json={"certificates": held, "totalRecords": len(held)})

    def _upload(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if list(body) != UPLOAD_FIELDS or body["certificateType"] != "SIP_TLS":
            return self.refuse(400, "BadRequest", "unknown field")
        if any(certificate["name"] == body["name"] for certificate in self.certificates.values()):
            return self.refuse(409, "DuplicateName", f"{body['name']} exists")
        leaf = next((leaf for leaf in self.known if leaf.chain_pem == body["certificateData"]), None)
        if leaf is None or body["privateKeyData"] != leaf.private_key.get_secret_value():
            return self.refuse(422, "KeyMismatch")
        return httpx.Response(201, json=self._shown(self.certificates[self.hold(leaf, body["name"])]))

    def _certificate(self, method: str, certificate_id: str) -> httpx.Response:
        if certificate_id not in self.certificates:
            return self.refuse(404, "NotFound")
        if method == "GET":
            return httpx.Response(200, json=self._shown(self.certificates[certificate_id]))
        assert method == "DELETE"
        if certificate_id in (self.profile["primaryCertificateId"], self.profile["secondaryCertificateId"]):
            return self.refuse(409, "InUse", "trunk 4711 names it")
        del self.certificates[certificate_id]
        return httpx.Response(204)

    def _put_profile(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if set(body) != set(self.profile):
            return self.refuse(400, "BadRequest", f"fields {sorted(set(body) ^ set(self.profile))}")
        if "If-Match" not in request.headers:
            return self.refuse(428, "PreconditionRequired")
        if request.headers["If-Match"] != f'"{self.profile["version"]}"':
            return self.refuse(409, "VersionConflict", f"version is {self.profile['version']}")
        if not {body["primaryCertificateId"], body["secondaryCertificateId"]} <= {*self.certificates, None}:
            return self.refuse(400, "BadRequest", "unknown certificate")
        kept = {name: self.profile[name] for name in self.ignore_fields}
        self.profile = {**body, **kept, "version": body["version"] + 1}
        return self._shown_profile()
