"""A platform stand-in under test: its API, its trunk on a real edge, and the words it uses."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar, TypeVar

import httpx
from cryptography import x509

from lab.api_guard import RequestLog
from lab.carrier_ca import CarrierCa
from lab.cxone_api import CxoneApi
from lab.edge import Edge
from lab.faults import Faults
from lab.genesys_api import GenesysApi
from lab.lab_names import CXONE, CXONE_FQDN, CXONE_TRUNK, EDGE_ID, GENESYS, GENESYS_FQDN, GENESYS_TRUNK
from lab.ledger import Ledger
from lab.tls_contexts import Identity, client_context
from lab.tls_stream import TlsStream
from lab.tokens import SCOPES, ApiClient, Tokens
from lab.trunk import Trunk
from lab.vault_setup import IssuedCertificate
from lab.world_trunks import cxone_trunk, genesys_trunk
from tests.lab.lab_pki import LabPki

FULL = ApiClient("rotator", "a full client's secret")


class PlatformUnderTest:
    """What both platforms have in common. Requests carry a good token unless told otherwise."""

    certificates: ClassVar[str]
    trunk_path: ClassVar[str]
    health_path: ClassVar[str]
    metrics_path: ClassVar[str]
    flush_path: ClassVar[str]
    chain_field: ClassVar[str]
    key_field: ClassVar[str]
    id_field: ClassVar[str]
    upload_method: ClassVar[str]
    codes: ClassVar[dict[str, tuple[int, str]]]
    """Refusal in words to (status, code)."""

    def __init__(
        self,
        trunk: Trunk,
        tokens: Tokens,
        faults: Faults,
        log: RequestLog,
        http: httpx.AsyncClient,
        tls: ssl.SSLContext,
    ) -> None:
        self.trunk, self.tokens, self.faults, self.log, self.http = trunk, tokens, faults, log, http
        self.tls = tls
        self.token = tokens.issue(FULL)

    async def served(self, port: int, server_name: str | None = None) -> str:
        """SHA-256 of the leaf that the edge serves to a fresh handshake with this SNI (default: the FQDN)."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        stream = await TlsStream.connect(reader, writer, self.tls, server_name=server_name or self.trunk.edge.fqdn)
        await stream.close()
        assert stream.peer_leaf is not None
        return stream.peer_leaf

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """One request with a bearer token and, if there is a body, JSON."""
        sent = {"Authorization": f"Bearer {token or self.token}", **(headers or {})}
        return await self.http.request(method, path, json=body, headers=sent)

    def token_with(self, *scopes: str) -> str:
        """A token that has these scopes only."""
        return self.tokens.issue(ApiClient("limited", "x", scopes))

    def upload_body(self, certificate: IssuedCertificate, name: str = "CERT-B") -> dict[str, Any]:
        """An upload that the contract allows."""
        raise NotImplementedError

    async def upload(self, body: dict[str, Any]) -> httpx.Response:
        """Registers a certificate."""
        return await self.send(self.upload_method, self.certificates, body)

    async def uploaded(self, certificate: IssuedCertificate, name: str = "CERT-B") -> str:
        """The id of a certificate that was registered."""
        answer = await self.upload(self.upload_body(certificate, name))
        assert answer.status_code in (200, 201), answer.text
        return str(answer.json()[self.id_field])

    async def put_trunk(self, body: dict[str, Any]) -> httpx.Response:
        """Replaces the trunk's settings."""
        raise NotImplementedError

    async def read_trunk(self) -> dict[str, Any]:
        """The trunk's settings."""
        answer = await self.send("GET", self.trunk_path)
        assert answer.status_code == 200
        found: dict[str, Any] = answer.json()
        return found

    def with_pool(self, settings: dict[str, Any], *ids: str) -> dict[str, Any]:
        """The settings with another pool."""
        raise NotImplementedError

    async def metrics(self, since: str, until: str) -> httpx.Response:
        """The metrics of a period."""
        raise NotImplementedError

    def assert_refused(self, answer: httpx.Response, what: str) -> None:
        """The platform's own error body with the status and the code of that refusal."""
        status, code = self.codes[what]
        assert (answer.status_code, self.code_of(answer)) == (status, code), answer.text

    def code_of(self, answer: httpx.Response) -> str:
        """The code in an error body that has exactly the contract's fields."""
        raise NotImplementedError


class Genesys(PlatformUnderTest):
    """Genesys Cloud."""

    certificates = "/api/v2/platform/certificates"
    trunk_path = f"/api/v2/telephony/providers/edge/edge/{EDGE_ID}/siptrunks/{GENESYS_TRUNK}"
    health_path = f"/api/v2/telephony/providers/edge/edge/{EDGE_ID}/health"
    metrics_path = f"{trunk_path}/tlsmetrics"
    flush_path = f"{trunk_path}/tlsticketcache/flush"
    chain_field, key_field, id_field = "certificate", "privateKey", "id"
    upload_method = "PUT"
    codes: ClassVar[dict[str, tuple[int, str]]] = {
        "bad request": (400, "bad.request"),
        "invalid": (400, "certificate.invalid"),
        "chain": (400, "certificate.chain.incomplete"),
        "key": (400, "certificate.key.mismatch"),
        "name": (409, "certificate.name.conflict"),
        "in use": (409, "certificate.in.use"),
        "version": (409, "general.conflict"),
        "token": (401, "authentication.required"),
        "scope": (403, "missing.any.permissions"),
        "not found": (404, "not.found"),
        "too many": (429, "too.many.requests.retry.after"),
        "internal": (500, "internal.error"),
    }

    def upload_body(self, certificate: IssuedCertificate, name: str = "CERT-B") -> dict[str, Any]:
        return {
            "name": name,
            "type": "TLS_SERVER",
            "certificate": certificate.chain_pem,
            "privateKey": certificate.key_pem,
            "passphrase": None,
        }

    async def put_trunk(self, body: dict[str, Any]) -> httpx.Response:
        return await self.send("PUT", self.trunk_path, body)

    def with_pool(self, settings: dict[str, Any], *ids: str) -> dict[str, Any]:
        return {**settings, "certificateIds": list(ids)}

    async def metrics(self, since: str, until: str) -> httpx.Response:
        return await self.send("GET", f"{self.metrics_path}?interval={since}/{until}")

    async def log_in(self, client: ApiClient) -> httpx.Response:
        credentials = base64.b64encode(f"{client.id}:{client.secret}".encode()).decode()
        return await self.http.post(
            "/oauth/token",
            content="grant_type=client_credentials",
            headers={
                "Authorization": f"Basic {credentials}",
                "Content-Type": "application/x-www-form-urlencoded",
            },
        )

    def code_of(self, answer: httpx.Response) -> str:
        body = answer.json()
        assert set(body) == {"message", "code", "status", "contextId", "details", "errors"}
        assert body["status"] == answer.status_code
        return str(body["code"])


