"""A strict stand-in for the Genesys Cloud requests of docs/platform-contract.md."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lab.api_guard import ApiGuard, Operation, Refusal, RequestLog
from lab.certificate_check import UploadRefused
from lab.genesys_wire import (
    DEFECTS,
    DIALECT,
    LOST,
    TRUNK_FIELDS,
    UPLOAD,
    basic_credentials,
    counts_object,
    interval,
    number,
)
from lab.platform_metrics import metric_rows
from lab.platform_state import CertificateInUse, NameTaken, PlatformFaults, PlatformState, fingerprints
from lab.strict_fields import TEXT, FieldRefused, no_body, read_object, read_query
from lab.tokens import CERTIFICATE_SCOPE, HEALTH_SCOPE, TRUNK_SCOPE, Tokens
from lab.trunk import Binding, RegisteredCertificate, Trunk
from lab.wire_time import now, time_text

CERTIFICATES = "/api/v2/platform/certificates"
EDGE = "/api/v2/telephony/providers/edge/edge/{edge_id}"
TRUNKS = EDGE + "/siptrunks"
TRUNK = TRUNKS + "/{trunk_id}"


class GenesysApi:
    """The API of one organisation with one edge. The platform's trunks are keyed by `sipTrunkId`."""

    def __init__(
        self, platform: PlatformState, edge_id: str, tokens: Tokens, log: RequestLog, faults: PlatformFaults
    ) -> None:
        self._platform, self._edge_id, self._tokens, self._faults = platform, edge_id, tokens, faults
        guard = ApiGuard(platform.service, DIALECT, tokens, log, faults)
        guard.route("/oauth/token", POST=Operation(self._token, None))
        guard.route(
            CERTIFICATES,
            PUT=Operation(self._upload, CERTIFICATE_SCOPE),
            GET=Operation(self._list_certificates, CERTIFICATE_SCOPE),
        )
        guard.route(
            CERTIFICATES + "/{certificate_id}",
            GET=Operation(self._get_certificate, CERTIFICATE_SCOPE),
            DELETE=Operation(self._delete_certificate, CERTIFICATE_SCOPE),
        )
        guard.route(TRUNKS, GET=Operation(self._list_trunks, TRUNK_SCOPE))
        guard.route(TRUNK, GET=Operation(self._get_trunk, TRUNK_SCOPE), PUT=Operation(self._put_trunk, TRUNK_SCOPE))
        guard.route(TRUNK + "/tlsticketcache/flush", POST=Operation(self._flush, TRUNK_SCOPE))
        guard.route(TRUNK + "/tlsconnections/close", POST=Operation(self._close_connections, TRUNK_SCOPE))
        guard.route(EDGE + "/health", GET=Operation(self._health, HEALTH_SCOPE))
        guard.route(TRUNK + "/tlsmetrics", GET=Operation(self._metrics, HEALTH_SCOPE))
        self.application: Starlette = guard.application()

    # OAuth

    async def _token(self, request: Request) -> Response:
        read_query(request)
        try:
            client_id, secret = basic_credentials(request.headers.get("authorization", ""))
            form = parse_qs((await request.body()).decode(), keep_blank_values=True, strict_parsing=True)
            if form != {"grant_type": ["client_credentials"]}:
                raise ValueError("the form must be grant_type=client_credentials and nothing else")
        except ValueError as error:
            return JSONResponse({"error": "invalid_client", "description": str(error)}, 400)
        client = self._tokens.client(client_id, secret)
        if client is None:
            return JSONResponse({"error": "invalid_client", "description": "unknown client or wrong secret"}, 401)
        return JSONResponse(
            {
                "access_token": self._tokens.issue(client),
                "token_type": "bearer",
                "expires_in": self._tokens.lifetime_s,
                "scope": " ".join(client.scopes),
            }
        )

    # Certificates

    async def _upload(self, request: Request) -> Response:
        read_query(request)
        body = await read_object(request, UPLOAD)
        try:
            registered = self._platform.register(body["name"], body["certificate"], body["privateKey"])
        except UploadRefused as refused:
            raise Refusal(400, DEFECTS[refused.defect], refused.reason) from None
        except NameTaken as taken:
            registered = taken.existing
            if not taken.same_leaf:
                raise Refusal(409, "certificate.name.conflict", "another certificate has that name") from None
        return JSONResponse(self._certificate(registered))

    async def _list_certificates(self, request: Request) -> Response:
        await no_body(request)
        query = read_query(request, "pageSize", "pageNumber", "name")
        size = number(query.get("pageSize", "25"), "pageSize", 1, 100)
        page = number(query.get("pageNumber", "1"), "pageNumber", 1, 10_000)
        found = self._platform.named(query["name"]) if "name" in query else self._platform.certificates
        return JSONResponse(
            {
                "entities": [self._certificate(one) for one in found[(page - 1) * size : page * size]],
                "pageSize": size,
                "pageNumber": page,
                "total": len(found),
                "pageCount": math.ceil(len(found) / size),
            }
        )

    async def _get_certificate(self, request: Request) -> Response:
        await no_body(request)
        read_query(request)
        return JSONResponse(self._certificate(self._find_certificate(request)))

    async def _delete_certificate(self, request: Request) -> Response:
        await no_body(request)
        read_query(request)
        try:
            self._platform.delete(self._find_certificate(request))
        except CertificateInUse as use:
            raise Refusal(409, "certificate.in.use", f"trunk {use} names the certificate") from None
        return Response(status_code=204)

    def _find_certificate(self, request: Request) -> RegisteredCertificate:
        found = self._platform.certificate(request.path_params["certificate_id"])
        if found is None:
            raise Refusal(404, "not.found", "there is no such certificate")
        return found

    def _certificate(self, one: RegisteredCertificate) -> dict[str, object]:
        problem = self._platform.problem(one)
        return {
            "id": one.id,
            "name": one.name,
            "type": "TLS_SERVER",
            "certificate": one.served.chain_pem,
            "sha256Fingerprint": one.sha256,
            "serialNumber": one.chain.serial,
            "notBefore": time_text(one.served.not_before),
            "notAfter": time_text(one.served.not_after),
            "state": "INVALID" if problem else "VALID",
            "stateReason": problem,
            "dateCreated": time_text(one.created),
            "selfUri": f"{CERTIFICATES}/{one.id}",
        }

    # Trunks

    async def _list_trunks(self, request: Request) -> Response:
        await no_body(request)
        read_query(request)
        self._check_edge(request)
        trunks = [trunk.settings for trunk in self._platform.trunks.values()]
        return JSONResponse({"entities": trunks, "total": len(trunks)})

    async def _get_trunk(self, request: Request) -> Response:
        await no_body(request)
        read_query(request)
        return JSONResponse(self._find_trunk(request).settings)

    async def _put_trunk(self, request: Request) -> Response:
        read_query(request)
        trunk = self._find_trunk(request)
        body = await read_object(request, TRUNK_FIELDS)
        if body.get("id", trunk.id) != trunk.id:
            raise FieldRefused("field 'id' must be the id in the path")
        if body.get("mutualTls", trunk.edge.mutual) != trunk.edge.mutual:
            raise FieldRefused("field 'mutualTls' cannot be changed")
        trunk.write_begins()
        if body["version"] != trunk.settings["version"]:
            raise Refusal(409, "general.conflict", f"the trunk is at version {trunk.settings['version']}")
        binding = self._binding(body)
        if self._faults.refuses_change(fingerprints(trunk.pool), fingerprints(binding.pool)):
            raise Refusal(500, "internal.error", "an internal error occurred")
        was_enabled = trunk.settings["enabled"]
        fixed = {"id": trunk.id, "version": body["version"] + 1, "mutualTls": trunk.edge.mutual}
        settings = {**LOST, **body, **fixed}
        trunk.replace(settings, binding)
        if body["enabled"] != was_enabled:
            await trunk.set_listening(body["enabled"])
        return JSONResponse(settings)

    def _binding(self, body: dict[str, Any]) -> Binding:
        pool = tuple(self._bound(certificate_id) for certificate_id in body["certificateIds"])
        canary = body.get("tlsCanary")
        if canary is None:
            return Binding(pool, on_primary=pool)
        certificate = self._bound(canary["certificateId"])
        if certificate not in pool:
            raise FieldRefused("field 'tlsCanary' names a certificate that is not in 'certificateIds'")
        return Binding(pool, on_primary=pool, canary=(canary["serverName"], certificate))

    def _bound(self, certificate_id: str) -> RegisteredCertificate:
        certificate = self._platform.certificate(certificate_id)
        if certificate is None:
            raise FieldRefused("the trunk names a certificate that does not exist")
        return certificate

    async def _flush(self, request: Request) -> Response:
        read_query(request)
        trunk = self._find_trunk(request)
        await read_object(request, {})
        trunk.flush_tickets()
        return JSONResponse({"flushedAt": time_text(trunk.ledger.now())})

    async def _close_connections(self, request: Request) -> Response:
        read_query(request)
        trunk = self._find_trunk(request)
        body = await read_object(request, {"certificateId": TEXT})
        certificate = self._platform.certificate(body["certificateId"])
        if certificate is None:
            raise Refusal(404, "not.found", "there is no such certificate")
        closed = await trunk.close_connections(certificate.sha256)
        return JSONResponse({"closedConnections": closed, "closedAt": time_text(trunk.ledger.now())})

    def _find_trunk(self, request: Request) -> Trunk:
        self._check_edge(request)
        trunk = self._platform.trunks.get(request.path_params["trunk_id"])
        if trunk is None:
            raise Refusal(404, "not.found", "there is no such trunk")
        return trunk

    def _check_edge(self, request: Request) -> None:
        if request.path_params["edge_id"] != self._edge_id:
            raise Refusal(404, "not.found", "there is no such edge")

    # Health and metrics

    async def _health(self, request: Request) -> Response:
        await no_body(request)
        read_query(request)
        self._check_edge(request)
        trunks = list(self._platform.trunks.values())
        up = bool(trunks) and all(trunk.up() for trunk in trunks)
        return JSONResponse(
            {
                "edgeId": self._edge_id,
                "status": "ACTIVE" if up else "INACTIVE",
                "timestamp": time_text(trunks[0].ledger.now() if trunks else now()),
                "tlsListener": {
                    "status": "UP" if up else "DOWN",
                    "port": trunks[0].edge.primary_port if trunks else 5061,
                },
                "tlsCertificateValidation": [
                    self._validation(trunk, certificate) for trunk in trunks for certificate in trunk.pool
                ],
                "activeSessions": [
                    {"sipTrunkId": trunk.id, "certificateId": certificate_id, "count": count}
                    for trunk in trunks
                    for certificate_id, count in trunk.active_calls(self._platform.certificates).items()
                ],
            }
        )

    def _validation(self, trunk: Trunk, certificate: RegisteredCertificate) -> dict[str, object]:
        problem = self._platform.problem(certificate)
        if problem is None and self._faults.reports_invalid(certificate.sha256):
            problem = "certificate chain validation failed"
        return {
            "sipTrunkId": trunk.id,
            "certificateId": certificate.id,
            "valid": problem is None,
            "reason": problem,
        }

    async def _metrics(self, request: Request) -> Response:
        await no_body(request)
        query = read_query(request, "interval")
        trunk = self._find_trunk(request)
        since, until = interval(query.get("interval", ""))
        rows = [] if self._faults.metrics_empty() else metric_rows(self._platform, trunk, since, until)
        return JSONResponse(
            {
                "sipTrunkId": trunk.id,
                "interval": query["interval"],
                "timestamp": time_text(trunk.ledger.read_at),
                "countersSince": time_text(trunk.ledger.counters_since),
                "entities": [
                    {
                        "certificateId": row.certificate_id,
                        "direction": row.direction,
                        "peerAddress": row.peer,
                        **counts_object(row.counts),
                    }
                    for row in rows
                ],
            }
        )