class Cxone(PlatformUnderTest):
    """NICE CXone."""

    certificates = "/restapi/v1.0/security/certificates"
    trunk_path = f"/restapi/v1.0/sip/trunks/{CXONE_TRUNK}/profile"
    health_path = f"/restapi/v1.0/system/health/sip-trunks/{CXONE_TRUNK}"
    metrics_path = f"/restapi/v1.0/system/metrics/sip-trunks/{CXONE_TRUNK}/tls"
    flush_path = f"/restapi/v1.0/sip/trunks/{CXONE_TRUNK}/tls-session-cache/flush"
    chain_field, key_field, id_field = "certificateData", "privateKeyData", "certificateId"
    upload_method = "POST"
    codes: ClassVar[dict[str, tuple[int, str]]] = {
        "bad request": (400, "InvalidRequest"),
        "invalid": (422, "InvalidCertificate"),
        "chain": (422, "InvalidChain"),
        "key": (422, "KeyMismatch"),
        "name": (409, "DuplicateName"),
        "in use": (409, "InUse"),
        "version": (409, "VersionConflict"),
        "precondition": (428, "PreconditionRequired"),
        "login": (401, "invalid_access_key"),
        "token": (401, "invalid_token"),
        "scope": (403, "insufficient_scope"),
        "not found": (404, "NotFound"),
        "too many": (429, "TooManyRequests"),
        "internal": (500, "InternalError"),
    }

    def upload_body(self, certificate: IssuedCertificate, name: str = "CERT-B") -> dict[str, Any]:
        return {
            "name": name,
            "certificateData": certificate.chain_pem,
            "privateKeyData": certificate.key_pem,
            "certificateType": "SIP_TLS",
        }

    async def put_trunk(self, body: dict[str, Any]) -> httpx.Response:
        return await self.send("PUT", self.trunk_path, body, headers={"If-Match": f'"{body["version"]}"'})

    def with_pool(self, settings: dict[str, Any], *ids: str) -> dict[str, Any]:
        primary, *rest = ids
        return {
            **settings,
            "primaryCertificateId": primary,
            "secondaryCertificateId": rest[0] if rest else None,
        }

    async def metrics(self, since: str, until: str) -> httpx.Response:
        return await self.send("GET", f"{self.metrics_path}?startDate={since}&endDate={until}")

    async def log_in(self, client: ApiClient) -> httpx.Response:
        body = {"accessKeyId": client.id, "accessKeySecret": client.secret}
        return await self.http.post("/authentication/v1/token/access-key", json=body)

    def code_of(self, answer: httpx.Response) -> str:
        body = answer.json()
        assert set(body) == {"error", "error_description", "traceId"}
        return str(body["error"])


AnyPlatform = TypeVar("AnyPlatform", bound=PlatformUnderTest)


@asynccontextmanager
async def running(kind: type[AnyPlatform], pki: LabPki) -> AsyncIterator[AnyPlatform]:
    """One platform with its edge, both on free ports."""
    anchors = x509.load_pem_x509_certificates(pki.lab.root_pem.encode())
    ca = CarrierCa()
    trust, prober = ca.certificate_pem, ca.issue("prober.example")
    tls = client_context(pki.lab.root_pem, identity=Identity(prober.certificate_pem, prober.key_pem))
    tls.check_hostname = False  # a canary's SNI is on no certificate
    log, tokens = RequestLog(), Tokens([FULL, ApiClient("limited", "x", SCOPES[:1])], 3600)
    if issubclass(kind, Genesys):
        edge = Edge(GENESYS, GENESYS_FQDN, mutual=True, peer_trust_pem=trust, ledger=Ledger())
        await edge.start()
        state, trunk = genesys_trunk(edge, anchors, pki.lab.certificate_a)
        faults = Faults(trunk.pool[0].sha256)
        application = GenesysApi(state, EDGE_ID, tokens, log, faults).application
    else:
        edge = Edge(CXONE, CXONE_FQDN, mutual=False, peer_trust_pem=trust, ledger=Ledger(), ports=(0, 0))
        await edge.start()
        state, trunk = cxone_trunk(edge, anchors, pki.lab.certificate_a)
        faults = Faults(trunk.pool[0].sha256)
        application = CxoneApi(state, tokens, log, faults).application
    trunk.observe(lambda changed: faults.pool_changed(one.sha256 for one in changed.pool))
    try:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://platform") as http:
            yield kind(trunk, tokens, faults, log, http, tls)
    finally:
        await edge.stop()
